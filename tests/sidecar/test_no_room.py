"""A device that is full while the model is loaded: waited for, as long as a start may take; a crash only after that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shm_bridge import Controller, Phase
from sidecar.config import Config, DirectConfig, HealthConfig
from sidecar.engines import registry
from sidecar.errors import NO_ROOM, CrashLoopError, EngineUnavailableError
from sidecar.supervisor import Supervisor
from tests.support.sidecar_process import sidecar, until

WORDS = "model=m: no room for it on device=auto"


def ended(supervisor: Supervisor, code: int) -> bool:
    child: Any = SimpleNamespace(last_words=WORDS, ready=False)
    return supervisor._wait_before_restart(child, code)


def test_a_full_device_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    """Learners and rollout workers let go of what they needed to load: more tries than crashes are allowed."""
    health = HealthConfig(max_crashes=2, backoff_s=0.001, backoff_max_s=0.001)
    supervisor = Supervisor(Config(run_id="r1", engine="fixed", health=health))
    assert all(ended(supervisor, NO_ROOM) for _ in range(10))
    assert WORDS + "; trying again" in caplog.text
    assert ended(supervisor, 1)
    with pytest.raises(CrashLoopError, match=WORDS):
        ended(supervisor, 1)


class Clock:
    """Time as a supervisor that only sleeps sees it."""

    def __init__(self, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("sidecar.supervisor.time.monotonic", lambda: self.now)
        monkeypatch.setattr(supervisor, "_sleep", self._pass)

    def _pass(self, seconds: float) -> None:
        self.now += seconds


def test_a_device_that_stays_full_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the time that a start may take (that of the weights, too), with the defaults."""
    (tmp_path / "model.safetensors").write_bytes(bytes(50_000_000))
    supervisor = Supervisor(Config(run_id="r1", engine="direct", model=str(tmp_path)))
    clock = Clock(supervisor, monkeypatch)
    with pytest.raises(CrashLoopError, match=f"no room on the device for 302 s: {WORDS}"):
        while clock.now < 86_400:
            assert ended(supervisor, NO_ROOM)
    assert clock.now == pytest.approx(302, abs=supervisor.health.backoff_max_s)


def test_the_wait_for_room_begins_anew_where_the_trainer_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that waits for the next rollout tries nothing meanwhile."""
    supervisor = Supervisor(Config(run_id="r1", engine="fixed"))
    clock = Clock(supervisor, monkeypatch)
    assert ended(supervisor, NO_ROOM)
    listener = SimpleNamespace(events=lambda: [{"event": "waiting"}])
    supervisor._listen(cast(Any, SimpleNamespace(listener=listener, started=clock.now)), cast(Any, None))
    clock.now += 86_400
    assert ended(supervisor, NO_ROOM)


def test_one_that_loads_when_asked_waits_for_rollout(tmp_path: Path) -> None:
    """Its run is there, so that lanes can be attached; nothing is loaded before the trainer asks."""
    with sidecar(tmp_path, "memory.load=asked", ready=False) as one:
        with Controller.connect(one.run_id, 60) as controller:
            one.lane()
            until(lambda: controller.alive)
            assert not controller.ready and "ready after" not in one.said
            controller.request_phase(Phase.ROLLOUT, timeout=60)
            controller.wait_ready(60)
        assert "ready after" in one.said and "the service ended" not in one.said


def test_quantized_weights_on_a_cpu_are_refused_early() -> None:
    """By the check, not after the weights were loaded."""
    config = Config(run_id="r1", engine="direct", model="m", device="cpu", direct=DirectConfig(quantize="int8"))
    with pytest.raises(EngineUnavailableError, match=r"direct\.quantize=int8.*on the CPU: null"):
        registry.check_packages(config)
