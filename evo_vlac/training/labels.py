"""Labels: progress and done of a trajectory's frames, by the VLAC paper (arXiv 2509.15937).

For frames i < j of a success that ends at T the critic is ``(j - i) / (T - i)``, the share of the remaining work; the
reversed pair has the negative. Done is 0 before 0.8 T and 1 after 0.95 T, frames between are left out; where the data
carries the simulator's success for each frame, that decides instead, unless the training is label-free: then the user
says which files are demonstrations, and no outline has flags.
"""

from __future__ import annotations

from collections.abc import Sequence

from evo_vlac.datasets.trajectory import Outline
from evo_vlac.errors import OptionError


def critic_label(before: int, after: int, end: int) -> int:
    """Percent of the remaining work done from frame ``before`` to ``after`` of a success that ends at frame ``end``.

    Frames after the end count as the end; a pair in reverse order has the negative sign.
    """
    if end < 1:
        raise OptionError(f"end is {end}; a success takes at least one step")
    first, second = min(before, end), min(after, end)
    if first == second:
        return 0
    low, high = min(first, second), max(first, second)
    share = round(100 * (high - low) / (end - low))
    return share if second > first else -share


def done_labels(demo: Outline, before: float = 0.8, after: float = 0.95) -> list[int | None]:
    """0, 1 or None (left out) for each frame: the simulator's flags, else the paper's rule, else all 0 (a failure, or
    play)."""
    if demo.dones is not None:
        return [int(flag) for flag in demo.dones]
    if not demo.success:
        return [0] * demo.length
    last = demo.length - 1
    labels: list[int | None] = []
    for i in range(demo.length):
        labels.append(0 if i < before * last else 1 if i > after * last else None)
    return labels


def state_answer(proprio: Sequence[float]) -> str:
    """Gripper position and opening in millimetres, of fixed width so that a digit's place says what it counts.

    ``proprio``: eef position (3,) in metres, axis-angle (3,), finger positions (2,) in metres. 0.5 m
    is added to x and y, so that no sign is needed.
    """
    x, y, z, *_, left, right = proprio
    places = (x + 0.5, y + 0.5, z, abs(left - right))
    return " ".join(f"{min(9999, max(0, round(1000 * place))):04d}" for place in places)
