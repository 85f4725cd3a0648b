"""One episode against a critic whose answers come late and in any order: cut where a slow loop would have cut.

The critic and the policy are scripted here, in one process, because their timing is what is tested; ``test_pool.py``
has real processes, ``test_critic_link.py`` the real bridge.
"""

from __future__ import annotations

import os
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shm_bridge import Verdict
from shm_bridge.rules import Outcome, asked_steps, value_steps
from tests.shm_bridge.rules.test_termination import random_verdict, sequential_reference
from tests.shm_bridge.verdicts import frame_verdict
from tests.verl.critic import critic_config
from tests.verl.envs.fake_env import FakeEnv
from tests.verl.envs.scripted_doubles import ScriptedChannel, ScriptedCritic
from verl.critic_config import CriticConfig
from verl.critic_noise import VerdictNoise
from verl.envs import episode_runner
from verl.envs.episode_runner import EpisodeRunner
from verl.envs.frames import PlainFrames, create_memory
from verl.envs.messages import Look
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.errors import InvalidVerdictError, SidecarLostError


def run(
    config: CriticConfig | None,
    critic: ScriptedCritic | None,
    *,
    training: bool = True,
    record: bool = False,
    chunk: int = 8,
    seed: int = 0,
    **env_config: Any,
) -> tuple[EpisodeEnd | EpisodeLost, FakeEnv, ScriptedChannel]:
    env = FakeEnv(env_config)
    memory = create_memory(env.cameras, env.max_steps + 1)
    plain = PlainFrames(memory, env.cameras, env.max_steps + 1, writable=True)
    os.close(memory)
    channel = ScriptedChannel(random.Random(seed), chunk)
    runner = EpisodeRunner(env, channel, plain, [critic] if critic else [], config)
    runner.run(EpisodeRequest(5, 0, 1, 0, training, record))
    (end,) = channel.ends
    return end, env, channel


