"""What a policy learnt, in numbers: the moment that counts, and what is measured there, of made-up episodes."""

from __future__ import annotations

import numpy as np
import pytest

from studies.proof_learnt import measured, moment


def scene(eef: tuple[float, float, float], **cubes: tuple[float, float, float]) -> dict[str, np.ndarray]:
    return {"eef": np.array(eef), **{name: np.array(place) for name, place in cubes.items()}}


def test_a_lift_is_measured_where_the_gripper_first_closes() -> None:
    """30 % beyond the cube seen from the middle, 4 mm aside, 6 mm high."""
    cube = {"cube": (0.1, 0.0, 0.02)}
    episode = [
        (scene((0, 0, 0.2), **cube), -1.0),
        (scene((0.13, 0.004, 0.026), **cube), 1.0),
        (scene((0, 0, 0), **cube), 1.0),
    ]
    told = measured("Lift", episode)
    assert told == pytest.approx({"step": 1, "high_mm": 6, "share": -0.3, "aside_mm": 4})
    assert measured("Lift", episode[:1]) is None


def test_the_way_to_the_other_cube_is_the_first_scenes() -> None:
    """A cube that was pushed away since does not change it."""
    begun, later = (
        {"cubeA": (0, 0, 0.02), "cubeB": (0.1, 0, 0.025)},
        {"cubeA": (0, 0, 0.02), "cubeB": (0.1, 0.3, 0.025)},
    )
    episode = [(scene((0, 0, 0.2), **begun), -1.0), (scene((0.02, 0, 0.02), **later), 1.0)]
    assert measured("LiftRed", episode) == pytest.approx({"step": 1, "high_mm": 0, "share": 0.2, "aside_mm": 0})


def test_a_stack_is_measured_where_the_gripper_opens_again() -> None:
    cubes = {"cubeA": (0, 0, 0.02), "cubeB": (0.1, 0, 0.025)}
    hands = [((0, 0, 0.2), -1.0), ((0, 0, 0.02), 1.0), ((0.06, 0, 0.07), 1.0), ((0.06, 0, 0.07), -1.0)]
    episode = [(scene(hand, **cubes), gripper) for hand, gripper in hands]
    assert measured("Stack", episode) == pytest.approx({"step": 3, "high_mm": 45, "share": 0.4, "aside_mm": 0})
    assert moment("Stack", episode[:3]) is None


def test_a_push_is_measured_where_the_hand_first_comes_low() -> None:
    """From behind is 0 degrees; from aside, counterclockwise, as the demonstrations' bias."""
    cubes = {"cubeA": (0, 0, 0.02), "cubeB": (0.1, 0, 0.025)}
    high = (scene((-0.07, 0, 0.1), **cubes), 1.0)
    for hand, degrees in (((-0.07, 0, 0.03), 0.0), ((0, -0.07, 0.03), 90.0)):
        told = measured("Push", [high, (scene(hand, **cubes), 1.0)])
        assert told == pytest.approx({"step": 1, "high_mm": 10, "turn_deg": degrees})
