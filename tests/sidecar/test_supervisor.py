"""Processes that die, hang or cannot start: each with its promised behaviour, on real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from shm_bridge import Kind, Status
from tests.support.sidecar_process import alive, leftovers, show, sidecar, until, verdict


def restarts_under_next_epoch(folder: Path, script: str, *overrides: str) -> str:
    """Asks until the scripted fault has happened; the question is answered all the same, under epoch 2."""
    with sidecar(folder, f"fixed.script={script}", "health.backoff_s=0.05", *overrides) as one:
        lane = one.lane()
        assert verdict(lane, 0).epoch == 1
        again = verdict(lane, 1)  # this one meets the fault
        assert again.valid and again.epoch == 2
        assert one.status()["ready"]
        return one.said


def test_a_crash_of_the_service_costs_no_question(tmp_path: Path) -> None:
    """Killed in a batch: restarted with epoch + 1, the pending question is answered."""
    said = restarts_under_next_epoch(tmp_path, "3:crash")  # batch 1 is the probe
    assert "killed by SIGKILL" in said and "starting it again" in said


def test_a_wedged_engine_is_noticed_and_restarted(tmp_path: Path) -> None:
    """A batch that does not come back ends the service, which says so; the question is answered by the next."""
    said = restarts_under_next_epoch(tmp_path, "3:wedge", "health.batch_s=0.5")
    assert "the engine has not come back from a batch of 1 done queries" in said


def test_a_stopped_service_is_killed(tmp_path: Path) -> None:
    """One that gives no sign of life at all (SIGSTOP) is killed by its supervisor and replaced."""
    with sidecar(tmp_path, "health.heartbeat_s=1.5", "health.backoff_s=0.05") as one:
        lane = one.lane()
        verdict(lane, 0)
        os.kill(one.service_pid(), signal.SIGSTOP)
        assert verdict(lane, 1).epoch == 2
        assert "no sign of life for 1.5 s" in one.said


def test_the_service_dies_with_its_supervisor(tmp_path: Path) -> None:
    """kill -9 of the supervisor: the kernel ends the service; another start takes the run over."""
    with sidecar(tmp_path) as one:
        pid = one.service_pid()
        one.process.kill()
        one.process.wait(10)
        until(lambda: not alive(pid))


def test_a_crash_loop_ends_with_a_reason(tmp_path: Path) -> None:
    """A service that dies again and again is not started for ever; the last line says what happened."""
    with sidecar(tmp_path, "fixed.script=1:crash", "health.max_crashes=3", "health.backoff_s=0.05", ready=False) as one:
        assert one.process.wait(30) == 70
        last = one.said.strip().splitlines()[-1]
        assert last.startswith("error: the service ended 3 times") and "SIGKILL" in last
    assert leftovers(one.run_id) == []


def test_a_service_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    """Loading has a time limit."""
    with sidecar(tmp_path, "fixed.script=1:wedge", "health.start_s=1", "health.max_crashes=1", ready=False) as one:
        assert one.process.wait(30) == 70
        assert "it was not ready within health.start_s=1 s" in one.said


def test_out_of_memory_goes_on_with_less(tmp_path: Path) -> None:
    """A batch too large for the memory is halved, and that is said."""
    with sidecar(tmp_path, "fixed.script=2:oom,3:oom", "fixed.delay_ms=300") as one:
        lane = one.lane()
        tickets = [show(lane, step) for step in range(9)]
        assert all(lane.wait(ticket, 30).valid for ticket in tickets)
        assert "out of memory with a batch of" in one.said


def test_garbage_is_an_invalid_verdict_with_its_text_and_frames(tmp_path: Path) -> None:
    """Not a number, not an exception: valid is false, the text is logged, the frame kept on request."""
    with sidecar(tmp_path, "fixed.script=2:garbage", f"invalid.frames_dir={tmp_path}/invalid") as one:
        lane = one.lane()
        bad, good = verdict(lane, 0), verdict(lane, 1)
        assert (bad.valid, bad.done, bad.status) == (False, False, Status.INVALID) and good.valid
        until(lambda: "gar-bage" in one.said)
        assert one.status()["invalid"] == 1
    names = sorted(file.name for file in (tmp_path / "invalid").iterdir())
    assert names == ["env-0-0-0-done-0.png", "env-0-0-0-done.json"]


def test_an_engine_error_is_a_failed_verdict(tmp_path: Path) -> None:
    """An exception of the engine belongs to its query; the next is answered."""
    with sidecar(tmp_path, "fixed.script=2:error") as one:
        lane = one.lane()
        bad, good = verdict(lane, 0), verdict(lane, 1)
        assert (bad.valid, bad.status) == (False, Status.FAILED) and good.valid
        assert "ValueError: scripted" in one.said


def test_one_unreadable_pair_is_a_hole_of_its_value_list(tmp_path: Path) -> None:
    """The list counts, and the share of pairs that were read travels with it; an error of the engine fails it."""
    with sidecar(tmp_path, "batch.max_size=1", "fixed.script=8:garbage,13:error,14:garbage") as one:  # 1: the probe
        lane = one.lane()
        for step in range(5):
            verdict(lane, step)  # batches 2 to 6
        held, failed = (lane.wait(lane.ask(Kind.VALUE, first=0, last=4), 30) for _ in range(2))
        assert (held.valid, held.status, held.probability) == (True, Status.OK, 0.75)
        assert held.values is not None and held.values.tolist() == pytest.approx([0, 10, 10, 19, 27.1])
        assert (failed.valid, failed.status, failed.values) == (False, Status.FAILED, None)
        whole = lane.wait(lane.ask(Kind.VALUE, first=0, last=4), 30)
        assert whole.valid and whole.probability == 1.0
        until(lambda: "a value list with unreadable answers (OK)" in one.said)
        until(lambda: "1 of 4 pairs: 'gar-bage'" in one.said)
        until(lambda: "no answer (FAILED): VALUE" in one.said and "ValueError: scripted" in one.said)


def test_a_value_list_of_holes_is_invalid(tmp_path: Path) -> None:
    """Its last pair cannot be read: no reward, but the list is there to be looked at."""
    with sidecar(tmp_path, "batch.max_size=1", "fixed.script=7:garbage") as one:
        lane = one.lane()
        for step in range(3):
            verdict(lane, step)  # batches 2 to 4
        lane.wait(lane.ask(Kind.CRITIC, before=0, after=1), 30)
        bad = lane.wait(lane.ask(Kind.VALUE, first=0, last=2), 30)
        assert (bad.valid, bad.status, bad.probability) == (False, Status.INVALID, 0.5)
        assert bad.values is not None and bad.values.tolist() == pytest.approx([0, 10, 10])


def test_verdicts_are_counted_by_status(tmp_path: Path) -> None:
    """An outage is no unreadable answer: not in the metrics, not on the page, not in the snapshot, not in the log."""
    script = "fixed.script=2:garbage,3:error,4:error,6:garbage"
    with sidecar(tmp_path, "batch.max_size=1", script, "metrics_port=0") as one:
        lane = one.lane()
        assert [verdict(lane, step).status for step in range(4)] == [
            Status.INVALID,
            Status.FAILED,
            Status.FAILED,
            Status.OK,
        ]
        assert lane.wait(lane.ask(Kind.VALUE, first=0, last=3), 30).valid  # of whose pairs the first is garbage
        wanted = {"ok": 2, "invalid": 1, "failed": 2, "expired": 0, "cancelled": 0, "unreadable_pairs": 1}
        until(lambda: wanted.items() <= dict(one.status()["metrics"]).items())  # type: ignore[call-overload]
        base = next(line.split()[-1] for line in one.said.splitlines() if "metrics at" in line).removesuffix("/metrics")
        shown, page, text = (httpx.get(base + path, trust_env=False) for path in ("/status.json", "/", "/metrics"))
        assert wanted.items() <= shown.json().items()
        assert "<td>failed<td>2.000" in page.text or "<td>failed<td>2" in page.text
        assert 'vlac_sidecar_verdicts_total{done="false",kind="DONE",status="FAILED"} 2.0' in text.text
        assert 'vlac_sidecar_verdicts_total{done="false",kind="DONE",status="INVALID"} 1.0' in text.text
        assert 'vlac_sidecar_verdicts_total{done="false",kind="DONE",status="EXPIRED"} 0.0' in text.text
        assert "vlac_sidecar_unreadable_pairs_total 1.0" in text.text
        until(lambda: "an unreadable answer (INVALID): DONE" in one.said and "no answer (FAILED): DONE" in one.said)


def test_an_unreadable_probe_is_not_ready(tmp_path: Path) -> None:
    """A model that answers with garbage never becomes ready, and starting it again would not help."""
    with sidecar(tmp_path, "fixed.script=all:garbage", ready=False) as one:
        assert one.process.wait(30) == 2
        assert "error: engine fixed does not answer a probe question" in one.said


def test_the_workers_of_a_run_survive_sigterm_of_the_service(tmp_path: Path) -> None:
    """The service alone ended by somebody: it is simply started again."""
    with sidecar(tmp_path, "health.backoff_s=0.05") as one:
        lane = one.lane()
        verdict(lane, 0)
        os.kill(one.service_pid(), signal.SIGTERM)
        until(lambda: "starting it again" in one.said)
        assert verdict(lane, 1).epoch == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Either signal: exit code 0, no process, no segment, no semaphore."""
    with sidecar(tmp_path) as one:
        pid = one.service_pid()
        one.process.send_signal(number)
        assert one.process.wait(20) == 0
        assert not alive(pid)
    assert leftovers(one.run_id) == []


def test_stopping_while_loading(tmp_path: Path) -> None:
    """SIGTERM before the service is ready ends it at once."""
    with sidecar(tmp_path, "fixed.delay_ms=60000", ready=False) as one:
        until(lambda: bool(leftovers(one.run_id)))
        one.process.terminate()
        assert one.process.wait(20) == 0
    assert leftovers(one.run_id) == []
