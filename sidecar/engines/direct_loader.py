"""Builds a direct engine: from a checkpoint folder, or around a model that is already loaded."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evo_vlac import checkpoint
from evo_vlac.device import resolve_device, resolve_dtype
from evo_vlac.errors import EvoVlacError
from sidecar.config import Config, DirectConfig, MemoryConfig
from sidecar.engines.backbone import NativeBackbone
from sidecar.engines.converted import native
from sidecar.engines.decoding import Decoder
from sidecar.engines.direct import DirectEngine, Limits
from sidecar.engines.offload import WeightOffload
from sidecar.engines.pixels import Pixels
from sidecar.engines.prompt_tokens import PromptTokens
from sidecar.engines.quantized import quantize
from sidecar.errors import CheckpointError, EngineUnavailableError

logger = logging.getLogger(__name__)
_CACHED_BYTES = 8 << 20  # of one layer's widest activation, on a CPU
_PASS_BYTES = 256 << 20  # the same, on a GPU
_KEPT_BYTES = 2 << 30  # of keys and values, on a GPU
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # InternVL's, where a checkpoint says nothing


def load_direct(config: Config) -> DirectEngine:
    """The engine for ``config.model``. Raises CheckpointError, EngineUnavailableError, MemoryBudgetError."""
    assert config.model is not None  # the configuration holds it
    device, dtype = place(config.device, config.dtype)
    try:
        found = native(checkpoint.inspect(config.model), config.direct.converted_dir)
    except EvoVlacError as error:
        raise CheckpointError(f"model={config.model}: {error}") from None
    from transformers import AutoTokenizer, InternVLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = InternVLForConditionalGeneration.from_pretrained(
        found.path, dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    if config.adapter is not None:
        model = _merged(model, config.adapter)
    tokenizer = AutoTokenizer.from_pretrained(found.path, local_files_only=True)
    mean, std = read_statistics(found.path)
    model = model.to(device)
    quantize(model, config.direct.quantize)
    return build_direct(model, tokenizer, mean, std, config.direct, config.memory)


def build_direct(
    model: Any,
    tokenizer: Any,
    mean: Sequence[float] = _MEAN,
    std: Sequence[float] = _STD,
    direct: DirectConfig | None = None,
    memory: MemoryConfig | None = None,
) -> DirectEngine:
    """The engine around ``model`` (an InternVLForConditionalGeneration where it is to run), which is changed for it:
    it cannot be saved afterwards."""
    direct, memory = direct or DirectConfig(), memory or MemoryConfig()
    model = model.eval().requires_grad_(False)
    backbone = NativeBackbone(model, direct.compile)
    height, width = model.config.vision_config.image_size
    pixels = Pixels((height, width), mean, std, backbone.device, backbone.dtype)
    images, positions, kept = at_once(model.config, backbone.device, backbone.dtype)
    images = direct.chunk_images if images is None else min(images, direct.chunk_images)
    limits = Limits(int(memory.feature_cache_mb * 2**20), int(memory.prefix_cache_mb * 2**20), images)
    budget = None if memory.budget_gb is None else int(memory.budget_gb * 1e9)
    weights = WeightOffload(model, backbone.device, budget)
    decoder = Decoder(backbone, tokenizer, end_ids(model, tokenizer), direct.force_number, positions, kept)
    tokens = PromptTokens(tokenizer, int(model.config.image_seq_length))
    return DirectEngine(backbone, tokens, pixels, decoder, weights, limits)


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


def place(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Where and in what a model runs. Raises EngineUnavailableError where there is no such device."""
    try:
        found = resolve_device(device, auto_mps=False)  # nobody has tried this engine on MPS
        return torch.device(found), getattr(torch, resolve_dtype(dtype, found))
    except EvoVlacError as error:
        raise EngineUnavailableError(f"device={device}: {error}") from None


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
