"""A run that is asked to stop cuts no update in two, and leaves a checkpoint of the latest; both only in time.

rollout, evaluation     dropped; the moment before them is saved, and they are done again
update, checkpoint      finished first, then saved
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ray.exceptions import RayError

from verl.algorithms.replay import Kept
from verl.errors import VerlError
from verl.launch import interrupt
from verl.trainer import ray_wait

logger = logging.getLogger(__name__)
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """Between two steps: what a checkpoint holds beside the learners' own state, which must still be that of then."""

    updates: int
    state: dict[str, object]
    latencies: np.ndarray
    replayed: list[Kept]


@contextmanager
def in_one_piece(what: str, within_s: float, note: Note) -> Iterator[None]:
    """A stop waits for the block's end, at most ``within_s`` seconds; then KeyboardInterrupt is raised."""
    told = False

    def tell() -> None:
        nonlocal told
        if interrupt.asked() and not told:
            told = True
            note(f"asked to stop: {what} under way is finished first, at most {within_s:g} s (trainer.stop_timeout_s)")

    with interrupt.held(within_s), ray_wait.looking(tell):
        yield
    interrupt.look()


def save_in_time(save: Callable[[], None], step: int, within_s: float, note: Note) -> None:
    """Calls ``save`` after a stop was asked for; what keeps it from a checkpoint of update ``step`` is only told."""
    reason = f"Ctrl-C came twice, or trainer.stop_timeout_s={within_s:g} were over"
    try:
        with interrupt.held(within_s):
            interrupt.look()  # an update that was cut in two, since the time was over
            save()
        return
    except KeyboardInterrupt:
        pass
    except (VerlError, RayError, OSError) as error:
        reason = f"{error}"
    logger.warning("no checkpoint of update %d: %s", step, reason)
    note(f"no checkpoint of update {step}: {reason}")
