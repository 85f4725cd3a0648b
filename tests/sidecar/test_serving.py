"""A sidecar process and a worker over real shared memory: verdicts, batches, values, phases, numbers, the end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from shm_bridge import Controller, Kind, Phase, Status, VerdictTimeout
from tests.support.sidecar_process import Sidecar, leftovers, show, sidecar, until, verdict


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One sidecar with the stand-in engine for the tests that only ask."""
    folder = tmp_path_factory.mktemp("serving")
    files = (f"log.file={folder}/log.jsonl", f"trace={folder}/trace.json")
    with sidecar(folder, "fixed.done_at_step=5", "fixed.delay_ms=20", "metrics_port=0", *files) as one:
        yield one


def test_done_and_value(served: Sidecar) -> None:
    """Verdicts come with probability and validity; a value list begins with 0, ends with the last frame, in percent."""
    lane = served.lane("values")
    verdicts = [verdict(lane, step) for step in range(8)]
    assert [one.done for one in verdicts] == [False] * 5 + [True] * 3
    assert all(one.valid and one.status is Status.OK and 0 <= one.probability <= 1 for one in verdicts)
    assert all(math.isnan(one.value) for one in verdicts)
    value = lane.wait(lane.ask(Kind.VALUE, first=0, last=7, stride=3), 30)
    assert value.valid and value.values is not None
    assert value.values.tolist() == pytest.approx([0.0, 10.0, 19.0, 27.1])  # frames 0, 3, 6 and 7
    assert value.value == pytest.approx(27.1)
    pair = lane.wait(lane.ask(Kind.CRITIC, before=0, after=7), 30)
    assert pair.valid and pair.value == pytest.approx(10.0)


def test_a_value_of_one_frame_needs_no_engine(served: Sidecar) -> None:
    """There is nothing to compare: the list is [0]."""
    lane = served.lane("short")
    verdict(lane, 0)
    value = lane.wait(lane.ask(Kind.VALUE, first=0, last=0), 30)
    assert value.valid and value.values is not None and value.values.tolist() == [0.0]


def test_what_comes_while_the_engine_works_is_one_batch(served: Sidecar) -> None:
    """Eight questions at once: the first may go alone, the others go together."""
    lane = served.lane("many")
    tickets = [show(lane, step) for step in range(8)]
    sizes = [lane.wait(ticket, 30).batch_size for ticket in tickets]
    assert max(sizes) >= 4


def test_a_question_given_up_is_let_go(served: Sidecar) -> None:
    """Cancelling an episode's questions frees its frames: the next episode uses the same places."""
    lane = served.lane("cancels")
    for episode in range(1, 6):
        for step in range(30):
            show(lane, step)
        lane.end_episode()
        lane.begin_episode(episode, "lift the red cube")
    assert verdict(lane, 6).done


def test_phases_are_acknowledged_and_questions_wait(served: Sidecar) -> None:
    """In UPDATE nothing is answered; what was asked is answered when ROLLOUT is back."""
    lane = served.lane("phases")
    with Controller.connect(served.run_id, 10) as controller:
        controller.request_phase(Phase.UPDATE, 10)
        ticket = show(lane, 0)
        with pytest.raises(VerdictTimeout):
            lane.wait(ticket, 0.5)
        controller.request_phase(Phase.ROLLOUT, 10)
    assert lane.wait(ticket, 30).valid


