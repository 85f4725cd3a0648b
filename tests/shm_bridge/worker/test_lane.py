"""A worker and its sidecar: what an integrator relies on."""

from __future__ import annotations

import numpy as np
import pytest

from shm_bridge import (
    BridgeClosed,
    CameraSpec,
    Cancelled,
    ConfigError,
    Controller,
    FramesFull,
    InvalidRequest,
    Kind,
    Lane,
    LaneNotFound,
    LaneReader,
    LaneSpec,
    Orientation,
    Phase,
    QuestionsFull,
    ReserveTimeout,
    RunInUse,
    Server,
    SidecarUnreachable,
    Status,
    VerdictTimeout,
)
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import CAMERA, SPEC

pytestmark = pytest.mark.usefixtures("way")


def test_every_kind_of_question_is_answered_from_its_own_frames(sidecar, run_id):
    """DONE, CRITIC and VALUE see exactly the frames that were meant, the last one always."""
    process = sidecar()
    with Lane.attach(run_id, SPEC, name="env-1") as lane:
        lane.begin_episode(17, "lift the red cube")
        marks = [echo.frame(lane, 17, step) for step in range(8)]
        done = lane.wait(lane.ask(Kind.DONE, 3))
        assert (done.valid, done.status, done.step, done.episode) == (True, Status.OK, 3, 17)
        assert done.probability == marks[3] / 256
        assert done.done is (marks[3] > 128)
        pair = lane.wait(lane.ask(Kind.CRITIC, before=1, after=6))
        assert pair.value == marks[6] - marks[1]
        values = lane.wait(lane.ask(Kind.VALUE, first=0, last=7, stride=3))
        assert values.values.tolist() == [marks[0], marks[3], marks[6], marks[7]]
        assert values.value == marks[7]
        assert done.epoch == 1 and done.latency_us > 0
        lane.end_episode()
    assert process.kill(15) == 0


@pytest.mark.parametrize("orientation", list(Orientation))
def test_views_are_upright_read_only_and_not_copies(sidecar, run_id, orientation):
    """A renderer's bottom-up rows become upright by strides: writer, reader and policy share one memory."""
    sidecar()
    spec = LaneSpec((CameraSpec("a", 4, 6, orientation=orientation), CameraSpec("b", 2, 2, 1)), frames=3)
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    stored = {0: picture, 1: picture[::-1], 2: picture[::-1, ::-1]}[int(orientation)]
    with Lane.attach(run_id, spec, name="x") as lane:
        lane.begin_episode(1, "t")
        frame = lane.reserve()
        frame["a"][...] = stored
        frame["b"][...] = 9
        lane.publish(frame, 0)
        view = lane.view(0, "a")
        assert np.array_equal(view, picture)
        assert not view.flags.writeable and not view.flags.owndata
        assert np.shares_memory(view, frame["a"])
        with pytest.raises(ValueError):
            frame["a"][0] = 1  # published: written no more
        with LaneReader.open(run_id, "x") as reader:
            assert np.array_equal(reader.view(frame.index, "a", frame.seq), picture)
            assert reader.newest() == frame.index
            with pytest.raises(InvalidRequest):
                reader.view(frame.index, "a", frame.seq + 1)
            with pytest.raises(LaneNotFound):
                LaneReader.open(run_id, "y")


def test_frames_are_retained_until_the_episode_ends_and_never_beyond_the_plan(sidecar, run_id):
    """An episode may have as many frames as the lane; the next is refused at once, and room comes with the end."""
    sidecar()
    with Lane.attach(run_id, SPEC) as lane:
        for episode in range(3):
            lane.begin_episode(episode, "t")
            marks = [echo.frame(lane, episode, step) for step in range(SPEC.frames)]
            with pytest.raises(FramesFull):
                lane.reserve()
            assert [int(lane.view(step)[0, 0, 0]) for step in range(SPEC.frames)] == marks
            lane.end_episode()


def test_a_frame_the_sidecar_still_needs_is_not_reused(sidecar, run_id):
    """Cancelled questions keep their frames until the sidecar has let go of them."""
    process = sidecar("hold")
    with Lane.attach(run_id, LaneSpec((CAMERA,), frames=1)) as lane:
        lane.begin_episode(1, "t")
        echo.frame(lane, 1, 0)
        ticket = lane.ask(Kind.DONE, 0)
        assert process.line() == f"took {ticket}"
        lane.end_episode()
        lane.begin_episode(2, "t")
        with pytest.raises(ReserveTimeout):
            lane.reserve(timeout=0.05)
        with pytest.raises(Cancelled):
            lane.wait(ticket)


