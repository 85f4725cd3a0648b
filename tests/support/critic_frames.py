"""Pictures to ask about."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def random_frames(count: int, seed: int = 0, size: int = 112) -> list[npt.NDArray[Any]]:
    """Frames of random coarse blocks, uint8 (size, size, 3): as different from each other as pictures can be."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, size // 8, size // 8, 3), np.uint8)
    return list(blocks.repeat(8, 1).repeat(8, 2))
