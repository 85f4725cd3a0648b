"""What cannot work ends with exit code 2, one line that names the thing, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

import shm_bridge
from shm_bridge.inspect import clean_run
from sidecar import service_main
from sidecar.config import Config
from sidecar.engines import registry
from sidecar.errors import PERMANENT, CheckpointError, EngineUnavailableError, SharedMemoryError
from tests.support.sidecar_process import leftovers, sidecar


def refused(folder: Path, *overrides: str, engine: str = "fixed") -> str:
    """The one line that the sidecar ends with."""
    with sidecar(folder, *overrides, engine=engine, ready=False) as one:
        assert one.process.wait(60) == 2, one.said
        lines = [line for line in one.said.splitlines() if line.startswith("error:")]
        assert len(lines) == 1 and "Traceback" not in one.said, one.said
    assert leftovers(one.run_id) == []
    return lines[0]


def test_an_unknown_key(tmp_path: Path) -> None:
    """Named, with the nearest known one."""
    assert "batchsize: unknown key" in refused(tmp_path, "batchsize=3")


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    """The path stands in the line."""
    assert f"model={tmp_path}/nothing" in refused(tmp_path, f"model={tmp_path}/nothing", engine="direct")


@pytest.mark.parametrize("engine", ["direct", "swift"])
def test_a_broken_checkpoint(tmp_path: Path, critic_path: Path, engine: str) -> None:
    """Weights cut off in the middle: an error that starting again does not cure, in one line."""
    broken = tmp_path / "broken"
    shutil.copytree(critic_path, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    config = Config(run_id="r1", engine=engine, model=str(broken), device="cpu")
    registry.check(config)
    with pytest.raises(CheckpointError, match=f"model={broken}") as caught:
        registry.load(config)
    assert caught.value.exit_code == PERMANENT and "\n" not in str(caught.value)


def test_another_architecture(tmp_path: Path, critic_path: Path) -> None:
    """A checkpoint of something else says what it is, before anything heavy is loaded."""
    other = tmp_path / "other"
    shutil.copytree(critic_path, other)
    config = json.loads((other / "config.json").read_text())
    config["architectures"] = ["GPT2LMHeadModel"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="GPT2LMHeadModel"):
        registry.check(Config(run_id="r1", engine="direct", model=str(other)))


def test_a_device_that_is_not_there(critic_path: Path) -> None:
    """Asked for a GPU that torch does not see."""
    with pytest.raises(EngineUnavailableError, match="device=cuda:63"):
        registry.load(Config(run_id="r1", engine="direct", model=str(critic_path), device="cuda:63"))


def test_a_run_id_in_use(tmp_path: Path) -> None:
    """The second sidecar of a run ends in a moment; the first goes on."""
    with sidecar(tmp_path) as first:
        with sidecar(tmp_path, f"run_id={first.run_id}", ready=False) as second:
            assert second.process.wait(60) == 2
            assert f"error: run_id={first.run_id}" in second.said
        assert first.status()["ready"]


def test_a_port_in_use(tmp_path: Path) -> None:
    """The port stands in the line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"metrics_port={port}" in refused(tmp_path, f"metrics_port={port}")


def test_no_remote_server(tmp_path: Path) -> None:
    """A dead remote server may come back: the sidecar tries, then says where nobody answers."""
    with sidecar(
        tmp_path,
        "openai.url=http://127.0.0.1:9/v1",
        "health.max_crashes=2",
        "health.backoff_s=0.05",
        engine="openai",
        ready=False,
    ) as one:
        assert one.process.wait(60) == 70
        assert "http://127.0.0.1:9/v1" in one.said.splitlines()[-1]


def test_shared_memory_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge's own words, with needed and free bytes, behind the run's name."""

    def full(*_: object, **__: object) -> None:
        raise shm_bridge.NoSpace("the control segment", 1000, 10)

    monkeypatch.setattr(shm_bridge.Server, "create", full)
    with pytest.raises(SharedMemoryError, match=r"run_id=r1: /dev/shm has no room .* needed 1000 bytes, free 10 bytes"):
        service_main._take_run(Config(run_id="r1", engine="fixed"))
    clean_run("r1")
