"""What a checkpoint consists of, with a checksum a file: written with it, checked before anything is loaded from it.

A disk or a copy that loses bytes says nothing, and the optimizer's numbers are plausible whatever they are. The hash is
BLAKE2b, which hashlib computes outside of Python's lock, so several files at a time: in the background when they are
written, and once more when they are loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)
NAME = "manifest.json"
THREADS = 4
BLOCK = 2**20


def write_manifest(folder: Path) -> int:
    """Adds the manifest to a complete checkpoint; the checkpoint's size in bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(_look, files))
    rows = {str(path.relative_to(folder)): row for path, row in zip(files, found)}
    (folder / NAME).write_text(json.dumps({"hash": "blake2b-128", "files": rows}, indent=1) + "\n")
    return sum(int(row["bytes"]) for row in found)


def damage(folder: Path) -> str | None:
    """What is wrong with the checkpoint, with the file's path; None when it is whole."""
    listed = folder / NAME
    if not listed.exists():
        logger.warning("%s: no %s (of an older version?): its contents cannot be checked", folder, NAME)
        return _unreadable(folder)
    try:
        rows = dict(json.loads(listed.read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{listed} is not readable ({error})"
    with ThreadPoolExecutor(THREADS) as pool:
        reasons = pool.map(lambda item: _differs(folder / item[0], item[1]), rows.items())
        return next((reason for reason in reasons if reason), None)


def _differs(path: Path, row: dict[str, int | str]) -> str | None:
    try:
        size = path.stat().st_size
        if size != row["bytes"]:
            return f"{path} has {size} bytes, not {row['bytes']}"
        return None if _look(path) == row else f"{path} has changed since it was written (its checksum differs)"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def _look(path: Path) -> dict[str, int | str]:
    hashed, size, buffer = hashlib.blake2b(digest_size=16), 0, memoryview(bytearray(BLOCK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hashed.update(buffer[:count])
            size += count
    return {"bytes": size, "blake2b": hashed.hexdigest()}


def _unreadable(folder: Path) -> str | None:
    """What can be seen without a manifest: the trainer's files are there and can be parsed."""
    path = folder / "trainer.json"
    try:
        json.loads(path.read_text())
        path = folder / "trainer.npz"
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                arrays[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return f"{path} is not readable ({error})"
    return None if os.access(folder / "learner" / ".metadata", os.R_OK) else f"{folder}/learner/.metadata is missing"
