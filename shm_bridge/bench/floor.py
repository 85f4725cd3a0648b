"""The floor in C, compiled on the spot when there is a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("floor.c")
TIMEOUT_S = 120.0


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def measure_floor(
    frame_bytes: int, warmup: int, rounds: int, pin: bool, gap_us: int = 0, spin: bool = False
) -> tuple[np.ndarray[Any, Any], int]:
    """(latencies in ns, CPU ns of both processes). Raises ``RuntimeError`` without a compiler."""
    found = compiler()
    if found is None:
        raise RuntimeError("no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "floor")
        subprocess.run([found, "-O2", "-o", program, str(SOURCE), "-lpthread"], check=True, timeout=TIMEOUT_S)
        cores = sorted(os.sched_getaffinity(0))[:2] if pin else []
        chosen = cores if len(cores) == 2 else [-1, -1]
        command = [program, *map(str, (frame_bytes, warmup, rounds, *chosen, gap_us, int(spin)))]
        output = subprocess.run(command, check=True, timeout=TIMEOUT_S, capture_output=True, text=True).stdout
    numbers = np.array(output.split(), np.int64)
    return numbers[:-1], int(numbers[-1]) * rounds // (warmup + rounds)
