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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/d/epoch\\=3", "/d/epoch=3"),
        ("/d/a\\,b\\ c", "/d/a,b c"),
        ("/d/\\(neu\\)\\[1\\]", "/d/(neu)[1]"),
        ("/d/é\\=3", "/d/é=3"),
        ("/d/it's\\, new", "/d/it's, new"),
        ("'/d/a, b=c'", "/d/a, b=c"),
        ('"/d/a, b=c"', "/d/a, b=c"),
    ],
)
def test_hydras_escapes_hold(written: str, meant: str) -> None:
    """Who learnt hydra's grammar writes them; letters that it lacks change nothing in that."""
    assert load_config([f"actor_rollout_ref.model.path={written}"])[0].model.path == meant


@pytest.mark.parametrize("name", ["20261126", "007", "1e5", "1_000", "true", "nan", ".5", "[new]", "{x}", "2026-11-26"])
def test_names_that_look_like_something_else(tmp_path: Path, name: str) -> None:
    """A date is a usual run id; ``007`` is no seven. Also after ``++``, and without quotes in a file."""
    config, _ = load_config([f"trainer.run_id={name}", f"++actor_rollout_ref.model.path={name}"])
    assert config.trainer.run_id == config.model.path == config.trainer.experiment_name == name
    file = tmp_path / "c.yaml"
    written = json.dumps(name) if name[0] in "[{" else name
    file.write_text(f"trainer: {{run_id: {written}}}\nactor_rollout_ref: {{model: {{path: {written}}}}}\n")
    config, _ = load_config([], str(file))
    assert config.trainer.run_id == config.model.path == name
    assert load_config(["trainer.run_id=null"])[0].trainer.run_id is None
