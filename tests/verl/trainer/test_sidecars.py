"""Sidecars through the phases: what died or stopped is started again and asked anew. Hosts are stand-ins, no Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from shm_bridge.errors import SidecarDied, SidecarUnreachable
from verl.errors import SidecarLostError
from verl.trainer import sidecars as sidecars_module
from verl.trainer import watchdog
from verl.trainer.heartbeat import SILENT_S
from verl.trainer.load_limits import LoadLimit
from verl.trainer.sidecars import PHASE_TIMEOUT_S, Sidecars
from verl.workers.work import Report

DIED = SidecarDied("the sidecar died on the way to phase ROLLOUT")
READY_S = 100.0


class Call:
    """Answered by ``result`` (raised, when it is an error); never when the host is stopped."""

    def __init__(self, host: FakeHost, result: Any) -> None:
        self.host, self.result = host, result


class FakeHost:
    """``phases``: the answers to the requests of a phase, the last one for ever."""

    def __init__(self, *phases: Any, restarts: int = 0, stopped: bool = False, dead: bool = False) -> None:
        self.phases, self.restarts, self.stopped, self.dead = list(phases) or [None], restarts, stopped, dead
        self.asked: list[str] = []
        report = Report("here", 7, None, 0, 0)
        self.report = SimpleNamespace(options=lambda **groups: self._method("report", lambda: report))
        self.start = self._method("start", lambda: None)
        self.check = self._method("check", lambda: self.restarts)
        self.phase = self._method("phase", lambda: self.phases.pop(0) if len(self.phases) > 1 else self.phases[0])

    def _method(self, name: str, answer: Callable[[], Any]) -> Any:
        def remote(*arguments: Any) -> Call:
            if name != "report":
                self.asked.append(name)
            return Call(self, ActorDiedError() if self.dead else answer())

        return SimpleNamespace(remote=remote)


@pytest.fixture
def world(monkeypatch):
    """Time moves by waiting alone."""
    state = SimpleNamespace(now=0.0)

    def wait(calls, num_returns=1, timeout=None):
        ready = [call for call in calls if not call.host.stopped]
        if len(ready) < num_returns:
            state.now += timeout or 0.0
        return ready, [call for call in calls if call.host.stopped]

    def get(call):
        if isinstance(call.result, Exception):
            raise call.result if isinstance(call.result, ActorDiedError) else RayTaskError("phase", "", call.result)
        return call.result

    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr("ray.kill", lambda actor: None)
    monkeypatch.setattr(
        sidecars_module, "time", SimpleNamespace(monotonic=lambda: state.now, sleep=lambda s: advance(s))
    )
    monkeypatch.setattr(watchdog.OwnTime.__init__, "__defaults__", (lambda: state.now,))

    def advance(seconds: float) -> None:
        state.now += seconds

    return state


def make(host: FakeHost, *later: FakeHost, watched: bool = True, size: int = 0) -> tuple[Sidecars, list[str]]:
    """One node with ``host``; ``later`` are made in its place."""
    others, said = iter(later), []
    node = SimpleNamespace(node_id="a", address="10.0.0.1", sidecar=host)
    cluster = SimpleNamespace(nodes=[node], look=lambda: [node])
    cluster.make_host = lambda node: setattr(node, "sidecar", next(others))
    return Sidecars(cluster, watched, 3, said.append, LoadLimit(Path("models/vlac"), size, READY_S)), said


def test_a_supervisor_killed_in_an_update_is_started_again_and_the_phase_asked_anew(world):
    """The host is asked to look for the process before each request."""
    host = FakeHost(DIED, None)
    sidecars, _ = make(host)
    sidecars.phase("ROLLOUT")
    assert host.asked == ["check", "phase", "check", "phase"]


def test_a_sidecar_that_loads_its_model_is_waited_for_up_to_the_configured_time(world):
    host = FakeHost(*[SidecarUnreachable("no sidecar")] * 40, None)
    sidecars, _ = make(host)
    sidecars.phase("ROLLOUT")
    assert 10 < world.now < READY_S
    sidecars, _ = make(FakeHost(SidecarUnreachable("no sidecar there")))
    with pytest.raises(SidecarLostError, match=r"10\.0\.0\.1 did not reach ROLLOUT within .*no sidecar there"):
        sidecars.phase("ROLLOUT")
    assert world.now < 2 * (READY_S + PHASE_TIMEOUT_S)


def test_a_large_critic_may_be_as_late_as_its_size_takes_and_that_is_said_once(world):
    """5 GB: 200 s more than critic.ready_timeout_s, on a line of the screen; then a typed error says what it loads."""
    host = FakeHost(*[SidecarUnreachable("restoring")] * 500, None)
    sidecars, said = make(host, size=5 * 10**9)
    sidecars.phase("ROLLOUT")
    assert PHASE_TIMEOUT_S + READY_S < world.now < PHASE_TIMEOUT_S + READY_S + 200
    (line,) = said
    assert "10.0.0.1 did not reach ROLLOUT" in line and "it loads 5.0 GB from models/vlac" in line
    sidecars, _ = make(FakeHost(SidecarUnreachable("restoring")), size=5 * 10**9)
    with pytest.raises(SidecarLostError, match=r"restoring \(it loads 5.0 GB from models/vlac; .*ready_timeout_s=100"):
        sidecars.phase("ROLLOUT")


@pytest.mark.parametrize("fault", ["stopped", "dead"])
def test_a_host_that_stopped_or_died_in_an_update_is_replaced_and_its_successor_told(world, fault):
    first, second = FakeHost(), FakeHost(SidecarUnreachable("starting"), None)
    sidecars, said = make(first, second)
    sidecars.tick()
    world.now += 2
    sidecars.tick()
    setattr(first, fault, True)
    sidecars.phase("ROLLOUT")
    assert second.asked[0] == "start" and second.asked.count("phase") == 2
    assert world.now < SILENT_S + 30
    assert sidecars.state() == {"sidecars": 0, "sidecar_hosts": 1} and len(said) == 1


def test_a_host_that_is_lost_again_and_again_ends_the_run(world):
    sidecars, _ = make(FakeHost(dead=True), *[FakeHost(dead=True) for _ in range(9)])
    with pytest.raises(SidecarLostError, match="again and again"):
        sidecars.phase("UPDATE")


def test_a_sidecar_that_is_not_ours_is_asked_anew_but_never_started(world):
    host = FakeHost(DIED, None)
    sidecars, _ = make(host, watched=False)
    sidecars.phase("UPDATE")
    assert host.asked == ["phase", "phase"]


def test_what_was_replaced_is_counted_over_a_resume_and_over_a_host_s_life(world):
    """A new host counts its sidecar's restarts from zero; the run's number never falls."""
    first, second = FakeHost(restarts=2), FakeHost(restarts=1)
    sidecars, _ = make(first, second)
    sidecars.restore({"sidecars": 5, "sidecar_hosts": 1})
    sidecars.phase("UPDATE")
    first.dead = True
    sidecars.phase("ROLLOUT")
    sidecars.phase("UPDATE")
    assert sidecars.state() == {"sidecars": 5 + 2 + 1, "sidecar_hosts": 2}
