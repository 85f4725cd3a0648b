"""Upstream's data helpers, with its names, over this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac import prompts
from evo_vlac.errors import ImageError, OptionError
from evo_vlac.images import load_image


def transform_images(text: str) -> str:
    """Numbers the image marks of a prompt with several of them: ``Image-1: <image>`` ..."""
    if text.count("<image>\n") <= 1:
        return text
    numbers = iter(range(1, text.count("<image>\n") + 1))
    return re.sub("<image>\n", lambda _: f"Image-{next(numbers)}: <image>\n", text)


def trojectory_example_prompt(images: Sequence[Any], task: Any) -> str:
    """The opening that shows a reference trajectory (upstream's spelling); any task will do."""
    return prompts.trajectory(len(images), str(task), strict=False)


def denormalize_with_params(normalized_data: Any, params: dict[str, Any]) -> npt.NDArray[np.float64]:
    """``data * scale + offset`` over the last axis of 7."""
    data = np.asarray(normalized_data, dtype=np.float64)
    if data.ndim < 2 or data.shape[-1] != 7:
        raise OptionError(f"the data has shape {data.shape}; needed: (..., 7) with at least 2 dimensions")
    scale, offset = (np.asarray(params[name], dtype=np.float64) for name in ("scale", "offset"))
    return np.asarray(data * scale + offset, dtype=np.float64)


def normalize_angle(angle: float) -> float:
    """An angle in degrees, wrapped to -180 .. 180 if it is beyond."""
    return (angle + 180) % 360 - 180 if abs(angle) > 180 else angle


def is_image_black(image_array: npt.NDArray[np.uint8]) -> bool:
    """Whether every channel value is 0."""
    return bool((np.asarray(image_array) == 0).all())


def is_image_almost_black(image_array: npt.NDArray[np.uint8], threshold: float = 0.80, tolerance: int = 10) -> bool:
    """Whether at least that share of the pixels is black within the tolerance."""
    return bool((image_array <= tolerance).all(axis=-1).mean() >= threshold)


def is_image_path_almost_black(image_path: str) -> bool:
    """The same of a file; False where it cannot be read."""
    try:
        return is_image_almost_black(np.asarray(load_image(image_path), dtype=np.uint8))
    except ImageError:
        return False


def is_image_path_black(image_path: str) -> bool:
    """Whether every channel value of a file's picture is 0; False where it cannot be read."""
    try:
        return is_image_black(np.asarray(load_image(image_path), dtype=np.uint8))
    except ImageError:
        return False


def compare_images(image1_path: str, image2_path: str) -> float:
    """Share of differing channel values, percent; -1 where one cannot be read or is almost black."""
    try:
        first, second = load_image(image1_path), load_image(image2_path)
    except ImageError:
        return -1
    a, b = np.asarray(first, dtype=np.uint8), np.asarray(second.resize(first.size), dtype=np.uint8)
    if is_image_almost_black(a) or is_image_almost_black(b):
        return -1
    return float((a != b).mean() * 100)
