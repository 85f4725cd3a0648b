"""Weights that take long to load, or to come back from UPDATE: waited for by their size, on real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shm_bridge import Controller, Phase
from sidecar.config import Config, HealthConfig
from tests.support.sidecar_process import sidecar, verdict

SLOW_RESTORE = """
import time
from sidecar.engines.fixed import FixedEngine
FixedEngine.restore = lambda self: time.sleep(2.0)
"""


def weights(folder: Path, size: int) -> Path:
    """A checkpoint's folder with so many bytes of weights, which take no room."""
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


@pytest.mark.parametrize("devices", [(), ("devices=cpu,cpu",)], ids=["one", "replicas"])
def test_a_critic_that_comes_back_late_from_an_update_is_not_wedged(tmp_path: Path, devices: tuple[str, ...]) -> None:
    """Weights over a slow bus take longer than a batch may: nothing is restarted, and workers that ask are answered."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_RESTORE)
    with sidecar(tmp_path, *devices, "health.batch_s=0.5") as one:
        lane = one.lane()
        with Controller.connect(one.run_id, 10) as controller:
            controller.request_phase(Phase.UPDATE, 10)
            controller.request_phase(Phase.ROLLOUT, 20)
        assert verdict(lane, 0).epoch == 1
        assert "has not come back" not in one.said


def test_the_start_has_the_time_that_the_model_s_size_takes(tmp_path: Path) -> None:
    """The probe is answered after health.start_s, within the time for the weights as well."""
    model = weights(tmp_path / "large", 10**9)
    with sidecar(tmp_path, "health.start_s=0.5", "fixed.delay_ms=2500", f"model={model}", ready=False) as one:
        one.wait_ready()
        assert one.status()["epoch"] == 1


def test_seconds_follow_the_bytes(tmp_path: Path) -> None:
    """What is loaded elsewhere does not count."""
    model, health = str(weights(tmp_path / "large", 5 * 10**9)), HealthConfig(start_s=100)
    assert Config(run_id="x", model=model, health=health).start_s == 300
    assert Config(run_id="x", model="not/here", health=health).start_s == 100
