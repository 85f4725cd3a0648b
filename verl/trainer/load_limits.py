"""How long loading a checkpoint may take: it follows the size of what is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evo_vlac.paths import from_home

LEAST_S = 300.0  # processes start and import, whatever the size
SLOWEST = 25e6  # bytes a second to one process: a disk over the network that sixteen of them read at once
WEIGHTS = ("*.safetensors", "*.pt", "*.bin")


@dataclass(frozen=True, slots=True)
class LoadLimit:
    """``seconds`` for a process to load ``size`` bytes out of ``folder``. As text: what is waited for."""

    folder: Path
    size: int

    @classmethod
    def of(cls, folder: str | Path) -> LoadLimit:
        """By the size of the weights in ``folder``; 0 where it cannot be read here."""
        path = from_home(folder)
        return cls(path, sum(file.stat().st_size for pattern in WEIGHTS for file in path.glob(pattern)))

    @property
    def seconds(self) -> float:
        return LEAST_S + self.size / SLOWEST

    def __str__(self) -> str:
        return f"it loads {self.size / 1e9:.1f} GB from {self.folder}"


NOTHING_TO_LOAD = LoadLimit(Path(), 0)
