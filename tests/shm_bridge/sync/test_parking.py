"""Doorbells that ring too often, not at all, or by a clock that jumps; sequence numbers at their end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

import posix_ipc
import pytest

from shm_bridge import Kind, Lane, LaneSpec, Server
from shm_bridge.backend import chosen
from shm_bridge.memory.layout import ServerWord, WorkerWord
from shm_bridge.names import lane_name
from shm_bridge.sync.ordering import MASK
from shm_bridge.sync.parking import Sleeper
from shm_bridge.sync.semaphore import Semaphore
from shm_bridge.worker.lane import WORDS
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import CAMERA, ROOT, SPEC

pytestmark = pytest.mark.usefixtures("way")


@pytest.mark.parametrize("first", [1, 2**32 - 2, 2**64 - 2, 2**63 - 2])
@pytest.mark.parametrize("questions", [1, 8])
def test_sequence_numbers_wrap(sidecar, run_id, first, questions):
    """Tickets and frames go through 2**32 and 2**64 without anybody noticing."""
    sidecar()
    spec = LaneSpec((CAMERA,), frames=5, questions=questions)
    with Lane.attach(run_id, spec, first_ticket=first, first_frame=first) as lane:
        for episode in range(4):
            lane.begin_episode(episode, "t")
            marks = [echo.frame(lane, episode, step) for step in range(5)]
            for step in range(4):
                verdict = lane.wait(lane.ask(Kind.DONE, step))
                assert verdict.probability == marks[step] / 256
            values = lane.wait(lane.ask(Kind.VALUE, first=0, last=4))
            assert values.values.tolist() == marks
            assert values.ticket == (first + episode * 5 + 4) & MASK
            lane.end_episode()


def test_a_restart_at_the_end_of_the_numbers(run_id):
    """A successor finds the open questions on both sides of the wrap, and only those."""
    server = Server.create(run_id)
    with Lane.attach(run_id, SPEC, first_ticket=2**64 - 3) as lane:
        lane.begin_episode(1, "t")
        echo.frame(lane, 1, 0)
        tickets = [lane.ask(Kind.DONE, 0) for _ in range(6)]
        answered, *rest = server.poll()
        echo.answer(server, answered)
        server.close()
        with Server.create(run_id) as server:
            found = server.poll()
            assert [question.ticket for question in found] == [question.ticket for question in rest]
            for question in found:
                echo.answer(server, question)
            assert sorted(verdict.ticket for verdict in lane.poll()) == sorted(tickets)


def listen(waiter: Server | Lane, semaphore: Semaphore) -> None:
    """From here on it sleeps on this semaphore; the others go on posting to the one it had."""
    lane = isinstance(waiter, Lane)
    words, flag = (waiter._words, WORDS + WorkerWord.PARKED) if lane else (waiter._words, ServerWord.PARKED)
    waiter._parking.sleeper = chosen(Sleeper)(words, int(flag), semaphore)
    if lane:
        waiter._state.sleeper = waiter._parking.sleeper


@pytest.mark.parametrize("count", [posix_ipc.SEMAPHORE_VALUE_MAX, 100])
def test_semaphores_at_their_maximum_and_doubled_posts(sidecar, run_id, count):
    """A bell that rings without news is an annoyance, not an error: no exception, no wrong or lost verdict."""
    sidecar()
    with Lane.attach(run_id, SPEC) as lane:
        name = lane_name(run_id, lane.index, lane.generation)
        posix_ipc.unlink_semaphore(name)
        filled = posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=count)
        lane._semaphore.close()
        lane._semaphore = Semaphore(name, create=False)
        listen(lane, lane._semaphore)
        lane._semaphore.post()
        lane.begin_episode(1, "t")
        for step in range(9):
            mark = echo.frame(lane, 1, step)
            assert lane.wait(lane.ask(Kind.DONE, step)).probability == mark / 256
        filled.close()


def test_posts_for_an_earlier_sleep_wake_nobody(run_id):
    """Several lanes post for one sleep, one post ends it: those left over must not each cost a look of 0.1 ms."""
    with Server.create(run_id) as server:
        server.wait(0)
        server.poll()
        semaphore, sleeper = server._bell, server._parking.sleeper
        sleeps = sleeper.number
        for _ in range(9):
            semaphore.post()
        assert not server.wait(0.03)
        assert sleeper.number == sleeps + 1 and semaphore.value == 0


def test_lost_posts(run_id):
    """With every post swallowed, the recheck at the end of each slice still finds everything."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        deaf = Semaphore(f"/{run_id}-nobody-posts-here", create=True)
        deaf.unlink()
        for waiter in (server, lane):
            listen(waiter, deaf)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                server.wait(0.5)
                for question in server.poll():
                    echo.answer(server, question)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            lane.begin_episode(1, "t")
            for step in range(5):
                mark = echo.frame(lane, 1, step)
                assert lane.wait(lane.ask(Kind.DONE, step)).probability == mark / 256
        finally:
            stop.set()
            thread.join(20)
            deaf.close()


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
/* Whoever computes a deadline on the wall clock computes it an hour too late: as if the clock were set back then. */
int gettimeofday(struct timeval *t, void *z) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int r = real(t, z);
    t->tv_sec += 3600;
    return r;
}
int clock_gettime(clockid_t c, struct timespec *t) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(c, t);
    if (c == CLOCK_REALTIME) t->tv_sec += 3600;
    return r;
}
"""


def test_wall_clock_set_back(run_id, tmp_path):
    """A wait keeps its deadline on the monotonic clock although the wall clock is set back by an hour meanwhile."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    library = str(tmp_path / "clock.so")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, str(tmp_path / "clock.c"), "-ldl"], check=True, timeout=60
    )
    code = (
        "import time\nfrom shm_bridge import *\nfrom tests.shm_bridge.conftest import SPEC\n"
        "from tests.shm_bridge import echo\n"
        f"with Server.create({run_id!r}) as server, Lane.attach({run_id!r}, SPEC) as lane:\n"
        "    lane.begin_episode(1, 't'); echo.frame(lane, 1, 0)\n"
        "    try:\n        lane.wait(lane.ask(Kind.DONE, 0), timeout=0.3)\n"
        "    except VerdictTimeout:\n        print('in time')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        env={"LD_PRELOAD": library, "PATH": "/usr/bin"},
        check=False,
    )
    assert result.stdout.strip() == "in time", result.stderr


def test_a_parked_sidecar_costs_nothing(run_id):
    """Parked with 64 lanes: far below one percent of a core, by the process's own CPU clock."""
    with Server.create(run_id) as server:
        lanes = [Lane.attach(run_id, LaneSpec((CAMERA,), frames=1, questions=1), name=f"l{i}") for i in range(64)]
        server.poll()
        cpu, start = time.process_time(), time.monotonic()
        server.wait(0.6)
        while time.monotonic() - start < 1.2:
            server.wait(0.6)
        share = (time.process_time() - cpu) / (time.monotonic() - start)
        for lane in lanes:
            lane.close()
    assert share < 0.05
