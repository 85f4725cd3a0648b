"""What is measured in C, compiled on the spot when there is a compiler: the floors, and the machine's own pauses."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TIMEOUT_S = 120.0
PAUSES_S = 1.0


class Pauses(NamedTuple):
    """How the machine takes a core away from who uses it without a break: pauses a second, and their mean."""

    per_s: float
    mean_us: float


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _run(name: str, *arguments: object) -> list[int]:
    """The numbers a program of this folder prints. Raises ``RuntimeError`` without a compiler."""
    found = compiler()
    if found is None:
        raise RuntimeError("no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / name)
        source = str(Path(__file__).with_name(f"{name}.c"))
        subprocess.run([found, "-O2", "-o", program, source, "-lpthread"], check=True, timeout=TIMEOUT_S)
        command = [program, *map(str, arguments)]
        output = subprocess.run(command, check=True, timeout=TIMEOUT_S, capture_output=True, text=True).stdout
    return [int(number) for number in output.split()]


def measure_floor(
    frame_bytes: int, warmup: int, rounds: int, pin: bool, gap_us: int = 0, spin: bool = False
) -> tuple[np.ndarray[Any, Any], int]:
    """(latencies in ns, CPU ns of both processes). Raises ``RuntimeError`` without a compiler."""
    cores = sorted(os.sched_getaffinity(0))[:2] if pin else []
    chosen = cores if len(cores) == 2 else [-1, -1]
    numbers = _run("floor", frame_bytes, warmup, rounds, *chosen, gap_us, int(spin))
    return np.array(numbers[:-1], np.int64), numbers[-1] * rounds // (warmup + rounds)


def measure_pauses() -> Pauses:
    """Of the first core this process may use. Raises ``RuntimeError`` without a compiler."""
    count, total_ns = _run("pauses", min(os.sched_getaffinity(0)), PAUSES_S)
    return Pauses(count / PAUSES_S, total_ns / max(count, 1) / 1000)
