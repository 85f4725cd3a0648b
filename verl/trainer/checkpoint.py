"""Checkpoints of a run: written in the background, visible whole or not at all, found again.

    checkpoints/step-N/   policy/ (published layout)  learner/ (shards)  trainer.json  trainer.npz
                        manifest.json (sizes and checksums)
    checkpoints/last      link to the newest
    checkpoints/best      link to the one that evaluated best

A folder is written under a hidden name, synced to the disk and then renamed: a crash in the middle leaves the previous
checkpoint as it was. There is no generator's state in it: every random draw is keyed by the seed and a number (of the
episode, the update), and the numbers are in ``trainer.json``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from verl.config import TrainerConfig
from verl.errors import CheckpointDamagedError, RunFailedError
from verl.trainer import ray_wait
from verl.trainer.disk import full_disk
from verl.trainer.manifest import damage, write_manifest
from verl.trainer.run_folder import RunFolder, named_checkpoint

logger = logging.getLogger(__name__)
TIMEOUT_S = 3600.0
POLL_S = 0.2
LOGS = ("metrics.jsonl", "episodes.jsonl")  # a resumed run goes on where these were when the checkpoint was made
Wait = Callable[[list[Any], str], list[Any]]


def _wait_plainly(calls: list[Any], what: str) -> list[Any]:
    return ray_wait.get(calls, TIMEOUT_S, what)


class Checkpoints:
    """The folder ``checkpoints`` of a run. Used by the driver's one thread; writes in another.

    Args:
        keep: newest checkpoints that are kept; the best is kept beside them.
        wait: for the learners' answers to these calls, named for people. Used by both threads.
    """

    def __init__(self, folder: RunFolder, keep: int = 1, wait: Wait = _wait_plainly) -> None:
        self.folder, self.root, self.keep, self.wait_for = folder, folder.file("checkpoints"), keep, wait
        self.best: int | None = None
        self.last: int | None = None
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None
        self._size: int | None = None  # of the last one, bytes
        self._lock = threading.Lock()
        for unfinished in self.root.glob(".*-*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def save(self, step: int, learners: list[Any], state: dict[str, object], arrays: dict[str, np.ndarray]) -> None:
        """Starts a checkpoint of this very moment; returns when all learners have copied their state.

        Args:
            state: what JSON can hold; ``arrays``: what it cannot. Neither may be changed afterwards. ``state["logs"]``:
                see :meth:`log_sizes`, if the moment of ``state`` is not this one.
        """
        self.wait()
        part = self.root / f".part-{step}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        content = {"logs": self.log_sizes(), **state}
        self.wait_for([learner.save.remote(str(part)) for learner in learners], "the learners' copy of their state")
        self.last = step
        self._writer = threading.Thread(
            target=self._write, args=(part, step, learners, content, arrays), name="checkpoint", daemon=True
        )
        self._writer.start()

    def log_sizes(self) -> dict[str, int]:
        """Bytes of the run's logs now: a resumed run cuts them back to that."""
        return {name: file.stat().st_size for name in LOGS if (file := self.folder.file(name)).exists()}

    def mark_best(self, step: int) -> None:
        """``best`` is the checkpoint of ``step``, which has been saved or is being saved."""
        with self._lock:
            self.best = step
            self._link_and_prune()

    def holds(self, checkpoint: Path) -> bool:
        """Whether ``checkpoint`` is one of this run's."""
        return _belongs(checkpoint, self.folder)

    def tick(self) -> None:
        """Raises what went wrong in the background, if anything did."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Until the checkpoint under way is complete on the disk."""
        if self._writer is not None:
            while self._writer.is_alive():
                self._writer.join(POLL_S)
                ray_wait.beat("the checkpoint")
            self._writer = None
        self.tick()

    def _write(
        self, part: Path, step: int, learners: list[Any], state: dict[str, object], arrays: dict[str, np.ndarray]
    ) -> None:
        try:
            (part / "trainer.json").write_text(json.dumps(state))
            np.savez(part / "trainer.npz", allow_pickle=False, **arrays)
            while not all(self.wait_for([learner.written.remote() for learner in learners], "the checkpoint")):
                time.sleep(POLL_S)
            if missing := missing_files(part):
                raise RunFailedError(
                    f"checkpoint {step}: {missing} is not here, a learner wrote it on another node: "
                    "trainer.default_local_dir must be on a file system that all nodes share"
                )
            self._size = write_manifest(part)
            _sync(part)
            with self._lock:
                final = self.root / f"step-{step}"
                if final.exists():  # of a branch of this run that was left
                    _remove(final)
                os.replace(part, final)
                self._link_and_prune()
        except BaseException as error:  # noqa: BLE001 (raised in the driver's thread by tick)
            full = full_disk(error, part, self._size)
            self._error = RunFailedError(f"checkpoint {step} was not written: {full}") if full else error
            shutil.rmtree(part, ignore_errors=True)

    def _link_and_prune(self) -> None:
        for name, step in (("last", self.last), ("best", self.best)):
            if step is not None and (self.root / f"step-{step}").is_dir():
                link = self.root / f".link-{name}"
                link.unlink(missing_ok=True)
                link.symlink_to(f"step-{step}")
                os.replace(link, self.root / name)
        _sync_one(self.root)
        kept = {(self.root / name).resolve() for name in ("last", "best")}
        kept |= set(_by_age(self.root)[-self.keep :])
        for folder in _by_age(self.root):
            if folder not in kept:
                _remove(folder)


