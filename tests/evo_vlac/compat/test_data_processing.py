"""Upstream's data helpers keep their names and meanings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evo_vlac
from evo_vlac.errors import OptionError
from evo_vlac.utils.model_utils import GAC_model


def test_modules_are_where_upstream_has_them() -> None:
    """The package names them, and the class is the same one."""
    assert GAC_model is evo_vlac.GAC_model and evo_vlac.model_utils.GAC_model is GAC_model
    assert callable(evo_vlac.video_tool.compress_video) and evo_vlac.get_version().count(".") == 2


def test_prompt_helpers() -> None:
    """Marks are numbered where there are several; references are shown as the prompts have them."""
    helpers = evo_vlac.data_processing_vlm
    assert helpers.transform_images("<image>\nx") == "<image>\nx"
    assert helpers.transform_images("<image>\n<image>\nx") == "Image-1: <image>\nImage-2: <image>\nx"
    assert helpers.trojectory_example_prompt([1, 2], "lift").count("<image>") == 2
    assert helpers.normalize_angle(190) == -170 and helpers.normalize_angle(-180) == -180


def test_picture_helpers(tmp_path: Path) -> None:
    """Black pictures are found; different ones differ; broken ones are -1."""
    helpers = evo_vlac.data_processing_vlm
    grey = np.full((8, 8, 3), 100, np.uint8)
    other = grey.copy()
    other[:4] = 50
    paths = {}
    for name, array in (("grey", grey), ("other", other), ("black", np.zeros_like(grey))):
        paths[name] = str(tmp_path / f"{name}.png")
        Image.fromarray(array).save(paths[name])
    assert helpers.compare_images(paths["grey"], paths["other"]) == 50
    assert helpers.compare_images(paths["grey"], paths["black"]) == -1
    assert helpers.compare_images(paths["grey"], "none.png") == -1
    assert helpers.is_image_path_almost_black(paths["black"]) and not helpers.is_image_path_almost_black("none.png")


def test_denormalising() -> None:
    """Scale and offset over the last axis of seven."""
    helpers = evo_vlac.data_processing_vlm
    assert helpers.denormalize_with_params([[1.0] * 7], {"scale": [2] * 7, "offset": [1] * 7}).tolist() == [[3.0] * 7]
    with pytest.raises(OptionError, match="shape"):
        helpers.denormalize_with_params([1.0] * 7, {"scale": 1, "offset": 0})
