"""The example scripts run as they are, on the pictures that lie beside them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

import evo_vlac.compat.chat as chat
import evo_vlac.swift_engine as swift_engine
from evo_vlac.swift_engine import SwiftEngine

EXAMPLES = Path(__file__).parents[2] / "examples"


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
    engine: SwiftEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """To its end, with its defaults; the model is the tests' own."""
    for module in (swift_engine, chat):
        monkeypatch.setattr(module, "SwiftEngine", lambda *_, **__: engine)
    monkeypatch.setattr(engine, "close", lambda: None)
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert words in capsys.readouterr().out
