"""Names tell cameras that the critic can use from those it cannot."""

from __future__ import annotations

import pytest

from evo_vlac.camera_names import colour_only, is_wrist, shows_colour


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("observation.images.cam_high", True),
        ("observation.images.cam_depth", False),
        ("observation.images.depth_high", False),
        ("agentview_segmentation_instance", False),
        ("head_depth_map", False),
        ("frontDepth", False),
        ("000_mask.png", False),
        ("observation.images.infrared1", False),
        ("segway", True),
        ("first_view", True),
        ("in_depth_review", False),  # rather the other camera than a depth map
        ("unmasked", True),
    ],
)
def test_colour(name: str, colour: bool) -> None:
    """Depth maps, segmentations and the like are told by a word of their name, not by a part of one."""
    assert shows_colour(name) == colour


def test_wrist_cameras() -> None:
    """By the words that datasets use."""
    wrist = ("robot0_eye_in_hand", "cam_left_wrist", "wrist_image", "gripper", "handeye")
    assert all(map(is_wrist, wrist)) and not any(map(is_wrist, ("agentview", "top", "front")))


def test_if_nothing_is_colour_everything_stays() -> None:
    """Somebody who has depth maps only means them."""
    assert colour_only(["a_depth", "b"]) == ["b"] and colour_only(["a_depth"]) == ["a_depth"]
