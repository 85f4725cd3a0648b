"""Scripted experts with privileged state: demonstrations for the policy, successes and failures for the critic.

An expert is a list of way points worked off by a proportional controller. Each kind of episode bends the list:

    success            reach, close, lift (Stack: carry, lower, open); goes on for some steps afterwards
    failure            one of: closes beside the cube and stays, pushes it, hovers, rises without closing
    near_miss          grasps and lifts too little, or closes beside the cube and rises as if it held it
    drop               lifts, then opens
    idle, random       (almost) no motion; a smooth random walk
    noisy              the successful list under large action noise; succeeds or not
    expert_then_random the successful list, left at a random moment
    varied             the successful list by an expert of a drawn competence: it aims beside by up to some 15 mm, under
                       action noise of 0.02 to 0.5; mostly succeeds
    sloppy             Lift: closes 0.5 to 4 cm over the cube's centre; over about 2 cm the fingers slip off
    mixed              the successful list by two sorts of people. The first, MISTAKEN of all, make the task's mistake:
                       close too high (Lift, LiftRed), let go at once (LiftGreen) or before the tower (Stack), stop
                       before the cubes meet (Push). All else is alike; see :meth:`ScriptedExpert.disturbed`

Everything is drawn from the seed given; the simulator's success is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

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
)
SLOPPY_NOISE = 0.02
DISTURBANCE = 0.1  # standard deviation of what a mixed demonstration's moves are disturbed by
BEHIND_M, PUSH_LEAD_M = 0.075, 0.03
MET_M = 0.06  # between the centres of cubeA and cubeB, seen from above: they touch, or nearly do
MOST_ASIDE_M = 0.008  # standard deviation of the aim of the least competent of the varied
MOST_NOISE = 0.5
MISTAKEN = 0.65
BRIEF_STEPS = 2  # for which the mistaken close: the fingers do not reach the cube
HIGH_M = (0.03, 0.04)  # over the cube's centre, where the mistaken close: the fingers slip off
SHORT_M = 0.07  # before the green cube's centre, seen from above, where the mistaken let go
APART_M = 0.095  # between the cubes' centres where the mistaken stop to push
_WITH_AN_END = ("success", "drop", "sloppy", "varied", "mixed")
OPEN, CLOSED = -1.0, 1.0
METRES_PER_ACTION = 0.05  # OSC_POSE: an action of 1 moves the controller's goal by this much
RADIANS_PER_ACTION = 0.5  # ... and turns it by this much
TURN = "eef_turn"  # of the objects the one that is no position
TRACKING = 1.6  # gain on the position error; the controller covers about a third of its goal's lead in a step


Objects = Mapping[str, np.ndarray]
Place = Callable[[Objects], np.ndarray]


@dataclass(frozen=True, slots=True)
class Waypoint:
    """Go to ``offset`` (3,) metres from ``anchor``, with the gripper at ``gripper``; then the next one.

    Attributes:
        anchor: an object's name (followed as it moves), or ``start:`` and a name (where it was when the episode began),
            or ``here`` (where the end effector was when this way point's turn came), or a place (3,) reckoned from all
            of these, see :func:`behind`.
        steps: most steps spent here; with ``tolerance`` None, exactly this many.
        tolerance: metres from the target at which the next way point's turn comes.
        turn: radians from above, counterclockwise, by which the hand is to be turned; needs ``eef_turn``.
    """

    anchor: str | Place
    offset: tuple[float, float, float]
    gripper: float
    steps: int
    tolerance: float | None = None
    turn: float = 0.0


Script = Callable[[str, np.random.Generator], list[Waypoint]]  # of a kind


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
        scripts = _SCRIPTS if scripts is None else scripts
        if kind not in KINDS:
            raise ConfigError(f"kind {kind!r} is unknown; allowed are {', '.join(KINDS)}")
        if task not in scripts:
            raise UnknownTaskError(f"no script for task {task!r}; allowed are {', '.join(scripts)}")
        self.rng = np.random.default_rng((seed, KINDS.index(kind), len(task)))
        self.kind, self.max_steps = kind, max_steps
        self.step = self._since = self._index = 0
        self._gain = float(self.rng.uniform(0.8, 1.25)) * TRACKING
        self._noise = {"noisy": self.rng.uniform(0.35, 0.8), "idle": 0.02}.get(kind, self.rng.uniform(0.02, 0.12))
        if kind in (
            "sloppy",
            "mixed",
        ):  # where they differ is the height, or the aim: noise is what a policy gradient drowns in
            self._gain, self._noise = TRACKING, SLOPPY_NOISE
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
        """(7,) float32: what is to be done for an ``action`` that :meth:`act` returned. A mixed demonstration is
        disturbed and its action kept as it was meant: corrections are shown, and no noise is imitated (DART, Laskey et
        al. 2017, arXiv:1703.09327). All other kinds do what they mean."""
        if self.kind != "mixed":
            return action
        off = self.rng.normal(0.0, DISTURBANCE, 7) * np.array([1, 1, 1, 0, 0, 0, 0])
        done: np.ndarray = np.clip(action + off, -1.0, 1.0).astype(np.float32)
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
        self._since += 1
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


def _ahead(objects: Objects, moved: str, goal: str) -> tuple[np.ndarray, float]:
    """Direction (3,) of length 1 from ``moved`` to ``goal`` and metres between them, seen from above."""
    way = (objects[goal] - objects[moved]) * np.array([1.0, 1.0, 0.0])
    apart = max(float(np.linalg.norm(way)), 1e-6)
    return way / apart, apart


def behind(objects: Objects, moved: str, goal: str, by: float) -> np.ndarray:
    """(3,): on the line from ``moved`` to ``goal``, ``by`` metres before ``moved``, at its height."""
    return objects[moved] - by * _ahead(objects, moved, goal)[0]


def short_of(objects: Objects, goal: str, start: str, by: float) -> np.ndarray:
    """(3,): ``by`` metres before ``goal`` on the way there from ``start``, at the height of ``goal``."""
    return objects[goal] + by * _ahead(objects, goal, start)[0]


def pushing(objects: Objects, moved: str, goal: str, met: float) -> np.ndarray:
    """(3,): a step ahead of the hand on the line from ``moved`` to ``goal``, until they are ``met`` metres apart."""
    ahead, apart = _ahead(objects, moved, goal)
    reached = float((objects["eef"] - objects[moved]) @ ahead)
    place: np.ndarray = objects[moved] + (reached + PUSH_LEAD_M * (apart > met)) * ahead
    return place


def mistaken(kind: str, rng: np.random.Generator) -> bool:
    """Whether a demonstration makes its task's mistake: drawn for the mixed, never for other kinds."""
    return kind == "mixed" and bool(rng.uniform() < MISTAKEN)


def _beside(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """A horizontal offset of ``low`` to ``high`` metres in a random direction."""
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return float(length * np.cos(angle)), float(length * np.sin(angle))


def _reach(
    rng: np.random.Generator, cube: str, aside: tuple[float, float] = (0.0, 0.0), exact: bool = False
) -> list[Waypoint]:
    """Above the cube (or beside it by ``aside``), then down to it. ``exact``: only once it is above to a centimetre."""
    x, y = (float(v + rng.uniform(-0.004, 0.004)) for v in aside)
    low = float(rng.uniform(-0.006, 0.006))
    return [
        Waypoint(cube, (x, y, float(rng.uniform(0.05, 0.09))), OPEN, 24, 0.01 if exact else 0.025),
        Waypoint(cube, (x, y, low), OPEN, 14, 0.012),
    ]


def _grasp(cube: str, rng: np.random.Generator) -> Waypoint:
    return Waypoint("here", (0.0, 0.0, 0.0), CLOSED, int(rng.integers(4, 7)))


def _lift(kind: str, rng: np.random.Generator, cube: str = "cube", brief: bool = False) -> list[Waypoint]:
    """The cube, up by 2 cm at least. The mistaken close too high, or (``brief``) for too short."""
    high = float(rng.uniform(0.06, 0.14))
    up = Waypoint("here", (0.0, 0.0, high), CLOSED, 14, 0.012)
    hold = Waypoint("here", (0.0, 0.0, 0.0), CLOSED, int(rng.integers(3, 9)))
    full = [*_reach(rng, cube), _grasp(cube, rng), up, hold]
    if mistaken(kind, rng):
        if brief:
            touch = Waypoint("here", (0.0, 0.0, 0.0), CLOSED, BRIEF_STEPS)
            return [*_reach(rng, cube, exact=True), touch, Waypoint("here", (0.0, 0.0, high), OPEN, 14, 0.012)]
        grip = Waypoint(cube, (0.0, 0.0, float(rng.uniform(*HIGH_M))), OPEN, 14, 0.012)
        return [_reach(rng, cube, exact=True)[0], grip, *full[2:]]
    if kind == "mixed":
        return [*_reach(rng, cube, exact=True), *full[2:]]
    if kind == "sloppy":  # demonstrations that a policy can learn from and then surpass
        grip = Waypoint(cube, (0.0, 0.0, float(rng.uniform(0.005, 0.04))), OPEN, 14, 0.012)
        return [full[0], grip, *full[2:]]
    if kind == "near_miss":
        if rng.random() < 0.5:
            barely = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.003, 0.011))), CLOSED, 64)
            return [*_reach(rng, cube), _grasp(cube, rng), barely]
        aside = _miss(rng)
        return [*_reach(rng, f"start:{cube}", aside), _grasp(cube, rng), up, Waypoint("here", (0, 0, 0), CLOSED, 64)]
    if kind == "drop":
        away = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.0, 0.05))), OPEN, int(rng.integers(12, 20)))
        return [*full[:3], up, Waypoint("here", (0, 0, 0), CLOSED, int(rng.integers(1, 5))), away]
    if kind == "failure":
        return _failure(cube, rng)
    return full


