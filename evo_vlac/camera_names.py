"""What the name of a camera, a film or a picture says about what it shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NO_COLOUR = re.compile(
    r"(?:^|[^a-z])(?:depth\w*|disparity|seg|segm|segmentation\w*|semantic|instance|masks?|normals?|optical_flow|flow"
    r"|infrared\d*|ir|ir\d|thermal|heatmap)(?:[^a-z]|$)"
)
_WRIST = re.compile(r"wrist|hand|gripper|palm")


def shows_colour(name: str) -> bool:
    """Whether the name is not one of a depth map, a segmentation, normals, flow or infrared."""
    return _NO_COLOUR.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is None


def is_wrist(name: str) -> bool:
    """Whether the camera sits on the arm, and so does not see the scene."""
    return _WRIST.search(name.lower()) is not None


def colour_only(names: Sequence[str]) -> list[str]:
    """The names of colour pictures; all of them where none is (then somebody means what they gave)."""
    return [name for name in names if shows_colour(name)] or list(names)
