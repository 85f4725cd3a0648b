"""LIBERO's real tasks: the same physics, pictures and observations as its own environment gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from verl.errors import ConfigError, UnknownTaskError

if importlib.util.find_spec("libero") is None:
    pytest.skip("hf-libero is not installed (pip install 'vlac-rl[libero]')", allow_module_level=True)

from verl.envs.libero_env import NO_MOTION, LiberoConfig, LiberoEnv
from verl.envs.libero_setup import SUITE_STEPS, find_assets, import_problems, initial_states, suite_tasks
from verl.errors import AssetsMissingError

try:
    ASSETS = find_assets(None)
except AssetsMissingError:
    ASSETS = None

needs_assets = pytest.mark.skipif(ASSETS is None, reason="LIBERO's assets are not here (LIBERO_ASSETS=FOLDER)")
pytestmark = pytest.mark.libero
SETTLE = 3  # instead of 10: the same path, less of the suite's time
ACTIONS = np.random.default_rng(3).uniform(-0.6, 0.6, (6, 7))


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    made = LiberoEnv(LiberoConfig(cameras=("agentview", "wrist"), tasks=(0,), image_size=64, effects=False))
    yield made
    made.close()


def picture(env: LiberoEnv, camera: str) -> np.ndarray:
    out = np.zeros((env.config.image_size, env.config.image_size, 3), np.uint8)
    env.render(camera, out)
    return out


def liberos_own(suite: str, number: int, state: int, size: int) -> Any:
    """LIBERO's environment as its evaluation scripts use it: hard reset, seed 0, initial state, settling steps."""
    assert ASSETS is not None
    import_problems(ASSETS)
    from libero.libero.envs import OffScreenRenderEnv

    task = suite_tasks(suite)[number]
    own = OffScreenRenderEnv(bddl_file_name=str(task.bddl), camera_heights=size, camera_widths=size)
    own.seed(0)
    own.reset()
    own.set_init_state(initial_states(task)[state])
    for _ in range(SETTLE):
        observation, *_ = own.step(NO_MOTION.tolist())
    return own, observation


@needs_assets
def test_it_is_liberos_own_environment_to_the_bit() -> None:
    """States, success, proprioception and both pictures are those of ``OffScreenRenderEnv``, with its hard reset."""
    ours = LiberoEnv(LiberoConfig(cameras=("agentview", "wrist"), tasks=(4,), image_size=64, num_steps_wait=SETTLE))
    own, observation = liberos_own("libero_spatial", 4, 7, 64)
    try:
        ours.reset(3)  # another episode before: it must leave no trace
        ours.step(ACTIONS[0])
        ours.reset(47)
        for action in [*ACTIONS[:3], None]:
            assert np.array_equal(ours.world.data.qpos, own.sim.data.qpos)
            expected = np.concatenate([observation["robot0_eef_pos"], observation["robot0_gripper_qpos"]])
            state = ours.proprio()
            assert np.concatenate([state[:3], state[6:]]) == pytest.approx(expected, abs=2e-3)
            if action is not None:
                observation, _, done, _ = own.step(action)
                assert ours.step(action) == done
        for camera, key in (("agentview", "agentview_image"), ("wrist", "robot0_eye_in_hand_image")):
            mine = picture(ours, camera)
            theirs = own.sim.render(camera_name=key.removesuffix("_image"), width=64, height=64)
            assert np.abs(mine.astype(int) - theirs).max() <= 1
            upright = ours.cameras[0].upright(mine)
            assert np.array_equal(upright, mine[::-1, ::-1]) and np.shares_memory(upright, mine)
    finally:
        ours.close()
        own.close()


@needs_assets
def test_an_episode_depends_on_its_seed_alone(env: LiberoEnv) -> None:
    """The seed picks the initial state, modulo the number of training's; what ran before changes no bit."""
    ends = []
    for seed, before in ((1, 0), (41, 3)):
        for _ in range(before):
            env.reset(before)
            env.step(ACTIONS[before])
        env.reset(seed)
        for action in ACTIONS[:3]:
            env.step(action)
        ends.append((env.world.data.qpos.copy(), picture(env, "agentview"), picture(env, "wrist")))
    for a, b in zip(*ends, strict=True):
        assert np.array_equal(a, b)
    env.reset(2)
    assert not np.array_equal(ends[0][0], env.world.data.qpos)


