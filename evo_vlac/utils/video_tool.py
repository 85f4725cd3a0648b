"""Upstream's path to its video helpers; defined in :mod:`evo_vlac.compat.video_tool`."""

from __future__ import annotations

from evo_vlac.compat.video_tool import (
    compress_image,
    compress_video,
    images_get_from_video,
    read_data_and_create_video,
    video_trajectory,
    visualize_le,
)

__all__ = [
    "compress_image",
    "compress_video",
    "images_get_from_video",
    "read_data_and_create_video",
    "video_trajectory",
    "visualize_le",
]
