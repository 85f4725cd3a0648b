"""Scripts of robosuite's tasks: way points for each kind of episode, see :mod:`verl.envs.scripted`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from verl.envs.waypoints import CLOSED, EXACT, MISTAKEN, OPEN, Script, Waypoint, behind, mistaken, pushing, short_of

BEHIND_M = 0.075  # between the red cube and the hand that is to push it
MET_M = 0.06  # between the centres of cubeA and cubeB, seen from above: they touch, or nearly do
BRIEF_STEPS = 4  # for which the mistaken close, or open, before they go on: a whole chunk of a policy's
HIGH_M = (0.03, 0.04)  # over the cube's centre, where the mistaken close: the fingers slip off
NEARLY_LOW_M = (0.03, 0.06)  # ... where a near miss closes
SHORT_M = 0.07  # before the green cube's centre, seen from above, where the mistaken let go
NEARLY_MET_M = (0.08, 0.11)  # between the cubes' centres where a near miss stops to push
APART_M = 0.095  # between the cubes' centres where the mistaken stop to push
ON_MAT_M = 0.015  # between the centres of a cube and the mat, seen from above: it lies well on it
BEFORE_MAT_M = 0.09  # ... where the mistaken let go, or stop to push: 4 cm and more from where it counts
NEARLY_ON_MAT_M = (0.055, 0.1)  # ... where a near miss puts it down, along one side
DROPPED_M = (0.065, 0.13)  # ... where it lets go on the way
ON_MAT_ANYWHERE_M = 0.03  # ... along each side, where the critic's films put it; 4 cm count
NEARLY_PUSHED_M = (0.065, 0.1)  # ... where it stops to push: the cube slides on a little
MOSTLY = 0.75  # the share of the mistaken in LiftRed, LiftGreen and Place
MOST = 0.8  # ... in Lift and Slide
OTHERWISE = 0.7  # the share of the otherwise mistaken
EMPTY = 0.5  # ... of the empty-handed


def _beside(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """A horizontal offset of ``low`` to ``high`` metres in a random direction."""
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return float(length * np.cos(angle)), float(length * np.sin(angle))


def _reach(
    rng: np.random.Generator, cube: str, aside: tuple[float, float] = (0.0, 0.0), exact: bool = False
) -> list[Waypoint]:
    """Above the cube (or beside it by ``aside``), then down to it. ``exact``: to a centimetre, then to 6 mm; a policy
    aims worse than those it imitates."""
    spread, deep, above, near = (0.001, 0.003, 0.01, 0.006) if exact else (0.004, 0.006, 0.025, 0.012)
    x, y = (float(v + rng.uniform(-spread, spread)) for v in aside)
    low = float(rng.uniform(-deep, deep))
    return [
        Waypoint(cube, (x, y, float(rng.uniform(0.05, 0.09))), OPEN, 24, above),
        Waypoint(cube, (x, y, low), OPEN, 14, near),
    ]


def _grasp(cube: str, rng: np.random.Generator) -> Waypoint:
    return Waypoint("here", (0.0, 0.0, 0.0), CLOSED, int(rng.integers(4, 7)))


def _lift(
    kind: str,
    rng: np.random.Generator,
    cube: str = "cube",
    brief: bool = False,
    share: float = MOST,
    other: str | None = None,
) -> list[Waypoint]:
    """The cube, up by 2 cm at least. The mistaken close too high, or (``brief``) for too short; the otherwise mistaken
    take the ``other`` cube, or where there is none close for too short; the empty-handed never close."""
    if kind == "otherwise" and other is not None and rng.uniform() < OTHERWISE:
        cube = other
    high = float(rng.uniform(0.06, 0.14))
    up = Waypoint("here", (0.0, 0.0, high), CLOSED, 14, 0.012)
    hold = Waypoint("here", (0.0, 0.0, 0.0), CLOSED, int(rng.integers(3, 9)))
    full = [*_reach(rng, cube, exact=kind in EXACT), _grasp(cube, rng), up, hold]
    if kind == "empty" and rng.uniform() < EMPTY:
        return [*full[:2], Waypoint("here", (0.0, 0.0, high), OPEN, 14, 0.012)]
    lets_go = kind == "otherwise" and other is None and rng.uniform() < OTHERWISE
    if lets_go or mistaken(kind, rng, share):
        if brief or lets_go:
            touch, free = (Waypoint("here", (0.0, 0.0, 0.0), gripper, BRIEF_STEPS) for gripper in (CLOSED, OPEN))
            return [*full[:2], touch, free, Waypoint("here", (0.0, 0.0, high), OPEN, 14, 0.012)]
        grip = Waypoint(cube, (0.0, 0.0, float(rng.uniform(*HIGH_M))), OPEN, 14, 0.012)
        return [full[0], grip, *full[2:]]
    if kind == "sloppy":  # demonstrations that a policy can learn from and then surpass
        grip = Waypoint(cube, (0.0, 0.0, float(rng.uniform(0.005, 0.04))), OPEN, 14, 0.012)
        return [full[0], grip, *full[2:]]
    if kind == "near_miss":
        return _nearly_lifted(cube, up, rng)
    if kind == "drop":
        away = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.0, 0.05))), OPEN, int(rng.integers(12, 20)))
        return [*full[:3], up, Waypoint("here", (0, 0, 0), CLOSED, int(rng.integers(1, 5))), away]
    if kind == "failure":
        return _failure(cube, rng)
    return full


def _nearly_lifted(cube: str, up: Waypoint, rng: np.random.Generator) -> list[Waypoint]:
    """Lifts it by too little, or closes beside it, over it or for a moment and rises as if it held it."""
    way = int(rng.integers(4))
    if way == 0:
        barely = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.003, 0.011))), CLOSED, 64)
        return [*_reach(rng, cube), _grasp(cube, rng), barely]
    if way == 1:
        return [*_reach(rng, f"start:{cube}", _miss(rng)), _grasp(cube, rng), up, _still(CLOSED)]
    above, low = _reach(rng, cube)
    if way == 2:
        high = Waypoint(cube, (0.0, 0.0, float(rng.uniform(*NEARLY_LOW_M))), OPEN, 14, 0.012)
        return [above, high, _grasp(cube, rng), up, _still(CLOSED)]
    touch, free = (Waypoint("here", (0.0, 0.0, 0.0), g, int(rng.integers(2, 7))) for g in (CLOSED, OPEN))
    return [above, low, touch, free, replace(up, gripper=OPEN), _still(OPEN)]


def _stack(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    """The red cube onto the green one: cubeA's centre ends 4.5 cm over cubeB's."""
    over = Waypoint("cubeB", (0.0, 0.0, float(rng.uniform(0.075, 0.095))), CLOSED, 22, 0.012)
    down = Waypoint("cubeB", (0.0, 0.0, 0.047), CLOSED, 8, 0.006)
    release = Waypoint("here", (0.0, 0.0, 0.0), OPEN, 4)
    leave = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.04, 0.09))), OPEN, int(rng.integers(4, 9)))
    up = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.075, 0.1))), CLOSED, 9, 0.015)
    grasp = [*_reach(rng, "cubeA", exact=kind in EXACT), _grasp("cubeA", rng), up]
    if kind == "near_miss":
        x, y = _beside(rng, 0.048, 0.09)  # nearer, it would lie on the other
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


def _place(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    """The red cube, carried onto the mat."""
    spread = ON_MAT_ANYWHERE_M if kind == "success" else 0.012  # a policy imitates those that are alike
    x, y = (float(v) for v in rng.uniform(-spread, spread, 2))
    high = float(rng.uniform(0.06, 0.08))
    over, down = Waypoint("mat", (x, y, high), CLOSED, 22, 0.012), Waypoint("mat", (x, y, 0.024), CLOSED, 8, 0.006)
    release = Waypoint("here", (0.0, 0.0, 0.0), OPEN, 4)
    leave = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.04, 0.09))), OPEN, int(rng.integers(4, 9)))
    up = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.05, 0.07))), CLOSED, 9, 0.015)
    grasp = [*_reach(rng, "cube", exact=kind in EXACT), _grasp("cube", rng), up]
    if kind == "near_miss":
        way = rng.random()
        if way < 0.25:  # holds it over the mat and does not let go
            return [*grasp, over, _still(CLOSED)]
        if way < 0.6:
            before = partial(short_of, goal="mat", start="start:cube", by=float(rng.uniform(*DROPPED_M)))
            return [*grasp, Waypoint(before, over.offset, CLOSED, 22, 0.012), release, leave, _still(OPEN)]
        aside = rng.uniform(*NEARLY_ON_MAT_M), rng.uniform(-0.08, 0.08)  # outside in one direction at least
        x, y = (float(v) * float(rng.choice([-1, 1])) for v in rng.permutation(aside))
        beside = Waypoint("start:mat", (x, y, high), CLOSED, 22, 0.012)
        return [*grasp, beside, Waypoint("start:mat", (x, y, 0.024), CLOSED, 8, 0.008), release, leave, _still(OPEN)]
    if kind == "drop":
        return [*grasp, Waypoint("here", (0.0, 0.0, 0.0), OPEN, int(rng.integers(12, 20))), leave]
    if kind == "failure":
        return _failure("cube", rng)
    if mistaken(kind, rng, MOSTLY):
        before = partial(short_of, goal="mat", start="start:cube", by=BEFORE_MAT_M)
        return [*grasp, Waypoint(before, over.offset, CLOSED, 22, 0.012), release, leave]
    return [*grasp, over, down, release, leave]


def _push(
    kind: str,
    rng: np.random.Generator,
    moved: str = "cubeA",
    goal: str = "cubeB",
    met: float = MET_M,
    nearly: tuple[float, float] = NEARLY_MET_M,
    apart: float = APART_M,
    share: float = MISTAKEN,
) -> list[Waypoint]:
    """``moved`` along the table to ``goal``, from behind, with closed fingers, until they are ``met`` metres apart; a
    near miss stops ``nearly`` so far, the mistaken ``apart``, where they open the gripper and lift the arm; the
    otherwise mistaken do that before they push."""
    start = partial(behind, moved=moved, goal=goal, by=BEHIND_M)
    ahead = partial(pushing, moved=moved, goal=goal, met=met)
    over = Waypoint(start, (0.0, 0.0, float(rng.uniform(0.06, 0.09))), CLOSED, 24, 0.01 if kind in EXACT else 0.02)
    down = Waypoint(start, (0.0, 0.0, float(rng.uniform(-0.004, 0.004))), CLOSED, 10, 0.012)
    push = Waypoint(ahead, (0.0, 0.0, 0.0), CLOSED, 25, 0.02)
    stay = Waypoint("here", (0.0, 0.0, 0.0), CLOSED, int(rng.integers(4, 8)))  # to rise would drag the cube along
    rise = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.05, 0.09))), CLOSED, int(rng.integers(4, 8)), 0.012)
    if kind == "near_miss":  # stops before they meet
        short = Waypoint(partial(ahead, met=float(rng.uniform(*nearly))), (0.0, 0.0, 0.0), CLOSED, 25, 0.02)
        if rng.random() < 0.4:
            return [over, down, short, _free(), replace(rise, gripper=OPEN), _still(OPEN)]
        return [over, down, short, *([stay, rise] if rng.random() < 0.5 else []), _still(CLOSED)]
    if kind == "drop":  # pushes too high: over the cube and on
        return [over, Waypoint(ahead, (0.0, 0.0, float(rng.uniform(0.04, 0.06))), CLOSED, 20), _still(CLOSED)]
    if kind == "failure":
        return _failure(moved, rng)
    never = kind == "otherwise" and rng.uniform() < OTHERWISE
    if never or mistaken(kind, rng, share):
        part = Waypoint(partial(ahead, met=apart), (0.0, 0.0, 0.0), CLOSED, 25, 0.02)
        up = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.05, 0.09))), OPEN, 14, 0.012)
        return [over, down, *([] if never else [part]), _free(), up]
    return [over, down, push, stay]


def _free() -> Waypoint:
    return Waypoint("here", (0.0, 0.0, 0.0), OPEN, BRIEF_STEPS)


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


SCRIPTS: dict[str, Script] = {
    "Lift": _lift,
    "LiftRed": partial(_lift, cube="cubeA", other="cubeB", share=MOSTLY),
    "LiftGreen": partial(_lift, cube="cubeB", other="cubeA", brief=True, share=MOSTLY),
    "Stack": _stack,
    "Push": _push,
    "Place": _place,
    "Slide": partial(
        _push, moved="cube", goal="mat", met=ON_MAT_M, nearly=NEARLY_PUSHED_M, apart=BEFORE_MAT_M, share=MOST
    ),
}
