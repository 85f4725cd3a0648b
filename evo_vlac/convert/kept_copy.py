"""A published checkpoint (remote code) for an engine that runs transformers' own InternVL: converted once, then kept.

Conversion is exact (``docs/critic.md``) and needs none of the published code. The copy lies in the user's cache, under
a name that changes with the checkpoint's files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path

from evo_vlac import checkpoint
from evo_vlac.checkpoint import Checkpoint, Kind
from evo_vlac.errors import OutputError

logger = logging.getLogger(__name__)
_VERSION = 1  # of what a conversion writes


def native(found: Checkpoint, cache: str | None = None) -> Checkpoint:
    """``found`` itself where it is transformers' own, else its converted copy, which is made when there is none.

    ``cache``: folder of the copies; None: ``$XDG_CACHE_HOME/vlac-sidecar``. Raises evo_vlac's CheckpointError,
    OutputError.
    """
    if found.kind is Kind.NATIVE:
        return found
    folder = Path(cache).expanduser() if cache else _user_cache() / "vlac-sidecar"
    target = folder / f"{found.path.resolve().name}-{_fingerprint(found.path)}"
    if not target.exists():
        _convert(found, target)
    return checkpoint.inspect(target)


def _convert(found: Checkpoint, target: Path) -> None:
    from evo_vlac.convert import convert

    started = time.monotonic()
    try:
        convert(found.path, target)
    except OutputError:
        if not target.exists():  # else another sidecar was faster
            raise
    seconds = time.monotonic() - started
    logger.info("%s is in the published format: converted into %s in %.1f s, once", found.path, target, seconds)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _fingerprint(folder: Path) -> str:
    """Of names, sizes and times of change of the files that a conversion reads."""
    digest = hashlib.sha256(str(_VERSION).encode())
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin", ".model"):
            stat = file.stat()
            digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
