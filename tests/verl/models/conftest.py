"""A random tiny checkpoint, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats

SIZE = TinySize(image=56, patch=14, vision_dim=24, vision_heads=2, depth=3, hidden=32, layers=2, heads=2, mlp=48)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One camera, proprioception of 8 numbers, statistics of one dataset; weights spread out so that logits differ."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy") / "tiny"
    policy = make_policy(folder, SIZE, {"lift": unit_stats(7, 8)}, proprio_dim=8)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    policy.save_pretrained(folder)
    return folder


@pytest.fixture
def observations() -> tuple[np.ndarray, list[str], np.ndarray]:
    """Three observations with prompts of different lengths."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 1, 56, 56, 3), dtype=np.uint8)
    return (
        images,
        ["lift the red cube", "open the door", "pick up the can and place it in the bin"],
        rng.normal(0, 0.5, (3, 8)).astype(np.float32),
    )
