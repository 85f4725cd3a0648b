"""When an episode ends by the critic's word: at the earliest done frame, however late and in whatever order it is told.

The environment steps on while verdicts are in flight. Frames are judged in their order: a done counts only when all
frames asked before it are answered, so the outcome is the one of a slow loop that waits after every step (the reference
in ``tests/shm_bridge/rules/test_termination.py``), and nothing after the done frame is credited.

    asked:     1    2    3    4    5    6            steps 5 and 6 were taken on speculation
    answered:  no   no   -    DONE -    -            undecided: frame 3 is out
    answered:  no   no   no   DONE -    -            done at step 4
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from shm_bridge import ConfigError

ASKED_EVERY = ("step", "chunk")
INVALID_POLICIES = ("not_done", "drop", "stop")


class Outcome(Enum):
    """What the answers so far say about the episode."""

    OPEN = "open"
    DONE = "done"
    DROP = "drop"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class DoneRules:
    """What makes a frame done and an episode over. Raises :class:`shm_bridge.ConfigError` for a value out of range.

    Attributes:
        threshold: a frame is done when P(done) is over it.
        hold: so many asked frames in a row must be done; the episode ends at the last of them.
        invalid: what an answer without a meaning does: ``not_done`` counts as no, ``drop`` gives the episode up,
            ``stop`` ends the run.
    """

    threshold: float = 0.9
    hold: int = 1
    invalid: str = "not_done"

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold={self.threshold!r}: must be from 0 to 1")
        if self.hold < 1:
            raise ConfigError(f"hold={self.hold!r}: must be 1 or more")
        if self.invalid not in INVALID_POLICIES:
            raise ConfigError(f"invalid={self.invalid!r}: allowed are {', '.join(INVALID_POLICIES)}")


class FrameVerdict(Protocol):
    """What the rule looks at of an answer about one frame: :class:`shm_bridge.Verdict` has it, as may anything else.

    ``probability`` is NaN when the engine gives none; then ``done`` decides.
    """

    @property
    def valid(self) -> bool: ...

    @property
    def done(self) -> bool: ...

    @property
    def probability(self) -> float: ...


class Termination:
    """Finds the earliest done frame of one episode. Pure: no clock, no transport."""

    def __init__(self, rules: DoneRules) -> None:
        self.rules = rules
        self.outcome = Outcome.OPEN
        self.step: int | None = None
        self.answers: dict[int, FrameVerdict] = {}
        self._asked: list[int] = []
        self._judged = 0
        self._streak = 0

    def asked(self, step: int) -> None:
        """The frame after ``step`` environment steps is in flight. Steps must increase."""
        if self._asked and step <= self._asked[-1]:
            raise ValueError(f"frame {step} asked after frame {self._asked[-1]}")
        self._asked.append(step)

    def answered(self, step: int, verdict: FrameVerdict) -> Outcome:
        """Takes an answer, in any order; a second answer to the same frame changes nothing."""
        self.answers.setdefault(step, verdict)
        while self.outcome is Outcome.OPEN and self._judged < len(self._asked):
            earliest = self._asked[self._judged]
            if earliest not in self.answers:
                break
            self._judged += 1
            self._judge(earliest, self.answers[earliest])
        return self.outcome

    def _judge(self, step: int, verdict: FrameVerdict) -> None:
        if not verdict.valid and self.rules.invalid != "not_done":
            self.outcome = Outcome.DROP if self.rules.invalid == "drop" else Outcome.STOP
            self.step = step
            return
        probability = verdict.probability
        done = verdict.valid and (verdict.done if math.isnan(probability) else probability > self.rules.threshold)
        self._streak = self._streak + 1 if done else 0
        if self._streak >= self.rules.hold:
            self.outcome, self.step = Outcome.DONE, step

    @property
    def settled(self) -> bool:
        """Whether no answer still out can change the outcome."""
        return self.outcome is not Outcome.OPEN or self._judged == len(self._asked)

    @property
    def missing(self) -> int:
        """How many of the frames asked about have no answer yet."""
        return len(self._asked) - len(self.answers)

    @property
    def frames(self) -> list[int]:
        """The steps asked about so far, in order."""
        return list(self._asked)

    def invalid(self, until: int) -> int:
        """Answers without a meaning about the frames up to step ``until``."""
        return sum(not answer.valid for step, answer in self.answers.items() if step <= until)


def asked_steps(every: str, chunk: int, max_steps: int) -> list[int]:
    """The steps after which the critic is asked: all, or the last of each chunk; always after ``max_steps``."""
    if every not in ASKED_EVERY:
        raise ConfigError(f"every={every!r}: allowed are {', '.join(ASKED_EVERY)}")
    if every == "step":
        return list(range(1, max_steps + 1))
    return sorted({*range(chunk, max_steps + 1, chunk), max_steps})
