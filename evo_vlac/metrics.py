"""How good a trajectory, or a critic, is. All pure numbers in, pure numbers out; never NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evo_vlac.errors import OptionError


def voc(values: Sequence[float]) -> float:
    """Value-order correlation: Spearman's rank correlation of the values with time, -1 to 1.

    A constant list, or fewer than two values, has no order: 0.0.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2 or not np.isfinite(array).all() or np.all(array == array[0]):
        return 0.0
    ranks = _ranks(array)
    time = np.arange(array.size, dtype=np.float64)
    ranks, time = ranks - ranks.mean(), time - time.mean()
    return float(np.clip((ranks @ time) / math.sqrt((ranks @ ranks) * (time @ time)), -1.0, 1.0))


ONE_FRAME = "one frame: no step to judge"
"""What is said in the place of figures about steps."""


def any_readable(critics: Sequence[float]) -> bool:
    """Whether one of them at least could be read (is no NaN): else figures made of critics say nothing."""
    return not all(math.isnan(critic) for critic in critics)


def negative_rate(critics: Sequence[float]) -> float:
    """NR: the share of negative critics, 0 to 1; 0.0 of none. Invalid (NaN) critics are not counted."""
    known = [c for c in critics if not math.isnan(c)]
    return sum(c < 0 for c in known) / len(known) if known else 0.0


def voc_f1(forward: float, reverse: float) -> float:
    """VOC-F1: the harmonic mean of VOC and VROC; 0.0 where one of them is not positive."""
    if forward <= 0 or reverse <= 0:
        return 0.0
    return 2 * forward * reverse / (forward + reverse)


@dataclass(frozen=True, slots=True)
class Binary:
    """Counts of a yes/no verdict against the truth, and what follows from them."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def total(self) -> int:
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def precision(self) -> float | None:
        """Of the said yes, how many were; None where none was said."""
        said = self.true_positive + self.false_positive
        return self.true_positive / said if said else None

    @property
    def recall(self) -> float | None:
        """Of the true yes, how many were said; None where there was none."""
        true = self.true_positive + self.false_negative
        return self.true_positive / true if true else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None where there was no yes at all."""
        both = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / both if both else None

    @property
    def accuracy(self) -> float | None:
        """The share of right verdicts; None of none."""
        return (self.true_positive + self.true_negative) / self.total if self.total else None


def binary(said: Sequence[bool], truth: Sequence[bool]) -> Binary:
    """The confusion matrix of ``said`` against ``truth``."""
    _same_length("said", said, "truth", truth)
    pairs = list(zip(map(bool, said), map(bool, truth)))
    return Binary(
        true_positive=sum(s and t for s, t in pairs),
        false_positive=sum(s and not t for s, t in pairs),
        false_negative=sum(t and not s for s, t in pairs),
        true_negative=sum(not s and not t for s, t in pairs),
    )


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One tenth of the probabilities: its bounds, how many fell in, their mean, and how often it was true."""

    low: float
    high: float
    count: int
    mean_probability: float
    true_share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """``ece``: expected calibration error, 0 to 1. ``brier``: mean squared error of the probability, 0 to
    1. None of no probabilities."""

    ece: float | None
    brier: float | None
    bins: tuple[CalibrationBin, ...]


def calibration(probabilities: Sequence[float], truth: Sequence[bool], bins: int = 10) -> Calibration:
    """How far the probabilities can be taken at their word; empty bins are left out."""
    _same_length("probabilities", probabilities, "truth", truth)
    if bins < 1:
        raise OptionError(f"bins is {bins}; at least 1 is needed")
    p = np.asarray(probabilities, dtype=np.float64)
    t = np.asarray(truth, dtype=np.float64)
    if p.size == 0:
        return Calibration(None, None, ())
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    filled = []
    for i in range(bins):
        mask = index == i
        if mask.any():
            mean, share = float(p[mask].mean()), float(t[mask].mean())
            filled.append(CalibrationBin(i / bins, (i + 1) / bins, int(mask.sum()), mean, share))
    ece = sum(b.count / p.size * abs(b.mean_probability - b.true_share) for b in filled)
    return Calibration(float(ece), float(np.mean((p - t) ** 2)), tuple(filled))


def _ranks(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0, ties sharing the mean of theirs."""
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[inverse], dtype=np.float64)


def _same_length(a: str, left: Sequence[object], b: str, right: Sequence[object]) -> None:
    if len(left) != len(right):
        raise OptionError(f"{len(left)} {a} for {len(right)} {b}; as many are needed")
