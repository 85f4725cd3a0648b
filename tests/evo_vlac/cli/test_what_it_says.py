"""What the commands tell: losses in words, warnings that reach the terminal, tables with their legend."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evo_vlac.cli.finetune as command
import evo_vlac.swift_engine as swift_engine
from evo_vlac.cli.finetune import last_loss
from evo_vlac.cli.main import _Terminal, main
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.evaluation import write_html
from evo_vlac.swift_engine import _loaded_quietly
from evo_vlac.training.finetune import FinetuneResult
from evo_vlac.video.chart import RED
from tests.evo_vlac.conftest import TASK, ChosenEngine

NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (((10, 2.0), (20, 1.25)), "last loss 1.250"),
        (((10, 2.0), (12, NAN)), "last loss 2.000 (at step 10)"),
        (((10, NAN),), "the loss is not a number: a lower learning rate may help"),
        ((), "no loss was logged"),
    ],
)
def test_the_last_loss(losses: tuple[tuple[int, float], ...], said: str) -> None:
    """Never "nan": ms-swift's last line often reports none."""
    assert last_loss(FinetuneResult(Path("x"), 20, 1.0, losses)) == said


def test_warnings_reach_the_terminal() -> None:
    """ms-swift and modelscope raise the root logger's handlers to ERROR when they are imported."""
    code = (
        "import logging; logging.basicConfig(); from evo_vlac.swift_engine import _quiet_swift; _quiet_swift(); "
        "logging.getLogger('evo_vlac').warning('heard')"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    assert "heard" in ran.stderr
    assert type(_Terminal()) is not logging.StreamHandler


def test_a_model_is_loaded_without_noise(caplog: pytest.LogCaptureFixture) -> None:
    """transformers warns of an argument that ms-swift gives it; what it says afterwards is heard again."""
    import transformers  # noqa: F401 (it sets the level of its logger)

    noise = logging.getLogger("transformers.noise")

    def load(path: str) -> str:
        noise.warning("`torch_dtype` is deprecated")
        return path

    before = logging.getLogger("transformers").level
    assert _loaded_quietly(load, "model") == "model"
    assert "torch_dtype" not in caplog.text and logging.getLogger("transformers").level == before


def test_the_report_explains_its_columns(tmp_path: Path) -> None:
    """VOC, VROC, NR and the others."""
    page = write_html(tmp_path / "report.html", [], {}).read_text(encoding="utf-8")
    assert all(f"{word}:" in page for word in ("VOC", "VROC", "F1", "NR", "value", "done", "masked"))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The commands' engine gives this answer to everything."""

    def chosen(text: str) -> None:
        monkeypatch.setattr(swift_engine, "SwiftEngine", lambda *_, **__: ChosenEngine(lambda _: text))

    return chosen


def demos(path: Path, *episodes: tuple[int, bool | None]) -> str:
    """A file of episodes: how many frames, and whether it succeeded (None: not said)."""
    with Hdf5Writer(path, "Lift", TASK) as writer:
        for length, success in episodes:
            flags = None if success is None else (*[False] * (length - 1), success)
            frames = np.zeros((length, 16, 16, 3), np.uint8)
            writer.write(Trajectory("x", TASK, frames, dones=flags, success=success))
    return str(path)


Answers = Callable[[str], None]
Capture = pytest.CaptureFixture[str]


def test_a_critic_that_cannot_be_read(answers: Answers, tmp_path: Path, capfd: Capture) -> None:
    """It has no figures: neither VOC 0.00 of a trajectory that was judged, nor an error of calibration of 0.000, which
    is a perfect one's. It is dropped for that, and nothing of it is kept by a bound that is off."""
    answers("hm")
    file, out = demos(tmp_path / "d.h5", (1, True), (7, True)), tmp_path / "out"
    bounds = ["--max-nr", "off", "--min-voc", "off"]
    assert main(["screen", file, "--skip", "2", "--output", str(out), *bounds, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)["trajectories"]}
    assert all(row[key] is None for row in rows.values() for key in ("voc", "vroc", "voc_f1", "negative_rate", "value"))
    assert rows["d/demo_1"]["reasons"] == ["done unreadable"] and rows["d/demo_1"]["invalid"] == 9
    assert main(["screen", file, "--skip", "2", "--output", str(out)]) == 0
    text, page = capfd.readouterr().out, (out / "report.html").read_text(encoding="utf-8")
    assert "0.00" not in text and "0 of 2 kept" in text and "<th>unreadable</th>" in page and "nan" not in page
    assert "one frame: no step to judge; done unreadable" in page and "no critic could be read; done unreadable" in page
    assert main(["evaluate", file, "--skip", "2", "--no-one-shot", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["done"]["frame"]["calibration"] == {"ece": None, "brier": None, "bins": []}
    assert found["zero_shot"]["all"]["trajectories"] == 1 and found["zero_shot"]["all"]["invalid"] == 6
    assert main(["critic", file, "--episode", "1", "--skip", "3", "--done"]) == 0
    text = capfd.readouterr().out
    assert "VOC, NR and last value: unknown, 1 answers unreadable" in text and "no" not in text.split("VOC,")[0]


def test_a_single_frame(answers: Answers, tmp_path: Path, capfd: Capture) -> None:
    """There is nothing to compare, and that is what is said, in the pictures, too."""
    answers("1")
    file, picture = demos(tmp_path / "d.h5", (1, True)), tmp_path / "p.png"
    assert main(["critic", file, "--picture", str(picture)]) == 0
    assert "one frame: no step to judge" in capfd.readouterr().out
    assert has_colour(picture, RED)
    assert main(["evaluate", file]) == 0
    assert "no progress to judge" in capfd.readouterr().out


def test_plots_without_an_answer_say_why(answers: Answers, tmp_path: Path) -> None:
    """Unreadable ones; with answers there is no such word."""
    file = demos(tmp_path / "d.h5", (7, True))
    for text, said in (("hm", True), ("5", False)):
        answers(text)
        assert main(["critic", file, "--picture", str(tmp_path / "p.png")]) == 0
        assert has_colour(tmp_path / "p.png", RED) == said


def has_colour(picture: Path, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.asarray(Image.open(picture).convert("RGB")) == wanted).all(-1).any())


def test_data_that_leaves_a_table_empty(answers: Answers, tmp_path: Path, capfd: Capture) -> None:
    """Failures alone, successes unknown, no episodes at all."""
    answers("1")
    assert main(["evaluate", demos(tmp_path / "failures.h5", (7, False))]) == 0
    assert "all are known to have failed (--failures judges them, too)" in capfd.readouterr().out
    assert main(["evaluate", demos(tmp_path / "unknown.h5", (7, None))]) == 0
    assert "the data does not say which trajectories succeeded" in capfd.readouterr().out
    assert main(["screen", demos(tmp_path / "none.h5")]) == 2
    assert "none.h5 holds no trajectories" in capfd.readouterr().err


def test_answers_that_are_nothing(answers: Answers, tmp_path: Path, capfd: Capture) -> None:
    """An empty line is no answer on a terminal; a text is no action."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    image = str(tmp_path / "a.png")
    for text, said, arguments in (
        ("", "(the answer is empty)", ["ask", image, "--question", "what?"]),
        ("", "(no task was named)", ["describe", image, image]),
        ("hm", "no action can be read from the answer 'hm'", ["action", image, "--task", "t", "--state", *"1234567"]),
    ):
        answers(text)
        assert main(arguments) == 0
        assert said in capfd.readouterr().out


def test_heldout_figures_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    """``finetune --heldout`` never says "None"."""
    nothing = {"done_frames": {"precision": None, "recall": 0.0}, "voc_success_mean": None}
    monkeypatch.setattr(command, "_judged", lambda *_: nothing)
    monkeypatch.setattr(command, "_with_progress", lambda _: FinetuneResult(tmp_path, 3, 1.0, ((3, 0.5),)))
    assert main(["finetune", "--model", "m", "--output", str(tmp_path), "--demos", "d.h5", "--heldout", "h.h5"]) == 0
    assert "before: done precision - recall 0.00, VOC -\n" in capfd.readouterr().out


def test_a_question_that_was_not_trained_is_said_in_the_answer(
    answers: Answers, tmp_path: Path, capfd: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    """In the JSON beside the warning: a program does not read what is logged."""
    answers("red")
    (tmp_path / "trained_for.json").write_text('["critic", "done"]')
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "--model", str(tmp_path), "--json"]
    assert main(["ask", *arguments, "--question", "what?"]) == 0
    assert json.loads(capfd.readouterr().out) == {"question": "what?", "answer": "red", "not_trained_for": ["vqa"]}
    assert "this checkpoint was not trained for this question (vqa)" in caplog.text
    assert main(["done", *arguments, "--task", "t"]) == 0
    assert "not_trained_for" not in json.loads(capfd.readouterr().out)
