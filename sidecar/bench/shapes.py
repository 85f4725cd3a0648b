"""Models of a given shape with random weights, and the arithmetic they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evo_vlac.tiny.model import MEAN, STD, TinyConfig, build_processor


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of an InternVL model. ``*_heads`` attention heads, ``kv_heads`` of the text model's keys and values."""

    image_size: int
    vision_layers: int
    vision_hidden: int
    vision_heads: int
    vision_mlp: int
    text_layers: int
    text_hidden: int
    text_heads: int
    kv_heads: int
    text_mlp: int
    vocabulary: int
    patch_size: int = 14

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def image_tokens(self) -> int:
        return self.patches // 4

    def parameters(self) -> int:
        """Weights of the matrices; norms and biases, less than a hundredth of it, are left out."""
        h, v = self.text_hidden, self.vision_hidden
        text = 2 * h * h + 2 * h * (h * self.kv_heads // self.text_heads) + 3 * h * self.text_mlp
        tower = self.vision_layers * (4 * v * v + 2 * v * self.vision_mlp) + 3 * self.patch_size**2 * v
        return self.text_layers * text + tower + 4 * v * h + h * h + 2 * self.vocabulary * h + self.patches * v

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
        kv = 2 * h * (h * self.kv_heads // self.text_heads)
        rest = 2 * h * h + 3 * h * self.text_mlp
        seen = new * before + new * (new + 1) / 2
        layer = 2 * new * (kv + rest) + 4 * seen * h
        last = 2 * (new * kv + rest) + 4 * (before + new) * h if last_only else layer
        return float((self.text_layers - 1) * layer + last)

    def head_flops(self) -> float:
        """The output layer for one position."""
        return 2.0 * self.text_hidden * self.vocabulary


SHAPES = {
    "vlac-2b": Shape(448, 24, 1024, 16, 4096, 24, 2048, 16, 8, 8192, 92_553),
    "small": Shape(448, 4, 384, 6, 1536, 8, 512, 8, 8, 2048, 1_400),
    "tiny": Shape(112, 4, 128, 4, 512, 3, 192, 6, 6, 512, 1_400),
}


def build(shape: Shape, device: Any, dtype: Any, seed: int = 0) -> tuple[Any, Any]:
    """(model, processor) with random weights, made where they are to run."""
    import torch
    from transformers import GenerationConfig, InternVLForConditionalGeneration

    processor = build_processor(TinyConfig(image_size=shape.image_size))
    config = _internvl_config(shape, processor)
    torch.manual_seed(seed)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = InternVLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(previous)
    tokenizer = processor.tokenizer
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=False, **ends)  # type: ignore[no-untyped-call]
    return model.train(False), processor


def _internvl_config(shape: Shape, processor: Any) -> Any:
    from transformers import InternVLConfig, LlamaConfig
    from transformers.models.internvl.configuration_internvl import InternVLVisionConfig

    text = LlamaConfig(
        vocab_size=max(shape.vocabulary, len(processor.tokenizer)),
        hidden_size=shape.text_hidden,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
    )
    vision = InternVLVisionConfig(
        hidden_size=shape.vision_hidden,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        intermediate_size=shape.vision_mlp,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        attention_bias=True,
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        image_seq_length=shape.image_tokens,
        tie_word_embeddings=False,
    )


def from_config(config: dict[str, Any]) -> Shape:
    """The shape of a native checkpoint's config.json."""
    vision, text = config["vision_config"], config["text_config"]
    size, patch = vision["image_size"], vision["patch_size"]
    return Shape(
        size[0] if isinstance(size, list) else size,
        vision["num_hidden_layers"],
        vision["hidden_size"],
        vision["num_attention_heads"],
        vision["intermediate_size"],
        text["num_hidden_layers"],
        text["hidden_size"],
        text["num_attention_heads"],
        text["num_key_value_heads"],
        text["intermediate_size"],
        text["vocab_size"],
        patch[0] if isinstance(patch, list) else patch,
    )


STATISTICS = (MEAN, STD)