def test_numbers_for_prometheus_people_and_the_inspector(served: Sidecar) -> None:
    """The same numbers at /metrics, /status.json and through the bridge."""
    verdict(served.lane("numbers"), 0)
    until(lambda: served.status()["metrics"].get("answered", 0) >= 1)
    address = next(line.split()[-1] for line in served.said.splitlines() if "metrics at" in line)
    base = address.removesuffix("/metrics")
    text = httpx.get(address, trust_env=False).text
    for name in ("verdicts_total", "batch_size_bucket", "stage_seconds_bucket", "engine_busy_seconds", "queue_depth"):
        assert f"vlac_sidecar_{name}" in text
    assert httpx.get(f"{base}/readyz", trust_env=False).status_code == 200
    assert served.run_id in httpx.get(f"{base}/", trust_env=False).text
    shown = served.status()["metrics"]
    assert isinstance(shown, dict) and shown["answered"] >= 1 and shown["epoch"] == 1
    assert httpx.get(f"{base}/status.json", trust_env=False).json()["epoch"] == 1


def test_logs_are_json_lines(served: Sidecar) -> None:
    """Every line of the log file is an object with time, level and message."""
    entries = [json.loads(line) for line in (served.log.parent / "log.jsonl").read_text().splitlines()]
    assert entries and all({"time", "level", "message"} <= set(entry) for entry in entries)
    trace = [entry["numbers"] for entry in entries if "numbers" in entry]
    assert trace and {"engine_busy_share", "queue_s", "total_s"} <= set(trace[-1])
    assert "engine_busy_share" not in served.said


def test_the_trace_shows_batches_waits_and_phases(served: Sidecar) -> None:
    """While it is still being written: batches with their sizes, what waited for them, phases, the busy share."""
    with Controller.connect(served.run_id, 10) as controller:
        controller.request_phase(Phase.UPDATE, 10)
        controller.request_phase(Phase.ROLLOUT, 10)
    assert verdict(served.lane("traced"), 0).valid
    file = served.log.parent / "trace.json"

    def events(name: str) -> list[dict[str, Any]]:
        whole = file.read_text().rpartition("\n")[0].removesuffix(",")
        return [one for one in json.loads(whole + "]") if one["name"] == name]

    until(lambda: "done x 1" in file.read_text() and "to ROLLOUT" in file.read_text())
    (batch, *_), (wait, *_) = events("done x 1"), events("waiting: done")
    assert batch["ph"] == "X" and batch["dur"] >= 20_000 and batch["args"]["size"] == 1
    assert wait["ph"] == "b" and wait["ts"] <= batch["ts"]
    assert events("to UPDATE") and events("to ROLLOUT")
    until(lambda: any(one["args"]["value"] > 0 for one in events("engine busy share")))


def test_sigterm_drains(tmp_path: Path) -> None:
    """What was asked before SIGTERM is answered; then everything ends with 0 and nothing is left behind."""
    with sidecar(tmp_path, "fixed.delay_ms=100", "batch.max_size=2") as one:
        lane = one.lane()
        tickets = [show(lane, step) for step in range(6)]
        lane.wait(tickets[0], 30)
        one.process.terminate()
        assert all(lane.wait(ticket, 30).valid for ticket in tickets[1:])
        assert one.process.wait(20) == 0
        lane.close()
        one.lanes.clear()
    assert leftovers(one.run_id) == []


def test_the_direct_engine_serves(tmp_path: Path, critic_path: Path) -> None:
    """A real model behind the bridge gives the verdicts it gives when called."""
    from evo_vlac.parsing import parse_done
    from evo_vlac.queries import done_query
    from sidecar.config import Config
    from sidecar.engines.direct import load_direct

    engine = load_direct(Config(run_id="x", model=str(critic_path)))
    frames = [np.random.default_rng(step).integers(0, 256, (16, 16, 3), np.uint8) for step in range(12)]
    expected = [parse_done(a) for a in engine.answer([done_query(frame, "lift the red cube") for frame in frames])]
    with sidecar(tmp_path, f"model={critic_path}", engine="direct") as one:
        lane = one.lane()
        got = [verdict(lane, step) for step in range(12)]
    for ours, theirs in zip(got, expected):
        assert (ours.valid, ours.done) == (theirs.valid, theirs.done)
        assert not theirs.valid or ours.probability == pytest.approx(theirs.probability, abs=1e-4)
