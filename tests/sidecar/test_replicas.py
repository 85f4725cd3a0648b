"""A critic of several processes and one doorbell: a process dies, hangs or cannot load, on real processes."""

from __future__ import annotations

import itertools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from shm_bridge import Controller, Kind, Phase, Status
from sidecar.config import Config, ReferenceConfig
from sidecar.engines.replica import Replica
from sidecar.engines.replicas import ReplicaEngine
from sidecar.errors import PERMANENT, ReplicaLostError, SidecarError
from sidecar.probe import probe_query
from tests.support.sidecar_process import READY_S, Sidecar, alive, leftovers, show, sidecar, until, verdict

TWO = ("devices=cpu,cpu", "fixed.done_at_step=5", "health.backoff_s=0.05")
LANES, STEPS = 6, 12


def replicas(one: Sidecar) -> dict[int, psutil.Process]:
    """Those that run, by their numbers."""
    children = psutil.Process(one.service_pid()).children()
    return {int(child.cmdline()[-1]): child for child in children if "replica_main" in " ".join(child.cmdline())}


def numbers(one: Sidecar) -> dict[str, Any]:
    shown = one.status()["metrics"]
    assert isinstance(shown, dict)
    return shown


def rollout(one: Sidecar, disturb: dict[int, Any]) -> list[tuple[bool, float, Status]]:
    """Every lane asks after every step and waits with the others; a value list at the end. ``disturb``: called after
    the questions of a step were asked, and before anybody waits."""
    lanes = [one.lane(f"env-{i}") for i in range(LANES)]
    got = []
    for step in range(STEPS):
        tickets = [show(lane, step) for lane in lanes]
        disturb.get(step, lambda: None)()
        got += [lane.wait(ticket, 30) for lane, ticket in zip(lanes, tickets)]
    tickets = [lane.ask(Kind.VALUE, first=0, last=STEPS - 1, stride=2) for lane in lanes]
    got += [lane.wait(ticket, 30) for lane, ticket in zip(lanes, tickets)]
    assert {verdict.epoch for verdict in got} == {1}, "the service itself has gone on"
    return [(one.done, one.probability, one.status) for one in got]


def test_a_replica_killed_in_mid_rollout_changes_no_verdict(tmp_path: Path) -> None:
    """kill -9 while its batch is under way: the same verdicts, none FAILED, none asked twice, and it comes back."""
    with sidecar(tmp_path, *TWO, "fixed.delay_ms=40") as one:
        undisturbed = rollout(one, {})
    with sidecar(tmp_path, *TWO, "fixed.delay_ms=40") as one:
        before = replicas(one)
        assert sorted(before) == [0, 1]
        disturbed = rollout(one, {4: before[0].kill})
        until(lambda: numbers(one)["replicas_up"] == 2 and numbers(one)["replica_restarts"] == 1)
        assert replicas(one)[0].pid != before[0].pid
        until(lambda: numbers(one)["asked"] == numbers(one)["answered"] == LANES * (STEPS + 1))
        assert numbers(one)["failed"] == 0
        answered, after = numbers(one)["replica_0_queries"], [one.lane(f"after-{i}") for i in range(2)]

        steps = itertools.count(7)  # each may be shown once

        def answers_again() -> bool:
            """One of the two is at home there; the other replica may take its question where this one wakes late."""
            assert all(verdict(lane, step).done for lane, step in zip(after, (next(steps), next(steps))))
            return bool(numbers(one)["replica_0_queries"] > answered)

        until(answers_again)
        assert "its batch of" in one.said or "ended while it was idle" in one.said
    assert disturbed == undisturbed
    assert all(status is Status.OK for _, _, status in undisturbed)


def test_a_wedged_replica_is_replaced_and_its_batch_answered(tmp_path: Path) -> None:
    """SIGSTOP in a batch: after health.batch_s the neighbour answers; the service goes on under its epoch."""
    with sidecar(tmp_path, *TWO, "health.batch_s=1") as one:
        lanes = [one.lane(f"env-{i}") for i in range(4)]
        first = replicas(one)[0]
        first.suspend()
        tickets = [show(lane, 5) for lane in lanes]
        assert all(lane.wait(ticket, 30).done for lane, ticket in zip(lanes, tickets))
        assert verdict(lanes[0], 6).epoch == 1
        assert "has not come back for 1 s: it is killed" in one.said
        until(lambda: numbers(one)["replicas_up"] == 2)
        assert not first.is_running()


