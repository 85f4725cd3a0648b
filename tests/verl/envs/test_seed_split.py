"""Training and evaluation never start from one state: by their seeds, and in the simulators themselves."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl.envs.factory import create_environment, evaluation_states
from verl.envs.seed_split import EVALUATION_SEEDS, SEEDS, evaluation_seed, training_seed
from verl.episode import EpisodeRequest
from verl.trainer.load_config import load_config
from verl.trainer.ppo.schedule import Schedule

LIBERO = importlib.util.find_spec("libero") is not None


@given(seed=st.integers(0, 10**9), val_seed=st.integers(0, 10**9), number=st.integers(0, 10**6))
def test_the_seeds_of_training_and_evaluation_never_meet(seed: int, val_seed: int, number: int) -> None:
    """Whatever the configured seeds are and however far a run has come; and neighbours are never the same."""
    training = [training_seed(seed, number + i) for i in range(3)]
    evaluation = [evaluation_seed(val_seed, number + i) for i in range(3)]
    assert not any(one in EVALUATION_SEEDS for one in training) and all(one in EVALUATION_SEEDS for one in evaluation)
    assert len(set(training)) == len(set(evaluation)) == 3 and all(0 <= one < SEEDS for one in training)


def test_the_seeds_of_published_runs_are_what_they_were() -> None:
    """Figures of the default stay comparable: data.seed 0, 1, 2 and data.val_seed=100000 name the states they did."""
    assert [training_seed(0, n) for n in (0, 1, 99_999)] == [0, 1, 99_999]
    assert [training_seed(s, n) for s in (1, 2) for n in (0, 25)] == [1_000_003, 1_000_028, 2_000_006, 2_000_031]
    assert [evaluation_seed(100_000, n) for n in (0, 1, 99)] == [100_000, 100_001, 100_099]
    assert training_seed(0, 100_000) == 200_000, "training goes on behind evaluation's part"


def requests(*overrides: str, groups: int, first_group: int = 0, tasks: int = 1) -> list[EpisodeRequest]:
    """One of each training group, and an evaluation."""
    config, _ = load_config(list(overrides))
    schedule = Schedule(config.data, tasks, evaluation_states(config.env), not config.rollout.val_do_sample)
    schedule.next_group = first_group
    return [schedule.group()[0] for _ in range(groups)] + schedule.evaluation()


def states(env: Any, wanted: Iterable[EpisodeRequest]) -> tuple[set[bytes], set[bytes]]:
    """The simulator's positions at the start of the requests: of training, of evaluation."""
    found: tuple[set[bytes], set[bytes]] = set(), set()
    for request in wanted:
        env.reset(request.seed, request.task, request.training)
        found[not request.training].add(bytes([request.task]) + env.world.data.qpos.tobytes())
    return found


@pytest.mark.parametrize(
    ("seeds", "first_group"),
    [
        ((), 0),
        ((), 99_990),  # counts into evaluation's part
        (("data.val_seed=0",), 0),
        (("data.seed=1", "data.val_seed=1000003"), 0),
    ],
)
def test_robosuites_states_of_a_run_do_not_meet(seeds: tuple[str, ...], first_group: int) -> None:
    """Each group and each evaluation episode has a state of its own in MuJoCo, none is both."""
    wanted = requests("data.val_batch_size=20", *seeds, groups=20, first_group=first_group)
    env: Any = create_environment(load_config([])[0].env)
    try:
        training, evaluation = states(env, wanted)
    finally:
        env.close()
    assert len(training) == len(evaluation) == 20 and not training & evaluation


@pytest.mark.libero
@pytest.mark.skipif(not LIBERO, reason="hf-libero is not installed (pip install 'vlac-rl[libero]')")
def test_liberos_states_of_a_run_do_not_meet() -> None:
    """By default 10 of a task's 50 states are evaluation's alone, the other 40 training's; all of them are used."""
    keys = ["env=libero", "env.tasks=[0,1]", "env.num_steps_wait=0", "env.image_size=32", "env.effects=false"]
    wanted = requests(*keys, "data.val_batch_size=496", groups=100, tasks=2)
    env: Any = create_environment(load_config(keys)[0].env)
    try:
        training, evaluation = states(env, sorted(wanted, key=lambda request: request.task))
    finally:
        env.close()
    assert (len(training), len(evaluation)) == (2 * 40, 2 * 10) and not training & evaluation


@pytest.mark.libero
@pytest.mark.skipif(not LIBERO, reason="hf-libero is not installed (pip install 'vlac-rl[libero]')")
def test_libero_holds_out_what_the_configuration_says_and_as_published_nothing() -> None:
    """The numbers of a task's table, of which the simulator is given one."""
    from verl.envs.libero_env import LiberoConfig

    default, published = LiberoConfig(), LiberoConfig(val_trials="as_published")
    assert (default.states(True), default.states(False)) == (range(40), range(40, 50))
    assert published.states(True) == published.states(False) == range(50)
    assert dataclasses.replace(default, val_trials=1).states(False) == range(49, 50)
    assert default.evaluation_states() == 10
    assert dataclasses.replace(default, fresh_states=True).evaluation_states() is None


class SeedOnly:
    """An environment as people have them: its reset knows seed and task, no more."""

    tasks, evaluation_states = 1, 5

    def __init__(self, _config: Any) -> None:
        self.seeds: list[int] = []

    def reset(self, seed: int, task: int = 0) -> None:
        self.seeds.append(seed)

    def close(self) -> None:
        pass


class Told(SeedOnly):
    """One that is told what an episode is for."""

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        self.seeds.append(seed if training else -seed)


def test_an_environment_of_ones_own_is_split_by_its_seeds_or_told() -> None:
    """A reset of seed and task goes on working, and its seeds are apart; one with a third argument is told."""
    wanted = requests("data.seed=1", "data.val_seed=1000003", "data.val_batch_size=20", groups=20)
    plain: Any = create_environment({"name": f"{__name__}:SeedOnly"})
    told: Any = create_environment({"name": f"{__name__}:Told"})
    for request in wanted:
        plain.reset(request.seed, request.task, request.training)
        told.reset(request.seed, request.task, request.training)
    assert len(set(plain.seeds)) == 40 and not set(plain.seeds[:20]) & set(plain.seeds[20:])
    assert told.seeds == [*plain.seeds[:20], *(-seed for seed in plain.seeds[20:])]
    assert evaluation_states({"name": f"{__name__}:Told"}) == 5, "and says how many states it has for evaluation"
    assert evaluation_states({"name": "robosuite"}) is None, "each seed is a state"
