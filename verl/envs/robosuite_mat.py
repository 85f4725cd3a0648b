"""A mat on the table of robosuite's Lift: a flat blue square that the red cube is brought to.

It is painted, not felt: nothing collides with it, so that the physics are Lift's own.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np

MAT = "mat"  # the body's name is this and robosuite's ``_main``
LIFT_WITH_MAT = "LiftWithMat"  # robosuite's name of the scene
HALF_M = 0.05  # half a side of the mat
LIES_M = 0.04  # between the centres of cube and mat along both sides, at most, where the cube lies on it
APART_M = 0.12  # between the centres at a reset, at least
AHEAD_M, ASIDE_M = (0.12, 0.15), 0.015  # of a mat straight before the cube: so far, and so much to a side at most
NEAR = 0.35  # of the places of a cube with a mat ahead, the part nearest to the robot


def add_scene() -> None:
    """Makes ``robosuite.make`` know :data:`LIFT_WITH_MAT`. Robosuite must have been imported already."""
    from robosuite.environments.base import REGISTERED_ENVS
    from robosuite.environments.manipulation.lift import Lift

    if LIFT_WITH_MAT in REGISTERED_ENVS:
        return

    def load_model(self: Any) -> None:
        Lift._load_model(self)
        x, y, z = self.table_offset
        mat = ET.SubElement(self.model.worldbody, "body", {"name": f"{MAT}_main", "pos": f"{x} {y} {z}"})
        shape = {"name": f"{MAT}_vis", "type": "box", "size": f"{HALF_M} {HALF_M} 0.001", "rgba": "0.1 0.2 0.9 1"}
        ET.SubElement(mat, "geom", {**shape, "group": "1", "contype": "0", "conaffinity": "0"})

    type(LIFT_WITH_MAT, (Lift,), {"_load_model": load_model})  # robosuite's metaclass registers it


def mat_place(seed: int, cube: np.ndarray, within: float, ahead: bool) -> np.ndarray:
    """(2,) metres: the mat's centre for an episode's ``seed``; ``cube`` (2,) is the cube's, the table's middle is 0.

    ``ahead``: straight before the cube; else in a square of +- ``within`` (5 cm at least), :data:`APART_M` away. The
    farthest of some draws, where none is so far away.
    """
    rng = np.random.default_rng((seed, 0x3A7))
    if ahead:
        straight: np.ndarray = cube + np.array([rng.uniform(*AHEAD_M), rng.uniform(-ASIDE_M, ASIDE_M)])
        return straight
    drawn = rng.uniform(-1, 1, (64, 2)) * max(within, HALF_M)
    far = np.hypot(*(drawn - cube).T)
    chosen: np.ndarray = drawn[int(np.argmax(far >= APART_M) if (far >= APART_M).any() else np.argmax(far))]
    return chosen


def near_part(x_range: Sequence[float]) -> list[float]:
    """Of the places of a cube those on the robot's side, so that a mat ahead of it lies in the picture, too."""
    low, high = x_range
    return [low, low + NEAR * (high - low)]


def lies_on(cube: np.ndarray, mat: np.ndarray) -> bool:
    """Whether a cube whose centre is at ``cube`` (3,) is over the mat, seen from above; metres."""
    return bool(np.abs((cube - mat)[:2]).max() < LIES_M)
