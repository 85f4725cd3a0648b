"""The inspector tells what is there, and changes nothing."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from shm_bridge import Kind, Lane, Server
from shm_bridge.inspect import png
from shm_bridge.names import SHM, entries
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import ROOT, SPEC


def inspect(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "shm_bridge.inspect", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def running(run_id):
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC, name="env-7") as lane:
        server.set_ready(True)
        server.publish_metrics(queue=3)
        lane.begin_episode(5, "lift")
        for step in range(3):
            echo.frame(lane, 5, step)
        lane.ask(Kind.DONE, 0)
        echo.answer(server, server.poll()[0])
        lane.poll()
        lane.ask(Kind.DONE, 1)
        lane.reserve()
        yield server, lane


def test_show_tells_the_state_of_lanes_and_questions(running, run_id):
    """Owner, slots by state, the oldest question, percentiles, batch sizes, epoch."""
    shown = json.loads(inspect("show", run_id, "--json"))
    assert (shown["sidecar"], shown["epoch"], shown["verdicts"], shown["pid"]) == ("ready", 1, 1, os.getpid())
    assert shown["batch_sizes"] == {"1": 1} and shown["latency_us"]["p50"] > 0 and shown["metrics"] == {"queue": 3}
    (lane,) = shown["lanes"]
    assert (lane["name"], lane["owner"], lane["episode"], lane["task"]) == ("env-7", "alive", 5, "lift")
    assert lane["frames"] == {"free": 5, "writing": 1, "retained": 3}
    assert lane["questions"]["open"] == 1 and lane["oldest_question_ms"] > 0
    assert "env-7" in inspect("show", run_id) and run_id in inspect("list")
    assert any(run["run_id"] == run_id and run["lanes"] == 1 for run in json.loads(inspect("list", "--json")))


def test_watch_without_a_terminal_is_plain_text(running, run_id):
    """Piped, it writes blocks; with --json, one object a line."""
    lines = inspect("watch", run_id, "--count", "2", "--interval", "0.05", "--json").splitlines()
    assert [json.loads(line)["verdicts"] for line in lines] == [1, 1]
    assert inspect("watch", run_id, "--count", "1").count("env-7") == 1


def test_frame_shows_what_the_critic_sees(running, run_id, tmp_path):
    """The picture is upright and holds the frame's very pixels."""
    _, lane = running
    out = tmp_path / "x.png"
    result = json.loads(inspect("frame", "env-7", "--run", run_id, "--slot", "1", "--out", str(out), "--json"))
    assert result["shape"] == [16, 24, 3]
    assert (decode(out.read_bytes()) == lane.view(1)).all()


def decode(data: bytes) -> np.ndarray:
    """Of the kind that the encoder writes: unfiltered rows."""
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind = data[at + 4 : at + 8]
        assert zlib.crc32(data[at + 4 : at + 8 + size]) == struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]
        packed += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, -1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_any_strides(channels):
    """Rotated views are encoded as they are seen."""
    image = np.arange(5 * 7 * channels, dtype=np.uint8).reshape(5, 7, channels)[::-1, ::-1]
    assert (decode(png.encode(image)) == image).all()


def test_inspection_changes_nothing(running, run_id):
    """Not a byte of any segment differs after every view was taken; the lane and its locks are as before."""
    server, lane = running
    words = [(SHM / entry.file) for entry in entries(run_id) if not entry.is_semaphore]
    before = [path.read_bytes() for path in words if path.name.endswith(("control",)) or "lane" in path.name]
    for command in (["list"], ["show", run_id], ["watch", run_id, "--count", "1"], ["clean", run_id, "--dry-run"]):
        inspect(*command)
    after = [path.read_bytes() for path in words if path.name.endswith(("control",)) or "lane" in path.name]
    assert before == after
    (question,) = server.poll()
    assert echo.answer(server, question) and len(lane.poll()) == 1


def test_clean_takes_the_dead_and_says_so_first(sidecar, run_id):
    """--dry-run names exactly what clean then removes; a living run is not touched."""
    process = sidecar()
    assert json.loads(inspect("clean", run_id, "--json")) == {}
    process.kill()
    planned = json.loads(inspect("clean", run_id, "--dry-run", "--json"))
    assert len(planned[run_id]) == 3 and len(list(entries(run_id))) == 3
    assert sorted(json.loads(inspect("clean", run_id, "--json"))[run_id]) == sorted(planned[run_id])
    assert list(entries(run_id)) == []


@pytest.mark.parametrize(
    "arguments",
    [["show", "no-such-run"], ["show", "a:b"], ["frame", "0", "--run", "no-such-run", "--out", "/tmp/x.png"]],
)
def test_mistakes_end_in_one_line(arguments):
    """The thing is named; the exit code is not 0."""
    text = inspect(*arguments, code=1)
    assert text.startswith("error: ") and len(text.splitlines()) == 1
