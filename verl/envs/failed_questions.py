"""The questions of an episode to which no reply of the model came, until one does. Pure: no clock, no transport.

asked -> an outage -> failed -> waits for its pause -> due -> asked again -> a reply: answered, forgotten
                        ^                                       `--> an outage --.
                        `--------------------------------------------------------'

A question that is answered at its first asking is never here: the lane knows what it was asked, and the verdict says
what it is of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shm_bridge import Kind
from shm_bridge.adapter import FIRST_PAUSE_S, LONGEST_PAUSE_S


@dataclass(slots=True)
class FailedQuestion:
    """A question about the frame after ``step``; of a value list ``step`` is the last.

    Attributes:
        since: when it was first asked, in seconds of the caller's clock.
        failures: askings that ended in an outage.
        alone: of those, the ones in whose time others were answered: the question itself may be at fault.
        due: when it is to be asked again; infinite while it is.
    """

    kind: Kind
    step: int
    since: float
    failures: int = 0
    alone: int = 0
    due: float = math.inf


class FailedQuestions(dict[tuple[Kind, int], FailedQuestion]):
    """By kind and step; see the module's head."""

    def failed(self, kind: Kind, step: int, since: float, others_answered: bool, now: float) -> FailedQuestion:
        """An asking ended in an outage: the question pauses, each time twice as long.

        Args:
            since: when this asking was; of the first it is kept.
            others_answered: in the time of this asking.
        """
        question = self.setdefault((kind, step), FailedQuestion(kind, step, since))
        question.failures += 1
        question.alone += others_answered
        question.due = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(question.failures - 1, 16))
        return question

    def due(self, now: float) -> list[FailedQuestion]:
        """Those whose pause is over, the earliest step first."""
        return sorted((one for one in self.values() if one.due <= now), key=lambda one: one.step)

    def next_due(self, now: float) -> float:
        """Seconds until the next pause is over; infinite without any."""
        return max(0.0, min((one.due for one in self.values()), default=math.inf) - now)
