"""The dot environment with faults. ``env.faults`` names a folder: each file NN-KIND in it is taken by one reset.

A file ``all-KIND`` is taken by every reset. The first reset of a process (the warm-up) takes none.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.verl.envs.dot_env import DotEnv

CORNER, PER_STEP = 2, 8  # pixels square in each corner, brightness a step: who sees the picture knows the step
FAULT_STEP = 5
LONG_S = 1000.0
SLOW_S = 20.0
NOISE_BYTES = 4 << 20


class FaultEnv(DotEnv):
    """``env_config`` keys beside DotEnv's: faults."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.faults = Path(config["faults"]) if config.get("faults") else None
        self.fault: str | None = None
        self.steps = self.resets = 0

    def reset(self, seed: int, task: int = 0) -> None:
        super().reset(seed, task)
        self.steps = 0
        self.fault = self._take_fault() if self.resets else None
        self.resets += 1
        if self.fault == "raise_reset":
            raise RuntimeError("reset failed")

    def _take_fault(self) -> str | None:
        for file in sorted(self.faults.iterdir()) if self.faults is not None else ():
            number, _, kind = file.name.partition("-")
            if number == "all":
                return kind
            if number != "done":
                try:
                    file.rename(file.with_name(f"done-{number}-{kind}"))
                except FileNotFoundError:  # another process was faster
                    continue
                return kind
        return None

    def step(self, action: np.ndarray) -> bool:
        self.steps += 1
        if self.steps == FAULT_STEP and self.fault in AT_STEP:
            AT_STEP[self.fault]()
        return super().step(action)

    def proprio(self) -> np.ndarray:
        proprio = super().proprio()
        if self.fault in ("nan", "inf"):
            proprio[0] = float(self.fault)
        return proprio

    def render(self, camera: str, out: np.ndarray) -> None:
        super().render(camera, out)
        for rows in (slice(None, CORNER), slice(-CORNER, None)):  # whichever way up the picture is stored and shown
            for columns in (slice(None, CORNER), slice(-CORNER, None)):
                out[rows, columns] = PER_STEP * self.steps


def step_of(picture: Image.Image) -> int:
    """The step that :class:`FaultEnv` drew into the picture."""
    return round(float(np.asarray(picture.convert("RGB"))[:CORNER, :CORNER].mean()) / PER_STEP)


def _raise() -> None:
    raise RuntimeError("unstable simulation")


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    time.sleep(LONG_S)


def _slow() -> None:
    time.sleep(SLOW_S)


def _fork_and_die() -> None:
    """The child keeps what the parent had open."""
    if os.fork() == 0:
        time.sleep(LONG_S)
        os._exit(0)
    os._exit(3)


def _noisy() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * NOISE_BYTES)
        stream.flush()


def _close_all() -> None:
    os.closerange(3, 400)


AT_STEP = {
    "raise": _raise,
    "crash": _crash,
    "hang": _hang,
    "slow": _slow,
    "fork": _fork_and_die,
    "noisy": _noisy,
    "close": _close_all,
    "exit": lambda: os._exit(0),
}


def write_fault(folder: Path, kind: str, times: int = 1) -> None:
    """Puts ``kind`` in for the next resets; ``times=0``: for all."""
    names = [f"{i:02d}-{kind}" for i in range(times)] or [f"all-{kind}"]
    for name in names:
        (folder / name).touch()
