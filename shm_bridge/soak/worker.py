"""A worker of the soak: asks for ever, checks every answer, counts in shared memory that outlives it."""

from __future__ import annotations

import os
import random
import threading
import time
from multiprocessing import parent_process
from typing import Any

from shm_bridge import BridgeError, CameraSpec, Kind, Lane, LaneSpec, Status, Verdict

SPEC = LaneSpec((CameraSpec("camera", 64, 64),), frames=17, questions=32)
ANSWERED, FAILED, WRONG, ASKED, EPISODES, GIVEN_UP = range(6)
COUNTERS = 6
PATIENCE_S = 30.0
Pending = dict[int, tuple[Kind, int, int, int]]  # ticket -> kind, episode, step, mark


def mark_of(worker: int, life: int, episode: int, step: int) -> int:
    """What a frame is painted with; another worker, life, episode or step most likely has another."""
    return (worker * 1009 + life * 9176 + episode * 613 + step * 37) % 251


def expected(verdict: Verdict, asked: tuple[Kind, int, int, int]) -> bool:
    """Whether a verdict is the one on this very question."""
    kind, episode, step, mark = asked
    if (verdict.kind, verdict.episode, verdict.step, verdict.status) != (kind, episode, step, Status.OK):
        return False
    if kind is Kind.VALUE:
        return verdict.values is not None and len(verdict.values) == step + 1 and int(verdict.values[-1]) == mark
    return verdict.queue_us == mark and verdict.probability == (episode % 1000) / 1000


def _receive(verdicts: list[Verdict], pending: Pending, counts: Any, base: int) -> None:
    for verdict in verdicts:
        asked = pending.pop(verdict.ticket, None)
        if asked is None or not expected(verdict, asked):
            counts[base + WRONG] += 1
        else:
            counts[base + ANSWERED] += 1


def _episode(lane: Lane, worker: int, life: int, episode: int, counts: Any, base: int, dice: random.Random) -> None:
    pending: Pending = {}
    lane.begin_episode(episode, f"episode {episode}")
    last = dice.randint(1, 15)
    for step in range(last + 1):
        slot = lane.reserve(PATIENCE_S)
        mark = mark_of(worker, life, episode, step)
        slot["camera"][...] = mark
        lane.publish(slot, step)
        ticket = lane.ask(Kind.DONE, slot, timeout=PATIENCE_S)
        counts[base + ASKED] += 1
        pending[ticket] = (Kind.DONE, episode, step, mark)
        _receive(lane.poll(), pending, counts, base)
        time.sleep(dice.uniform(0, 0.02))
    if dice.random() < 0.2:  # cut short, as an episode that is done: what is open is given up
        counts[base + GIVEN_UP] += len(pending)
    else:
        ticket = lane.ask(Kind.VALUE, first=0, last=last, timeout=PATIENCE_S)
        counts[base + ASKED] += 1
        pending[ticket] = (Kind.VALUE, episode, last, mark_of(worker, life, episode, last))
        for ticket in list(pending):
            _receive([lane.wait(ticket, PATIENCE_S)], pending, counts, base)
    lane.end_episode()
    counts[base + EPISODES] += 1


def _end_with_the_soak() -> None:
    """Also in the midst of a wait: a soak that was killed has nobody to stop its workers."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def main(run_id: str, worker: int, life: int, counts: Any, stopping: Any) -> None:
    """Until ``stopping``; a typed error ends the lane and begins another, anything else ends the process."""
    threading.Thread(target=_end_with_the_soak, daemon=True).start()
    dice = random.Random(worker * 7919 + life)
    base = worker * COUNTERS
    episode = 0
    while not stopping.value:
        try:
            with Lane.attach(run_id, SPEC, timeout=PATIENCE_S, name=f"soak-{worker}", grace=PATIENCE_S) as lane:
                while not stopping.value:
                    episode += 1
                    _episode(lane, worker, life, episode, counts, base, dice)
        except BridgeError:
            counts[base + FAILED] += 1
