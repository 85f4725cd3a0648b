"""docs/hardware.md prints what ``./launch.sh preflight --plan`` prints. ``python -m tests.project.test_hardware_page``
writes it anew."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from verl.preflight.__main__ import show_plan
from verl.trainer.load_config import load_config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hardware.md"
COMMANDS = {
    "laptop": ["env=robosuite", "hardware=laptop"],
    "h100_1": ["env=libero", "hardware=h100_1"],
    "h100_8": ["env=libero", "hardware=h100_8"],
    "h100_2x8": ["env=libero", "hardware=h100_2x8"],
}


def printed(preset: str) -> str:
    """A code block: the command and what it prints."""
    config, _ = load_config(COMMANDS[preset])
    screen = io.StringIO()
    assert show_plan(config, Console(file=screen, width=100, soft_wrap=True, highlight=False)) == 0
    said = re.sub(r"\n{2,}", "\n\n", "\n".join(line.rstrip() for line in screen.getvalue().splitlines()))
    return f"```text\n$ ./launch.sh preflight --plan {' '.join(COMMANDS[preset])}\n{said}\n```"


def block(preset: str) -> re.Pattern[str]:
    command = re.escape(f"$ ./launch.sh preflight --plan {' '.join(COMMANDS[preset])}\n")
    return re.compile(f"```text\n{command}.*?```", re.DOTALL)


@pytest.mark.parametrize("preset", COMMANDS)
def test_the_page_prints_what_the_command_prints(preset, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert block(preset).findall(PAGE.read_text()) == [printed(preset)]


if __name__ == "__main__":
    text = PAGE.read_text()
    for name in COMMANDS:
        text = block(name).sub(lambda _, name=name: printed(name), text)
    PAGE.write_text(text)
