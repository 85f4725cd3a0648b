"""A tiny VLAC with random weights: transformers' own InternVL, small enough to train and to serve on one CPU core.

An image of 112 x 112 px is 64 patches of 14 px, after the pixel shuffle 16 visual tokens; the text model is a LLaMA
decoder with tied embeddings. ``evo_vlac.training.finetune`` turns it into a critic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo_vlac.prompts import CHAT_TEMPLATE
from evo_vlac.tiny.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Sizes of the tiny critic. Head sizes are 32 where vLLM is to serve it (16 fails there)."""

    image_size: int = 112
    patch_size: int = 14
    vision_hidden: int = 128
    vision_layers: int = 4
    vision_mlp: int = 512
    text_hidden: int = 192
    text_layers: int = 3
    text_mlp: int = 512
    head_dim: int = 32
    vocab_size: int = 1280
    seed: int = 0

    def __post_init__(self) -> None:
        side = self.image_size // self.patch_size
        if self.image_size % self.patch_size or side % 2:
            raise ValueError(f"image_size={self.image_size}: must be an even multiple of patch_size={self.patch_size}")
        for name in ("vision_hidden", "text_hidden"):
            if getattr(self, name) % self.head_dim:
                raise ValueError(f"{name}={getattr(self, name)}: must be a multiple of head_dim={self.head_dim}")

    @property
    def image_tokens(self) -> int:
        """Visual tokens an image becomes: patches / 4 (pixel shuffle by 0.5 a side)."""
        return (self.image_size // self.patch_size) ** 2 // 4


def build_processor(config: TinyConfig) -> InternVLProcessor:
    """Processor with one tile per image (``max_patches=1``) at the model's exact size."""
    from transformers import InternVLProcessor, InternVLVideoProcessor
    from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor

    size = {"height": config.image_size, "width": config.image_size}
    images = GotOcr2ImageProcessor(
        size=size,
        crop_to_patches=True,
        min_patches=1,
        max_patches=1,
        image_mean=list(MEAN),
        image_std=list(STD),
        resample=1,  # LANCZOS, as VLAC squashes its images
    )
    video = InternVLVideoProcessor(size=size, image_mean=list(MEAN), image_std=list(STD))
    return InternVLProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(config.vocab_size),
        video_processor=video,
        image_seq_length=config.image_tokens,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(config: TinyConfig, processor: InternVLProcessor) -> InternVLForConditionalGeneration:
    """Random float32 weights, drawn from ``config.seed``."""
    import torch
    from transformers import GenerationConfig, InternVLForConditionalGeneration

    torch.manual_seed(config.seed)
    model = InternVLForConditionalGeneration(_internvl_config(config, processor))
    _initialise(model, config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=64, **_ends(processor)
    )
    return model


def _ends(processor: InternVLProcessor) -> dict[str, Any]:
    tokenizer = processor.tokenizer
    return {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def _internvl_config(config: TinyConfig, processor: InternVLProcessor) -> InternVLConfig:
    from transformers import InternVLConfig, LlamaConfig
    from transformers.models.internvl.configuration_internvl import InternVLVisionConfig

    text = LlamaConfig(
        vocab_size=-(-len(processor.tokenizer) // 64) * 64,
        hidden_size=config.text_hidden,
        intermediate_size=config.text_mlp,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_hidden // config.head_dim,
        num_key_value_heads=config.text_hidden // config.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        **_ends(processor),
    )
    vision = InternVLVisionConfig(
        hidden_size=config.vision_hidden,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_hidden // config.head_dim,
        intermediate_size=config.vision_mlp,
        image_size=config.image_size,
        patch_size=config.patch_size,
        attention_bias=True,
        layer_scale_init_value=1.0,  # 0.1 is for deep towers: four layers would learn from a near-identity
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        image_seq_length=config.image_tokens,
        tie_word_embeddings=True,
    )


def _initialise(model: InternVLForConditionalGeneration, config: TinyConfig) -> None:
    """Scale weights for a narrow model, and tell patches apart by their place.

    A standard deviation of 0.02 suits widths in the thousands; here it leaves attention uniform and the tower near the
    identity, and training sits on a plateau for hundreds of steps. Matrices get 1 / sqrt(fan-in), positions 2D sines.
    """
    import torch

    side = config.image_size // config.patch_size
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "embed_tokens" not in name and "token" not in name:
                weight.mul_(weight[0].numel() ** -0.5 / 0.02)
        positions = model.model.vision_tower.embeddings.position_embeddings
        positions.zero_()
        place = torch.arange(side, dtype=torch.float32)
        rows, columns = torch.meshgrid(place, place, indexing="ij")
        quarter = config.vision_hidden // 4
        waves = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
        angles = [axis.reshape(-1, 1) * waves for axis in (columns, rows)]
        table = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
        positions[0, 1:] = 0.7 * table


def build_tiny_vlac(path: Path, config: TinyConfig | None = None) -> Path:
    """Write an untrained tiny critic to ``path``: weights, tokenizer, processor, generation settings."""
    config = config or TinyConfig()
    processor = build_processor(config)
    model = build_model(config, processor)
    path.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(path, safe_serialization=True)
    processor.save_pretrained(path)
    return path