def test_a_replica_that_cannot_even_be_killed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs in its card's driver outlives SIGKILL for a while: its caller is let go at once."""
    monkeypatch.setattr("sidecar.engines.replica._END_S", 0.1)
    replica = Replica(0, "cpu", Config(run_id="x", engine="fixed"))
    replica.start()
    replica.wait_loaded(READY_S)
    process = replica._process
    assert process is not None
    try:
        monkeypatch.setattr(process, "kill", lambda: None)
        os.kill(process.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(replica.answer, [probe_query()])
            until(lambda: replica.busy_since is not None)
            replica.kill()
            assert isinstance(call.exception(20), ReplicaLostError)
        assert not replica.up
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)


def test_when_all_are_dead_the_service_ends_and_comes_back(tmp_path: Path) -> None:
    """As with one engine: the next epoch answers what is open."""
    with sidecar(tmp_path, *TWO, "fixed.delay_ms=1500", "health.backoff_max_s=60") as one:
        lanes = [one.lane(f"env-{i}") for i in range(2)]
        tickets = [show(lane, 5) for lane in lanes]
        time.sleep(0.5)  # each has a question in hand by now: one that is idle is missed later, with the other back
        for child in replicas(one).values():
            child.kill()
        verdicts = [lane.wait(ticket, 30) for lane, ticket in zip(lanes, tickets)]
        assert all(verdict.done and verdict.epoch == 2 for verdict in verdicts)


def test_phases_reach_all_and_one_lost_in_update_comes_back_after_it(tmp_path: Path) -> None:
    """In UPDATE nothing is loaded, also not in the place of one that dies; in ROLLOUT both answer again."""
    with sidecar(tmp_path, *TWO) as one:
        lanes = [one.lane(f"env-{i}") for i in range(4)]
        assert all(verdict(lane, 0).valid for lane in lanes)
        with Controller.connect(one.run_id, 10) as controller:
            controller.request_phase(Phase.UPDATE, 10)
            killed = replicas(one)[1]
            killed.kill()
            until(lambda: numbers(one)["replicas_up"] == 1)
            assert sorted(replicas(one)) == [0]
            tickets = [show(lane, 5) for lane in lanes]
            controller.request_phase(Phase.ROLLOUT, 10)
        assert all(lane.wait(ticket, 30).done for lane, ticket in zip(lanes, tickets))
        until(lambda: numbers(one)["replicas_up"] == 2)


def test_an_idle_replica_is_probed_too(tmp_path: Path) -> None:
    """One that hangs while nobody asks is found by its probe."""
    with sidecar(tmp_path, *TWO, "health.probe_every_s=0.2", "health.batch_s=0.5") as one:
        replicas(one)[1].suspend()
        until(lambda: numbers(one).get("replica_restarts") == 1 and numbers(one)["replicas_up"] == 2)
        assert one.status()["epoch"] == 1


def test_replicas_end_with_their_service(tmp_path: Path) -> None:
    """Whether it is told to end or killed, nothing of it is left."""
    with sidecar(tmp_path, *TWO) as one:
        pids = [child.pid for child in replicas(one).values()]
        os.kill(one.service_pid(), signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in pids))
        one.wait_ready()
        pids = [child.pid for child in replicas(one).values()]
        assert one.stop() == 0
        until(lambda: not any(alive(pid) for pid in pids))
    assert leftovers(one.run_id) == []


def test_a_replica_that_cannot_be_says_why(tmp_path: Path) -> None:
    """What no other start would help ends all of them, with the replica's name and its line; none is left."""
    config = Config(run_id="x", engine="fixed", reference=ReferenceConfig(folder=str(tmp_path / "nowhere")))
    with pytest.raises(SidecarError, match=r"replica 0 on cpu: reference\.folder=.*nowhere: no such folder") as error:
        ReplicaEngine(config, ["cpu", "cpu"])
    assert error.value.exit_code == PERMANENT
    assert not [one for one in psutil.Process().children() if "replica_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_the_direct_engine_gives_the_same_verdicts_by_replicas(tmp_path: Path, critic_path: Path) -> None:
    """Two processes with the real model against one: every frame, and a value list over frames that were seen."""

    def asked(*keys: str) -> list[Any]:
        with sidecar(tmp_path, f"model={critic_path}", *keys, engine="direct") as one:
            lanes = [one.lane(f"env-{i}") for i in range(2)]
            dones = [verdict(lane, step).probability for step in range(4) for lane in lanes]
            values = [lane.wait(lane.ask(Kind.VALUE, first=0, last=3), 60) for lane in lanes]
            if keys[0] != "device=cpu":
                until(lambda: all(numbers(one)[f"replica_{i}_queries"] for i in range(2)))
            return [dones, [value.status for value in values]]

    alone, several = asked("device=cpu", "batch.max_size=1"), asked("devices=cpu,cpu", "batch.max_size=1")
    assert several[0] == pytest.approx(alone[0], abs=1e-5, nan_ok=True) and several[1] == alone[1]
