"""Frames to pixels."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from verl.models.openvla_oft.images import CROP_AREA, ImageProcessor


def crop_and_resize(image: np.ndarray, area: float) -> np.ndarray:
    """``tf.image.crop_and_resize`` of the centred box, bilinear, as its documentation defines it; slow and plain."""
    height, width = image.shape[:2]
    side = np.sqrt(area)
    first, last = (1 - side) / 2, (1 + side) / 2
    ys = first * (height - 1) + np.arange(height) * (last - first) * (height - 1) / (height - 1)
    xs = first * (width - 1) + np.arange(width) * (last - first) * (width - 1) / (width - 1)
    y0, x0 = np.floor(ys).astype(int), np.floor(xs).astype(int)
    y1, x1 = np.minimum(y0 + 1, height - 1), np.minimum(x0 + 1, width - 1)
    wy, wx = (ys - y0)[:, None, None], (xs - x0)[None, :, None]
    top = image[y0][:, x0] * (1 - wx) + image[y0][:, x1] * wx
    bottom = image[y1][:, x0] * (1 - wx) + image[y1][:, x1] * wx
    return top * (1 - wy) + bottom * wy


def test_the_centre_crop_is_tensorflows() -> None:
    """Within one grey level (rounding) of the plain formula."""
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    processor = ImageProcessor(40, means=((0.0,) * 3,), stds=((1.0,) * 3,), center_crop=True)
    ours = processor(torch.from_numpy(image)[None, None])[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - crop_and_resize(image / 1.0, CROP_AREA)).max() <= 1.0


def test_each_backbone_has_its_own_normalisation_and_cameras_are_stacked() -> None:
    """Channels: camera 0 for DINOv2, camera 0 for SigLIP, camera 1 for DINOv2, ..."""
    images = np.zeros((1, 2, 8, 8, 3), np.uint8)
    images[0, 1] = 255
    pixels = ImageProcessor(8)(torch.from_numpy(images))
    assert pixels.shape == (1, 12, 8, 8)
    assert torch.allclose(pixels[0, 0, 0, 0], torch.tensor(-0.485 / 0.229))
    assert torch.allclose(pixels[0, 3, 0, 0], torch.tensor(-1.0))
    assert torch.allclose(pixels[0, 6, 0, 0], torch.tensor((1 - 0.485) / 0.229))
    assert torch.allclose(pixels[0, 9, 0, 0], torch.tensor(1.0))


def test_resizing_is_pillows_to_the_grey_level() -> None:
    """Frames of another size go through the filter that the published processor uses."""
    image = np.random.default_rng(1).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    processor = ImageProcessor(16, means=((0.0,) * 3,), stds=((1.0,) * 3,))
    ours = processor(torch.from_numpy(image)[None, None])[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(np.rint(ours), theirs)
