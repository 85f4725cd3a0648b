"""Writing a checkpoint in the published layout, so that what reads OpenVLA-OFT's checkpoints reads ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from verl.models.checkpoint_parts import is_weights
from verl.models.openvla_oft import checkpoint, lora
from verl.models.openvla_oft.config import PolicyConfig
from verl.models.openvla_oft.images import ImageProcessor
from verl.models.openvla_oft.prompts import TOKENIZER_FILES


def save(
    config: PolicyConfig,
    processor: ImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    state: dict[str, torch.Tensor],
    folder: Path,
    proprio_file: bool = False,
    source: Path | None = None,
) -> None:
    """All files of a checkpoint: configuration, statistics, processor, tokenizer, tensors.

    Args:
        source: the checkpoint that the policy comes from: its code, processor and tokenizer files are kept. None where
            the policy is new.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source is not None and source.is_dir():
        _copy_files(source, folder)
    _write_json(folder / "config.json", {**config.published, "norm_stats": config.norm_stats})
    _write_json(folder / "dataset_statistics.json", config.norm_stats)
    if source is None or not (folder / "preprocessor_config.json").exists():
        _write_json(folder / "preprocessor_config.json", processor.to_published())
    if source is None or not any((folder / name).exists() for name in TOKENIZER_FILES):
        save_tokenizer(tokenizer, folder)
    checkpoint.write(folder, lora.merged(state), proprio_file)


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
    parts = checkpoint.usable_parts(source)
    was = PolicyConfig.load(parts.config.parent).inputs
    folder.mkdir(parents=True, exist_ok=True)
    _copy_files(source, folder)
    if changed := {name: value for name, value in inputs.items() if value != was[name]}:
        path = folder / "config.json"
        _write_json(path, {**json.loads(path.read_text()), **changed})
    checkpoint.write(folder, lora.merged(state), bool(parts.proprio))


def _copy_files(source: Path, folder: Path) -> None:
    """Whatever is no weights: of the checkpoint itself, and of an adapter's base what only that has."""
    for origin in dict.fromkeys((checkpoint.usable_parts(source).base, source)):
        for path in origin.iterdir():
            if path.is_file() and not is_weights(path) and path.resolve() != (folder / path.name).resolve():
                shutil.copyfile(path, folder / path.name)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
