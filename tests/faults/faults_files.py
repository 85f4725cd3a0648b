"""Files: lanes cut off, a small or full /dev/shm, a full disk, checkpoints that are damaged."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from shm_bridge.memory import layout
from tests.faults.judge import Facts
from tests.faults.lab import Lab
from tests.faults.promises import EndsWithin, Exact, Refused
from tests.faults.registry import fault
from tests.faults.run import Run

SHM = Path("/dev/shm")
FULL_DISK = EndsWithin(60, r"(?=.*(no space|full))(?=.*checkpoints)")
FULL_SHM = EndsWithin(180, r"(?=.*/dev/shm)(?=.*\d)")
NO_FOLDER = EndsWithin(60, r"was removed or moved while the run wrote into it")
OVERWRITTEN = 5  # times
FLIPPED_AT = 0.6  # of a file's length: in the tensors, after the head


def damaged(names: str) -> Refused:
    """What is found before anything starts ends with 2, what only a learner can find with 1."""
    return Refused(names, codes=(1, 2))


@fault("lane-truncated", Exact(), "a lane's file in /dev/shm is cut to nothing")
def lane_truncated(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    lane = next(name for name in run.shm() if ":lane." in name and not name.startswith("sem."))
    run.now()
    os.truncate(SHM / lane, 0)
    return lab.facts(run)


@fault("lane-distrusted", Exact(), "one word of one lane's memory (how many it has asked) is overwritten")
def lane_distrusted(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    lane = next(name for name in run.shm() if ":lane." in name and not name.startswith("sem."))
    run.now()
    with open(SHM / lane, "r+b", buffering=0) as memory:
        for _ in range(OVERWRITTEN):  # the worker writes there, too
            memory.seek(layout.WORKER_OFFSET + 8 * layout.WorkerWord.ASKED)
            memory.write((1 << 60).to_bytes(8, "little"))
            time.sleep(0.05)
    return lab.facts(run)


@fault("shm-unlinked", Exact(), "all of the run's files in /dev/shm are removed (RemoveIPC=yes at a log-out)")
def shm_unlinked(lab: Lab) -> Facts:
    """Processes that have the files open go on; this run starts none anew."""
    run = lab.start()
    run.wait_episodes()
    run.now()
    for name in run.shm():
        (SHM / name).unlink(missing_ok=True)
    return lab.facts(run)


@fault("shm-64m", Exact(300), "/dev/shm of 64 MB, as in a container")
def shm_of_a_container(lab: Lab) -> Facts:
    return _small_shm(lab, "64m")


@fault("shm-too-small", FULL_SHM, "/dev/shm of 256 KB: the lanes do not fit")
def shm_too_small(lab: Lab) -> Facts:
    return _small_shm(lab, "256k")


def _small_shm(lab: Lab, size: str) -> Facts:
    lab.mount(SHM, size)
    run = lab.start()
    run.now()
    return lab.facts(run)


@fault("disk-full", FULL_DISK, "the disk is full when a checkpoint is written")
def disk_full(lab: Lab) -> Facts:
    lab.mount(lab.runs, "12m")  # the first checkpoint takes more
    run = lab.start()
    run.until(lambda: list((run.folder / "checkpoints").glob(".part-*")), "a checkpoint under way")
    run.now()
    return lab.facts(run)


@fault("run-folder-removed", NO_FOLDER, "the run's folder is removed while it runs")
def run_folder_removed(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    run.now()
    shutil.rmtree(run.folder, ignore_errors=True)
    return lab.facts(run)


@fault("resume-empty-state", damaged("trainer.json"), "resumed from a checkpoint whose trainer.json is empty")
def empty_state(lab: Lab) -> Facts:
    """A crash of the machine can leave it so. No run is needed to make one."""
    name = "f-empty-state"
    step = lab.runs / name / "checkpoints" / "step-1"
    (step / "learner").mkdir(parents=True)
    (step / "trainer.json").touch()
    (step.parent / "last").symlink_to("step-1")
    return _resumed(lab, name)


@fault("resume-cut-state", damaged("trainer.json"), "resumed from a checkpoint whose trainer.json is cut off")
def cut_state(lab: Lab) -> Facts:
    return _resumed_after(lab, "trainer.json", lambda file: os.truncate(file, file.stat().st_size // 2))


@fault("resume-flipped-policy", damaged(r"\.safetensors|policy"), "resumed with flipped bits in the weights")
def flipped_policy(lab: Lab) -> Facts:
    return _resumed_after(lab, "policy/*.safetensors", _flip)


@fault("resume-flipped-learner", damaged(r"learner|\.distcp"), "resumed with flipped bits in the optimizer")
def flipped_learner(lab: Lab) -> Facts:
    return _resumed_after(lab, "learner/*.distcp", _flip)


def _resumed_after(lab: Lab, files: str, damage: Callable[[Path], None]) -> Facts:
    """A run that has ended well, resumed after ``damage`` was done to these files of its checkpoint."""
    run = _with_checkpoint(lab)
    for file in _files(run, files):
        damage(file)
    return _resumed(lab, run.id)


def _with_checkpoint(lab: Lab) -> Run:
    """A run of one update that has ended well."""
    run = lab.start(total=16)
    lab.also(Exact(300), run.facts(330), "the run before")
    lab.close(run)
    return run


def _resumed(lab: Lab, run_id: str) -> Facts:
    run = lab.start("trainer.resume_mode=auto", run_id=run_id)
    run.now()
    return lab.facts(run)


def _files(run: Run, pattern: str) -> list[Path]:
    found = sorted((run.folder / "checkpoints" / "last").resolve().glob(pattern))
    assert found, f"no {pattern} in the checkpoint"
    return found


def _flip(file: Path) -> None:
    """One byte's bits."""
    with open(file, "r+b") as data:
        data.seek(int(file.stat().st_size * FLIPPED_AT))
        byte = data.read(1)
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([byte[0] ^ 0xFF]))