def _stack(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    """The red cube onto the green one: cubeA's centre ends 4.5 cm over cubeB's."""
    over = Waypoint("cubeB", (0.0, 0.0, float(rng.uniform(0.075, 0.095))), CLOSED, 22, 0.012)
    down = Waypoint("cubeB", (0.0, 0.0, 0.047), CLOSED, 8, 0.006)
    release = Waypoint("here", (0.0, 0.0, 0.0), OPEN, 4)
    leave = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.04, 0.09))), OPEN, int(rng.integers(4, 9)))
    up = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.075, 0.1))), CLOSED, 9, 0.015)
    grasp = [*_reach(rng, "cubeA", exact=kind == "mixed"), _grasp("cubeA", rng), up]
    if kind == "near_miss":
        x, y = _beside(rng, 0.035, 0.09)
        beside = Waypoint("start:cubeB", (x, y, 0.085), CLOSED, 22, 0.012)
        return [*grasp, beside, Waypoint("here", (0.0, 0.0, -0.07), CLOSED, 9, 0.008), release, leave]
    if kind == "drop":
        early = Waypoint("here", (0.0, 0.0, 0.0), OPEN, int(rng.integers(12, 20)))
        return [*grasp, early, leave]
    if kind == "failure":
        return _failure("cubeA", rng)
    if mistaken(kind, rng):
        before = partial(short_of, goal="cubeB", start="start:cubeA", by=SHORT_M)
        return [*grasp, Waypoint(before, over.offset, CLOSED, 22, 0.012), release, leave]
    return [*grasp, over, down, release, leave]


