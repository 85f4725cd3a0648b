"""The shape of an InternVL model, and what follows from it: weights and arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelShape:
    """``vision_*``: sizes of the tower; ``text_*``: of the decoder; ``kv_width``: of the keys, as of the values, of one
    position in one layer; ``tied``: one matrix is its first and its last layer."""

    image_size: int
    vision_layers: int
    vision_hidden: int
    vision_heads: int
    vision_mlp: int
    text_layers: int
    text_hidden: int
    text_heads: int
    kv_width: int
    text_mlp: int
    vocabulary: int
    patch_size: int = 14
    tied: bool = False

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def image_tokens(self) -> int:
        return self.patches // 4

    @property
    def parameters(self) -> int:
        """Weights of the matrices; norms and biases, less than a hundredth of it, are left out."""
        h, v = self.text_hidden, self.vision_hidden
        text = self.text_layers * (2 * h * h + 2 * h * self.kv_width + 3 * h * self.text_mlp)
        tower = self.vision_layers * (4 * v * v + 2 * v * self.vision_mlp) + (3 * self.patch_size**2 + self.patches) * v
        return text + tower + 4 * v * h + h * h + (2 - self.tied) * self.vocabulary * h

    def image_flops(self) -> float:
        """One image through tower and projector; a multiplication and an addition are two."""
        n, h = self.patches + 1, self.vision_hidden
        layer = 2 * n * (4 * h * h + 2 * h * self.vision_mlp) + 4 * n * n * h
        projector = 2 * self.image_tokens * (4 * h * self.text_hidden + self.text_hidden**2)
        return float(self.vision_layers * layer + 2 * self.patches * 3 * self.patch_size**2 * h + projector)

    def text_flops(self, new: int, before: int = 0, last_only: bool = False) -> float:
        """``new`` positions through the decoder, after ``before`` others (causal attention). ``last_only``: of the
        last layer only what its last position needs."""
        h = self.text_hidden
        kv = 2 * h * self.kv_width
        rest = 2 * h * h + 3 * h * self.text_mlp
        seen = new * before + new * (new + 1) / 2
        layer = 2 * new * (kv + rest) + 4 * seen * h
        last = 2 * (new * kv + rest) + 4 * (before + new) * h if last_only else layer
        return float((self.text_layers - 1) * layer + last)

    def head_flops(self) -> float:
        """The output layer for one position."""
        return 2.0 * self.text_hidden * self.vocabulary

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """Of the keys of a config.json: transformers' own, or InternVL's as published. Raises KeyError, TypeError."""
        vision, text = config["vision_config"], config.get("text_config") or config["llm_config"]
        heads = text["num_attention_heads"]
        head = text.get("head_dim") or text["hidden_size"] // heads
        return cls(
            image_size=_side(vision["image_size"]),
            vision_layers=vision["num_hidden_layers"],
            vision_hidden=vision["hidden_size"],
            vision_heads=vision["num_attention_heads"],
            vision_mlp=vision["intermediate_size"],
            text_layers=text["num_hidden_layers"],
            text_hidden=text["hidden_size"],
            text_heads=heads,
            kv_width=text.get("num_key_value_heads", heads) * head,
            text_mlp=text["intermediate_size"],
            vocabulary=text["vocab_size"],
            patch_size=_side(vision["patch_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )


def _side(value: Any) -> int:
    return int(value[0] if isinstance(value, list) else value)


VLAC_2B = ModelShape(448, 24, 1024, 16, 4096, 24, 2048, 16, 1024, 8192, 92_553)
