"""LIBERO behind :class:`verl.envs.base.Environment`: all suites, with their published initial states.

An episode is: the model's fixtures placed from a fixed seed, one of the task's initial states (``seed`` modulo the
number of those held out for evaluation, or of the others), ``num_steps_wait`` steps without motion, then the policy.
With ``fresh_states`` evaluation's come from LIBERO's placement sampler instead, fixtures too.
Frames are stored as the renderer leaves them and turned by 180 degrees by strides, as the published checkpoints expect
(``image[::-1, ::-1]``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shm_bridge import Orientation
from verl.config_tree import in_range
from verl.envs.arm_world import CONTROL_HZ, ArmWorld, numpy_seed
from verl.envs.base import LARGEST, MOST_SAMPLES, SMALLEST, Camera, axis_angle
from verl.envs.libero_setup import (
    SUITE_STEPS,
    LiberoTask,
    find_assets,
    import_problems,
    initial_states,
    suite_tasks,
)
from verl.envs.robosuite_import import import_robosuite, quiet
from verl.errors import ConfigError, UnknownTaskError

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
FIXTURE_SEED = 0  # as in the published evaluation; initial states do not hold where furniture stands
NO_MOTION = np.array([0, 0, 0, 0, 0, 0, -1.0])
AS_PUBLISHED = "as_published"
DOWN = np.diag([1.0, -1.0, -1.0])  # how the hand is turned when it points straight down


@dataclass(frozen=True, slots=True)
class LiberoConfig:
    """Keys of ``env`` for ``env.name=libero``.

    Attributes:
        tasks: task numbers of the suite, None for all.
        max_steps: None for the suite's published number.
        effects: shadows and reflections; the published checkpoints have seen them.
        split_step: a faster physics step whose numbers differ in the last digits, see :mod:`verl.envs.arm_world`.
        num_trials_per_task: initial states of a task that are used, the first of its table.
        val_trials: the last so many of them are evaluation's alone; ``as_published``: training and evaluation both use
            all, as the literature does.
        fresh_states: evaluation's states are none of the table: each seed is one, drawn by LIBERO's own placement
            sampler as its environment does at a reset.
        keep: simulators kept in a process; each task has its own, of some 100 MB.
    """

    suite: str = "libero_spatial"
    tasks: tuple[int, ...] | None = None
    max_steps: int | None = None
    cameras: tuple[str, ...] = ("agentview",)
    image_size: int = 256
    num_steps_wait: int = 10
    num_trials_per_task: int = 50
    val_trials: int | str = 10
    fresh_states: bool = False
    assets: str | None = None
    effects: bool = True
    samples: int = 4
    split_step: bool = False
    keep: int = 2

    def __post_init__(self) -> None:
        count = len(suite_tasks(self.suite))
        for number in self.tasks or ():
            if not isinstance(number, int) or not 0 <= number < count:
                raise UnknownTaskError(
                    f"env.tasks: {number!r} is no task of {self.suite}; allowed are 0 to {count - 1}"
                )
        for name in self.cameras:
            if name not in CAMERAS:
                raise ConfigError(f"env.cameras: unknown camera {name!r}; allowed are {', '.join(CAMERAS)}")
        if self.tasks == ():
            raise ConfigError("env.tasks=[]: at least one task is needed; null takes all of the suite")
        in_range("env.max_steps", self.max_steps, 1)
        in_range("env.num_steps_wait", self.num_steps_wait, 0)
        in_range("env.num_trials_per_task", self.num_trials_per_task, 1)
        in_range("env.keep", self.keep, 1)
        in_range("env.image_size", self.image_size, SMALLEST, LARGEST)
        in_range("env.samples", self.samples, 0, MOST_SAMPLES)
        held_out = self.val_trials
        if held_out != AS_PUBLISHED and not (type(held_out) is int and 1 <= held_out < self.num_trials_per_task):
            raise ConfigError(
                f"env.val_trials={held_out!r}: allowed are 1 to {self.num_trials_per_task - 1}, fewer than "
                f"env.num_trials_per_task={self.num_trials_per_task}, or {AS_PUBLISHED}"
            )
        if not self.camera_specs():
            raise ConfigError("env.cameras=[]: at least one camera is needed")

    def states(self, training: bool) -> range:
        """The numbers of a task's initial states for training, or for evaluation."""
        total = self.num_trials_per_task
        if isinstance(self.val_trials, str):
            return range(total)
        return range(total - self.val_trials) if training else range(total - self.val_trials, total)

    def evaluation_states(self) -> int | None:
        """How many initial states a task has for evaluation; None where each seed is one."""
        return None if self.fresh_states else len(self.states(training=False))

    def camera_specs(self) -> tuple[Camera, ...]:
        size = self.image_size
        return tuple(Camera(name, size, size, Orientation.ROTATE_180) for name in self.cameras)

    def step_limit(self) -> int:
        return SUITE_STEPS[self.suite] if self.max_steps is None else self.max_steps

    def task_numbers(self) -> tuple[int, ...]:
        return tuple(range(len(suite_tasks(self.suite)))) if self.tasks is None else self.tasks


