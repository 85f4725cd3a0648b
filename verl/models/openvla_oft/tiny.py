"""A tiny policy of the same classes: the published backbones' timm ids with smaller numbers, and a small LLaMA.

Used for the shipped CPU policy (its warm start is in ``verl.models.warm_start``) and, random, for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from verl.models.openvla_oft.config import PolicyConfig
from verl.models.openvla_oft.export import save_tokenizer
from verl.models.openvla_oft.images import ImageProcessor
from verl.models.openvla_oft.policy import OpenVLAOFTPolicy
from verl.models.openvla_oft.prompts import EMPTY_PIECE, TEMPLATE, Prompts

_SPECIAL = ("<unk>", "<s>", "</s>")
_PAD = "<PAD>"
DEFAULT_INSTRUCTIONS = (
    "lift the red cube",
    "stack the red cube on the green cube",
    "open the door",
    "pick up the can and place it in the bin",
)


@dataclass(frozen=True, slots=True)
class TinySize:
    """The numbers that make it tiny. ``depth`` counts a vision transformer's blocks; the last takes no part."""

    image: int = 112
    patch: int = 28
    vision_dim: int = 96
    vision_heads: int = 3
    depth: int = 4
    hidden: int = 96
    layers: int = 3
    heads: int = 3
    mlp: int = 256
    vocab: int = 768

    def overrides(self) -> list[dict[str, Any]]:
        """``timm_model_overrides``: one for each backbone."""
        shared = {
            "patch_size": self.patch,
            "embed_dim": self.vision_dim,
            "depth": self.depth,
            "num_heads": self.vision_heads,
        }
        return [{**shared, "mlp_ratio": 3.0, "init_values": 1.0}, {**shared, "mlp_ratio": 3.0}]


def make_tokenizer(vocab: int, instructions: tuple[str, ...] = DEFAULT_INSTRUCTIONS) -> PreTrainedTokenizerFast:
    """A LLaMA-style tokenizer (byte fallback, ``▁`` for blanks) with a piece for each word of the prompts.

    Its last 256 pieces are never produced by text: they are the action tokens.
    """
    pieces: dict[str, int] = {}
    for piece in (*_SPECIAL, *(f"<0x{b:02X}>" for b in range(256)), EMPTY_PIECE, *map(chr, range(33, 127))):
        pieces.setdefault(piece, len(pieces))
    merges: list[tuple[str, str]] = []
    words = {w for text in instructions for w in TEMPLATE.format(instruction=text).split()} | {"In:", "Out:"}
    for word in sorted(words):
        for start in (EMPTY_PIECE, ""):
            current = start
            for char in word:
                if current and (current, char) not in merges:
                    merges.append((current, char))
                current += char
                pieces.setdefault(current, len(pieces))
    free = vocab - 256 - len(pieces)
    if free < 0:
        raise ValueError(f"vocab: {vocab} is too small for {len(pieces)} pieces and 256 action tokens")
    for i in range(free + 256):
        pieces[f"<reserved_{i}>"] = len(pieces)
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(EMPTY_PIECE), normalizers.Replace(" ", EMPTY_PIECE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(EMPTY_PIECE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in _SPECIAL])
    tokenizer.add_special_tokens([AddedToken(_PAD, special=True, normalized=False)])
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # whose own signature has no types
    return make(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=_PAD)


def make_config(
    size: TinySize, norm_stats: dict[str, Any], proprio_dim: int, cameras: int = 1, **more: Any
) -> PolicyConfig:
    """The published keys with tiny numbers."""
    return PolicyConfig.from_dict(
        {
            "architectures": ["OpenVLAForActionPrediction"],
            "model_type": "openvla",
            "arch_specifier": "no-align+fused-gelu-mlp",
            "vision_backbone_id": "dinosiglip-vit-so-224px",
            "llm_backbone_id": "llama2-7b-pure",
            "hf_llm_id": "meta-llama/Llama-2-7b-hf",
            "llm_max_length": 2048,
            "use_fused_vision_backbone": True,
            "image_resize_strategy": "resize-naive",
            "image_sizes": [size.image, size.image],
            "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
            "timm_override_act_layers": [None, None],
            "timm_model_overrides": size.overrides(),
            "n_action_bins": 256,
            "output_projector_states": False,
            "pad_to_multiple_of": 64,
            "pad_token_id": size.vocab,
            "torch_dtype": "float32",
            "text_config": {
                "model_type": "llama",
                "hidden_size": size.hidden,
                "intermediate_size": size.mlp,
                "num_hidden_layers": size.layers,
                "num_attention_heads": size.heads,
                "num_key_value_heads": size.heads,
                "vocab_size": size.vocab + 64,
                "pad_token_id": size.vocab,
            },
            "norm_stats": norm_stats,
            "action_dim": 7,
            "num_actions_chunk": 8,
            "num_images_in_input": cameras,
            "use_proprio": proprio_dim > 0,
            "proprio_dim": max(proprio_dim, 1),
            "action_proprio_normalization_type": "bounds_q99",
            "gripper_convention": "raw",
            "frame_convention": "raw",
            **more,
        }
    )


def make_policy(
    folder: Path,
    size: TinySize,
    norm_stats: dict[str, Any],
    proprio_dim: int,
    seed: int = 0,
    cameras: int = 1,
    instructions: tuple[str, ...] = DEFAULT_INSTRUCTIONS,
    **more: Any,
) -> OpenVLAOFTPolicy:
    """A random policy, saved to ``folder`` (its tokenizer is read back from there)."""
    config = make_config(size, norm_stats, proprio_dim, cameras, **more)
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(make_tokenizer(size.vocab, instructions), folder)
    prompts = Prompts(folder, config.llama().vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = OpenVLAOFTPolicy(config, ImageProcessor(size.image), prompts)
    policy.save_pretrained(folder)
    return policy.eval()


def unit_stats(action_dim: int, proprio_dim: int) -> dict[str, Any]:
    """Statistics that leave actions as they are (but for the gripper, unmasked) and clip proprioception to [-1, 1]."""

    def span(dim: int) -> dict[str, list[float]]:
        low, high = [-1.0] * dim, [1.0] * dim
        return {"q01": low, "q99": high, "min": low, "max": high, "mean": [0.0] * dim, "std": [1.0] * dim}

    mask = [True] * (action_dim - 1) + [False]
    return {"action": {**span(action_dim), "mask": mask}, "proprio": span(proprio_dim), "num_transitions": 0}
