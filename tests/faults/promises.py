"""What is promised of a run that meets a fault: one of three classes.

exact     the run goes on: exit code 0, every episode once, each as in an undisturbed run
ends      the run ends within N seconds of the fault, and names the cause
refused   the run does not start: exit code 2, and what is on the screen names the cause

In every class: no wrong reward, no duplicate, no traceback on the screen, nothing left over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

START_S = 120.0  # from the start to a refusal: imports on a busy machine


@dataclass(frozen=True, slots=True)
class Exact:
    """``within``: seconds from the fault to the end, so that a run that hangs is seen; a whole one takes 25 on an idle
    machine. ``may_drop``: episodes that the critic's policy may take out."""

    within: float = 180.0
    may_drop: int = 0

    @property
    def text(self) -> str:
        return f"exact, but for at most {self.may_drop} dropped episodes" if self.may_drop else "exact"


@dataclass(frozen=True, slots=True)
class EndsWithin:
    """``names``: what the cause on the screen must match (case is ignored, ``.`` matches a line's end, too).

    ``codes``: exit codes. ``resumes``: ``trainer.resume_mode=auto`` then makes the run exact. ``nobody_left``: launcher
    and driver were killed, so that nobody can say anything; all that they left is gone in time nevertheless.
    """

    within: float
    names: str
    codes: tuple[int, ...] = (1,)
    resumes: bool = False
    nobody_left: bool = False

    def __post_init__(self) -> None:
        re.compile(self.names)

    @property
    def text(self) -> str:
        what = "all is gone" if self.nobody_left else "ends, names the cause," if self.names else "ends"
        return f"{what} within {self.within:g} s" + ("; resumed it is exact" if self.resumes else "")


@dataclass(frozen=True, slots=True)
class Refused:
    """``names``: what the line on the screen must match."""

    names: str
    within: float = START_S
    codes: tuple[int, ...] = (2,)

    def __post_init__(self) -> None:
        re.compile(self.names)

    @property
    def text(self) -> str:
        return "refused, exit code " + " or ".join(map(str, self.codes))


Promise = Exact | EndsWithin | Refused