class LiberoEnv:
    """See :class:`verl.envs.base.Environment`. A task's simulator is built at its first reset (seconds)."""

    action_dim = 7

    def __init__(self, config: LiberoConfig) -> None:
        self.config = config
        self.assets = find_assets(config.assets)
        self.cameras = config.camera_specs()
        self.max_steps = config.step_limit()
        suite, numbers = suite_tasks(config.suite), config.task_numbers()
        self._tasks = [suite[number] for number in numbers]
        self.tasks = len(self._tasks)
        self.instruction = self._tasks[0].instruction
        self._worlds: dict[int, _World] = {}  # in order of use, the latest last
        self._world: _World | None = None

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        if not 0 <= task < self.tasks:
            raise UnknownTaskError(f"task {task} of {self.tasks}: allowed are 0 to {self.tasks - 1}")
        world = self._worlds.pop(task, None)
        if world is None:
            while len(self._worlds) >= self.config.keep:
                self._worlds.pop(next(iter(self._worlds))).close()
            world = _World(self._tasks[task], self.config, self.assets)
        self._worlds[task] = self._world = world
        self.instruction = self._tasks[task].instruction
        if self.config.fresh_states and not training:
            world.begin_fresh(seed)
        else:
            states = self.config.states(training)
            world.begin(states[seed % len(states)])

    @property
    def world(self) -> _World:
        if self._world is None:
            raise ConfigError("reset() must come before anything else")
        return self._world

    def step(self, action: np.ndarray) -> bool:
        return self.world.advance(action)

    def render(self, camera: str, out: np.ndarray) -> None:
        self.world.renderer.render(CAMERAS[camera], out)

    def proprio(self) -> np.ndarray:
        return self.world.proprio()

    def objects(self) -> dict[str, np.ndarray]:
        """Where things are (3,), in metres: the end effector (``eef``) and whatever the task's definition speaks of.

        ``eef_turn`` (3,), radians, is how far the hand is turned from pointing straight down. For scripted experts.
        """
        return self.world.objects()

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()
        self._world = None


class _World(ArmWorld):
    """One LIBERO task."""

    def __init__(self, task: LiberoTask, config: LiberoConfig, assets: Any) -> None:
        _, controller = import_robosuite()
        with quiet():
            problem = import_problems(assets)[_problem_name(task)]
        size = config.image_size
        cameras = tuple(Camera(CAMERAS[name], size, size, Orientation.ROTATE_180) for name in config.cameras)
        with numpy_seed(FIXTURE_SEED), quiet():
            env = problem(
                str(task.bddl),
                robots=["Panda"],
                controller_configs=controller,
                initialization_noise=None,
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                control_freq=CONTROL_HZ,
                horizon=2**31,
                ignore_done=True,
                hard_reset=True,
            )
        with numpy_seed(FIXTURE_SEED):
            env.reset()  # places the furniture as a fresh environment of the published evaluation does
        env.hard_reset = False
        super().__init__(env, cameras, effects=config.effects, samples=config.samples, split_step=config.split_step)
        self._states = initial_states(task)
        if len(self._states) < config.num_trials_per_task:
            raise ConfigError(
                f"env.num_trials_per_task={config.num_trials_per_task}: {task.name} has {len(self._states)} initial "
                "states"
            )
        self._wait = config.num_steps_wait
        self._furniture = self.model.body_pos.copy(), self.model.body_quat.copy()
        self._named = _places(env)

    def begin(self, state: int) -> None:
        """Initial state number ``state``, settled."""
        super().reset(FIXTURE_SEED)
        self.model.body_pos[:], self.model.body_quat[:] = self._furniture
        self.env.sim.set_state_from_flattened(self._states[state])
        self.env.sim.forward()
        self._settle()

    def begin_fresh(self, seed: int) -> None:
        """What LIBERO's placement sampler draws from ``seed``, furniture too, settled."""
        super().reset(seed)
        self._settle()

    def _settle(self) -> None:
        self.env._post_process()
        for _ in range(self._wait):
            self.advance(NO_MOTION)

    def advance(self, action: np.ndarray) -> bool:
        self.step(action)
        self.env._post_process()  # what a state changes in the picture: a burning stove
        return bool(self.env._check_success())

    def objects(self) -> dict[str, np.ndarray]:
        data, site = self.data, self.robot.eef_site_id
        found = {name: getattr(data, kind)[number].copy() for name, (kind, number) in self._named.items()}
        turn = np.empty(4)
        self._mj.mju_mat2Quat(turn, (data.xmat[self._hand].reshape(3, 3) @ DOWN).ravel())
        return found | {"eef": data.site_xpos[site].copy(), "eef_turn": axis_angle(np.roll(turn, -1))}


def _places(env: Any) -> dict[str, tuple[str, int]]:
    """Where MuJoCo keeps the positions of the objects, fixtures and regions that a task's definition speaks of."""
    names = {*env.obj_of_interest, *(name for state in env.parsed_problem["goal_state"] for name in state[1:])}
    model = env.sim.model
    bodies: dict[str, tuple[str, int]] = {
        name: ("xpos", number) for name, number in env.obj_body_id.items() if name in names
    }
    return bodies | {name: ("site_xpos", model.site_name2id(name)) for name in env.object_sites_dict if name in names}


def _problem_name(task: LiberoTask) -> str:
    """The environment class that the task's definition names."""
    import libero.libero.envs.bddl_utils as bddl

    name: str = bddl.get_problem_info(str(task.bddl))["problem_name"]
    return name
