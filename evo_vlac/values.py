"""Critic list to value list: how the progress of pairs adds up to the progress of a trajectory.

Everything is in percent: a critic c says what share of the REMAINING work a step did (or undid), a value v
how much of the whole work is done, v0 = 0. Formulas: VLAC (arXiv 2509.15937) and its published code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evo_vlac.errors import OptionError

ValueMode: TypeAlias = bool | str
"""True: every critic is a share of the remaining work. "mix_f": falls are mirrored above 50 % (never under
10) and proportional below. Anything else: falls are mirrored everywhere, without a floor."""

MIX = "mix_f"
_FLOOR = 10.0


def critic_to_values(critics: Sequence[float], mode: ValueMode = True) -> list[float]:
    """The value list, one longer than ``critics``, percent, first 0.0.

    Defined everywhere: critics outside -100..100 count as the bound; where the formula divides by 100 + c, a
    c of -100 counts as -99, the last whole percent it is defined at. A NaN critic (an invalid answer) leaves
    the value as it is.
    """
    values = [0.0]
    for critic in critics:
        values.append(next_value(values[-1], float(critic), mode))
    return values


def next_value(value: float, critic: float, mode: ValueMode = True) -> float:
    """The value after one more critic; see :func:`critic_to_values`."""
    if math.isnan(critic):
        return value
    c = min(100.0, max(-100.0, critic))
    if c > 0 or mode is True:
        return min(100.0, value + (100.0 - value) * c / 100.0)  # rounding may step over
    if mode == MIX and value <= 50:
        return value + value * c / 100.0
    remaining = 100.0 + c if c > -100 else 1.0
    mirrored = 100.0 - max(100.0 - value, 1.0) / remaining * 100.0
    return max(_FLOOR, mirrored) if mode == MIX else mirrored


def pair_indices(frames: int, skip: int = 1, frame_skip: bool = True) -> list[tuple[int, int]]:
    """Which frames are compared, (before, after), for a trajectory of ``frames`` frames.

    ``frame_skip``: neighbours on the grid 0, skip, 2 skip, ... Else every frame i >= skip against i - skip.
    The last frame is always scored: where the grid misses it, the last pair ends there and is shorter.
    """
    if skip < 1:
        raise OptionError(f"skip is {skip}; at least 1 is needed")
    if frames < 0:
        raise OptionError(f"frames is {frames}; it cannot be negative")
    if frames < 2:
        return []
    last = frames - 1
    if frame_skip:
        grid = [*range(0, last, skip), last]
        return list(itertools.pairwise(grid))
    if last < skip:
        return [(0, last)]
    return [(i - skip, i) for i in range(skip, frames)]


@dataclass(frozen=True, slots=True)
class ValueOptions:
    """How raw critics become the reported critics and values; applied in the order of the fields.

    ``addition_scale`` divides every critic; ``related_critic`` replaces critics by the differences of the
    values; ``bias`` is added; critics within (0, positive_clip] and [-negative_clip, 0) become 0 (0: off).
    """

    mode: ValueMode = True
    addition_scale: float = 1.0
    related_critic: bool = False
    bias: float = 0.0
    positive_clip: float = 0.0
    negative_clip: float = 0.0

    def __post_init__(self) -> None:
        if self.addition_scale == 0 or not math.isfinite(self.addition_scale):
            raise OptionError(f"addition_scale is {self.addition_scale}; any finite number but 0 is allowed")


def process(critics: Sequence[float], options: ValueOptions | None = None) -> tuple[list[float], list[float]]:
    """Reported critics and values (percent; one value more than critics) of raw critics."""
    options = options or ValueOptions()
    out = [float(c) / options.addition_scale for c in critics]
    if options.related_critic:
        values = critic_to_values(out, options.mode)
        out = [b - a for a, b in itertools.pairwise(values)]
    if options.bias != 0:
        out = [c + options.bias for c in out]
    if options.positive_clip != 0:
        out = [0.0 if 0 <= c <= options.positive_clip else c for c in out]
    if options.negative_clip != 0:
        out = [0.0 if -options.negative_clip <= c <= 0 else c for c in out]
    if not options.related_critic:
        return out, critic_to_values(out, options.mode)
    values = [0.0]
    for c in out:
        values.append(values[-1] + c)
    return out, values


def reward(value: float) -> float:
    """A value in percent as a reward, 0 to 1."""
    return 0.0 if math.isnan(value) else min(1.0, max(0.0, value / 100.0))
