"""Environment processes that really live, die and hang."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from verl.envs.messages import Observation
from verl.envs.pool import EnvPool
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.errors import AssetsMissingError, ConfigError, EnvironmentFailedError

FAKE = "tests.verl.envs.fake_env:FakeEnv"
DEADLINE_S = 60.0


def request(episode: int, seed: int | None = None, **more: Any) -> EpisodeRequest:
    return EpisodeRequest(episode, 0, episode % 2, episode if seed is None else seed, training=False, **more)


def drive(pool: EnvPool, wanted: int, act: Any = None) -> list[EpisodeEnd | EpisodeLost]:
    """Answers observations with zeros until ``wanted`` episodes have ended."""
    over: list[EpisodeEnd | EpisodeLost] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(over) < wanted:
        assert time.monotonic() < deadline, f"only {len(over)} of {wanted} episodes ended"
        for event in pool.poll(0.5):
            if isinstance(event, Observation):
                if act is not None:
                    act(event)
                pool.act(event.env, np.zeros((8, 7), np.float32), event.episode)
            else:
                over.append(event)
    return over


@pytest.fixture
def make_pool() -> Iterator[Any]:
    pools: list[EnvPool] = []

    def make(size: int = 2, **options: Any) -> EnvPool:
        limits = {key: options.pop(key) for key in ("simulator_limit_s", "silence_s") if key in options}
        pools.append(EnvPool({"name": FAKE, **options}, None, size, **limits))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_processes_are_kept_between_episodes(make_pool: Any) -> None:
    """Ten episodes in two processes, each the same pid from first to last; every request comes back once."""
    pool = make_pool(success_at=9)
    for number in range(10):
        pool.submit(request(number))
    before = [handle.process.pid for handle in pool._handles]
    over = drive(pool, 10)
    assert sorted(end.request.episode for end in over) == list(range(10))
    assert all(isinstance(end, EpisodeEnd) and end.score == 1.0 and end.steps == 9 for end in over)
    assert [handle.process.pid for handle in pool._handles] == before
    assert {end.instruction for end in over} == {"task 0", "task 1"}


def test_observations_are_views_of_the_right_frame(make_pool: Any) -> None:
    """What the policy sees is the process's own memory, read-only, upright, of the step that the observation names."""
    pool = make_pool(size=1)
    seen: list[tuple[int, int]] = []

    def look(observation: Observation) -> None:
        assert list(observation.frames) == ["agentview", "wrist"]
        frame = observation.frames["agentview"]
        assert frame.shape == (32, 32, 3) and observation.frames["wrist"].shape == (32, 16, 3)
        assert not frame.flags.writeable and frame.base is not None
        with pytest.raises(ValueError):
            frame[0, 0, 0] = 1
        assert (frame[-1] == 255).all(), "the row stored first is the lowest"
        assert observation.proprio.tolist() == [observation.step] * 8
        seen.append((observation.step, int(frame[0, 0, 0])))

    pool.submit(request(0))
    drive(pool, 1, look)
    assert seen == [(0, 0), (8, 8), (16, 16)]


def test_a_killed_process_costs_its_episode_and_no_other(make_pool: Any) -> None:
    """kill -9 in mid-episode: that episode is lost with a reason, another process takes the place, the rest goes on."""
    pool = make_pool()
    for number in range(4):
        pool.submit(request(number))
    victim: list[int] = []

    def kill_first(observation: Observation) -> None:
        if not victim and observation.step == 8:
            victim.append(observation.episode)
            os.kill(pool._handles[observation.env].process.pid, signal.SIGKILL)

    over = drive(pool, 4, kill_first)
    lost = [end for end in over if isinstance(end, EpisodeLost)]
    assert [(end.request.episode, end.reason) for end in lost] == [(victim[0], "environment process died (signal 9)")]
    assert pool.replaced == 1
    pool.submit(request(9))
    assert isinstance(drive(pool, 1)[0], EpisodeEnd)


@pytest.mark.parametrize(
    ("fault", "limits", "reason"),
    [
        ("die_at", {}, "died (exit code 9)"),
        ("raise_at", {}, "died (exit code 1: RuntimeError: unstable simulation)"),
        ("nan_at", {}, "tests.verl.envs.fake_env:FakeEnv, task 1 ('task 1'), seed 1, step 8: proprioception [nan,"),
        ("hang_at", {"silence_s": 1.5}, "silent for 1.5 s"),
    ],
)
def test_a_fault_in_the_simulator_is_noticed_within_the_configured_time(
    make_pool: Any, fault: str, limits: dict[str, float], reason: str
) -> None:
    """Death, exception, hang, NaN: the episode is dropped and counted, the process replaced, the others end."""
    pool = make_pool(size=1, **{fault: 1}, **limits)
    for number in range(3):
        pool.submit(request(number))
    over = drive(pool, 3)
    assert [type(end).__name__ for end in over] == ["EpisodeEnd", "EpisodeLost", "EpisodeEnd"]
    assert isinstance(over[1], EpisodeLost) and reason in over[1].reason
    assert ("raise RuntimeError" in over[1].traceback) == (fault == "raise_at")
    assert "Traceback (" not in over[1].traceback  # what the screen shows is the environment's, and said to be
    assert pool.replaced == 1


