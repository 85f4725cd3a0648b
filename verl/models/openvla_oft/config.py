"""``config.json`` of an OpenVLA-OFT checkpoint: the published keys, and ours for what the published code hard-codes.

The published code takes chunk length, action size and normalisation from constants that it chooses by looking at the
command line, and the number of images and the use of proprioception from its own flags. Here they are keys of
``config.json`` (``num_actions_chunk``, ``action_dim``, ``action_proprio_normalization_type``, ``num_images_in_input``,
``use_proprio``, ``proprio_dim``) whose defaults are the published LIBERO values, so that a published checkpoint loads
as it is. ``timm_model_overrides`` (one dictionary a backbone, e.g. ``{"depth": 4}``) shrinks the backbones: the tiny
policy is the same classes with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from verl.models.openvla_oft.errors import CheckpointError, ConfigError

NORMALIZATIONS = ("bounds_q99", "bounds")
GRIPPERS = ("rlds", "raw")
FRAMES = ("rlds", "raw")


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The timm backbones: one, or two whose features are concatenated (fused)."""

    model_ids: tuple[str, ...]
    image_sizes: tuple[int, ...]
    act_layers: tuple[str | None, ...]
    overrides: tuple[dict[str, Any], ...]
    fused: bool

    def __post_init__(self) -> None:
        wanted = 2 if self.fused else 1
        for name in ("model_ids", "image_sizes", "act_layers", "overrides"):
            if len(getattr(self, name)) != wanted:
                raise ConfigError(
                    f"{name}: {len(getattr(self, name))} entries, but use_fused_vision_backbone={self.fused} "
                    f"needs {wanted}"
                )
        if len(set(self.image_sizes)) != 1:
            raise ConfigError(f"image_sizes: {self.image_sizes}, but both backbones must see the same size")


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """A checkpoint's configuration, validated. ``published`` keeps the whole dictionary for the export."""

    vision: VisionConfig
    text: dict[str, Any]
    norm_stats: dict[str, Any]
    published: dict[str, Any] = field(repr=False)
    n_action_bins: int = 256
    pad_to_multiple_of: int = 64
    pad_token_id: int = 32000
    action_dim: int = 7
    num_actions_chunk: int = 8
    num_images_in_input: int = 1
    use_proprio: bool = False
    proprio_dim: int = 8
    action_proprio_normalization_type: str = "bounds_q99"
    gripper_convention: str = "rlds"
    frame_convention: str = "rlds"
    center_crop: bool = False

    def __post_init__(self) -> None:
        for name in (
            "n_action_bins",
            "action_dim",
            "num_actions_chunk",
            "num_images_in_input",
            "proprio_dim",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}: {value!r}, but it must be a positive integer")
        _one_of("action_proprio_normalization_type", self.action_proprio_normalization_type, NORMALIZATIONS)
        _one_of("gripper_convention", self.gripper_convention, GRIPPERS)
        _one_of("frame_convention", self.frame_convention, FRAMES)
        if self.action_vocab_size <= self.n_action_bins:
            raise ConfigError(
                f"text_config.vocab_size: {self.llama().vocab_size} leaves no room for "
                f"n_action_bins={self.n_action_bins} "
                f"below pad_to_multiple_of={self.pad_to_multiple_of}"
            )
        if self.num_images_in_input > 1 and not self.vision.fused:
            raise ConfigError("num_images_in_input: more than one image needs use_fused_vision_backbone=true")

    @property
    def action_vocab_size(self) -> int:
        """Vocabulary without its padding; the action tokens are the last ``n_action_bins`` below it."""
        return self.llama().vocab_size - self.pad_to_multiple_of

    @property
    def action_tokens(self) -> int:
        """Tokens of one chunk: chunk length times action size."""
        return self.num_actions_chunk * self.action_dim

    @property
    def inputs(self) -> dict[str, Any]:
        """The keys that say what the policy sees; they need no other weights, or only the proprio projector's."""
        return {"num_images_in_input": self.num_images_in_input, "use_proprio": self.use_proprio}

    def llama(self) -> LlamaConfig:
        """The decoder's configuration; what ``text_config`` leaves out has LLaMA-2 7B's value, as published."""
        return LlamaConfig(**{k: v for k, v in self.text.items() if k not in ("model_type", "torch_dtype")})

    @classmethod
    def load(cls, folder: Path, **overrides: Any) -> PolicyConfig:
        """Reads ``folder/config.json``. ``overrides`` replace single keys, e.g. ``num_images_in_input=2``."""
        path = folder / "config.json"
        try:
            raw = json.loads(path.read_text())
        except FileNotFoundError:
            raise CheckpointError(f"no policy checkpoint at {folder}: config.json is missing") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is not valid JSON: {error}") from None
        return cls.from_dict({**raw, **{k: v for k, v in overrides.items() if v is not None}})

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> PolicyConfig:
        """Builds from the published keys; an unusable one is named."""
        _one_of("model_type", raw.get("model_type"), ("openvla",))
        text = raw.get("text_config") or {}
        _one_of("text_config.model_type", text.get("model_type", "llama"), ("llama",))
        for key in ("timm_model_ids", "image_sizes"):
            if key not in raw:
                raise ConfigError(f"{key}: missing in config.json")
        ids = tuple(raw["timm_model_ids"])
        vision = VisionConfig(
            model_ids=ids,
            image_sizes=tuple(raw["image_sizes"]),
            act_layers=tuple(raw.get("timm_override_act_layers") or [None] * len(ids)),
            overrides=tuple(raw.get("timm_model_overrides") or [{} for _ in ids]),
            fused=bool(raw.get("use_fused_vision_backbone", len(ids) == 2)),
        )
        ours = {name: raw[name] for name in _PLAIN_KEYS if raw.get(name) is not None}
        return cls(
            vision=vision,
            text=dict(text),
            norm_stats=raw.get("norm_stats") or {},
            published=dict(raw),
            **ours,
        )


_PLAIN_KEYS = (
    "n_action_bins",
    "pad_to_multiple_of",
    "pad_token_id",
    "action_dim",
    "num_actions_chunk",
    "num_images_in_input",
    "use_proprio",
    "proprio_dim",
    "action_proprio_normalization_type",
    "gripper_convention",
    "frame_convention",
    "center_crop",
)


def _one_of(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: {value!r}, but only {', '.join(allowed)} can be loaded")
