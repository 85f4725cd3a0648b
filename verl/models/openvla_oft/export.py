"""Writing a checkpoint in the published layout, so that what reads OpenVLA-OFT's checkpoints reads ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from verl.models.openvla_oft import checkpoint, lora
from verl.models.openvla_oft.config import PolicyConfig
from verl.models.openvla_oft.errors import CheckpointError
from verl.models.openvla_oft.images import ImageProcessor

_WEIGHTS = ("model", "value_head", "proprio_projector--", "pytorch_model")


def save(
    config: PolicyConfig,
    processor: ImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    state: dict[str, torch.Tensor],
    folder: Path,
    proprio_file: bool = False,
) -> None:
    """All files of a checkpoint: configuration, statistics, processor, tokenizer, tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = lora.merged(state)
    _write_json(folder / "config.json", {**config.published, "norm_stats": config.norm_stats})
    _write_json(folder / "dataset_statistics.json", config.norm_stats)
    _write_json(folder / "preprocessor_config.json", processor.to_published())
    save_tokenizer(tokenizer, folder)
    checkpoint.write(folder, tensors, proprio_file)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """The tokenizer's files, readable by the published code's tokenizers 0.19 too: it wants merges as strings."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text())
    raw["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in raw["model"].get("merges", [])]
    path.write_text(json.dumps(raw, ensure_ascii=False))


def save_beside(source: Path, state: dict[str, torch.Tensor], folder: Path, inputs: Mapping[str, Any]) -> None:
    """Tensors from ``state``, every other file (configuration, tokenizer, code, statistics) copied from ``source``.

    ``inputs`` are written into ``config.json`` where they differ, so that the copy loads as the policy was."""
    if not (source / "config.json").exists():
        raise CheckpointError(f"no policy checkpoint at {source}: config.json is missing")
    folder.mkdir(parents=True, exist_ok=True)
    separate = any(source.glob("proprio_projector--*"))
    for path in source.iterdir():
        if path.is_file() and not path.name.startswith(_WEIGHTS) and path.resolve() != (folder / path.name).resolve():
            shutil.copyfile(path, folder / path.name)
    was = PolicyConfig.load(source).inputs
    if changed := {name: value for name, value in inputs.items() if value != was[name]}:
        path = folder / "config.json"
        _write_json(path, {**json.loads(path.read_text()), **changed})
    checkpoint.write(folder, lora.merged(state), separate)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
