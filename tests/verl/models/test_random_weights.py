"""Checkpoints of a shape: the published one has its published size, a written one loads as any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.random_weights import PUBLISHED, SMALL, on_meta, shape_config, write_checkpoint


def test_the_published_shape_has_its_published_size(tmp_path: Path) -> None:
    """7.54 billion parameters (OpenVLA-7B's model card), 256 patches an image, 56 action tokens among 32,000."""
    policy = on_meta(shape_config(PUBLISHED, "libero_spatial"), PUBLISHED, tmp_path)
    assert sum(p.numel() for p in policy.parameters()) == pytest.approx(7.54e9, rel=1e-3)
    assert policy.vision_backbone.num_patches == 256
    assert (policy.config.action_tokens, policy.config.action_vocab_size) == (56, 32_000)


def test_what_is_written_in_shards_loads(tmp_path: Path) -> None:
    """No shard is larger than asked for, the index names every tensor, and equal seeds give equal policies."""
    for name in ("one", "two"):
        size = write_checkpoint(tmp_path / name, SMALL, "libero_spatial", seed=3, shard_bytes=1_000_000)
    files = sorted((tmp_path / "one").glob("*.safetensors"))
    assert len(files) > 1 and max(file.stat().st_size for file in files) < 1_100_000
    index = json.loads((tmp_path / "one" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == size
    frames = np.zeros((1, 1, 256, 256, 3), np.uint8)
    outputs = []
    for name in ("one", "two"):
        policy = OpenVLAOFTPolicy.from_pretrained(tmp_path / name, dtype=torch.bfloat16)
        assert policy.state_dict().keys() == index["weight_map"].keys()
        outputs.append(policy.predict(frames, ["lift the red cube"], temperature=0.0))
    assert torch.equal(outputs[0].tokens, outputs[1].tokens)
    assert np.isfinite(outputs[0].actions).all()
