"""Upstream's path to its data helpers; defined in :mod:`evo_vlac.compat.data_processing`."""

from __future__ import annotations

from evo_vlac.compat.action_text import format_songling_simple, format_songling_v2
from evo_vlac.compat.data_processing import (
    compare_images,
    denormalize_with_params,
    is_image_almost_black,
    is_image_black,
    is_image_path_almost_black,
    is_image_path_black,
    normalize_angle,
    transform_images,
    trojectory_example_prompt,
)
from evo_vlac.compat.data_processor import DataProcessor

__all__ = [
    "DataProcessor",
    "compare_images",
    "denormalize_with_params",
    "format_songling_simple",
    "format_songling_v2",
    "is_image_almost_black",
    "is_image_black",
    "is_image_path_almost_black",
    "is_image_path_black",
    "normalize_angle",
    "transform_images",
    "trojectory_example_prompt",
]