@pytest.mark.parametrize("every", ["step", "chunk"])
def test_the_cut_is_the_sequential_one_over_random_schedules(every: str) -> None:
    """Over 1,000 episodes: steps, completeness, score and what is credited equal a loop that waits after each step."""
    rng = random.Random(3)
    for _ in range(1000):
        max_steps, chunk, hold = rng.randint(1, 20), rng.randint(1, 8), rng.randint(1, 3)
        config = critic_config(
            "run", every=every, hold=hold, invalid=rng.choice(["not_done", "drop", "stop"]), value_stride=4
        )
        frames = asked_steps(every, chunk, max_steps)
        verdicts = {step: random_verdict(rng) for step in frames}
        values = np.linspace(0, 60, len(value_steps(max_steps, 4)), dtype=np.float32)
        critic = ScriptedCritic(random.Random(rng.random()), verdicts, values)
        outcome, step = sequential_reference(config.done_rules, frames, verdicts)
        arguments = {"chunk": chunk, "seed": rng.randrange(9), "max_steps": max_steps, "success_at": 2}
        if outcome is Outcome.STOP:
            with pytest.raises(InvalidVerdictError):
                run(config, critic, **arguments)
            continue
        end, env, _ = run(config, critic, **arguments)
        assert critic.began == critic.ended == 1
        if outcome is Outcome.DROP:
            assert isinstance(end, EpisodeLost)
            continue
        assert isinstance(end, EpisodeEnd)
        assert end.complete is (outcome is Outcome.DONE)
        assert end.steps == (step if end.complete else max_steps)
        assert end.score == pytest.approx(1.0 if end.complete else 0.6)
        assert (end.values is None) is end.complete, "the value counts exactly when not done"
        assert critic.value_questions in ([], [(max_steps, 4)]), "asked at most once, at the end"
        assert end.chunks == -(-end.steps // chunk)
        assert end.step_rewards.shape == (end.steps,)
        assert end.env_success_step == (2 if end.steps >= 2 else None), "success behind the cut is not seen"
        assert end.asked.tolist() == [s for s in frames if s <= end.steps]
        assert env.steps <= max_steps


def test_a_lying_simulator_reaches_no_reward() -> None:
    """In training the simulator's done changes the audit fields and nothing else."""
    ends = []
    for success_at in (1, 10**6):
        verdicts = {s: frame_verdict(True, False, 0.1) for s in range(1, 21)}
        critic = ScriptedCritic(random.Random(1), verdicts, np.array([0, 10, 20, 30], np.float32))
        end, _, _ = run(critic_config(), critic, success_at=success_at)
        assert isinstance(end, EpisodeEnd)
        ends.append(end)
    assert ends[0].env_success and not ends[1].env_success
    for a, b in [ends]:
        assert (a.score, a.complete, a.steps, a.step_rewards.tolist()) == (
            b.score,
            b.complete,
            b.steps,
            b.step_rewards.tolist(),
        )


@pytest.mark.parametrize(("told", "complete"), [("task 1", True), ("another task", False)])
def test_an_instruction_may_have_a_threshold_of_its_own(told: str, complete: bool) -> None:
    """In place of ``critic.threshold``, which holds for all others; ``critic.hold`` is the same."""
    verdicts = {s: frame_verdict(True, False, 0.1 if s < 5 else 0.6) for s in range(1, 21)}
    critic = ScriptedCritic(random.Random(1), verdicts, np.array([0, 10, 20, 30], np.float32))
    end, _, _ = run(critic_config(thresholds=((told, 0.5),), hold=2), critic)
    assert isinstance(end, EpisodeEnd) and end.complete is complete
    assert end.steps == (6 if complete else 20)


def test_a_critic_made_worse_on_purpose_misses_dones_and_makes_them_up() -> None:
    """A missed done is scored by the values up to its step; a made-up one pays the reward of a done at the end."""
    values = np.array([0, 10, 30], np.float32)
    verdicts = {s: frame_verdict(True, s == 9, 0.99 if s == 9 else 0.1) for s in range(1, 21)}
    critic = ScriptedCritic(random.Random(1), verdicts, values)
    end, _, _ = run(critic_config(noise=VerdictNoise(missed_done=1.0)), critic)
    assert isinstance(end, EpisodeEnd)
    assert (end.steps, end.complete, critic.value_questions) == (9, False, [(9, 8)])
    assert end.score == pytest.approx(0.3)
    critic = ScriptedCritic(random.Random(1), {s: frame_verdict(True, False, 0.1) for s in range(1, 21)}, values)
    end, _, _ = run(critic_config(noise=VerdictNoise(false_done=1.0)), critic)
    assert isinstance(end, EpisodeEnd)
    assert (end.steps, end.complete, end.score, end.values) == (20, True, 1.0, None)


@pytest.mark.parametrize("training", [True, False])
def test_the_environment_is_told_what_an_episode_is_for(training: bool) -> None:
    """The request's ``training`` reaches the reset: on it depends from which states the environment may start."""
    _, env, _ = run(None, None, training=training, success_at=3)
    assert env.training is training


def test_a_lying_critic_changes_no_evaluation() -> None:
    """In evaluation the simulator's success ends and scores the episode, audited or not; all audit answers are kept."""
    for audit in (True, False):
        verdicts = {s: frame_verdict(True, True, 0.99) for s in range(1, 21)}
        critic = ScriptedCritic(random.Random(1), verdicts, None)
        end, _, _ = run(critic_config(audit_val=audit), critic, training=False, success_at=13)
        assert isinstance(end, EpisodeEnd)
        assert (end.steps, end.score, end.env_success, end.complete) == (13, 1.0, True, False)
        assert len(end.probabilities) == (13 if audit else 0)
        assert not np.isnan(end.probabilities).any()
        assert not critic.value_questions


def test_an_audit_without_a_sidecar_does_not_stop_an_evaluation() -> None:
    """The critic decides nothing in evaluation, so its loss does not either."""
    critic = ScriptedCritic(random.Random(1), {}, None)
    critic.lost, critic.poll = True, lambda: []  # type: ignore[method-assign]
    end, _, _ = run(critic_config(audit_val=True), critic, training=False, success_at=9)
    assert isinstance(end, EpisodeEnd)
    assert end.score == 1.0 and np.isnan(end.probabilities).all()


def test_an_audit_whose_sidecar_is_lost_while_it_is_played_goes_on_too() -> None:
    """An overdue answer is told by the poll between two steps: a warning, and no end of the run."""
    critic = ScriptedCritic(random.Random(1), {}, None)

    def overdue() -> list[Verdict]:
        raise SidecarLostError("overdue")

    critic.lost, critic.poll = True, overdue  # type: ignore[method-assign]
    end, _, _ = run(critic_config(audit_val=True), critic, training=False, success_at=9)
    assert isinstance(end, EpisodeEnd)
    assert end.score == 1.0 and np.isnan(end.probabilities).all()
    with pytest.raises(SidecarLostError):
        run(critic_config(), critic)


def test_without_a_critic_the_simulator_trains() -> None:
    """The upper line of a study: success ends the episode and pays 1, failure pays 0."""
    end, _, _ = run(None, None, success_at=6)
    assert isinstance(end, EpisodeEnd)
    assert (end.steps, end.score, end.complete, end.chunks) == (6, 1.0, True, 1)
    end, _, _ = run(None, None)
    assert isinstance(end, EpisodeEnd)
    assert (end.steps, end.score, end.complete, end.chunks) == (20, 0.0, False, 3)


def test_only_frames_that_somebody_needs_are_drawn() -> None:
    """Evaluation draws once a chunk; asking per chunk draws chunk ends and value frames; recording draws all."""
    _, env, channel = run(None, None, training=False)
    assert env.drawn == [(s, c) for s in (0, 8, 16) for c in ("agentview", "wrist")]
    assert [look.step for look in channel.looks if isinstance(look, Look)] == [0, 8, 16]

    def critic() -> ScriptedCritic:
        return ScriptedCritic(
            random.Random(0), {s: frame_verdict(True, False, 0.0) for s in range(21)}, np.zeros(6, np.float32)
        )

    _, env, _ = run(critic_config(every="chunk", value_stride=4), critic())
    assert [s for s, c in env.drawn if c == "agentview"] == [0, 4, 8, 12, 16, 20]
    assert [s for s, c in env.drawn if c == "wrist"] == [0, 8, 16], "only the policy looks through the second camera"
    _, env, _ = run(critic_config(every="chunk", reward="done"), critic())
    assert [s for s, c in env.drawn if c == "agentview"] == [0, 8, 16, 20]
    end, env, _ = run(None, None, record=True, success_at=5)
    assert [s for s, c in env.drawn if c == "agentview"] == [0, 1, 2, 3, 4, 5]
    assert isinstance(end, EpisodeEnd) and end.frames is not None
    assert end.frames.shape == (6, 32, 32, 3)
    assert end.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5], "upright: the row stored first is the last"
    assert (end.frames[:, -1] == 255).all()


