"""Upstream's path to its data helpers; defined in :mod:`evo_vlac.compat.data_processing`."""

from __future__ import annotations

from evo_vlac.compat.data_processing import (
    compare_images,
    denormalize_with_params,
    is_image_almost_black,
    is_image_path_almost_black,
    normalize_angle,
    transform_images,
    trojectory_example_prompt,
)

__all__ = [
    "compare_images",
    "denormalize_with_params",
    "is_image_almost_black",
    "is_image_path_almost_black",
    "normalize_angle",
    "transform_images",
    "trojectory_example_prompt",
]
