"""How a run's end is told: an error that comes while it is being stopped is not lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from rich.console import Console

from verl.errors import RunFailedError, SharedMemoryRemovedError
from verl.launch import interrupt
from verl.trainer import main_ppo
from verl.trainer.load_config import load_config
from verl.trainer.run_folder import RunFolder


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs what is given in the place of the training; the exit code."""
    monkeypatch.setattr(interrupt, "_asked", [])
    monkeypatch.setattr(interrupt, "_cause", None)
    config, tree = load_config([])

    def run(train) -> int:
        monkeypatch.setattr(main_ppo, "_train", lambda *_: train())
        return main_ppo._run(config, tree, RunFolder(str(tmp_path), "a-run"), Console())

    return run


def test_an_error_while_the_run_ends_itself_does_not_hide_why(ended, capfd):
    """The run's own cause is the error, and the exit code that of a failure."""

    def train() -> None:
        interrupt.ask(SharedMemoryRemovedError("the files are gone"))
        raise RunFailedError("a learner died")

    assert ended(train) == 1
    said = capfd.readouterr()
    assert "error: the files are gone" in said.err and "while it was stopping: a learner died" in said.out


def test_an_error_after_a_signal_is_told(ended, capfd):
    """An update that is finished first may still fail."""

    def train() -> None:
        interrupt._asked.append((0.0, signal.SIGTERM))
        raise RunFailedError("a learner died")

    assert ended(train) == interrupt.EXIT_CODE
    said = capfd.readouterr().out
    assert "while it was stopping: a learner died" in said and "interrupted" in said
