"""Processes that die, stop and come back, at the worst moments. Every row is a test of its own."""

from __future__ import annotations

import os
import signal
import time

import pytest

from shm_bridge import Controller, Kind, Lane, LaneReader, Reply, Server, SidecarDied, VerdictTimeout
from shm_bridge.liveness.cleaning import clean_run, leftovers
from shm_bridge.liveness.locks import LANES, SERVER, open_locks
from shm_bridge.names import entries
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import SPEC

pytestmark = pytest.mark.usefixtures("way")

WORKER = "import sys; from tests.shm_bridge import workers; getattr(workers, sys.argv[1])(*sys.argv[2:])"
LIMIT_S = 20


def until(condition, what: str) -> None:
    """Looks again and again, with a deadline."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.01)


def lane_files(run_id: str) -> list[str]:
    return [entry.file for entry in entries(run_id) if entry.lane is not None]


def status(run_id: str) -> dict:
    with Controller.connect(run_id, 5) as controller:
        return controller.status()


def test_worker_killed_in_the_middle_of_a_frame(sidecar, child, run_id):
    """The half-written frame is shown to nobody, and the lane is reclaimed with its files."""
    sidecar()
    victim = child(WORKER, "mid_write", run_id)
    index = int(victim.line().split()[0])
    reader = LaneReader.open(run_id, "victim")
    assert reader.newest() is None
    victim.kill()
    until(lambda: status(run_id)["reclaimed"] == 1, "reclaimed")
    assert lane_files(run_id) == []
    with Lane.attach(run_id, SPEC) as lane:
        assert lane.index == index


def test_worker_killed_with_a_question_in_flight(child, run_id):
    """The late reply is dropped by generation; the next owner of the number is not troubled by it."""
    with Server.create(run_id) as server:
        victim = child(WORKER, "in_flight", run_id)
        index, generation = (int(word) for word in victim.line().split())
        questions: list = []
        until(lambda: questions.extend(server.poll()) or questions, "the question")
        victim.kill()
        until(lambda: server.poll() == [] and server.lanes == 0, "reclaimed")
        successor = Lane.attach(run_id, SPEC)
        assert (successor.index, successor.generation) == (index, generation + 1)
        successor.begin_episode(1, "t")
        echo.frame(successor, 1, 0)
        successor.ask(Kind.DONE, 0)
        assert not server.answer(questions[0], Reply(done=True))
        assert successor.poll() == []
        successor.close()


def test_a_late_reply_to_a_dead_worker_is_told_to_its_sender(child, run_id):
    """answer() says False, and nothing is written anywhere."""
    with Server.create(run_id) as server:
        victim = child(WORKER, "in_flight", run_id)
        victim.line()
        questions: list = []
        until(lambda: questions.extend(server.poll()) or questions, "the question")
        victim.kill()
        until(lambda: server.poll() == [] and server.lanes == 0, "reclaimed")
        assert server.cancelled(questions[0])
        assert questions[0].images()[0].shape == (16, 24, 3)  # an engine may still be reading
        assert not server.answer(questions[0], Reply(done=True))


def test_sidecar_killed_with_many_waiting(sidecar, child, run_id):
    """Every waiter learns of it within a second, typed; a successor answers the very same questions."""
    first = sidecar("hold")
    with Lane.attach(run_id, SPEC, name="a") as a, Lane.attach(run_id, SPEC, name="b") as b:
        tickets = {}
        for lane in (a, b):
            lane.begin_episode(1, "t")
            marks = [echo.frame(lane, 1, step) for step in range(4)]
            tickets[lane] = [(lane.ask(Kind.DONE, step), marks[step]) for step in range(4)]
        for _ in range(8):
            assert first.line().startswith("took")
        first.kill()
        died = time.monotonic()
        with pytest.raises(SidecarDied):
            a.wait(tickets[a][0][0], timeout=10)
        assert time.monotonic() - died < 1.0
        sidecar()
        for lane in (a, b):
            for ticket, mark in tickets[lane]:
                verdict = lane.wait(ticket, timeout=10)
                assert (verdict.probability, verdict.epoch) == (mark / 256, 2)


def test_sidecar_restarted_again_and_again_under_load(sidecar, child, run_id):
    """A hundred lives of the sidecar, 8 waves of answers in each: no answer is lost, none is wrong, epochs count up."""
    askers = [child(WORKER, "waiting", run_id, "2000") for _ in range(2)]
    restart = "import sys; from tests.shm_bridge import lives; lives.serve_lives(sys.argv[1], 100)"
    keeper = child(restart, run_id)
    for asker in askers:
        assert asker.line() == "asking"
    for asker in askers:
        words = asker.line().split()
        assert words[:2] == ["answered", "2000"], words
    keeper.say("stop")
    assert int(keeper.line()) == 100


def test_sidecar_stopped_and_continued(sidecar, run_id):
    """A stopped sidecar is slow, not dead: the wait ends by its deadline, and the answer still comes afterwards."""
    process = sidecar()
    with Lane.attach(run_id, SPEC) as lane:
        lane.begin_episode(1, "t")
        mark = echo.frame(lane, 1, 0)
        os.kill(process.pid, signal.SIGSTOP)
        ticket = lane.ask(Kind.DONE, 0)
        with pytest.raises(VerdictTimeout):
            lane.wait(ticket, timeout=0.8)
        os.kill(process.pid, signal.SIGCONT)
        assert lane.wait(ticket, timeout=10).probability == mark / 256


def test_driver_killed(child, run_id):
    """Dies whoever started sidecar and workers, and they with it: all that is left is provably dead, and cleaned."""
    driver = child(
        "import os, subprocess, sys\n"
        "from tests.shm_bridge.conftest import SIDECAR\n"
        "s = subprocess.Popen([sys.executable, '-c', SIDECAR, sys.argv[1]], stdout=subprocess.PIPE, text=True)\n"
        "s.stdout.readline()\n"
        f"w = subprocess.Popen([sys.executable, '-c', {WORKER!r}, 'in_flight', sys.argv[1]], stdin=subprocess.PIPE,\n"
        "    stdout=subprocess.PIPE, text=True)\n"
        "w.stdout.readline()\n"
        "print(s.pid, w.pid, flush=True)\n"
        "sys.stdin.readline()\n",
        run_id,
    )
    pids = [int(word) for word in driver.line().split()]
    driver.kill()
    assert leftovers(run_id) == []
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    locks = open_locks(run_id, create=False)
    until(lambda: locks.holder(0, 0) is None, "locks released")
    locks.close()
    assert len(clean_run(run_id)) == 5
    assert list(entries(run_id)) == []


def test_forked_child_of_a_dead_worker(sidecar, child, run_id):
    """The child has the mappings and descriptors but not the lock: the lane is reclaimed while the child lives on."""
    sidecar("hold")
    victim = child(WORKER, "forked", run_id)
    lines = {victim.line().split()[0], victim.line().split()[0]}
    assert lines == {"parent", "child"}
    victim.process.kill()
    until(lambda: status(run_id)["reclaimed"] == 1, "reclaimed")
    assert lane_files(run_id) == []
    victim.say()


def test_forked_child_cannot_use_its_parents_lane(child, sidecar, run_id):
    """It is told so by an error of its own, and its close() takes nothing from the parent."""
    sidecar("hold")
    victim = child(WORKER, "forked", run_id)
    lines = [victim.line(), victim.line()]
    assert any(line.endswith("ForkedProcess") for line in lines)
    assert len(lane_files(run_id)) == 2
    victim.say()


def test_two_runs_on_one_node(sidecar, run_id):
    """One is torn down, the other does not notice."""
    other = f"{run_id}-b"
    process = sidecar(run=other)
    sidecar()
    try:
        with Lane.attach(run_id, SPEC) as lane, Lane.attach(other, SPEC) as doomed:
            lane.begin_episode(1, "t")
            process.kill()
            doomed.close()
            assert clean_run(other) == [] and list(entries(other)) == []
            mark = echo.frame(lane, 1, 0)
            assert lane.wait(lane.ask(Kind.DONE, 0)).probability == mark / 256
    finally:
        clean_run(other)


def test_leftovers_of_dead_runs_beside_live_ones(sidecar, child, run_id):
    """Cleaning takes the dead run and the dead lane, and leaves every living one."""
    dead = f"{run_id}-dead"
    sidecar(run=dead).kill()
    sidecar_process = sidecar()
    with Lane.attach(run_id, SPEC) as lane:
        os.kill(sidecar_process.pid, signal.SIGSTOP)  # so that nobody but us takes the dead lane back
        victim = child(WORKER, "mid_write", run_id)
        victim.line()
        victim.kill()
        assert len(leftovers(run_id)) == 2 and len(leftovers(dead)) == 3
        assert len(clean_run(dead)) == 3 and len(clean_run(run_id)) == 2
        assert len(lane_files(run_id)) == 2
        os.kill(sidecar_process.pid, signal.SIGCONT)
        lane.begin_episode(1, "t")
        echo.frame(lane, 1, 0)
        assert lane.wait(lane.ask(Kind.DONE, 0)).valid


def test_a_reused_pid_holds_nothing(child, run_id):
    """Life is a lock, not a number: a living process with the dead owner's pid does not keep the lane."""
    with Server.create(run_id) as server:
        victim = child(WORKER, "in_flight", run_id)
        index = int(victim.line().split()[0])
        until(lambda: server.poll() or server.lanes, "attached")
        locks = open_locks(run_id, create=False)
        assert locks.holder(LANES + index) == victim.pid
        victim.kill()
        until(lambda: locks.holder(LANES + index) is None, "released")
        os.kill(os.getpid(), 0)
        assert locks.holder(SERVER) == os.getpid()
        locks.close()
        until(lambda: server.poll() == [] and server.lanes == 0, "reclaimed")


