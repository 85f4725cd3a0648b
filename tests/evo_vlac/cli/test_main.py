"""The commands, with a real tiny model: text for people, one JSON object for programs, one line for errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import evo_vlac.swift_engine as swift_engine
from evo_vlac.cli.main import build_parser, main
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.video import read_video, write_video
from tests.evo_vlac.conftest import TASK, picture

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def one_model(engine: SwiftEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands load the model once for all tests."""
    monkeypatch.setattr(swift_engine, "SwiftEngine", lambda *_, **__: engine)
    monkeypatch.setattr(engine, "close", lambda: None)


@pytest.fixture
def video(tmp_path: Path) -> str:
    write_video(tmp_path / "a.mp4", [picture(i) for i in range(9)], 5)
    return str(tmp_path / "a.mp4")


@pytest.fixture
def image(tmp_path: Path) -> str:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.fixture
def demos(tmp_path: Path) -> str:
    frames = np.stack([picture(i, 16, 16) for i in range(6)])
    with Hdf5Writer(tmp_path / "demos.h5", "Lift", TASK) as writer:
        for success in (True, True, False):
            writer.write(Trajectory("x", TASK, frames, dones=(*[False] * 5, success), success=success))
    return str(tmp_path / "demos.h5")


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """A command's JSON; standard output must hold nothing else."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("command", list(build_parser()._subparsers._group_actions[0].choices))  # type: ignore
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help ends well, names --json and shows a line to try."""
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert done.value.code == 0 and "--json" in text and f"python -m evo_vlac {command}" in text


def test_critic(capfd: pytest.CaptureFixture[str], video: str, tmp_path: Path) -> None:
    """Values of the video; the annotated video, the picture and the result are written."""
    files = {name: str(tmp_path / name) for name in ("o.mp4", "o.png", "o.json")}
    out = run(
        capfd,
        "critic",
        video,
        "--task",
        TASK,
        "--skip",
        "4",
        "--done",
        "--reference",
        video,
        "--ref-num",
        "2",
        "--video",
        files["o.mp4"],
        "--picture",
        files["o.png"],
        "--output",
        files["o.json"],
        "--mode",
        "mix_f",
    )
    assert out["frames"] == [0, 4, 8] and len(out["values"]) == 3 and len(out["done"]) == 3
    assert len(read_video(files["o.mp4"])) == 9 and json.loads(Path(files["o.json"]).read_text()) == out
    assert main(["critic", video, "--task", TASK, "--skip", "8", "--rich"]) == 0
    assert "last value" in capfd.readouterr().out


def test_done(capfd: pytest.CaptureFixture[str], image: str, video: str) -> None:
    """Image by image: plain, against a goal, in context."""
    assert len(run(capfd, "done", image, image, "--task", TASK)["images"]) == 2
    assert len(run(capfd, "done", image, "--goal", image)["images"]) == 1
    assert main(["done", image, "--task", TASK]) == 0
    assert main(["done", image]) == 2
    assert "neither --task nor --goal" in capfd.readouterr().err


def test_words(capfd: pytest.CaptureFixture[str], image: str, video: str) -> None:
    """describe, ask, action."""
    assert "task" in run(capfd, "describe", video)
    assert "answer" in run(capfd, "ask", image, "--question", "What is there?")
    state = ["--state", "-18", "11", "418", "-124", "65", "-133", "0.5"]
    assert "valid" in run(capfd, "action", image, image, "--task", TASK, *state)
    assert main(["action", *[image] * 4, "--task", TASK, *state]) == 2
    assert "4 views" in capfd.readouterr().err


def test_screen(capfd: pytest.CaptureFixture[str], demos: str, tmp_path: Path) -> None:
    """A table, a report, a list of what is kept; machine-readable all the same."""
    folder = tmp_path / "out"
    out = run(capfd, "screen", demos, "--skip", "2", "--output", str(folder), "--min-voc", "off", "--min-done", "off")
    assert len(out["trajectories"]) == 3 and sorted(p.name for p in folder.iterdir()) == [
        "kept.txt",
        "report.html",
        "screening.json",
    ]
    assert (folder / "report.html").read_text().count("<figure") == 3
    assert main(["screen", demos, "--skip", "3", "--no-reverse", "--tail", "0", "--limit", "1"]) == 0
    assert "of 1 kept" in capfd.readouterr().out
    with pytest.raises(SystemExit):
        main(["screen", demos, "--min-voc", "high"])


def test_evaluate(capfd: pytest.CaptureFixture[str], demos: str) -> None:
    """The paper's table and done."""
    out = run(capfd, "evaluate", demos, "--skip", "5", "--every", "3")
    assert out["zero_shot"]["all"]["trajectories"] == 2 and out["done"]["frame"]["counts"]
    assert main(["evaluate", demos, "--no-one-shot"]) == 0
    assert "zero-shot" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["critic", "none.mp4", "--task", "x"], "no video none.mp4"),
        (["done", "none.png", "--task", "x"], "no image file none.png"),
        (["screen", "nowhere"], "no dataset at nowhere"),
        (["critic", "none.mp4", "--task", "x", "--skip", "0"], "skip is 0"),
        (["critic", "none.mp4", "--task", "x", "--mode", "odd"], "mode is 'odd'"),
        (["convert", "none", "to"], "no checkpoint at none"),
    ],
)
def test_errors_are_one_line(capfd: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """Exit code 2, the thing named, nothing on standard output."""
    assert main(arguments) == 2
    shown = capfd.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_an_empty_task_is_one_line(capfd: pytest.CaptureFixture[str], image: str) -> None:
    """Said before the model is asked anything."""
    assert main(["done", image, "--task", " "]) == 2
    assert "the task is empty" in capfd.readouterr().err


def test_as_a_program(checkpoint: Path, image: str) -> None:
    """``python -m evo_vlac`` loads the model itself; standard output holds the JSON alone; bad usage exits with 2."""
    command = [sys.executable, "-m", "evo_vlac", "done", image, "--task", TASK, "--model", str(checkpoint), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["text"] is not None
    usage = subprocess.run([*command[:3], "dance"], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert usage.returncode == 2 and "invalid choice" in usage.stderr
