"""Where an image lies in shared memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def bytes_behind(image: np.ndarray) -> tuple[str, int]:
    """The file mapped behind an image, and the offset in it of the image's lowest address."""
    address = np.lib.array_utils.byte_bounds(image)[0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *name = line.split(maxsplit=5)
        low, high = (int(part, 16) for part in span.split("-"))
        if low <= address < high:
            return (name[0] if name else ""), int(offset, 16) + address - low
    raise AssertionError("not mapped")
