"""Scripted experts for three tasks of libero_goal, which share a scene; kinds are :mod:`verl.envs.scripted`'s.

    turn on the stove                        grips the knob's handle from above and turns the hand
    push the plate to the front of the stove closed fingers press into the plate and push its far rim, first past the
                                             box that lies on the straight way
    put the bowl on the plate                one finger inside the bowl, one outside: gripped by its rim

The knob sticks to whatever touches it (its contacts have rolling friction), so it must be turned, not pushed.

Most of the mixed make a mistake that is one decision: they grip the knob and let go without a turn, they rise from the
plate without a push, they let the bowl go as soon as they hold it. A failure is one of several ways to do it wrong,
drawn by the seed; all of them begin like the task. A near miss is a task done in part, by any amount: the knob turned
too little, the plate or the bowl left before its place, the bowl held over the plate or let go at once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from verl.envs.waypoints import CLOSED, OPEN, Objects, Script, Waypoint, behind, mistaken, short_of

SUITE = "libero_goal"
KINDS = ("success", "failure", "near_miss", "idle", "noisy", "random", "expert_then_random", "varied", "mixed")
STOVE, PLATE, BOWL = "flat_stove_1", "plate_1", "akita_black_bowl_1"
FRONT = "main_table_stove_front_region"
STILL = (0.0, 0.0, 0.0)
FOR_EVER = 300  # steps: to the episode's end

HANDLE_M = 0.05  # from the stove's origin to the hand that grips the knob's handle, which is 5 cm high
ON_RAD = 1.0  # the stove is on from 0.5 on
PRESS_M = 0.003  # fingers reach the plate's bottom some 2.5 cm higher: they press with the force of that
TOUCH_M = 0.013  # from there to the fingers that press
INSIDE_M = 0.02  # between the plate's middle and the fingers that push it
LEAD_M = 0.08
AROUND_M, AROUND_MET_M = 0.09, 0.06  # to the right of the goal, where the plate goes first
PUSHED_M = 0.015  # the plate is this near to its goal; 4 cm from the region's middle would do
BEYOND_M = 0.015  # from the region's middle to the goal, away from the box
SHARE = 0.7  # of the mixed that are mistaken
BRIEF_STEPS = 4  # for which they close or open: a whole chunk of a policy's
NEARLY_RAD = (0.0, 0.25)  # by which near misses turn the knob; on from 0.5 on; it follows loosely
NEARLY_THERE_M = (0.06, 0.2)  # before the place, where near misses leave plate and bowl
OFF_M = 0.085  # the hand has slipped off the plate
RIM_M = 0.046  # from the bowl's axis to its rim
LAID_M = 0.048  # the hand over the plate when the bowl touches it


def _stove(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    z = HANDLE_M + float(rng.uniform(-0.004, 0.004))
    above = [
        Waypoint(STOVE, (0.0, 0.0, float(rng.uniform(0.11, 0.14))), OPEN, 40, 0.012),
        Waypoint(STOVE, (0.0, 0.0, 0.085), OPEN, 12, 0.008),
    ]
    down = Waypoint(STOVE, (0.0, 0.0, z), OPEN, 16, 0.01)
    close = Waypoint(STOVE, (0.0, 0.0, z), CLOSED, 10)
    if kind == "failure":
        way = int(rng.integers(3))
        if way == 0:  # grips and does not turn
            return [*above, down, Waypoint(STOVE, (0.0, 0.0, z), CLOSED, FOR_EVER)]
        if way == 1:  # turns above the knob
            return [*above, Waypoint("here", STILL, CLOSED, 12), Waypoint("here", STILL, CLOSED, FOR_EVER, turn=ON_RAD)]
        return _hover(above[0], rng)
    high = float(rng.uniform(0.06, 0.1))
    if mistaken(kind, rng, SHARE):
        return [*above, down, close, *_leave(high)]
    turn = float(rng.uniform(*NEARLY_RAD)) if kind == "near_miss" else ON_RAD
    return [
        *above,
        down,
        close,
        Waypoint(STOVE, (0.0, 0.0, z), CLOSED, 8, turn=turn / 2),
        Waypoint(STOVE, (0.0, 0.0, z), CLOSED, 12, turn=turn),
        Waypoint("here", STILL, OPEN, 6, turn=turn),
        Waypoint("here", (0.0, 0.0, high), OPEN, 8, 0.02, turn=turn),
    ]


def _plate(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    inside = partial(behind, moved=PLATE, goal=FRONT, by=-INSIDE_M)
    end = float(rng.uniform(*NEARLY_THERE_M)) if kind == "near_miss" else PUSHED_M
    first, then = partial(_onwards, aside=AROUND_M, met=AROUND_MET_M), partial(_onwards, aside=0.0, met=end)
    push = [
        Waypoint(way, (0.0, 0.0, PRESS_M), CLOSED, most, 0.02, steady=True) for way, most in ((first, 50), (then, 40))
    ]
    above = Waypoint(inside, (0.0, 0.0, float(rng.uniform(0.07, 0.1))), CLOSED, 40, 0.02)
    down = Waypoint(inside, (0.0, 0.0, PRESS_M), CLOSED, 16, TOUCH_M)
    rise = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.07, 0.1))), CLOSED, 8, 0.02)
    if kind == "failure":
        way = int(rng.integers(3))
        if way == 0:  # goes the way without touching the plate
            return [above, Waypoint(FRONT, (0.0, 0.0, float(rng.uniform(0.07, 0.1))), CLOSED, FOR_EVER)]
        if way == 1:  # lets go on the way
            early = Waypoint(first, (0.0, 0.0, PRESS_M), CLOSED, int(rng.integers(6, 16)))
            return [above, down, early, rise, Waypoint("here", STILL, CLOSED, FOR_EVER)]
        return _hover(above, rng)
    if mistaken(kind, rng, SHARE):
        return [above, down, _leave(rise.offset[2])[1]]
    if kind == "near_miss" and rng.random() < 0.5:
        return [above, down, *push, Waypoint("here", STILL, CLOSED, FOR_EVER)]
    return [above, down, *push, rise]


def _onwards(objects: Objects, aside: float, met: float) -> np.ndarray:
    """From the hand a step in the direction in which the plate has to go; none when it is there, or lost."""
    hand, plate = objects["eef"], objects[PLATE]
    way = (objects[FRONT] + np.array([aside, BEYOND_M, 0.0]) - plate)[:2]
    apart = float(np.linalg.norm(way))
    lost = float(np.linalg.norm(hand[:2] - plate[:2])) > OFF_M
    x, y = hand[:2] + way / max(apart, 1e-6) * LEAD_M * (apart > met and not lost)
    return np.array([x, y, plate[2]])


def _bowl(kind: str, rng: np.random.Generator) -> list[Waypoint]:
    above = Waypoint(BOWL, (0.0, RIM_M, float(rng.uniform(0.1, 0.13))), OPEN, 40, 0.015)
    z = float(rng.uniform(0.034, 0.04))
    lift = [
        above,
        Waypoint(BOWL, (0.0, RIM_M, z), OPEN, 20, 0.008),
        Waypoint(BOWL, (0.0, RIM_M, z), CLOSED, 12),
        Waypoint("here", (0.0, 0.0, float(rng.uniform(0.09, 0.12))), CLOSED, 20, 0.02),
    ]
    high = float(rng.uniform(0.12, 0.15))
    release = Waypoint("here", STILL, OPEN, 8)
    leave = Waypoint("here", (0.0, 0.0, float(rng.uniform(0.08, 0.12))), OPEN, 8, 0.02)
    if kind == "failure":
        way = int(rng.integers(4))
        rest = [release, leave, Waypoint("here", STILL, OPEN, FOR_EVER)]
        if way == 0:  # closes beside the bowl and rises as if it held it
            y = RIM_M + float(rng.uniform(0.05, 0.07))
            beside = Waypoint(f"start:{BOWL}", (0.0, y, z), OPEN, 20, 0.008)
            close, stay = (Waypoint("here", STILL, CLOSED, steps) for steps in (12, FOR_EVER))
            return [above, beside, close, lift[3], stay]
        if way == 1:  # puts it down beside the plate
            x = -float(rng.uniform(0.13, 0.16))
            there, low = (Waypoint(PLATE, (x, RIM_M, height), CLOSED, 30, 0.015) for height in (high, LAID_M))
            return [*lift, there, low, *rest]
        if way == 2:  # lets go where it was
            return [*lift, *rest]
        return _hover(above, rng)
    over = Waypoint(PLATE, (0.0, RIM_M, high), CLOSED, 40, 0.015)
    let_go = [*lift[:2], replace(lift[2], steps=BRIEF_STEPS), *_leave(leave.offset[2])]
    if mistaken(kind, rng, SHARE):
        return let_go
    if kind == "near_miss":
        part = rng.random()
        if part < 0.25:
            return let_go
        if part < 0.5:  # holds it over the plate
            return [*lift, over, Waypoint("here", STILL, CLOSED, FOR_EVER)]
        before = partial(short_of, goal=PLATE, start=f"start:{BOWL}", by=float(rng.uniform(*NEARLY_THERE_M)))
        return [*lift, replace(over, anchor=before), release, leave]
    return [
        *lift,
        over,
        Waypoint(PLATE, (0.0, RIM_M, LAID_M), CLOSED, 20, 0.008),
        release,
        leave,
    ]


def _leave(high: float) -> list[Waypoint]:
    """Opens the hand and rises."""
    return [Waypoint("here", STILL, OPEN, BRIEF_STEPS), Waypoint("here", (0.0, 0.0, high), OPEN, 14, 0.012)]


def _hover(above: Waypoint, rng: np.random.Generator) -> list[Waypoint]:
    """Over the thing, and no farther."""
    x, y = (float(v) for v in rng.uniform(-0.03, 0.03, 2))
    return [above, Waypoint("here", (x, y, 0.0), above.gripper, FOR_EVER)]


SCRIPTS: dict[str, Script] = {
    "turn_on_the_stove": _stove,
    "push_the_plate_to_the_front_of_the_stove": _plate,
    "put_the_bowl_on_the_plate": _bowl,
}
