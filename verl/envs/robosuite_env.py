"""robosuite's own tasks behind :class:`verl.envs.base.Environment`: the default, since it needs no download."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from shm_bridge import Orientation
from verl.config_tree import in_range
from verl.envs.arm_world import CONTROL_HZ, ArmWorld, numpy_seed
from verl.envs.base import LARGEST, MOST_SAMPLES, SMALLEST, Camera
from verl.envs.robosuite_import import import_robosuite
from verl.envs.robosuite_mat import LIFT_WITH_MAT, MAT, add_scene, lies_on, mat_place, near_part
from verl.errors import ConfigError, UnknownTaskError


@dataclass(frozen=True, slots=True)
class RobosuiteTask:
    """A task in one of robosuite's scenes.

    Attributes:
        name: what ``env.tasks`` calls it.
        instruction: what the policy and the critic are told.
        objects: bodies that a scripted expert needs to see.
        scene: robosuite's class.
        lifted: the task is done when this object is 2 cm over the table; None: robosuite's own success.
        pushed: the task is done when the first of these lies on the table beside the second; None: not asked for.
        brought: the task is done when this object lies on the mat; None: not asked for.
        ahead: the mat lies straight before the object, away from the robot, instead of anywhere.
    """

    name: str
    instruction: str
    objects: tuple[str, ...]
    scene: str
    lifted: str | None = None
    pushed: tuple[str, str] | None = None
    brought: str | None = None
    ahead: bool = False


TASKS = {
    task.name: task
    for task in (
        RobosuiteTask("Lift", "lift the red cube", ("cube",), "Lift"),
        RobosuiteTask("Stack", "stack the red cube on the green cube", ("cubeA", "cubeB"), "Stack"),
        # One scene, two instructions: only the words say which cube.
        RobosuiteTask("LiftRed", "lift the red cube", ("cubeA", "cubeB"), "Stack", lifted="cubeA"),
        RobosuiteTask("LiftGreen", "lift the green cube", ("cubeA", "cubeB"), "Stack", lifted="cubeB"),
        RobosuiteTask(
            "Push", "push the red cube to the green cube", ("cubeA", "cubeB"), "Stack", pushed=("cubeA", "cubeB")
        ),
        RobosuiteTask("Place", "put the red cube on the blue mat", ("cube", MAT), LIFT_WITH_MAT, brought="cube"),
        RobosuiteTask(
            "Slide", "push the red cube onto the blue mat", ("cube", MAT), LIFT_WITH_MAT, brought="cube", ahead=True
        ),
    )
}
# of robosuite's arenas, and of the arm
CAMERAS = ("agentview", "frontview", "birdview", "sideview", "robot0_robotview", "robot0_eye_in_hand")
LIFTED_M = 0.02  # between the table and the object's lower side, as robosuite's Lift has it
# Between the centres of cubes of 4 and 5 cm that touch, seen from above: 4.5 cm face to face; 6.4 cm edge to edge, the
# least at a reset.
BESIDE_M = 0.063
ON_TABLE_M = 0.01  # an object whose lower side is higher is held, or lies on something
MOST_ZOOM = 4.0
FARTHEST_M = 0.15  # on the table and within the arm's reach


@dataclass(frozen=True, slots=True)
class RobosuiteConfig:
    """Keys of ``env`` for ``env.name=robosuite``.

    Attributes:
        task_steps: longest episode of each task, where it is not ``max_steps``.
        cube_within: metres; cubes are placed in a square of +- so much about the table's middle; None: robosuite's own
            0.03 in Lift, 0.08 with two cubes.
        zoom: how much larger the first camera shows the middle of its picture than robosuite does; at 2 agentview still
            shows all of a square of 10 cm.
        success_steps: a task is done when it has been for so many steps in a row; more than one, and a cube that goes
            up for a moment is not lifted.
    """

    tasks: tuple[str, ...] = ("Lift",)
    max_steps: int = 64
    cameras: tuple[str, ...] = ("agentview",)
    image_size: int = 112
    effects: bool = False
    samples: int = 0
    task_steps: tuple[int, ...] = ()
    cube_within: float | None = None
    zoom: float = 1.0
    success_steps: int = 1

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("env.tasks=[]: at least one task is needed")
        for name in self.tasks:
            if name not in TASKS:
                raise UnknownTaskError(f"env.tasks: unknown task {name!r}; allowed are {', '.join(TASKS)}")
        in_range("env.max_steps", self.max_steps, 1, 10_000)
        if not self.cameras:
            raise ConfigError("env.cameras=[]: at least one camera is needed")
        for name in self.cameras:
            if name not in CAMERAS:
                raise ConfigError(f"env.cameras: unknown camera {name!r}; allowed are {', '.join(CAMERAS)}")
        in_range("env.image_size", self.image_size, SMALLEST, LARGEST)
        in_range("env.samples", self.samples, 0, MOST_SAMPLES)
        in_range("env.zoom", self.zoom, 1.0, MOST_ZOOM)
        in_range("env.success_steps", self.success_steps, 1, self.max_steps)
        in_range("env.cube_within", self.cube_within, 0.0, FARTHEST_M)
        if len(self.task_steps) not in (0, len(self.tasks)):
            raise ConfigError(f"env.task_steps={list(self.task_steps)}: allowed are none, or one for each of env.tasks")
        for steps in self.task_steps:
            in_range("env.task_steps", steps, 1, self.max_steps)

    def camera_specs(self) -> tuple[Camera, ...]:
        size = self.image_size
        return tuple(Camera(name, size, size, Orientation.FLIP_ROWS) for name in self.cameras)

    def step_limit(self) -> int:
        return self.max_steps

    def steps_of(self, task: int) -> int:
        """The longest episode of a task, by its number."""
        return self.task_steps[task] if self.task_steps else self.max_steps


class RobosuiteEnv:
    """See :class:`verl.envs.base.Environment`. Simulators are built at a task's first reset and then kept.

    Before the first reset ``max_steps`` is the longest of all tasks, then that of the task.
    """

    action_dim = 7

    def __init__(self, config: RobosuiteConfig) -> None:
        self.config = config
        self.cameras = config.camera_specs()
        self.max_steps = config.max_steps
        self.tasks = len(config.tasks)
        self.instruction = TASKS[config.tasks[0]].instruction
        self._worlds: dict[str, _World] = {}
        self._world: _World | None = None
        self._lasted = 0

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        """Each seed is a state of its own: the seeds are apart already, so ``training`` changes nothing."""
        if not 0 <= task < self.tasks:
            raise UnknownTaskError(f"task {task} of {self.tasks}: allowed are 0 to {self.tasks - 1}")
        name = self.config.tasks[task]
        self.max_steps = self.config.steps_of(task)
        if name not in self._worlds:
            self._worlds[name] = _World(TASKS[name], self.config, self.cameras)
        self._world = self._worlds[name]
        self.instruction = TASKS[name].instruction
        self._world.reset(seed)
        self._lasted = 0

    @property
    def world(self) -> _World:
        if self._world is None:
            raise ConfigError("reset() must come before anything else")
        return self._world

    def step(self, action: np.ndarray) -> bool:
        self.world.step(action)
        self._lasted = self._lasted + 1 if self.world.success() else 0
        return self._lasted >= self.config.success_steps

    def render(self, camera: str, out: np.ndarray) -> None:
        self.world.renderer.render(camera, out)

    def proprio(self) -> np.ndarray:
        return self.world.proprio()

    def objects(self) -> dict[str, np.ndarray]:
        """Positions (3,) in metres of the end effector (``eef``) and of the task's objects. For scripted experts."""
        return self.world.objects()

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()
        self._world = None


