"""Configuration: every mistake is one line that names the key, the value and what is allowed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sidecar.config import Config
from sidecar.config_file import from_mapping, load
from sidecar.errors import ConfigError

GOOD = {"run_id": "r1", "engine": "fixed"}


def test_file_and_overrides(tmp_path: Path) -> None:
    """An override wins over the file, nested keys included."""
    file = tmp_path / "s.yaml"
    file.write_text("run_id: r1\nengine: fixed\nbatch: {max_size: 8}\n")
    config = load(file, ["batch.max_size=32", "threshold=0.5", "metrics_port=null"])
    assert (config.batch.max_size, config.threshold, config.metrics_port) == (32, 0.5, None)


def test_round_trip() -> None:
    """What the supervisor hands to the service is the same configuration."""
    config = from_mapping({**GOOD, "fixed": {"script": "3:crash"}, "health": {"batch_s": 3}})
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"treshold": 0.5}, "treshold: unknown key; did you mean threshold"),
        ({"batch": {"maxsize": 1}}, "batch.maxsize: unknown key; did you mean batch.max_size"),
        ({"engine": "swft"}, "engine='swft': allowed: direct, swift, vllm, openai, fixed"),
        ({"engine": "direct"}, "model=None: allowed: a checkpoint folder"),
        ({"engine": "openai"}, "openai.url=None: allowed: the server's address"),
        ({"threshold": 1.5}, "threshold=1.5: allowed"),
        ({"threshold": "high"}, "threshold='high': must be float"),
        ({"batch": {"max_size": 0}}, "batch.max_size=0: allowed: 1 to 4096"),
        ({"batch": 7}, "batch=7: must be a group of keys"),
        ({"run_id": "a/b"}, "run_id='a/b': allowed"),
        ({"metrics_port": 70000}, "metrics_port=70000: allowed"),
        ({"metrics_port": True}, "metrics_port=True: must be int or null"),
        ({"device": "gpu"}, "device='gpu': allowed: auto, cpu, cuda, cuda:N"),
        ({"fixed": {"script": "3:explode"}}, "fixed.script='3:explode'"),
        ({"openai": {"url": "localhost:80"}}, "openai.url='localhost:80'"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], said: str) -> None:
    """The message begins with the key, holds the value and what is allowed, and is one line."""
    with pytest.raises(ConfigError) as caught:
        from_mapping({**GOOD, **change})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    """A line each: unknown and missing keys, wrong types and values, in every group; nothing that only follows."""
    tree = {
        "engine": "openai",
        "treshold": 0.5,
        "threshold": 2,
        "metrics_port": "high",
        "batch": {"max_size": 0, "maxwait": 3, "max_wait_ms": -1},
        "openai": {"url": "localhost:80", "retries": 99},
        "health": 7,
    }
    with pytest.raises(ConfigError) as caught:
        from_mapping(tree)
    keys = ["batch.max_size", "batch.max_wait_ms", "batch.maxwait", "health", "metrics_port", "openai.retries"]
    keys += ["openai.url", "run_id", "treshold"]
    assert sorted(line.partition("=")[0].partition(":")[0] for line in caught.value.problems) == keys
    assert str(caught.value).splitlines() == list(caught.value.problems)


def test_a_broken_group_does_not_hide_the_others() -> None:
    """What the top level checks is checked, too, where only a group below it is wrong; a key is told once."""
    tree = {"run_id": "a/b", "engine": "openai", "openai": {"url": "localhost:80"}, "batch": {"max_size": 0}}
    with pytest.raises(ConfigError) as caught:
        from_mapping(tree)
    keys = [line.partition("=")[0] for line in caught.value.problems]
    assert sorted(keys) == ["batch.max_size", "openai.url", "run_id"]


def test_run_id_is_needed() -> None:
    """There is no default run."""
    with pytest.raises(ConfigError, match="run_id: missing"):
        from_mapping({"engine": "fixed"})


@pytest.mark.parametrize(
    ("content", "said"), [("a: [1", "not YAML"), ("- 1", "must hold keys and values"), (None, "cannot be read")]
)
def test_broken_files(tmp_path: Path, content: str | None, said: str) -> None:
    """A file that is missing or is no mapping is named."""
    file = tmp_path / "s.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=said) as caught:
        load(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_override_form() -> None:
    """An override without a key or an equals sign is refused."""
    with pytest.raises(ConfigError, match="key=value"):
        load(None, ["batch.max_size"])


def test_configuration_is_frozen() -> None:
    """Nobody changes it after it was checked."""
    config = from_mapping(GOOD)
    with pytest.raises(AttributeError):
        config.threshold = 0.1  # type: ignore[misc]
    assert isinstance(config, Config)


ODD = ["/d/run #2", "/d/a: b", "[new]/m", "{x}", "@x", "*x", "&x", "!x", "%x", "it's"]
LIKE_NUMBERS = ["007", "1e5", "true", "2026-11-26"]


@pytest.mark.parametrize("text", [*ODD, *LIKE_NUMBERS])
def test_texts_are_taken_as_they_are(tmp_path: Path, text: str) -> None:
    """Nothing of YAML's grammar is read into a path on the command line: ``/d/run #2`` was cut to ``/d/run``. In a
    file, what YAML reads as a number or a date is the text that stands there."""
    assert load(None, ["engine=fixed", "run_id=r", f"model={text}"]).model == text
    if text in LIKE_NUMBERS:
        assert load(None, ["engine=fixed", f"run_id={text}"]).run_id == text
        (tmp_path / "s.yaml").write_text(f"run_id: r\nengine: fixed\nmodel: {text}\nreference: {{folder: {text}}}\n")
        config = load(tmp_path / "s.yaml")
        assert config.model == config.reference.folder == text


def test_texts_in_quotes_and_null() -> None:
    """As before."""
    config = load(None, ["engine=fixed", "run_id='r'", "model=null", 'reference.folder="a b"', "adapter=~"])
    assert (config.run_id, config.model, config.reference.folder, config.adapter) == ("r", None, "a b", None)
