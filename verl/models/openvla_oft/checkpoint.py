"""Tensors of the published layout: sharded safetensors with an index, and the parts that lie in files of their own.

model.safetensors | model-0000i-of-0000n.safetensors + model.safetensors.index.json
proprio_projector--*_checkpoint.pt   OpenVLA-OFT keeps the proprio projector here; SimpleVLA-RL among the tensors
value_head.safetensors               ours, only with PPO
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from verl.models.openvla_oft.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
VALUE_HEAD = "value_head.safetensors"
_SHOWN = 6


def read(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by name. Missing or broken files are named."""
    tensors: dict[str, torch.Tensor] = {}
    for name in _tensor_files(folder):
        tensors.update(_read_one(folder / name))
    projectors = sorted(folder.glob("proprio_projector--*checkpoint.pt"))
    if len(projectors) > 1:
        raise CheckpointError(
            f"{folder} has {len(projectors)} proprio projectors, one expected: {[p.name for p in projectors]}"
        )
    for path in projectors:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
        tensors.update({f"proprio_projector.{k.removeprefix('module.')}": v for k, v in loaded.items()})
    if (folder / VALUE_HEAD).exists():
        tensors.update({f"value_head.{k}": v for k, v in _read_one(folder / VALUE_HEAD).items()})
    return tensors


def check(folder: Path, found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raises one error that names the tensors that are missing, unknown, or of another shape."""
    problems = []
    if missing := sorted(wanted.keys() - found.keys()):
        problems.append(f"misses {len(missing)} tensors ({_some(missing)})")
    if extra := sorted(found.keys() - wanted.keys()):
        problems.append(f"has {len(extra)} tensors that the configuration knows nothing of ({_some(extra)})")
    wrong = [
        f"{name} is {tuple(found[name].shape)} where config.json says {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape
    ]
    if wrong:
        problems.append(f"{len(wrong)} tensors have another shape ({_some(wrong)})")
    if problems:
        raise CheckpointError(f"the checkpoint at {folder} " + "; ".join(problems))


def write(folder: Path, tensors: dict[str, torch.Tensor], proprio_file: bool = False, shard_size: str = "5GB") -> None:
    """Writes the published layout. ``proprio_file``: the proprio projector as OpenVLA-OFT's separate file."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (
        *folder.glob("model*.safetensors"),
        *folder.glob("proprio_projector--*"),
        folder / INDEX,
        folder / VALUE_HEAD,
    ):
        stale.unlink(missing_ok=True)
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "value_head": {}, "proprio_projector": {}}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        separate = head == "value_head" or (proprio_file and head == "proprio_projector")
        parts[head if separate else "model"][rest if separate else name] = tensor.detach().cpu().contiguous()
    if parts["value_head"]:
        save_file(parts["value_head"], folder / VALUE_HEAD)
    if parts["proprio_projector"]:
        torch.save(parts["proprio_projector"], folder / "proprio_projector--latest_checkpoint.pt")
    split = split_torch_state_dict_into_shards(parts["model"], max_shard_size=shard_size)
    for file, names in split.filename_to_tensors.items():
        save_file({n: parts["model"][n] for n in names}, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True))


def _tensor_files(folder: Path) -> list[str]:
    if (folder / INDEX).exists():
        try:
            files = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
            raise CheckpointError(f"{folder / INDEX} is broken: {error}") from None
        if gone := [f for f in files if not (folder / f).exists()]:
            raise CheckpointError(f"the checkpoint at {folder} misses {', '.join(gone)}, which {INDEX} names")
        return files
    if (folder / SINGLE).exists():
        return [SINGLE]
    raise CheckpointError(f"the checkpoint at {folder} has no weights: neither {INDEX} nor {SINGLE}")


def _read_one(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
