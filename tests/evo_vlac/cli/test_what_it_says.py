"""What the commands tell: losses in words, warnings that reach the terminal, tables with their legend."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from evo_vlac.cli.finetune import last_loss
from evo_vlac.cli.main import _Terminal
from evo_vlac.evaluation import write_html
from evo_vlac.swift_engine import _loaded_quietly
from evo_vlac.training.finetune import FinetuneResult

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
