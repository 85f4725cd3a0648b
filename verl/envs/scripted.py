"""Scripted experts with privileged state: demonstrations for the policy, successes and failures for the critic.

An expert is a list of way points (:mod:`verl.envs.waypoints`) worked off by a proportional controller. The lists are
in ``scripted_robosuite`` and ``scripted_libero``. Each kind of episode bends the list:

    success            reach, close, lift (Stack, Place: carry, lower, open); goes on for some steps afterwards; Place:
                       anywhere on the mat
    failure            one of: closes beside the cube and stays, pushes it, hovers, rises without closing
    near_miss          lifts too little; closes beside the cube, over it or for a moment, and rises as if it held it;
                       puts it down, drops it or stops to push it beside the mat. By any amount, and to the last step
    drop               lifts, then opens
    idle, random       (almost) no motion; a smooth random walk
    noisy              the successful list under large action noise; succeeds or not
    expert_then_random the successful list, left at a random moment
    varied             the successful list by an expert of a drawn competence: it aims beside by up to some 15 mm, under
                       action noise of 0.02 to 0.5; mostly succeeds
    sloppy             Lift: closes 0.5 to 4 cm over the cube's centre; over about 2 cm the fingers slip off
    mixed              the successful list by two sorts of people. Two in three, or up to four in five, make their
                       task's mistake: close too high (Lift, LiftRed), let go at once (LiftGreen) or before the tower
                       or the mat (Stack, Place), open it before the cubes meet or the cube is on the mat (Push, Slide);
                       LIBERO's are in ``scripted_libero``. Action noise of 0.02, and see
                       :meth:`ScriptedExpert.disturbed`
    otherwise          the same, but seven in ten make another mistake: they let go at once (Lift), lift the other cube
                       (LiftRed, LiftGreen), or lift the arm again without having pushed (Push, Slide)
    empty              the same, but half of them rise from the cube without closing (Lift, LiftRed, LiftGreen)

Everything is drawn from the seed given; the simulator's success is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from verl.envs import scripted_robosuite
from verl.envs.waypoints import EXACT, OPEN, Objects, Script
from verl.errors import ConfigError, UnknownTaskError

KINDS = (
    "success",
    "failure",
    "near_miss",
    "drop",
    "idle",
    "noisy",
    "random",
    "expert_then_random",
    "sloppy",
    "varied",
    "mixed",
    "otherwise",
    "empty",
)
SLOPPY_NOISE = 0.02
DISTURBANCE = (0.05, 0.35)  # range of the standard deviation of what a mixed demonstration's moves are disturbed by
LASTING = 0.6  # of it that is still there a step later
MOST_ASIDE_M = 0.008  # standard deviation of the aim of the least competent of the varied
MOST_NOISE = 0.5
_WITH_AN_END = ("success", "drop", "sloppy", "varied", *EXACT)
METRES_PER_ACTION = 0.05  # OSC_POSE: an action of 1 moves the controller's goal by this much
RADIANS_PER_ACTION = 0.5  # ... and turns it by this much
TURN = "eef_turn"  # of the objects the one that is no position
TRACKING = 1.6  # gain on the position error; the controller covers about a third of its goal's lead in a step


class ScriptedExpert:
    """Acts in one episode. ``act`` returns None when the script has ended.

    Args:
        task: name of a task in ``scripts``.
        kind: one of :data:`KINDS`.
        seed: of everything random about the script.
        max_steps: the episode's length at most.
        scripts: by the tasks' names; None for robosuite's.
    """

    def __init__(
        self, task: str, kind: str, seed: int, max_steps: int = 64, scripts: Mapping[str, Script] | None = None
    ) -> None:
        scripts = scripted_robosuite.SCRIPTS if scripts is None else scripts
        if kind not in KINDS:
            raise ConfigError(f"kind {kind!r} is unknown; allowed are {', '.join(KINDS)}")
        if task not in scripts:
            raise UnknownTaskError(f"no script for task {task!r}; allowed are {', '.join(scripts)}")
        self.rng = np.random.default_rng((seed, KINDS.index(kind), len(task)))
        self.kind, self.max_steps = kind, max_steps
        self.step = self._since = self._index = 0
        self._gain = float(self.rng.uniform(0.8, 1.25)) * TRACKING
        self._noise = {"noisy": self.rng.uniform(0.35, 0.8), "idle": 0.02}.get(kind, self.rng.uniform(0.02, 0.12))
        if kind in ("sloppy", *EXACT):  # they differ in one thing: noise is what a policy gradient drowns in
            self._gain, self._noise = TRACKING, SLOPPY_NOISE
        self._off, self._moving = np.zeros(3), False
        self._disturbance = float(self.rng.uniform(*DISTURBANCE)) if kind in EXACT else 0.0
        self._aside = np.zeros(3)
        if kind == "varied":
            incompetence = self.rng.uniform()
            self._noise = 0.02 + incompetence * (MOST_NOISE - 0.02)
            self._aside = self.rng.normal(0.0, incompetence * MOST_ASIDE_M, 3)
        self._script = scripts[task](kind, self.rng) if kind not in ("idle", "random") else []
        leaves = int(self.rng.integers(8, 40)) if kind == "expert_then_random" else max_steps
        self._leaves = 0 if kind == "random" else leaves
        self._length = max_steps if kind in _WITH_AN_END else int(self.rng.integers(min(40, max_steps), max_steps + 1))
        self._walk = np.zeros(7)
        self._start: dict[str, np.ndarray] = {}
        self._here = np.zeros(3)

    def act(self, objects: Objects) -> np.ndarray | None:
        """(7,) float32 action in [-1, 1] for the state ``objects``, None at the end.

        Args:
            objects: positions in metres, see ``RobosuiteEnv.objects``. With ``eef_turn`` (radians) among them the hand
                is kept upright: noise would add up in a long episode.
        """
        if self.step == 0:
            self._start = {f"start:{name}": position.copy() for name, position in objects.items()}
            self._here = objects["eef"].copy()
        if self.step >= self._length or self._ended():
            return None
        action = np.zeros(7)
        action[6] = OPEN
        if self.step >= self._leaves:
            action = self._random_walk()
        elif self._script:
            action = self._follow(objects)
        noise = self.rng.normal(0.0, self._noise, 7) * np.array([1, 1, 1, 0.3, 0.3, 0.3, 0])
        self.step += 1
        clipped: np.ndarray = np.clip(action + noise, -1.0, 1.0).astype(np.float32)
        return clipped

    def disturbed(self, action: np.ndarray) -> np.ndarray:
        """(7,) float32: what is to be done for an ``action`` that :meth:`act` returned. The moves to a place, of a
        mixed demonstration or an otherwise mistaken one, are disturbed, and the file has the action without that (DART,
        Laskey et al. 2017, arXiv:1703.09327): corrections are shown, the disturbance is not imitated. It must be as
        large as the learner's own errors, or it learns that a hand which is near is nearly there. All other kinds do
        the action."""
        if self.kind not in EXACT:
            return action
        fresh = np.sqrt(1 - LASTING**2) * self.rng.normal(0.0, self._disturbance, 3)
        self._off = LASTING * self._off + fresh if self._moving else np.zeros(3)
        done = action.copy()
        done[:3] = np.clip(action[:3] + self._off, -1.0, 1.0)
        return done

    def _ended(self) -> bool:
        """These end with their script; the others run to their drawn length."""
        return self.kind in _WITH_AN_END and self._index >= len(self._script)

    def _follow(self, objects: Objects) -> np.ndarray:
        waypoint = self._script[min(self._index, len(self._script) - 1)]
        anchors = {**objects, **self._start, "here": self._here}
        place = anchors[waypoint.anchor] if isinstance(waypoint.anchor, str) else waypoint.anchor(anchors)
        error = place + np.array(waypoint.offset) - objects["eef"]
        if waypoint.anchor != "here":
            error = error + self._aside
        self._since, self._moving = self._since + 1, waypoint.anchor != "here" and not waypoint.steady
        near = waypoint.tolerance is not None and float(np.linalg.norm(error)) < waypoint.tolerance
        if near or self._since >= waypoint.steps:
            self._index, self._since, self._here = self._index + 1, 0, objects["eef"].copy()
        action = np.zeros(7)
        action[:3] = self._gain * error / METRES_PER_ACTION
        if TURN in objects:
            action[3:6] = (np.array([0.0, 0.0, waypoint.turn]) - objects[TURN]) / RADIANS_PER_ACTION
        action[6] = waypoint.gripper
        return np.clip(action, -1.0, 1.0)

    def _random_walk(self) -> np.ndarray:
        """Smooth: an autoregressive walk, the gripper switched now and then."""
        gripper = self._walk[6] or OPEN
        self._walk = 0.8 * self._walk + self.rng.normal(0.0, 0.45, 7) * np.array([1, 1, 1, 0.3, 0.3, 0.3, 0])
        self._walk[6] = -gripper if self.rng.random() < 0.06 else gripper
        return self._walk.copy()
