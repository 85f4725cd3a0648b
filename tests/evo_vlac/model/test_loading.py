"""Loading a checkpoint: unchanged for who trains it, changed for the runner alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evo_vlac.errors import CheckpointError, EngineError, OptionError
from evo_vlac.model.loading import at_once, build_runner, load, place, read_statistics

CPU = place("cpu", "float32")


def test_a_loaded_model_is_the_checkpoints_and_can_be_trained(critic_path: Path) -> None:
    """Every weight as it is stored, with a gradient: a learner starts from here. The runner packs and freezes."""
    loaded = load(critic_path, *CPU)
    stored = load_file(critic_path / "model.safetensors")
    weights = loaded.model.state_dict()
    assert any(torch.equal(weight, weights["lm_head.weight"]) for weight in stored.values())
    assert sum(weight.numel() for weight in stored.values()) == sum(p.numel() for p in loaded.model.parameters())
    ids = torch.tensor([loaded.tokenizer("lift the red cube")["input_ids"]])
    loaded.model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in loaded.model.model.language_model.layers[0].parameters())
    runner = build_runner(loaded)
    assert not any(p.requires_grad for p in runner.backbone.model.parameters())


def test_the_statistics_are_the_checkpoints(
    critic_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of either file that processors are saved in; InternVL's, and a warning, where there is none."""
    mean, std = load(critic_path, *CPU).mean, load(critic_path, *CPU).std
    assert len(mean) == len(std) == 3
    inside = {"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}}
    (tmp_path / "processor_config.json").write_text(json.dumps(inside))
    assert read_statistics(tmp_path) == ([0.1, 0.2, 0.3], [1, 2, 3])
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.2] * 3}))
    assert read_statistics(tmp_path) == ([0.5] * 3, [0.2] * 3)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").unlink()
    assert read_statistics(tmp_path)[0] == [0.485, 0.456, 0.406] and "names no image_mean" in caplog.text


def test_what_cannot_be_loaded_is_named(critic_path: Path, tmp_path: Path) -> None:
    """A device that is not there, a word that is none, a folder that is no checkpoint."""
    with pytest.raises(OptionError, match="device is 'gpu'"):
        place("gpu", "auto")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="0 CUDA devices"):
            place("cuda:0", "auto")
    copy = tmp_path / "copy"
    shutil.copytree(critic_path, copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="copy"):
        load(copy, *CPU)


def test_limits_of_a_pass_follow_the_device(critic_path: Path) -> None:
    """A CPU's passes are small, a GPU's are bounded by what a critic may hold; images as asked for, or fewer."""
    config = load(critic_path, *CPU).model.config
    images, positions, kept = at_once(config, torch.device("cpu"), torch.float32)
    assert images is not None and positions is not None and kept is None
    on_gpu = at_once(config, torch.device("cuda"), torch.bfloat16)
    assert on_gpu[0] is None and on_gpu[1] is not None and on_gpu[2] is not None and on_gpu[1] > positions
