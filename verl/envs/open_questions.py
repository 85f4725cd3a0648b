"""The questions that an episode has put to the critic and that have no reply yet. Pure: no clock, no transport.

asked -> in flight -> taken -> a reply: forgotten
            ^            `--> an outage: failed -> waits for its pause -.
            `-------------------------- due, asked again ---------------'
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shm_bridge import Kind
from shm_bridge.adapter import FIRST_PAUSE_S, LONGEST_PAUSE_S


@dataclass(slots=True, eq=False)
class OpenQuestion:
    """A question about the frame after ``step``; of a value list ``step`` is the last.

    Attributes:
        since: when it was first asked, in seconds of the caller's clock.
        scored: VALUE: the steps of its frames.
        every: VALUE: one of so many frames is scored.
        failures: askings that ended in an outage.
        alone: of those, the ones in whose time others were answered: the question itself may be at fault.
        served: replies that the sidecar had given to anybody when it was last asked.
    """

    kind: Kind
    step: int
    since: float
    scored: tuple[int, ...] = ()
    every: int = 1
    failures: int = 0
    alone: int = 0
    served: int = 0


@dataclass(slots=True)
class OpenQuestions:
    """See the module's head. ``max_failures``: of one question while others are answered."""

    max_failures: int
    _flying: dict[int, OpenQuestion] = field(default_factory=dict)  # by ticket
    _paused: dict[OpenQuestion, float] = field(default_factory=dict)  # until when

    def __bool__(self) -> bool:
        return bool(self._flying or self._paused)

    def any(self, kind: Kind) -> bool:
        """Whether a question of this kind is open."""
        return any(one.kind is kind for one in self._flying.values()) or any(one.kind is kind for one in self._paused)

    def clear(self) -> None:
        """Nobody waits for any of them."""
        self._flying.clear()
        self._paused.clear()

    def asked(self, ticket: int, question: OpenQuestion, served: int) -> None:
        """It is on its way."""
        self._paused.pop(question, None)
        question.served = served
        self._flying[ticket] = question

    def taken(self, ticket: int) -> OpenQuestion | None:
        """Its verdict has come; None for a ticket that nobody waits for."""
        return self._flying.pop(ticket, None)

    def failed(self, question: OpenQuestion, served: int, now: float) -> bool:
        """The verdict was an outage: it pauses, each time twice as long. False: it has failed too often on its own."""
        question.failures += 1
        question.alone += served != question.served
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(question.failures - 1, 16))
        self._paused[question] = now + pause
        return question.alone < self.max_failures

    def put_off(self, question: OpenQuestion, until: float) -> None:
        """It could not be asked yet."""
        self._paused[question] = until

    def due(self, now: float) -> list[OpenQuestion]:
        """Those whose pause is over, the earliest step first."""
        return sorted((one for one, until in self._paused.items() if until <= now), key=lambda one: one.step)

    def next_due(self, now: float) -> float:
        """Seconds until the next pause is over; infinite without any."""
        return max(0.0, min(self._paused.values(), default=float("inf")) - now)

    @property
    def earliest(self) -> int | None:
        """The ticket to wait for: the earliest frame's in flight, else the value list's."""
        order = {ticket: (one.kind is not Kind.DONE, one.step) for ticket, one in self._flying.items()}
        return min(order, key=order.__getitem__) if order else None

    @property
    def oldest(self) -> OpenQuestion | None:
        """The one that was first asked the longest time ago."""
        return min((*self._flying.values(), *self._paused), key=lambda one: one.since, default=None)