def test_questions_beyond_the_lane_wait_and_then_fail(sidecar, run_id):
    """Backpressure has a deadline, and so has every wait."""
    sidecar("hold")
    with Lane.attach(run_id, SPEC) as lane:
        lane.begin_episode(1, "t")
        echo.frame(lane, 1, 0)
        tickets = [lane.ask(Kind.DONE, 0) for _ in range(8)]
        with pytest.raises(QuestionsFull):
            lane.ask(Kind.DONE, 0, timeout=0.05)
        with pytest.raises(VerdictTimeout):
            lane.wait(tickets[0], timeout=0.05)
        assert lane.poll() == [] and [question.ticket for question in lane.open_questions] == tickets
        lane.cancel()
        assert lane.open_questions == []


def test_one_value_list_at_a_time(sidecar, run_id):
    """The lane has room for one value list: a second VALUE waits for the first."""
    sidecar("hold")
    with Lane.attach(run_id, SPEC) as lane:
        lane.begin_episode(1, "t")
        echo.frame(lane, 1, 0)
        lane.ask(Kind.VALUE, first=0, last=0)
        with pytest.raises(QuestionsFull):
            lane.ask(Kind.VALUE, first=0, last=0, timeout=0.02)


def test_poll_delivers_each_verdict_once(sidecar, run_id):
    """Whatever the order of poll and wait, a ticket is received exactly once."""
    sidecar()
    with Lane.attach(run_id, SPEC) as lane:
        lane.begin_episode(1, "t")
        received = []
        for step in range(9):
            echo.frame(lane, 1, step)
            received.append(lane.ask(Kind.DONE, step))
            if step % 3 == 2:
                got = [lane.wait(received[-1]).ticket] + [verdict.ticket for verdict in lane.poll()]
                assert set(got) <= set(received)
                received = [ticket for ticket in received if ticket not in got]
        for ticket in received:
            assert lane.wait(ticket).ticket == ticket
        with pytest.raises(InvalidRequest):
            lane.wait(1)


def test_without_retention_places_go_round(sidecar, run_id):
    """A stream of frames needs no more places than questions in flight."""
    sidecar()
    with Lane.attach(run_id, LaneSpec((CAMERA,), frames=2, retain=False)) as lane:
        lane.begin_episode(1, "t")
        for step in range(20):
            mark = echo.frame(lane, 1, step)
            assert lane.wait(lane.ask(Kind.DONE, step)).probability == mark / 256


def test_phases_and_status(sidecar, run_id):
    """The trainer asks for a phase and learns when it is reached."""
    sidecar()
    with Controller.connect(run_id, 5) as controller:
        controller.wait_ready(5)
        for phase in (Phase.UPDATE, Phase.ROLLOUT, Phase.ROLLOUT):
            controller.request_phase(phase, timeout=5)
            assert controller.status()["phase"] == phase.name
        status = controller.status()
        assert (status["alive"], status["ready"], status["epoch"]) == (True, True, 1)


def test_a_run_has_one_sidecar(sidecar, run_id):
    """The second is refused, whether it comes from this process or another."""
    process = sidecar()
    with pytest.raises(RunInUse, match=str(process.pid)):
        Server.create(run_id)
    process.kill(15)
    with Server.create(run_id), pytest.raises(RunInUse):
        Server.create(run_id)


def test_no_sidecar_is_an_error_with_the_run_in_it(run_id):
    """Attaching ends at its deadline, and leaves nothing."""
    with pytest.raises(SidecarUnreachable, match=run_id):
        Lane.attach(run_id, SPEC, timeout=0.05)


def test_closed_lanes_say_so(sidecar, run_id):
    """Reading after close: calls fail, images that were handed out stay readable."""
    sidecar()
    lane = Lane.attach(run_id, SPEC)
    lane.begin_episode(1, "t")
    mark = echo.frame(lane, 1, 0)
    view = lane.view(0)
    reader = LaneReader.open(run_id, lane.name)
    other = reader.view(0)
    lane.close()
    lane.close()
    reader.close()
    for call in (
        lane.poll,
        lane.reserve,
        lane.cancel,
        lane.end_episode,
        lambda: lane.view(0),
        lambda: lane.wait(1),
        lambda: lane.ask(Kind.DONE, 0),
        lambda: reader.view(0),
    ):
        with pytest.raises(BridgeClosed):
            call()
    assert (view == mark).all() and (other == mark).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: LaneSpec((), 1),
        lambda: LaneSpec((CAMERA, CAMERA), 1),
        lambda: LaneSpec((CAMERA,), 0),
        lambda: LaneSpec((CAMERA,), 1, questions=1 << 20),
        lambda: CameraSpec("a b", 1, 1),
        lambda: CameraSpec("a", 0, 1),
        lambda: CameraSpec("a", 1, 1, 9),
        lambda: CameraSpec("a", 1, 1, 3, 7),
        lambda: Lane.attach("../x", SPEC),
        lambda: Server.create("a:b"),
        lambda: Server.create("ok", max_lanes=0),
    ],
)
def test_what_cannot_be_is_refused_with_its_name_and_value(build):
    """Bad configuration never reaches shared memory."""
    with pytest.raises(ConfigError, match="="):
        build()
