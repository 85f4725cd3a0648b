"""How large the weights in a folder are, and how long a process may take to read them: time limits follow it."""

from __future__ import annotations

from pathlib import Path

from evo_vlac.paths import from_home

SLOWEST = 25e6  # bytes a second to one process: a disk over the network that sixteen of them read at once
PATTERNS = ("*.safetensors", "*.pt", "*.bin")


def weight_bytes(folder: str | Path | None) -> int:
    """Of all weights in ``folder``; 0 where it cannot be read here, or is none."""
    if not folder:
        return 0
    path = from_home(folder)
    return sum(file.stat().st_size for pattern in PATTERNS for file in path.glob(pattern) if file.is_file())


def reading_s(size: int) -> float:
    """Seconds that ``size`` bytes may take."""
    return size / SLOWEST
