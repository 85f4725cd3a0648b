"""Environment processes, the real bridge, and a sidecar in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.names import entries
from tests.verl.critic import critic_config
from tests.verl.envs.mapped import bytes_behind
from tests.verl.envs.test_pool import FAKE, drive
from verl.envs.critic_link import scored_frames
from verl.envs.messages import Observation
from verl.envs.pool import EnvPool
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.errors import CriticBridgeError, SidecarLostError

SIDECAR = Path(__file__).with_name("fake_sidecar.py")


class Sidecar:
    """The fake sidecar's process."""

    def __init__(self, run_id: str, done_at: int, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SIDECAR), run_id, str(done_at), *more],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert self.line() == "serving"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def run_id() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:10]}"
    yield name
    clean_run(name)
    assert not list(entries(name)), "a segment or semaphore was left behind"


@pytest.fixture
def start(run_id: str) -> Iterator[Any]:
    started: list[Sidecar] = []

    def make(done_at: int = 10**6, *more: str) -> Sidecar:
        started.append(Sidecar(run_id, done_at, *more))
        return started[-1]

    yield make
    for sidecar in started:
        if sidecar.process.poll() is None:
            sidecar.kill()


def training(episode: int, **more: Any) -> EpisodeRequest:
    return EpisodeRequest(episode, 0, 0, episode, training=True, **more)


def pool_of(
    run_id: str, size: int = 1, timeout_s: float = 20.0, env: dict[str, Any] | None = None, **keys: Any
) -> EnvPool:
    config = critic_config(run_id, verdict_timeout_s=timeout_s, **keys)
    return EnvPool({"name": FAKE, **(env or {})}, config, size)


def test_lanes_hold_the_longest_task(run_id: str, start: Any) -> None:
    """The first task, whose limit stands in the environment once it has been reset, is the shorter one."""
    start(10**6)
    with pool_of(run_id, env={"max_steps": 20, "task_steps": [4, 20]}, reward="done", value_stride=4) as pool:
        for task in (0, 1):
            pool.submit(EpisodeRequest(task, 0, task, task, training=True))
        ends = {end.request.task: end.steps for end in drive(pool, 2) if isinstance(end, EpisodeEnd)}
    assert ends == {0: 4, 1: 20}


@pytest.mark.parametrize(("every", "steps"), [("step", 11), ("chunk", 16)])
def test_the_critic_ends_training_at_its_earliest_done_frame(run_id: str, start: Any, every: str, steps: int) -> None:
    """Answers come in random order and late; the episode is cut at frame 11 (asked per chunk: 16) and scored 1."""
    start(11)
    with pool_of(run_id, 2, every=every) as pool:
        for number in range(6):
            pool.submit(training(number, record=number == 0))
        over = drive(pool, 6)
    for end in over:
        assert isinstance(end, EpisodeEnd)
        assert (end.steps, end.complete, end.score, end.values) == (steps, True, 1.0, None)
        assert end.chunks == 2 and not end.env_success
        assert (end.probabilities[:-1] < 0.1).all() and end.probabilities[-1] > 0.9
        assert len(end.latencies_us) >= len(end.probabilities) and (end.latencies_us > 0).all()
        if end.request.record:
            assert end.frames is not None and end.frames[:, 0, 0, 0].tolist() == list(range(steps + 1))


@pytest.mark.parametrize(
    ("keys", "scored"),
    [
        ({}, (0, 8, 16, 20)),
        ({"value_stride": 6}, (0, 6, 12, 18, 20)),
        ({"every": "chunk"}, (0, 8, 16, 20)),
        ({"every": "chunk", "value_stride": 16}, (0, 16, 20)),
        ({"every": "chunk", "value_stride": 6}, (0, 6, 8, 12, 16, 18, 20)),
    ],
)
def test_without_done_the_last_value_is_the_score(
    run_id: str, start: Any, keys: dict[str, Any], scored: tuple[int, ...]
) -> None:
    """At max_steps the value list is asked over the right frames, the last always among them; its end / 100 is paid."""
    start()
    with pool_of(run_id, **keys) as pool:
        pool.submit(training(0))
        (end,) = drive(pool, 1)
    assert isinstance(end, EpisodeEnd)
    assert not end.complete and end.steps == 20
    assert end.values is not None and end.values.tolist() == list(scored)
    assert end.value_steps == scored
    assert end.score == pytest.approx(0.2)