@pytest.mark.parametrize(
    ("policy", "expected"), [("not_done", 0.0), ("drop", EpisodeLost), ("stop", InvalidVerdictError)]
)
def test_a_value_without_a_meaning_follows_the_policy(policy: str, expected: Any) -> None:
    """Never a number of its own: worth nothing and counted, or the episode is given up, or the run."""
    verdicts = {s: frame_verdict(True, False, 0.1) for s in range(1, 21)}
    config = critic_config(invalid=policy)
    critic = ScriptedCritic(random.Random(1), verdicts, None)
    if policy == "stop":
        with pytest.raises(InvalidVerdictError):
            run(config, critic)
        return
    end, _, _ = run(config, critic)
    if policy == "drop":
        assert isinstance(end, EpisodeLost) and end.reason == "unreadable value list"
    else:
        assert isinstance(end, EpisodeEnd)
        assert end.score == 0.0 and end.invalid == 1 and end.values is None


def test_training_without_a_sidecar_ends_in_a_typed_error() -> None:
    """A training episode cannot be scored without the critic; the lane is given back all the same."""
    critic = ScriptedCritic(random.Random(1), {}, None)
    critic.lost, critic.poll = True, lambda: []  # type: ignore[method-assign]
    with pytest.raises(SidecarLostError):
        run(critic_config(), critic)
    assert critic.ended == 1


def test_each_further_dropped_episode_is_followed_by_a_longer_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.5 s, 1, 2, ... and the parent hears of it; an episode that counts ends the row."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), perf_counter=lambda: 0.0, sleep=slept.append)
    monkeypatch.setattr(episode_runner, "time", clock)
    env = FakeEnv({"max_steps": 3})
    memory = create_memory(env.cameras, env.max_steps + 1)
    plain = PlainFrames(memory, env.cameras, env.max_steps + 1, writable=True)
    os.close(memory)
    readable = {step: frame_verdict(True, False, 0.1) for step in range(1, 4)}
    unreadable = {**readable, 1: frame_verdict(False, False, float("nan"))}
    critic = ScriptedCritic(random.Random(0), unreadable, np.zeros(9, np.float32))
    runner = EpisodeRunner(
        env, ScriptedChannel(random.Random(0), 8), plain, [critic], critic_config("run", invalid="drop")
    )
    pauses = []
    for number, verdicts in enumerate([unreadable] * 4 + [readable] * 2):
        critic.verdicts, before = verdicts, sum(slept)
        runner.run(EpisodeRequest(number, 0, 1, 0, True))
        pauses.append(sum(slept) - before)
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 0.0] and max(slept) <= 0.5