def test_a_successor_removes_what_its_dead_predecessor_left(sidecar, child, run_id):
    """A lane's number taken again before the sidecar noticed the death: the old generation's files go at once."""
    process = sidecar()
    victim = child(WORKER, "mid_write", run_id)
    index = int(victim.line().split()[0])
    os.kill(process.pid, signal.SIGSTOP)
    victim.kill()
    with Lane.attach(run_id, SPEC) as lane:
        assert lane.index == index and len(lane_files(run_id)) == 2
        os.kill(process.pid, signal.SIGCONT)
        lane.begin_episode(1, "t")
        mark = echo.frame(lane, 1, 0)
        assert lane.wait(lane.ask(Kind.DONE, 0), timeout=10).probability == mark / 256


def test_sidecar_gone_and_back_in_order_keeps_the_epoch_growing(run_id):
    """With lanes attached a closed sidecar's run stays; its successor has the next epoch and the same questions."""
    server = Server.create(run_id)
    lane = Lane.attach(run_id, SPEC)
    lane.begin_episode(1, "t")
    mark = echo.frame(lane, 1, 0)
    ticket = lane.ask(Kind.DONE, 0)
    server.close()
    assert not lane.sidecar_alive
    with Server.create(run_id) as server:
        (question,) = server.poll()
        assert echo.answer(server, question) and not echo.answer(server, question)
        verdict = lane.wait(ticket)
        assert (verdict.epoch, verdict.probability) == (2, mark / 256)
        lane.close()
    assert list(entries(run_id)) == []


@pytest.mark.parametrize("way", ["native"], indirect=True)  # Ray takes its time
def test_ray_actor_as_owner_killed(sidecar, run_id):
    """A lane made in a Ray actor is reclaimed when the actor is killed."""
    ray = pytest.importorskip("ray")
    sidecar()
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # a Ray of its own: without an address it would join whichever other tests, or somebody else, run on this machine
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)

    class Owner:
        def attach(self, run: str) -> int:
            self.lane = Lane.attach(run, SPEC, name="actor")
            return self.lane.index

    try:
        owner = ray.remote(Owner).remote()
        ray.get(owner.attach.remote(run_id), timeout=60)
        assert len(lane_files(run_id)) == 2
        ray.kill(owner)
        until(lambda: status(run_id)["reclaimed"] == 1, "reclaimed")
        assert lane_files(run_id) == []
    finally:
        ray.shutdown()
