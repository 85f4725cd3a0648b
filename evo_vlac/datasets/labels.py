"""Labels as people store them: yes and no in any spelling, and rows of a table that fit their pictures only nearly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evo_vlac.errors import DatasetError

_TRUE = frozenset({"1", "true", "t", "yes", "y", "success", "succeeded"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "failure", "fail", "failed"})
_UNKNOWN = frozenset({"", "none", "null", "nan", "n/a", "na", "unknown", "?"})
_NEAR_S = 0.2


def text_of(value: Any) -> str:
    """An attribute as text: strings, bytes, numpy's of both, one of them in an array; "" for none."""
    if value is None or getattr(value, "shape", ()) is None:  # the second is HDF5's empty value
        return ""
    if isinstance(value, (np.ndarray, list, tuple)):
        return text_of(np.asarray(value).reshape(-1)[0]) if np.size(value) else ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("cp1252", errors="replace")
    return str(value)


def truth_of(value: Any, name: str = "success") -> bool | None:
    """Yes or no, in any of the ways they are written; None where the value says neither ("unknown", NaN, nothing).

    Raises DatasetError for another text or number.
    """
    text = text_of(value).strip().lower()
    if text in _UNKNOWN:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number in (0.0, 1.0):
        return number == 1.0
    raise DatasetError(f"{name} is {text_of(value)!r}; allowed: true or false")


def near(fps: float) -> int:
    """How many pictures and rows may differ in number and still count as the same recording: 0.2 s, at least 2."""
    return max(2, round(_NEAR_S * fps))


def rows_of_frames(
    frames: Sequence[int], seconds: Sequence[float], length: int, times: Sequence[float] | None, rows: int, fps: float
) -> list[int]:
    """The table's row of each picture, by number: some of ``length`` pictures, for ``rows`` rows.

    Where the numbers differ by more than 0.2 s but picture and table cover the same time, by time. Pictures after the
    table's end have no row: the list ends there.
    """
    if times is not None and abs(length - rows) > near(fps):
        moments = np.asarray(times, dtype=float) - times[0]
        span = float(moments[-1])
        if abs(seconds[-1] - seconds[0] - span) <= 0.5 + 0.02 * span:
            return [int(np.abs(moments - (second - seconds[0])).argmin()) for second in seconds]
    return [min(frame, rows - 1) for frame in frames if frame < rows + near(fps)]


def flags_of_frames(flags: Sequence[bool], rows: Sequence[int], fps: float) -> tuple[bool, ...]:
    """The flag of each picture's row. Where up to 0.2 s of pictures are missing at the end, the last picture stands
    for those rows: it shows the same state."""
    found = [flags[row] for row in rows]
    lost = flags[rows[-1] + 1 :]
    if 0 < len(lost) <= near(fps):
        found[-1] = found[-1] or any(lost)
    return tuple(found)


def difference(pictures: int, rows: int) -> str:
    """How many pictures there are for a table's rows, in words."""
    count, word = abs(pictures - rows), "fewer" if pictures < rows else "more"
    return f"{count} picture{'s' * (count > 1)} {word} than rows of the table; success and dones are the table's"
