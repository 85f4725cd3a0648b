"""The frames that the critic judged last, for a person who looks at the status page.

A frame lies in its lane until its question is answered; then the worker may draw over it. So the service has it copied
before the reply goes back, once a second at most, and keeps the copy only when the reply was still waited for: a worker
that cancels a question is free to draw at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shm_bridge import Kind, Question, Reply, Status
from shm_bridge.inspect import png
from shm_bridge.spec import UInt8Array

_EVERY_S = 1.0
_SIDE = 512  # pixels of the longer side, at most twice as many


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame and what was said of it. ``image``: a copy, (H, W, C) uint8; ``seconds``: of the clock."""

    image: UInt8Array
    lane: str
    episode: int
    step: int
    task: str
    reply: Reply
    seconds: float

    def png(self) -> bytes:
        """The picture as a file."""
        return png.encode(self.image)


class LastJudged:
    """The newest frame of each kind of question; of a pair or a value list the last one. Thread-safe.

    Args:
        camera: the one that the critic sees; None: the lane's first.
    """

    def __init__(self, camera: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._camera, self._clock = camera, clock
        self._lock = threading.Lock()
        self._newest: dict[Kind, Judged] = {}

    def copied(self, question: Question, reply: Reply) -> Judged | None:
        """A copy of the frame, to be kept when the reply has reached its asker.

        None where one was kept just now, where the model has not answered, and where nobody waits for it any more.
        """
        now = self._clock()
        newest = self.newest().get(question.kind)
        if (newest is not None and now < newest.seconds + _EVERY_S) or reply.status not in (Status.OK, Status.INVALID):
            return None
        if question.served.is_cancelled(question.ticket):
            return None
        image = question.images(self._camera)[-1]
        step = max(1, max(image.shape[:2]) // _SIDE)
        copy = np.array(image[::step, ::step])
        said = Reply(reply.done, reply.value, reply.probability, reply.valid)  # the service's own may hold views
        return Judged(copy, question.name, question.episode, question.steps[-1], question.task, said, now)

    def keep(self, kind: Kind, judged: Judged) -> None:
        """From now on this is the newest of its kind."""
        with self._lock:
            self._newest[kind] = judged

    def newest(self) -> dict[Kind, Judged]:
        """What is kept, by the kind of question."""
        with self._lock:
            return dict(self._newest)

    def age(self, judged: Judged) -> float:
        """Seconds since it was judged."""
        return self._clock() - judged.seconds
