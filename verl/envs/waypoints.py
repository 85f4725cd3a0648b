"""What scripted experts work off: way points, and places that are reckoned from where things are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

OPEN, CLOSED = -1.0, 1.0
PUSH_LEAD_M = 0.03
EXACT = ("mixed", "otherwise", "empty")  # kinds for a policy: alike but in what they are mistaken about
MISTAKEN = 0.65  # of the mixed demonstrations, where a task has no share of its own

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
        steady: never disturbed (``ScriptedExpert.disturbed``): a hand that pushes would lose what it pushes.
    """

    anchor: str | Place
    offset: tuple[float, float, float]
    gripper: float
    steps: int
    tolerance: float | None = None
    turn: float = 0.0
    steady: bool = False


Script = Callable[[str, np.random.Generator], list[Waypoint]]  # of a kind


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


def mistaken(kind: str, rng: np.random.Generator, share: float = MISTAKEN) -> bool:
    """Whether a demonstration makes its task's mistake: ``share`` of the mixed do, none of the other kinds."""
    return kind == "mixed" and bool(rng.uniform() < share)
