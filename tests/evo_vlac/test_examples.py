"""The example scripts run as they are, on the pictures that lie beside them."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest

import evo_vlac.compat.chat as chat
import evo_vlac.swift_engine as swift_engine
from evo_vlac.swift_engine import SwiftEngine

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def loaded(engine: SwiftEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What loads a model gets the tests' own; the scripts start in an empty folder."""
    for module in (swift_engine, chat):
        monkeypatch.setattr(module, "SwiftEngine", lambda *_, **__: engine)
    monkeypatch.setattr(engine, "close", lambda: None)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("critic_images.py", "lift_4.png: value"),
        ("critic_video.py", "annotated video: "),
        ("critic_screening.py", "steps to leave out"),
        ("critic_vla.py", "action: "),
    ],
)
def test_an_example_runs(
    name: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To its end, with its defaults; the model is the tests' own."""
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("odd", ["12:30, run#2", "[Müller] a=b", "~backup"])
def test_examples_take_paths_as_people_have_them(
    odd: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Relative ones, with what means something to FFmpeg or a shell."""
    Path(odd).mkdir()
    for name in ("lift_0.png", "lift_4.png", "lift_success.mp4"):
        shutil.copy(EXAMPLES / "data" / name, f"{odd}/{odd} {name}")
    film = f"{odd}/{odd} lift_success.mp4"
    pictures = [f"{odd}/{odd} lift_0.png", f"{odd}/{odd} lift_4.png"]
    for name, arguments, words in (
        ("critic_images.py", pictures, f"{odd} lift_4.png: value"),
        ("critic_vla.py", pictures, "action: "),
        ("critic_screening.py", [film, "--task", "lift it", "--skip", "12"], f"{odd} lift_success.mp4: VOC"),
        ("critic_video.py", ["--video", film, "--reference", film, "--output", f"{odd}/out"], f"video: {odd}/out/"),
    ):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert words in capsys.readouterr().out
