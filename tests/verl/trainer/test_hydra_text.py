"""Paths and texts that people have arrive as they are written, on the command line and in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from verl.errors import ConfigError
from verl.trainer.load_config import load_config

ODD = [
    "/d/epoch=3-step=100/m",
    "/d/Daten (neu)/m",
    "/d/Müller, 2/m",
    "/d/it's/m",
    "/d/x{1}/m",
    "/d/run#2/m",
    "/d/[new]/m",
    "[new]/m",
    "~/m",
    "/d/a;b&c!/m",
    "/d/模型/m",
    '/d/say "yes"/m',
    "C:\\new\\table",
    "/d/a:b 50%/m",
]


@pytest.mark.parametrize("path", ODD)
def test_paths_on_the_command_line(path: str) -> None:
    """Nothing of hydra's grammar is read into a path."""
    config, _ = load_config([f"actor_rollout_ref.model.path={path}", f"trainer.default_local_dir={path}"])
    assert config.model.path == path and config.trainer.default_local_dir == path


@pytest.mark.parametrize("path", [*ODD, "ends\\", 'a\\"b', "two\nlines", "C:\\u00fc"])
def test_paths_in_a_file(tmp_path: Path, path: str) -> None:
    """What is written in a YAML arrives unchanged: no escape of JSON's stays in it."""
    file = tmp_path / "a, b=c.yaml"
    file.write_text(yaml.safe_dump({"actor_rollout_ref": {"model": {"path": path}}}, allow_unicode=True))
    assert load_config([], str(file))[0].model.path == path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_files_of_other_systems(tmp_path: Path, encoding: str) -> None:
    """A configuration written on Windows."""
    file = tmp_path / "c.yaml"
    file.write_bytes("actor_rollout_ref: {model: {path: /d/lève}}\r\n".encode(encoding))
    assert load_config([], str(file))[0].model.path == "/d/lève"


def test_what_is_no_path_is_hydras(tmp_path: Path) -> None:
    """Numbers, null and lists keep their types; a broken list is refused in one line."""
    _, tree = load_config(["trainer.total_episodes=3", "++critic.sidecar.config.adapters=[a,b]"])
    assert tree["trainer"]["total_episodes"] == 3 and tree["critic"]["sidecar"]["config"]["adapters"] == ["a", "b"]
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"critic": {"sidecar": {"config": {"x": [{"a": "b, c"}, "ü", 1e-5, None]}}}}))
    assert load_config([], str(file))[1]["critic"]["sidecar"]["config"]["x"] == [{"a": "b, c"}, "ü", 1e-5, None]
    with pytest.raises(ConfigError):
        load_config(["trainer.total_episodes=[1,"])
