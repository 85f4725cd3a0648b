"""Frames as OpenVLA's training data has them, against what TensorFlow 2.15 made of the same frames.

``rlds_frames_golden.npz``: ``tf.io.decode_image(tf.image.encode_jpeg(frame))``, then
``tf.image.resize(..., (28, 28), method="lanczos3", antialias=True)``, rounded: SimpleVLA-RL's ``resize_image``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from verl.models.openvla_oft import OpenVLAOFTPolicy, PolicyConfig
from verl.models.openvla_oft.images import ImageProcessor
from verl.models.openvla_oft.rlds_frames import as_rlds, through_jpeg

GOLDEN = np.load(Path(__file__).with_name("rlds_frames_golden.npz"))
SHAPES = [(64, 64), (45, 58)]


def frames(height: int, width: int) -> torch.Tensor:
    """A smooth picture with an edge in it, and noise."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], -1)
    smooth[height // 4 : height // 2, width // 4 : width // 2] = (200, 30, 40)
    return torch.from_numpy(np.stack([smooth, rng.integers(0, 256, (height, width, 3))]).astype(np.uint8))


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_jpeg_is_tensorflows_to_the_grey_level(height: int, width: int) -> None:
    """Also where the sides are no multiples of a block."""
    assert np.array_equal(through_jpeg(frames(height, width)).numpy(), GOLDEN[f"jpeg_{height}"])


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_whole_way_is_theirs_within_one_grey_level(height: int, width: int) -> None:
    """A sum in another order may round to the other side, rarely."""
    apart = np.abs(as_rlds(frames(height, width), 28).numpy().astype(int) - GOLDEN[f"rlds_{height}"])
    assert apart.max() <= 1 and apart.mean() < 0.01


def test_a_published_checkpoint_sees_such_frames(checkpoint: Path) -> None:
    """``frame_convention`` is theirs unless config.json says otherwise, as the shipped policies' does."""
    given = frames(64, 64)[None, :, None].flatten(0, 1)
    plain = dict(size=28, means=((0.0,) * 3,), stds=((1.0,) * 3,))
    seen = ImageProcessor(**plain, rlds=True)(given)[:, :3].permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(np.rint(seen) - GOLDEN["rlds_64"]).max() <= 1
    assert not OpenVLAOFTPolicy.from_pretrained(checkpoint).processor.rlds
    assert OpenVLAOFTPolicy.from_pretrained(checkpoint, frame_convention="rlds").processor.rlds
    raw = json.loads((checkpoint / "config.json").read_text())
    del raw["frame_convention"]
    assert PolicyConfig.from_dict(raw).frame_convention == "rlds"
