"""Frames to model input: the same as PIL's squashing and the checkpoint's own preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evo_vlac.images import squash as pil_squash
from evo_vlac.model.pixels import Pixels, squash
from evo_vlac.tiny.model import TinyConfig, build_processor


@pytest.mark.parametrize("shape", [(112, 112), (90, 140), (256, 256), (480, 640), (37, 61)])
def test_squash_is_pils_lanczos(shape: tuple[int, int]) -> None:
    """At most one step of 255 from PIL's result, for enlarging and shrinking."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours = squash(torch.from_numpy(image).permute(2, 0, 1)[None].float(), (112, 112))[0].permute(1, 2, 0)
    theirs = np.asarray(pil_squash(image, (112, 112)))
    assert np.abs(ours.numpy() - theirs).max() <= 1


def test_pixels_are_the_processors() -> None:
    """Scaled and normalised as the processor of the checkpoint does, whatever the strides."""
    processor = build_processor(TinyConfig())
    stored = np.random.default_rng(1).integers(0, 256, (112, 112, 3), np.uint8)
    views = [stored, stored[::-1], stored[::-1, ::-1]]
    images = processor.image_processor(images=[np.ascontiguousarray(v) for v in views], return_tensors="pt")
    statistics = processor.image_processor
    pixels = Pixels((112, 112), statistics.image_mean, statistics.image_std, torch.device("cpu"), torch.float32)
    assert torch.allclose(pixels(views), images["pixel_values"], atol=1e-5)