def test_the_policy_reads_the_lane(run_id: str, start: Any) -> None:
    """Observations in training are read-only views of the very frames the critic is asked about."""
    start()
    seen: list[int] = []

    def look(observation: Observation) -> None:
        frame = observation.frames["agentview"]
        assert not frame.flags.writeable and (frame[-1] == 255).all()
        assert observation.frames["wrist"].shape == (32, 16, 3)
        assert int(frame[0, 0, 0]) == int(observation.frames["wrist"][0, 0, 0]) == observation.step
        assert ":lane." in bytes_behind(frame)[0], "a view into the lane"
        seen.append(observation.step)

    with pool_of(run_id) as pool:
        pool.submit(training(0))
        drive(pool, 1, look)
    assert seen == [0, 8, 16]


def test_a_restarted_sidecar_is_waited_for(run_id: str, start: Any) -> None:
    """kill -9 with questions in flight: the one that takes its place answers them, and the episode ends right."""
    first = start(11, "hold")
    with pool_of(run_id) as pool:
        pool.submit(training(0))
        deadline = time.monotonic() + 30
        while not (events := pool.poll(0.5)):
            assert time.monotonic() < deadline
        pool.act(events[0].env, np.zeros((8, 7)))  # type: ignore[union-attr]
        assert first.line().startswith("holding")
        first.kill()
        start(11)
        (end,) = drive(pool, 1)
        assert isinstance(end, EpisodeEnd) and (end.steps, end.complete) == (11, True)
        assert pool.replaced == 0
        pool.submit(training(1))
        assert isinstance(drive(pool, 1)[0], EpisodeEnd), "the next episode goes to the new sidecar"


def play(pool: EnvPool, episode: int) -> None:
    """Answers observations until the last step of ``episode`` (20 steps) was taken."""
    seen, deadline = 0, time.monotonic() + 30
    while seen < 3:
        assert time.monotonic() < deadline, f"episode {episode} is not played"
        for event in pool.poll(0.5):
            assert isinstance(event, Observation)
            pool.act(event.env, np.zeros((8, 7)), event.episode)
            seen += event.episode == episode


def test_the_next_episode_is_played_while_the_last_ones_verdicts_are_awaited(run_id: str, start: Any) -> None:
    """A silent sidecar: one process plays two episodes. Its death costs both; a new sidecar answers both."""
    first = start(10**6, "hold")
    with pool_of(run_id) as pool:
        for number in range(2):
            pool.submit(training(number))
        play(pool, 0)
        play(pool, 1)
        assert pool.running == 2
        pool._handles[0].process.kill()
        lost = drive(pool, 2)
        assert sorted((type(end).__name__, end.request.episode) for end in lost) == [
            ("EpisodeLost", 0),
            ("EpisodeLost", 1),
        ]
        for number in (2, 3):
            pool.submit(training(number))
        play(pool, 2)
        play(pool, 3)
        first.kill()
        start()
        ends = drive(pool, 2)
        assert {end.request.episode: isinstance(end, EpisodeEnd) and end.score for end in ends} == {
            2: pytest.approx(0.2),
            3: pytest.approx(0.2),
        }


def test_a_process_that_stands_still_while_verdicts_are_awaited_is_replaced(run_id: str, start: Any) -> None:
    """Nothing is played, only awaited: a process that says nothing for ``silence_s`` hangs all the same."""
    start(10**6, "hold")
    with pool_of(run_id) as pool:
        pool._silence_s = 1.5
        pool.submit(training(0))
        play(pool, 0)
        assert pool.poll(2.5) == [], "it waits, and says so"
        os.kill(pool._handles[0].process.pid, signal.SIGSTOP)
        (end,) = drive(pool, 1)
        assert isinstance(end, EpisodeLost) and "silent for 1.5 s" in end.reason


