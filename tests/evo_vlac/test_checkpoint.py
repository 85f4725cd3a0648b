"""What cannot be loaded is refused before anything heavy happens and the error says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evo_vlac import checkpoint as checkpoints
from evo_vlac.errors import CheckpointError, RemoteCodeCheckpoint

NATIVE = {"architectures": ["InternVLForConditionalGeneration"]}


def make(folder: Path, config: Any, weights: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        (folder / "model.safetensors").touch()
    return folder


def test_a_native_checkpoint_is_recognised(checkpoint: Path) -> None:
    """Its kind and its image size are read off the config."""
    found = checkpoints.inspect(checkpoint)
    assert found.kind is checkpoints.Kind.NATIVE and found.image_size == (112, 112)
    assert found.swift_types == ("internvl", "internvl_hf")
    checkpoints.require_runnable(found)


def test_remote_code_is_refused_under_transformers_5(tmp_path: Path) -> None:
    """The message holds the command that converts it."""
    folder = make(tmp_path / "vlac", {"architectures": ["InternVLChatModel"], "force_image_size": 448})
    found = checkpoints.inspect(folder)
    assert found.swift_types == ("internvl_chat", "internvl2")
    with pytest.raises(RemoteCodeCheckpoint, match=r"python -m evo_vlac convert .*vlac DST"):
        checkpoints.require_runnable(found)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "another architecture .LlamaForCausalLM"),
        ({}, "nothing named"),
        ("{broken", "cannot be read"),
        ("[]", "no JSON object"),
        (NATIVE, "image_size"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, config: Any, words: str) -> None:
    """Another architecture, a broken config: one clear error."""
    with pytest.raises(CheckpointError, match=words):
        checkpoints.inspect(make(tmp_path / "x", config))


def test_missing_parts_are_named(tmp_path: Path) -> None:
    """No folder, a file, no config, no weights, an adapter in place of a model."""
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoints.inspect(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        checkpoints.inspect(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        checkpoints.inspect(tmp_path)
    with pytest.raises(CheckpointError, match="no weights"):
        checkpoints.inspect(
            make(tmp_path / "w", {"architectures": ["InternVLForConditionalGeneration"]}, weights=False)
        )
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is an adapter"):
        checkpoints.inspect(tmp_path / "adapter")


def test_adapters_must_be_whole(tmp_path: Path) -> None:
    """Configuration and weights."""
    with pytest.raises(CheckpointError, match="no adapter at"):
        checkpoints.check_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no weights"):
        checkpoints.check_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").touch()
    assert checkpoints.check_adapter(tmp_path) == tmp_path