class _World(ArmWorld):
    """One robosuite task."""

    def __init__(self, task: RobosuiteTask, config: RobosuiteConfig, cameras: tuple[Camera, ...]) -> None:
        robosuite, controller = import_robosuite()
        add_scene()
        with numpy_seed(zlib.crc32(task.name.encode())):  # sizes of objects are drawn when a model is built
            env = robosuite.make(
                task.scene,
                robots="Panda",
                controller_configs=controller,
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                use_object_obs=False,
                control_freq=CONTROL_HZ,
                horizon=2**31,
                ignore_done=True,
                hard_reset=False,
            )
        super().__init__(env, cameras, effects=config.effects, samples=config.samples, split_step=True)
        if config.zoom != 1.0:
            fovy, camera = self.model.cam_fovy, self.model.camera(cameras[0].name).id
            fovy[camera] = np.degrees(2 * np.arctan(np.tan(np.radians(fovy[camera]) / 2) / config.zoom))
        if config.cube_within is not None:
            sampler = env.placement_initializer
            sampler.x_range = sampler.y_range = [-config.cube_within, config.cube_within]
        if task.ahead:
            env.placement_initializer.x_range = near_part(env.placement_initializer.x_range)
        self._lifted, self._pushed, self._brought, self._ahead = task.lifted, task.pushed, task.brought, task.ahead
        self._bodies = {name: env.sim.model.body_name2id(f"{name}_main") for name in task.objects}

    def reset(self, seed: int) -> None:
        super().reset(seed)
        if self._brought is not None:
            within = self.env.placement_initializer.y_range[1]
            cube, mat = self._bodies[self._brought], self._bodies[MAT]
            at = mat_place(seed, self.data.xpos[cube][:2], within, self._ahead)
            self.model.body_pos[mat][:2] = at
            self._mj.mj_forward(self.model, self.data)

    def success(self) -> bool:
        if self._brought is not None:
            cube, mat = (self.data.xpos[self._bodies[name]] for name in (self._brought, MAT))
            return lies_on(cube, mat) and self._height(self._brought) < ON_TABLE_M
        if self._pushed is not None:
            moved, goal = self._pushed
            apart = self.data.xpos[self._bodies[moved]] - self.data.xpos[self._bodies[goal]]
            beside = bool(np.hypot(apart[0], apart[1]) < BESIDE_M)
            return beside and self._height(moved) < ON_TABLE_M and self._height(goal) < ON_TABLE_M
        if self._lifted is not None:
            return self._height(self._lifted) > LIFTED_M
        return bool(self.env._check_success())

    def _height(self, name: str) -> float:
        """Metres from the table to the lower side of a cube that lies flat."""
        half_height, table = float(getattr(self.env, name).size[2]), float(self.env.table_offset[2])
        return float(self.data.xpos[self._bodies[name]][2]) - (table + half_height)

    def objects(self) -> dict[str, np.ndarray]:
        found = {name: self.data.xpos[body].copy() for name, body in self._bodies.items()}
        found["eef"] = self.data.site_xpos[self.robot.eef_site_id].copy()
        return found
