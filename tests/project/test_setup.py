"""launch.sh and the set-up as a newcomer meets them, without installing anything."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_is_about_launch_sh_and_sets_nothing_up(tmp_path: Path, flag: str) -> None:
    """env=, hardware=, the environment variables, examples: at once, also where there is no environment yet."""
    environment = {**os.environ, "VENV": str(tmp_path / "venv")}
    done = subprocess.run([ROOT / "launch.sh", flag], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and not (tmp_path / "venv").exists()
    for word in ("usage: ./launch.sh", "env=", "hardware=", "SIDECAR_PYTHON", "LIBERO_ASSETS", "examples:"):
        assert word in done.stdout
    presets = {file.stem for file in (ROOT / "verl" / "trainer" / "config" / "hardware").glob("*.yaml")}
    assert all(preset in done.stdout for preset in presets)


def shell(tmp_path: Path, command: str) -> str:
    """A bash line with the set-up's functions at hand."""
    return f"VENV={tmp_path}/venv; source '{ROOT}/setup/environment.sh'; {command}"


def on_a_terminal(line: str) -> tuple[int, str]:
    """Exit code and screen of a bash line whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(["bash", "-c", line], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        seen += block
    os.close(ours)
    return process.wait(30), seen.decode()


def test_a_long_step_shows_its_latest_line_on_a_terminal_and_nothing_in_a_log(tmp_path: Path) -> None:
    """pip's progress in one line that is gone afterwards; the exit code is the command's."""
    step = f"with_progress {tmp_path}/log bash -c 'echo Collecting torch; sleep 1.2; exit 3'"
    code, screen = on_a_terminal(shell(tmp_path, step))
    assert code == 3 and "Collecting torch" in screen and screen.endswith("\r\x1b[K")
    quiet = subprocess.run(["bash", "-c", shell(tmp_path, step)], capture_output=True, text=True, timeout=30)
    assert quiet.returncode == 3 and quiet.stderr == quiet.stdout == ""
    assert (tmp_path / "log").read_text() == "Collecting torch\n"


def test_an_interrupted_set_up_takes_its_step_along(tmp_path: Path) -> None:
    """A script's background command does not get the terminal's Ctrl-C."""
    step = f"with_progress {tmp_path}/log bash -c 'echo $$ >{tmp_path}/pid; exec sleep 60'"
    process = subprocess.Popen(["bash", "-c", shell(tmp_path, step)], start_new_session=True)
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 130
    pid = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the step goes on"
        time.sleep(0.05)


def test_a_path_with_a_space_and_brackets_is_taken_as_it_is(tmp_path: Path) -> None:
    """The checkout in "My [x] Projects": the set-up's own functions name files there."""
    folder = tmp_path / "My [x] Projects" / "vlac"
    folder.mkdir(parents=True)
    for name in ("setup", "pyproject.toml", "shm_bridge"):
        (folder / name).symlink_to(ROOT / name)
    line = f"source '{folder}/setup/environment.sh'; echo \"$ROOT|$VENV|$TORCH_VERSION\""
    environment = {name: value for name, value in os.environ.items() if name != "VENV"}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=30)
    root, venv, torch = done.stdout.strip().split("|")
    assert root == str(folder) and venv == f"{folder}/.venv" and torch