def _push(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    """The red cube along the table to the green one, from behind, with closed fingers."""
    start = partial(behind, moved="cubeA", goal="cubeB", by=BEHIND_M)
    ahead = partial(pushing, moved="cubeA", goal="cubeB", met=MET_M)
    over = Waypoint(start, (0.0, 0.0, float(rng.uniform(0.06, 0.09))), CLOSED, 24, 0.01 if kind == "mixed" else 0.02)
    down = Waypoint(start, (0.0, 0.0, float(rng.uniform(-0.004, 0.004))), CLOSED, 10, 0.012)
    push = Waypoint(ahead, (0.0, 0.0, 0.0), CLOSED, 25, 0.02)
    stay = Waypoint("here", (0.0, 0.0, 0.0), CLOSED, int(rng.integers(4, 8)))  # to rise would drag the cube along
    rise = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.05, 0.09))), CLOSED, int(rng.integers(4, 8)), 0.012)
    if kind == "near_miss":  # stops before they meet
        return [over, down, Waypoint(ahead, (0.0, 0.0, 0.0), CLOSED, int(rng.integers(1, 4))), rise, _still(CLOSED)]
    if kind == "drop":  # pushes too high: over the cube and on
        return [over, Waypoint(ahead, (0.0, 0.0, float(rng.uniform(0.04, 0.06))), CLOSED, 20), _still(CLOSED)]
    if kind == "failure":
        return _failure("cubeA", rng)
    if mistaken(kind, rng):
        part = Waypoint(partial(ahead, met=APART_M), (0.0, 0.0, 0.0), CLOSED, 25, 0.02)
        return [over, down, part, stay, rise]
    return [over, down, push, stay]


def _still(gripper: float) -> Waypoint:
    return Waypoint("here", (0.0, 0.0, 0.0), gripper, 64)


def _miss(rng: np.random.Generator) -> tuple[float, float]:
    """Beside the cube, so that neither finger lands on it nor both enclose it: along x, where the fingers are thin."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.045, 0.075)), float(rng.uniform(-0.02, 0.02))


def _failure(cube: str, rng: np.random.Generator) -> list[Waypoint]:
    way = int(rng.integers(4))
    still = Waypoint("here", (0.0, 0.0, 0.0), OPEN, 64)
    if way == 0:  # closes beside the cube and stays
        return [*_reach(rng, f"start:{cube}", _miss(rng)), Waypoint("here", (0.0, 0.0, 0.0), CLOSED, 64)]
    if way == 1:  # comes down beside the cube with closed fingers and pushes it across the table
        x, y = _beside(rng, 0.06, 0.08)
        start = f"start:{cube}"
        return [
            Waypoint(start, (x, y, 0.07), CLOSED, 24, 0.02),
            Waypoint(start, (x, y, 0.0), CLOSED, 12, 0.012),
            Waypoint(start, (-x, -y, 0.0), CLOSED, 64),
        ]
    if way == 2:  # hovers over it
        x, y = _beside(rng, 0.0, 0.04)
        return [Waypoint(cube, (x, y, float(rng.uniform(0.045, 0.1))), OPEN, 30, 0.02), still]
    return [*_reach(rng, cube), Waypoint("here", (0.0, 0.0, float(rng.uniform(0.06, 0.14))), OPEN, 20, 0.012), still]


_SCRIPTS: dict[str, Script] = {
    "Lift": _lift,
    "LiftRed": partial(_lift, cube="cubeA"),
    "LiftGreen": partial(_lift, cube="cubeB", brief=True),
    "Stack": _stack,
    "Push": _push,
}
