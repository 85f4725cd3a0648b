"""What a policy learnt, in numbers: the moment that counts, and what is measured there, of made-up episodes."""

from __future__ import annotations

import numpy as np
import pytest

from studies.proof_learnt import follows, held, measured, moment


def scene(eef: tuple[float, float, float], **cubes: tuple[float, float, float]) -> dict[str, np.ndarray]:
    return {"eef": np.array(eef), **{name: np.array(place) for name, place in cubes.items()}}


def test_a_lift_is_measured_where_the_gripper_first_closes() -> None:
    cube = {"cube": (0.1, 0.0, 0.02)}
    hands = [((0, 0, 0.2), -1.0), ((0.103, 0.004, 0.026), 1.0), ((0, 0, 0), 1.0)]
    episode = [(scene(hand, **cube), gripper) for hand, gripper in hands]
    assert measured("Lift", episode) == pytest.approx({"step": 1, "high_mm": 6, "aside_mm": 5})
    assert measured("Lift", episode[:1]) is None


def test_a_hold_is_the_longest_of_an_episode() -> None:
    at = scene((0, 0, 0), cube=(0, 0, 0))
    assert held([(at, gripper) for gripper in (-1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -1.0)]) == 3
    assert held([(at, -1.0)] * 4) == 0


def test_of_two_cubes_it_is_told_which_one_the_hand_went_to() -> None:
    cubes = {"cubeA": (0, 0, 0.02), "cubeB": (0.1, 0, 0.025)}
    episode = [(scene((0.09, 0, 0.02), **cubes), 1.0)]
    assert measured("LiftRed", episode) == pytest.approx({"step": 0, "high_mm": 0, "aside_mm": 90, "other": 1})
    assert measured("LiftGreen", episode) == pytest.approx({"step": 0, "high_mm": -5, "aside_mm": 10, "other": 0})


def test_a_cube_that_is_put_down_is_measured_where_the_gripper_opens_again() -> None:
    things = {"cube": (0, 0, 0.02), "mat": (0.1, 0, 0.0)}
    hands = [((0, 0, 0.2), -1.0), ((0, 0, 0.02), 1.0), ((0.06, 0, 0.07), 1.0), ((0.06, 0, 0.07), -1.0)]
    episode = [(scene(hand, **things), gripper) for hand, gripper in hands]
    assert measured("Place", episode) == pytest.approx({"step": 3, "aside_mm": 40})
    assert moment("Place", episode[:3]) is None


def test_a_push_is_measured_where_cube_and_mat_are_nearest() -> None:
    places = (0.0, 0.03, 0.02)
    episode = [(scene((0, 0, 0), cube=(x, 0, 0.02), mat=(0.1, 0, 0.0)), 1.0) for x in places]
    assert measured("Slide", episode) == pytest.approx({"step": 1, "apart_mm": 70})


def test_a_hand_that_goes_to_one_place_follows_nothing() -> None:
    """One that goes to the cube, with the same error everywhere, follows it; one that goes half the way does half."""
    places = [(0.1, 0.0, 0.02), (-0.1, 0.05, 0.02), (0.0, -0.08, 0.02), (0.05, 0.06, 0.02)]

    def told(share: float) -> float:
        return follows([scene((share * x + 0.01, share * y, 0.0), cube=(x, y, z)) for x, y, z in places], "cube")

    assert [told(0.0), told(0.5), told(1.0)] == pytest.approx([0.0, 0.5, 1.0])
