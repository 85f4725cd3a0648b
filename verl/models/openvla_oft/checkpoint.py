"""Tensors of the published layout: read one at a time and only the rows that are wanted, written in shards.

    model.safetensors | model-0000i-of-0000n.safetensors + model.safetensors.index.json
    proprio_projector--*_checkpoint.pt   OpenVLA-OFT keeps the proprio projector here; SimpleVLA-RL among the tensors
    value_head.safetensors               ours, only with PPO
    lora_adapter/                        added to the tensors of its base as they are read

A file's tensors stay on the disk until they are asked for: a learner holds its shard and one tensor more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from verl.models.checkpoint_parts import INDEX, SINGLE, VALUE_HEAD, Parts, find_parts, part_files
from verl.models.openvla_oft.adapter import Adapter
from verl.models.openvla_oft.errors import CheckpointError

_SHOWN = 6
_EVERYTHING = slice(None)


class Tensors:
    """A checkpoint's tensors by their published names.

    Raises:
        CheckpointError: a file is missing or cannot be read; the folder holds another kind of policy.
    """

    def __init__(self, folder: Path) -> None:
        parts = usable_parts(folder)
        self.folder = folder
        self.adapter = Adapter(parts.adapter) if parts.adapter else None
        self._files: dict[str, Any] = {}  # name -> the open file that holds it
        self._given: dict[str, torch.Tensor] = {}
        for name in _tensor_files(parts.base):
            self._open(parts.base / name)
        self._open_proprio(parts)
        if (parts.base / VALUE_HEAD).exists():
            self._open(parts.base / VALUE_HEAD, "value_head.")
        if self.adapter and (unknown := self.adapter.names() - self.names()):
            raise CheckpointError(f"{parts.adapter} adapts tensors that {parts.base} does not have ({some(unknown)})")

    def names(self) -> set[str]:
        return self._files.keys() | self._given.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self._given:
            return tuple(self._given[name].shape)
        file, key = self._files[name]
        return tuple(file.get_slice(key).get_shape())

    def read(self, name: str, rows: slice = _EVERYTHING) -> torch.Tensor:
        """``rows`` of the first dimension, in the file's dtype; float32 where the adapter is added."""
        if name in self._given:
            return self._given[name][rows] if rows != _EVERYTHING else self._given[name]
        file, key = self._files[name]
        tensor: torch.Tensor = file.get_tensor(key) if rows == _EVERYTHING else file.get_slice(key)[rows]
        return self.adapter.added(name, tensor, rows) if self.adapter else tensor

    def give(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """More tensors, or others for some names."""
        self._given.update(tensors)

    def drop(self, prefix: str) -> bool:
        """Forgets what begins so; whether there was any."""
        dropped = {name for name in self.names() if name.startswith(prefix)}
        for name in dropped:
            self._files.pop(name, None)
            self._given.pop(name, None)
        return bool(dropped)

    def _open(self, path: Path, prefix: str = "") -> None:
        try:
            file: Any = safe_open(path, framework="pt")
            self._files.update({prefix + key: (file, key) for key in file.keys()})  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None

    def _open_proprio(self, parts: Parts) -> None:
        if len(parts.proprio) > 1:
            raise CheckpointError(
                f"{parts.folder} has {len(parts.proprio)} proprio projectors, one expected: "
                f"{[p.name for p in parts.proprio]}"
            )
        for path in parts.proprio:
            loaded = torch.load(path, weights_only=True, map_location="cpu")
            self.give({f"proprio_projector.{k.removeprefix('module.')}": v for k, v in loaded.items()})


def usable_parts(folder: Path) -> Parts:
    """The parts of a checkpoint's folder; refuses one that cannot be used."""
    parts = find_parts(folder)
    if parts.problem:
        raise CheckpointError(f"the checkpoint at {folder} cannot be used: {parts.problem}")
    return parts


def check(folder: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raises one error that names the tensors that are missing, unknown, or of another shape. Both: name -> shape."""
    problems = []
    if missing := sorted(wanted.keys() - found.keys()):
        problems.append(f"misses {len(missing)} tensors ({some(missing)})")
    if extra := sorted(found.keys() - wanted.keys()):
        problems.append(f"has {len(extra)} tensors that the configuration knows nothing of ({some(extra)})")
    wrong = [
        f"{name} is {tuple(found[name])} where config.json says {tuple(wanted[name])}"
        for name in sorted(wanted.keys() & found.keys())
        if tuple(found[name]) != tuple(wanted[name])
    ]
    if wrong:
        problems.append(f"{len(wrong)} tensors have another shape ({some(wrong)})")
    if problems:
        raise CheckpointError(f"the checkpoint at {folder} " + "; ".join(problems))


def own_rows(target: torch.Tensor) -> tuple[torch.Tensor, slice]:
    """What of ``target`` this process holds, and which rows of the whole that is (FSDP2 cuts the first dimension)."""
    if not isinstance(target, DTensor):
        return target, _EVERYTHING
    local, mesh = target.to_local(), target.device_mesh
    size = -(-target.shape[0] // mesh.size())
    first = min(mesh.get_local_rank() * size, target.shape[0])
    return local, slice(first, first + local.shape[0])


def write(folder: Path, tensors: dict[str, torch.Tensor], proprio_file: bool = False, shard_size: str = "5GB") -> None:
    """Writes the published layout. ``proprio_file``: the proprio projector as OpenVLA-OFT's separate file."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in part_files(folder):
        stale.unlink()
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


def some(names: Iterable[str]) -> str:
    """The first few of ``names``, for an error."""
    names = sorted(names)
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
