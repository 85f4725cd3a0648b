"""What kind of checkpoint a folder holds, and whether it can be loaded; no weights are read.

Two kinds run here. NATIVE: transformers' own ``InternVLForConditionalGeneration``. REMOTE: the published
``InternVLChatModel``, whose own code only runs right under transformers 4 (under 5 its rotary buffers are
left uninitialised: wrong numbers, no error). It is refused there, and the error says how to convert it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

from evo_vlac.errors import CheckpointError, RemoteCodeCheckpoint
from evo_vlac.paths import from_home

NATIVE_ARCHITECTURE = "InternVLForConditionalGeneration"
REMOTE_ARCHITECTURE = "InternVLChatModel"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class Kind(Enum):
    """The kinds of InternVL checkpoints."""

    NATIVE = "native"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that can be loaded. ``image_size``: (height, width) in pixels of one tile."""

    path: Path
    kind: Kind
    image_size: tuple[int, int]
    config: dict[str, Any]

    @property
    def swift_types(self) -> tuple[str, str]:
        """ms-swift's model type and template type."""
        return ("internvl", "internvl_hf") if self.kind is Kind.NATIVE else ("internvl_chat", "internvl2")


def inspect(path: str | Path) -> Checkpoint:
    """Reads a checkpoint folder's config; CheckpointError says what is missing or of another kind."""
    folder = from_home(path)
    if not folder.exists():
        raise CheckpointError(f"no checkpoint at {path}: there is no such folder")
    if not folder.is_dir():
        raise CheckpointError(f"{path} is a file; a checkpoint is a folder with config.json and weights")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise CheckpointError(f"{path} is an adapter; give it as adapter= (--adapter), with its base as the model")
    config = read_json(folder / "config.json")
    kind = _kind(folder, config)
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        raise CheckpointError(f"{path} has no weights ({' or '.join(_WEIGHTS)})")
    return Checkpoint(folder, kind, _image_size(folder, config), config)


def check_adapter(path: str | Path) -> Path:
    """The adapter's folder; CheckpointError where it is not a whole peft adapter."""
    folder = from_home(path)
    if not (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"no adapter at {path}: it needs adapter_config.json and adapter_model.safetensors")
    read_json(folder / "adapter_config.json")
    if not any((folder / name).is_file() for name in ("adapter_model.safetensors", "adapter_model.bin")):
        raise CheckpointError(f"the adapter {path} has no weights (adapter_model.safetensors)")
    return folder


def require_runnable(checkpoint: Checkpoint) -> None:
    """Refuses remote code where the installed transformers would run it wrongly."""
    installed = metadata.version("transformers")
    if checkpoint.kind is Kind.REMOTE and int(installed.split(".")[0]) >= 5:
        raise RemoteCodeCheckpoint(
            f"{checkpoint.path} is a remote-code checkpoint ({REMOTE_ARCHITECTURE}). Under transformers {installed} "
            "its code gives wrong numbers without an error. Convert it:\n"
            f"    python -m evo_vlac convert {checkpoint.path} DST\n"
            "and load DST; or run it as it is in an environment of the reference set (transformers 4.51.3, see "
            "docs/critic.md)."
        )


def require_native(checkpoint: Checkpoint) -> None:
    """Refuses what cannot be fine-tuned: CheckpointError names the architecture."""
    if checkpoint.kind is not Kind.NATIVE:
        raise CheckpointError(
            f"{checkpoint.path} is a {REMOTE_ARCHITECTURE}; fine-tuning needs a {NATIVE_ARCHITECTURE} "
            f"(python -m evo_vlac convert {checkpoint.path} DST)"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError where it is missing or broken."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} is not a checkpoint: {path.name} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return loaded


def _kind(folder: Path, config: dict[str, Any]) -> Kind:
    architectures = config.get("architectures") or []
    if NATIVE_ARCHITECTURE in architectures:
        return Kind.NATIVE
    if REMOTE_ARCHITECTURE in architectures:
        return Kind.REMOTE
    found = ", ".join(map(str, architectures)) or config.get("model_type") or "nothing named"
    raise CheckpointError(
        f"{folder} is of another architecture ({found}); allowed: {NATIVE_ARCHITECTURE} (transformers' own) or "
        f"{REMOTE_ARCHITECTURE} (the published VLAC)"
    )


def _image_size(folder: Path, config: dict[str, Any]) -> tuple[int, int]:
    size = config.get("force_image_size") or (config.get("vision_config") or {}).get("image_size")
    if isinstance(size, int):
        size = (size, size)
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise CheckpointError(f"{folder}/config.json: vision_config.image_size is {size!r}; needed: a size in pixels")
    return int(size[0]), int(size[1])