def test_waiting_for_the_policy_is_no_hang(make_pool: Any) -> None:
    """A slow policy costs an environment neither its process nor its episode: its clock stands still."""
    pool = make_pool(size=1, silence_s=0.3, simulator_limit_s=0.5)
    pool.submit(request(0))
    waited = 0
    while True:
        events = pool.poll(0.8)
        if events and isinstance(events[0], EpisodeEnd):
            break
        for event in events:
            assert isinstance(event, Observation)
            assert pool.poll(0.8) == []  # the policy thinks longer than either limit
            waited += 1
            pool.act(event.env, np.zeros((8, 7), np.float32))
    assert waited == 3 and pool.replaced == 0


def test_an_answer_to_an_episode_that_is_over_is_dropped(make_pool: Any) -> None:
    """The policy may be thinking about an episode that has ended meanwhile."""
    pool = make_pool(size=1, max_steps=8)
    pool.submit(request(0))
    drive(pool, 1)
    pool.act(0, np.ones((8, 7), np.float32))
    pool.submit(request(1))
    assert isinstance(drive(pool, 1)[0], EpisodeEnd)


def test_what_a_process_refuses_is_raised_with_its_type(make_pool: Any) -> None:
    """An environment that cannot be built because something is missing says so in the caller's process."""
    pool = make_pool(refuse="assets")
    with pytest.raises(AssetsMissingError, match="LIBERO's assets: not here"):
        drive(pool, 1)


def test_processes_that_never_start_end_the_run(make_pool: Any) -> None:
    """No endless replacing: after some failed starts there is an error."""
    pool = make_pool(refuse="crash")
    with pytest.raises(EnvironmentFailedError, match="exit code 7"):
        drive(pool, 1)


def test_proprioception_of_another_shape_is_no_start(make_pool: Any) -> None:
    """It is so in every episode: the run ends, and the error names the environment and what is right."""
    pool = make_pool(refuse="shape")
    with pytest.raises(EnvironmentFailedError, match=r"fake_env:FakeEnv.*shape \(7,\), must be \(8,\)"):
        drive(pool, 1)


def test_a_success_that_is_no_number_is_no_success(make_pool: Any) -> None:
    """NaN counts as true in Python: the episode goes on to its end."""
    pool = make_pool(size=1, success=float("nan"))
    pool.submit(request(0))
    (end,) = drive(pool, 1)
    assert isinstance(end, EpisodeEnd) and not end.env_success and end.steps == 20 and end.score == 0.0


def test_wrong_configuration_is_refused_before_a_process_is_started() -> None:
    """Size, name and keys are checked first."""
    with pytest.raises(ConfigError, match="envs_per_worker=0"):
        EnvPool({"name": "robosuite"}, None, 0)
    with pytest.raises(ConfigError, match=r"env.name='robosuit': allowed are robosuite, libero"):
        EnvPool({"name": "robosuit"}, None, 1)
    with pytest.raises(ConfigError, match=r"env.taks: unknown key .* known are cameras"):
        EnvPool({"name": "robosuite", "taks": ["Lift"]}, None, 1)


def test_close_leaves_no_process(make_pool: Any) -> None:
    """After close, in mid-episode too, the processes are gone and reaped."""
    pool = make_pool()
    pool.submit(request(0))
    pool.poll(10.0)
    pids = [handle.process.pid for handle in pool._handles]
    pool.close()
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_die_with_their_parent() -> None:
    """kill -9 of the pool's process, while a simulator hangs in mid-step, takes the environment processes along."""
    code = (
        "import sys\nfrom verl.envs.pool import EnvPool\nfrom verl.episode import EpisodeRequest\n"
        f"pool = EnvPool({{'name': {FAKE!r}, 'hang_at': 1}}, None, 2)\n"
        "import numpy as np\n"
        "for n in (1, 2): pool.submit(EpisodeRequest(n, 0, 0, n, False))\n"
        "seen = []\n"
        "while len(seen) < 2:\n    seen += pool.poll(1.0)\n"
        "for look in seen: pool.act(look.env, np.zeros((8, 7)))\n"
        "print(*[c.process.pid for c in pool._handles], flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    watched = [os.pidfd_open(pid) for pid in pids]
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    assert parent.stdin is not None
    parent.stdin.close()
    for fd in watched:
        assert select.select([fd], [], [], 10.0)[0], "the environment process outlived its parent"
        os.close(fd)
