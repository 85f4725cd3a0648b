"""Episodes whose verdicts are awaited while the next one is played: each ends once, and as it does alone."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from shm_bridge import Verdict
from tests.shm_bridge.rules.test_termination import random_verdict
from tests.shm_bridge.verdicts import frame_verdict
from tests.verl.critic import critic_config
from tests.verl.envs.fake_env import FakeEnv
from tests.verl.envs.scripted_doubles import ScriptedChannel, ScriptedCritic
from verl.critic_config import CriticConfig
from verl.envs import episode_runner
from verl.envs.episode_runner import EpisodeRunner
from verl.envs.frames import PlainFrames, create_memory
from verl.envs.messages import PlayedOut
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """After dropped episodes, of which there are many here."""
    monkeypatch.setattr(episode_runner, "DROP_PAUSE_S", 0.0)


class CriticOfMany(ScriptedCritic):
    """Verdicts by episode; tells nothing but by :meth:`wait` where ``slow``."""

    def __init__(self, rng: random.Random, many: dict[int, dict[int, Verdict]], slow: bool = False) -> None:
        super().__init__(rng, {}, np.linspace(0, 60, 6, dtype=np.float32))
        self.many, self.slow = many, slow

    def begin(self, episode: int, instruction: str) -> None:
        super().begin(episode, instruction)
        self.verdicts = self.many[episode]

    def poll(self) -> list[Verdict]:
        return [] if self.slow else super().poll()


def run_many(
    count: int,
    links: int,
    config: CriticConfig,
    many: dict[int, dict[int, Verdict]],
    slow: bool,
    rng: random.Random,
) -> tuple[list[EpisodeEnd | EpisodeLost], ScriptedChannel]:
    """Episodes in a row through one runner, every third an evaluation; the last verdicts are waited for."""
    env = FakeEnv({"max_steps": 20, "success_at": 7})
    memory = create_memory(env.cameras, env.max_steps + 1)
    plain = PlainFrames(memory, env.cameras, env.max_steps + 1, writable=True)
    os.close(memory)
    channel = ScriptedChannel(random.Random(rng.random()), 8)
    critics = [CriticOfMany(random.Random(rng.random()), many, slow) for _ in range(links)]
    runner = EpisodeRunner(env, channel, plain, critics, config)
    for number in range(count):
        runner.run(EpisodeRequest(number, 0, number % 2, number, training=number % 3 != 2, record=True))
    for critic in critics:
        critic.slow = False
    for _ in range(10_000):
        runner.settle()
    assert not runner.awaiting
    assert all(critic.began == critic.ended for critic in critics)
    return channel.ends, channel


@pytest.mark.parametrize("reward", ["done_value", "progress"])
def test_verdicts_awaited_beside_the_next_episode_change_no_episode(reward: str) -> None:
    """200 rows of 7 episodes, some audited, with one link and with two: each ends once, and as it does alone."""
    rng = random.Random(5)
    for number in range(200):
        config = critic_config(
            hold=rng.randint(1, 3),
            invalid=rng.choice(["not_done", "drop"]),
            value_stride=4,
            reward=reward,
            audit_val=bool(number % 2),
        )
        many = {e: {step: random_verdict(rng) for step in range(1, 21)} for e in range(7)}
        alone, channel = run_many(7, 1, config, many, False, rng)
        assert not any(isinstance(message, PlayedOut) for message in channel.told)
        beside, _ = run_many(7, 2, config, many, bool(number % 3), rng)
        by_episode = {end.request.episode: end for end in beside}
        assert len(beside) == len(alone) == len(by_episode) == 7
        for one in alone:
            other = by_episode[one.request.episode]
            if isinstance(one, EpisodeLost):
                assert other == one
                continue
            assert isinstance(other, EpisodeEnd)
            assert (one.steps, one.complete, one.score, one.instruction, one.invalid, one.chunks) == (
                other.steps,
                other.complete,
                other.score,
                other.instruction,
                other.invalid,
                other.chunks,
            )
            assert one.step_rewards.tolist() == other.step_rewards.tolist()
            assert one.frames is not None and np.array_equal(one.frames, other.frames)


def test_at_most_one_episode_is_awaited() -> None:
    """A critic that keeps silent holds up the third episode, not the second, and is told so to the pool."""
    many = {e: {step: frame_verdict(True, False, 0.1) for step in range(1, 21)} for e in range(4)}
    config = critic_config(value_stride=4)
    _, channel = run_many(4, 2, config, many, True, random.Random(1))
    told = [m for m in channel.told if isinstance(m, PlayedOut | EpisodeEnd)]
    story = [m.episode if isinstance(m, PlayedOut) else -m.request.episode - 1 for m in told]
    # 0 played out; 1 is played, 0 awaited to its end; ... 2 is an evaluation without an audit and ends at once
    assert story == [0, -1, 1, -3, -2, 3, -4]