def test_without_overlap_the_next_episode_begins_after_the_verdicts(run_id: str, start: Any) -> None:
    """``critic.overlap=false``: one lane a process, and the next episode waits."""
    start(10**6, "hold")
    with pool_of(run_id, overlap=False) as pool:
        for number in range(2):
            pool.submit(training(number))
        play(pool, 0)
        assert pool.poll(1.0) == []
        assert len([entry for entry in entries(run_id) if entry.lane is not None]) == 2  # segment and semaphore


def test_a_sidecar_lost_for_good_is_a_typed_error_in_the_callers_process(run_id: str, start: Any) -> None:
    """No successor within the deadline: the pool raises, it does not hang and does not invent a reward."""
    first = start(11, "hold")
    with pool_of(run_id, timeout_s=2.0) as pool:
        pool.submit(training(0))
        while not (events := pool.poll(0.5)):
            pass
        for event in events:
            pool.act(event.env, np.zeros((20, 7)))  # type: ignore[union-attr]
        first.line()
        first.kill()
        with pytest.raises(SidecarLostError, match=r"critic.verdict_timeout_s=2 s.*died"):
            drive(pool, 1)


def test_no_sidecar_at_all_is_a_typed_error(run_id: str) -> None:
    """Nobody to attach to: one line with the run's name, within the configured time."""
    with pool_of(run_id, timeout_s=1.0) as pool:
        with pytest.raises(CriticBridgeError, match=run_id):
            drive(pool, 1)


def test_evaluation_runs_while_the_sidecar_is_dead(run_id: str, start: Any) -> None:
    """Evaluation without an audit asks nobody: it ends by the simulator's success with no sidecar there."""
    sidecar = start(1)
    with pool_of(run_id, env={"success_at": 13}) as pool:
        pool.submit(training(0))
        assert isinstance(drive(pool, 1)[0], EpisodeEnd)
        sidecar.kill()
        pool.submit(EpisodeRequest(1, -1, 0, 1, training=False))
        (end,) = drive(pool, 1)
    assert isinstance(end, EpisodeEnd) and (end.steps, end.score, end.complete) == (13, 1.0, False)


def test_a_killed_environment_leaves_no_lane(run_id: str, start: Any) -> None:
    """Its lane is taken back and its place in the pool filled; ``run_id``'s own check sees that nothing is left."""
    start(11)
    with pool_of(run_id, 2) as pool:
        for number in range(2):
            pool.submit(training(number))
        killed: list[int] = []

        def kill(observation: Observation) -> None:
            if not killed:
                killed.append(observation.episode)
                pool._handles[observation.env].process.kill()

        over = drive(pool, 2, kill)
        assert sorted(type(end).__name__ for end in over) == ["EpisodeEnd", "EpisodeLost"]
        pool.submit(training(5))
        assert isinstance(drive(pool, 1)[0], EpisodeEnd)


@pytest.mark.parametrize(
    ("drawn", "last", "stride", "expected"),
    [
        (list(range(21)), 20, 8, (8, [0, 8, 16, 20])),
        (list(range(30)), 9, 4, (4, [0, 4, 8, 9])),
        ([0, 8, 16, 20], 20, 8, (1, [0, 8, 16, 20])),
        ([0, 8, 16, 24], 16, 16, (2, [0, 16])),
        ([0, 6, 8, 12, 16], 16, 6, (1, [0, 6, 8, 12, 16])),
    ],
)
def test_frames_of_the_value_list_by_step(drawn: list[int], last: int, stride: int, expected: Any) -> None:
    """The bridge strides over frames; the steps that come out are the ones wanted, or all that were drawn."""
    assert scored_frames(drawn, last, stride) == expected
