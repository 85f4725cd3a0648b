"""Loads a checkpoint of the InternVL family, and builds what runs it: from a folder, or around a loaded model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evo_vlac import checkpoint
from evo_vlac.convert.kept_copy import native
from evo_vlac.device import resolve_device, resolve_dtype
from evo_vlac.model.backbone import NativeBackbone
from evo_vlac.model.decoding import Decoder
from evo_vlac.model.pixels import Pixels
from evo_vlac.model.prompt_tokens import PromptTokens
from evo_vlac.model.runner import Limits, ModelRunner

logger = logging.getLogger(__name__)
_CACHED_BYTES = 8 << 20  # of one layer's widest activation, on a CPU
_PASS_BYTES = 256 << 20  # the same, on a GPU
_KEPT_BYTES = 2 << 30  # of keys and values, on a GPU
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # InternVL's, where a checkpoint says nothing


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint in memory: transformers' own model, unchanged, and what turns words and pictures into its input.

    ``mean``, ``std``: of the pictures' channels, of values 0 to 1.
    """

    model: Any
    tokenizer: Any
    mean: Sequence[float] = _MEAN
    std: Sequence[float] = _STD


def place(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Where and in what a model runs. Raises OptionError, EngineError where there is no such device."""
    found = resolve_device(device, auto_mps=False)  # nobody has tried these kernels on MPS
    return torch.device(found), getattr(torch, resolve_dtype(dtype, found))


def load(
    path: str | Path,
    device: torch.device,
    dtype: torch.dtype,
    adapter: str | None = None,
    converted_dir: str | None = None,
) -> Loaded:
    """The checkpoint in folder ``path``, with ``adapter`` (a LoRA folder) merged into it.

    A published one (remote code) is read from its converted copy, which is made in ``converted_dir`` when there is
    none. Raises CheckpointError, OutputError.
    """
    found = native(checkpoint.inspect(path), converted_dir)
    from transformers import AutoTokenizer, InternVLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = InternVLForConditionalGeneration.from_pretrained(
        found.path, dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    if adapter is not None:
        model = _merged(model, adapter)
    tokenizer = AutoTokenizer.from_pretrained(found.path, local_files_only=True)
    return Loaded(model.to(device), tokenizer, *read_statistics(found.path))


def build_runner(
    loaded: Loaded, limits: Limits | None = None, *, compiled: bool = False, force_number: bool = False
) -> ModelRunner:
    """The runner around a model (an InternVLForConditionalGeneration where it is to run), which is changed for it: it
    can neither be trained nor saved afterwards. ``limits.chunk_images`` is lowered where fewer are faster.

    ``compiled``: torch.compile of tower and decoder. ``force_number``: see :mod:`evo_vlac.model.number_reading`.
    """
    limits, tokenizer = limits or Limits(), loaded.tokenizer
    model = loaded.model.eval().requires_grad_(False)
    backbone = NativeBackbone(model, compiled)
    height, width = model.config.vision_config.image_size
    pixels = Pixels((height, width), loaded.mean, loaded.std, backbone.device, backbone.dtype)
    images, positions, kept = at_once(model.config, backbone.device, backbone.dtype)
    if images is not None:
        limits = replace(limits, chunk_images=min(images, limits.chunk_images))
    decoder = Decoder(backbone, tokenizer, end_ids(model, tokenizer), force_number, positions, kept)
    tokens = PromptTokens(tokenizer, int(model.config.image_seq_length))
    return ModelRunner(backbone, tokens, pixels, decoder, limits)


def at_once(config: Any, device: torch.device, dtype: torch.dtype) -> tuple[int | None, int | None, int | None]:
    """Images through the tower, prompt positions through the decoder in one pass, positions of KV that are held for
    answers of several tokens; None: as many as there are.

    On a CPU a pass is kept so small that a layer's widest activation stays in the processor's cache: larger ones wait
    for memory. On a GPU it is kept so small that it fits the few GB that a critic may hold beside its weights, which
    still is thousands of positions: more make nothing faster.
    """
    vision, text = config.vision_config, config.text_config
    width = text.intermediate_size * dtype.itemsize
    if device.type != "cpu":
        heads = text.num_key_value_heads * getattr(text, "head_dim", text.hidden_size // text.num_attention_heads)
        return (
            None,
            max(1, _PASS_BYTES // width),
            max(1, _KEPT_BYTES // (2 * text.num_hidden_layers * heads * dtype.itemsize)),
        )
    (height, across), (tall, wide) = vision.image_size, vision.patch_size
    image = ((height // tall) * (across // wide) + 1) * vision.intermediate_size * dtype.itemsize
    return max(1, _CACHED_BYTES // image), max(1, _CACHED_BYTES // width), None


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the model's, the tokenizer's, and ChatML's."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    ends.add(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    return sorted(end for end in ends if end is not None and end != tokenizer.unk_token_id)


def read_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """The normalisation (mean, standard deviation per channel, of values 0 to 1) that a checkpoint was trained with."""
    for name, inside in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        file = folder / name
        if not file.is_file():
            continue
        tree = json.loads(file.read_text(encoding="utf-8"))
        tree = tree if inside is None else tree.get(inside) or {}
        if "image_mean" in tree and "image_std" in tree:
            return list(tree["image_mean"]), list(tree["image_std"])
    logger.warning("%s names no image_mean and image_std; taking InternVL's", folder)
    return list(_MEAN), list(_STD)


def _merged(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter).merge_and_unload()