def find_checkpoint(
    trainer: TrainerConfig, folder: RunFolder, note: Callable[[str], None] = logger.warning
) -> Path | None:
    """The folder to go on from by ``trainer.resume_mode``; None for a fresh start (also with ``auto`` and none yet).

    All of it is read and compared with its checksums. ``auto`` goes back to the newest whole one, and says so.

    Raises:
        ConfigError: ``trainer.resume_from_path`` is no checkpoint.
        CheckpointDamagedError: that one, or with ``auto`` every one there is, is damaged.
    """
    if trainer.resume_mode == "auto":
        return _newest_whole(folder, note)
    path = named_checkpoint(trainer)
    if path is None:
        return None
    if reason := damage(path):
        raise CheckpointDamagedError(
            f"trainer.resume_from_path={path}: {reason}; {_way_on(_by_age(path.resolve().parent), path.resolve())}"
        )
    return path.resolve()


def _newest_whole(folder: RunFolder, note: Callable[[str], None]) -> Path | None:
    root = folder.file("checkpoints")
    found = _by_age(root)[::-1]
    if (root / "last").exists():
        last = (root / "last").resolve()
        found = [last, *(one for one in found if one != last)]
    reasons: list[str] = []
    for checkpoint in found:
        reason = damage(checkpoint)
        if reason is None:
            if reasons:
                note(f"going back to {checkpoint}, the newest checkpoint that is whole")
            return checkpoint
        reasons.append(reason)
        note(f"damaged: {reason}")
    if reasons:
        raise CheckpointDamagedError(f"{reasons[0]}; {_way_on([], None)}")
    return None


def _way_on(others: list[Path], damaged: Path | None) -> str:
    for other in reversed(others):
        if other != damaged and damage(other) is None:
            return f"go on from trainer.resume_mode=resume_path trainer.resume_from_path={other}"
    return (
        "no other checkpoint of this run is whole: start it anew under another trainer.run_id, or go on from another "
        "run's by trainer.resume_mode=resume_path trainer.resume_from_path=FOLDER"
    )


def rewind(folder: RunFolder, checkpoint: Path | None) -> int:
    """Cuts the run's logs back to where they were when ``checkpoint`` was made; the number of updates by then.

    What was logged after it is done again, to the same numbers. Logs of another run are not in this folder.
    """
    state = json.loads((checkpoint / "trainer.json").read_text()) if checkpoint else {}
    sizes = state.get("logs", {}) if checkpoint and _belongs(checkpoint, folder) else {}
    for name in LOGS:
        path = folder.file(name)
        if path.exists() and path.stat().st_size > sizes.get(name, 0):
            os.truncate(path, sizes.get(name, 0))
    return int(state.get("updates", 0))


def read_state(checkpoint: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The trainer's own state and arrays, as they were given to :meth:`Checkpoints.save`."""
    with np.load(checkpoint / "trainer.npz", allow_pickle=False) as arrays:
        return json.loads((checkpoint / "trainer.json").read_text()), dict(arrays)


def _belongs(checkpoint: Path, folder: RunFolder) -> bool:
    return checkpoint.parent == folder.file("checkpoints").resolve()


def missing_files(checkpoint: Path) -> str | None:
    """The first of the files with the learners' shards that is not there."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    folder = checkpoint / "learner"
    if not (folder / ".metadata").is_file():
        return "learner/.metadata"
    stored = FileSystemReader(folder).read_metadata().storage_data or {}
    names = sorted({place.relative_path for place in stored.values()})
    return next((f"learner/{name}" for name in names if not (folder / name).is_file()), None)


def _by_age(root: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    found = [file.parent for file in root.resolve().glob("step-*/trainer.json")]
    return sorted(found, key=lambda folder: (folder / "trainer.json").stat().st_mtime_ns)


def _remove(folder: Path) -> None:
    """Takes the name away first: what is half removed is no checkpoint."""
    gone = folder.parent / f".gone-{folder.name}"
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