@needs_assets
def test_a_fresh_state_is_what_liberos_own_reset_draws() -> None:
    """To the bit a hard reset under the seed, furniture and objects; training still starts from the table."""
    config = LiberoConfig("libero_goal", (5,), image_size=64, effects=False, num_steps_wait=0, fresh_states=True)
    ours, table = LiberoEnv(config), initial_states(suite_tasks("libero_goal")[5])
    own, _ = liberos_own("libero_goal", 5, 0, 64)
    try:
        seen = []
        for seed in (100_000, 100_001, 100_000):
            own.seed(seed)
            own.reset()
            ours.reset(seed, training=False)
            assert np.array_equal(ours.world.data.qpos, own.sim.data.qpos)
            assert np.array_equal(ours.world.model.body_pos, own.sim.model.body_pos)
            seen.append(ours.world.data.qpos.copy())
            assert np.abs(table[:, 1 : 1 + len(seen[0])] - seen[-1]).max(axis=1).min() > 1e-3, "a published state"
        assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[0], seen[1])
        furniture = ours.world.model.body_pos.copy()
        ours.reset(3)
        assert np.array_equal(ours.world.data.qpos, table[3, 1 : 1 + len(seen[0])])
        assert not np.array_equal(furniture, ours.world.model.body_pos)
    finally:
        ours.close()
        own.close()


@needs_assets
@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITE_STEPS)
def test_every_suite_runs(suite: str) -> None:
    """First and last task of each suite: reset, a few steps, both cameras, an instruction, no success from nothing."""
    env = LiberoEnv(LiberoConfig(suite=suite, cameras=("agentview", "wrist"), image_size=64, effects=False))
    try:
        assert env.max_steps == SUITE_STEPS[suite]
        for task in (0, env.tasks - 1):
            env.reset(0, task)
            assert not any(env.step(action) for action in ACTIONS)
            assert picture(env, "agentview").std() > 5 and picture(env, "wrist").std() > 5
            assert env.instruction == suite_tasks(suite)[task].instruction
    finally:
        env.close()


@needs_assets
def test_simulators_are_kept_up_to_a_number() -> None:
    """A process that goes through many tasks holds ``keep`` simulators, the ones used last."""
    env = LiberoEnv(LiberoConfig(tasks=(0, 1, 2), keep=1, image_size=32, effects=False, num_steps_wait=0))
    try:
        env.reset(0, 0)
        first = env.world
        env.reset(1, 0)
        assert env.world is first
        env.reset(0, 1)
        assert len(env._worlds) == 1 and env.instruction == suite_tasks("libero_spatial")[1].instruction
    finally:
        env.close()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"suite": "libero_spatal"}, UnknownTaskError, "allowed are libero_spatial"),
        ({"tasks": (10,)}, UnknownTaskError, "10 is no task of libero_spatial; allowed are 0 to 9"),
        ({"cameras": ("front",)}, ConfigError, "unknown camera 'front'; allowed are agentview, wrist"),
        ({"cameras": ()}, ConfigError, "env.cameras=[]"),
        ({"max_steps": 0}, ConfigError, "env.max_steps=0: must be 1 or more"),
        ({"num_steps_wait": -1}, ConfigError, "env.num_steps_wait=-1: must be 0 or more"),
        ({"val_trials": 50}, ConfigError, "env.val_trials=50: allowed are 1 to 49, fewer than env.num_trials_per_task"),
        ({"val_trials": 0}, ConfigError, "env.val_trials=0: allowed are 1 to 49"),
        ({"val_trials": "all"}, ConfigError, "env.val_trials='all': allowed are 1 to 49, fewer than"),
        ({"image_size": 2}, ConfigError, "must be from 16 to 4096"),
    ],
)
def test_wrong_keys_are_named_before_anything_is_built(values: dict[str, Any], error: type, message: str) -> None:
    """A wrong value is refused by the configuration itself."""
    with pytest.raises(error) as caught:
        LiberoConfig(**values)
    assert message in str(caught.value)
