"""Frames are copied while they lie in the lane, and kept only when the reply was waited for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from shm_bridge import CameraSpec, Kind, Lane, LaneSpec, Reply, Server, Status
from sidecar.last_judged import LastJudged
from sidecar.status_page import status_page


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Asked:
    """A lane and its server in this process."""

    server: Server
    lane: Lane
    clock: Clock = field(default_factory=Clock)

    def question(self, step: int, kind: Kind = Kind.DONE):
        place = self.lane.reserve()
        place["view"][...] = step
        self.lane.publish(place, step)
        if kind is Kind.VALUE:
            self.lane.ask(kind, first=place, last=place)
        else:
            self.lane.ask(kind, place)
        return self.server.poll()[0]


@pytest.fixture
def asked(tmp_path) -> Iterator[Asked]:
    run_id = f"test-judged-{tmp_path.name}"
    spec = LaneSpec(cameras=(CameraSpec("view", 1200, 8),), frames=4)
    with Server.create(run_id) as server:
        server.set_ready(True)
        with Lane.attach(run_id, spec, name="env-1") as lane:
            lane.begin_episode(7, "lift <it>")
            yield Asked(server, lane)


def test_a_copy_a_second_of_what_the_model_answered(asked: Asked) -> None:
    """Also a large frame is a small picture; an outage's frame was not judged."""
    judged = LastJudged(clock=asked.clock)
    one = asked.question(1)
    assert judged.copied(one, Reply(valid=False, status=Status.FAILED)) is None
    copy = judged.copied(one, Reply(done=True, probability=0.93))
    assert copy is not None and copy.image.shape == (600, 4, 3) and (copy.image == 1).all()
    judged.keep(Kind.DONE, copy)
    assert (copy.lane, copy.episode, copy.step, copy.task) == ("env-1", 7, 1, "lift <it>")
    two = asked.question(2)
    assert judged.copied(two, Reply()) is None
    asked.clock.now += 1.5
    assert judged.copied(two, Reply()) is not None
    page = status_page({"run_id": "<r>", "ready": True, "engine": "x", "phase": 2, "epoch": 3, "new_s": 2.5}, judged)
    assert "lift &lt;it&gt;" in page and "sidecar &lt;r&gt;" in page and "phase UPDATE, epoch 3" in page
    assert "<td>P(done)<td>0.930" in page and "<td>judged<td>1 s ago" in page
    assert "<h2>other</h2><table><tr><td>new<td>2.5 s" in page  # a figure that no group knows


def test_a_value_list_shows_its_value_and_what_is_unreadable_is_said(asked: Asked) -> None:
    """Another kind has a picture of its own; no number where there is none."""
    judged = LastJudged(clock=asked.clock)
    unread = Reply(valid=False, status=Status.INVALID)
    for step, kind, reply in ((5, Kind.VALUE, Reply(value=43.21)), (6, Kind.DONE, unread)):
        copy = judged.copied(asked.question(step, kind), reply)
        assert copy is not None
        judged.keep(kind, copy)
    page = status_page({"run_id": "r"}, judged)
    assert "<td>value<td>43.2 %" in page and "<td>verdict<td>unreadable<tr><td>P(done)<td>-" in page
    assert math.isnan(judged.newest()[Kind.DONE].reply.probability)


def test_a_lane_that_is_gone_is_not_looked_at(asked: Asked) -> None:
    """A worker that left, or cancelled, while its frame was with the model: it may be drawn over."""
    judged = LastJudged(clock=asked.clock)
    one = asked.question(1)
    asked.lane.cancel()
    assert judged.copied(one, Reply(done=True)) is None
    asked.lane.begin_episode(8, "again")
    two = asked.question(1)
    two.served.close()
    assert judged.copied(two, Reply(done=True)) is None


def test_nothing_holds_the_lane_s_memory(asked: Asked) -> None:
    """The service's replies may hold views of frames; the copy does not."""
    judged = LastJudged(clock=asked.clock)
    copy = judged.copied(asked.question(1), Reply(done=True))
    assert copy is not None and copy.image.base is None and type(copy.reply) is Reply
    assert isinstance(copy.image, np.ndarray) and copy.png().startswith(b"\x89PNG")
