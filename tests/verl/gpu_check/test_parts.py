"""A part is a process with a limit: whatever happens in it is a line of the report, and the others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from verl.gpu_check import __main__ as gpu_check
from verl.gpu_check.goals import against_plan, goals
from verl.gpu_check.parts import PARTS, Part, last_json, reason, run_part

ROOT = Path(__file__).resolve().parents[3]
ASKED = ["peak", "critic", "policy", "phases", "weights"]
AWAY = ("ray", "vllm", "mujoco", "robosuite", "libero", "posix_ipc", "hydra")


def python(code: str, seconds: float = 60.0) -> Part:
    return Part(seconds, lambda device, shape: [sys.executable, "-c", code], dict)


def test_figures_are_the_last_object_that_is_printed() -> None:
    """What libraries print before and after it does not matter."""
    part = python("print('{not json'); print('{\"ms\": 1.5}'); print('bye')")
    assert run_part(part, "cpu", "tiny", 60)["figures"] == {"ms": 1.5}
    assert last_json('{\n "a": 1\n}\n') == {"a": 1}


def test_a_part_that_fails_is_one_line() -> None:
    """The exception, not what was said after it; an output without figures is shown."""
    assert run_part(python("import nothing_of_that_name"), "cpu", "tiny", 60)["error"] == (
        "exit code 1: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    )
    assert "cannot be read" in run_part(python("print('no figures')"), "cpu", "tiny", 60)["error"]
    assert reason("Traceback\n  File x\ntorch.OutOfMemoryError: CUDA out of memory\n[rank0] warning\n") == (
        "torch.OutOfMemoryError: CUDA out of memory"
    )


def test_a_part_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    """Its limit, or what is left of the whole check's time; with none left it is not begun."""
    file = tmp_path / "pid"
    code = f"""
        import pathlib, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(file)!r}).write_text(str(child.pid))
        time.sleep(600)
    """
    assert "not done within its 5 s" in run_part(python(textwrap.dedent(code)), "cpu", "tiny", 5.0)["error"]
    end = time.monotonic() + 10
    while psutil.pid_exists(int(file.read_text())) and time.monotonic() < end:
        time.sleep(0.01)
    assert not psutil.pid_exists(int(file.read_text()))
    assert "was used up" in run_part(python(""), "cpu", "tiny", 0.0)["error"]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what to do instead."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_check.main(["--minutes", "60"]) == 2
    assert capsys.readouterr().err.startswith("no GPU: ")


def test_goals_are_judged_by_what_was_measured() -> None:
    """Only of parts that were; at least and at most."""
    judged = goals({"phases": {"card_used_in_update_gb": 0.7, "back_to_first_verdict_s": 2.0}})
    assert [(one["goal"], one["met"]) for one in judged] == [("<= 1", True), ("<= 1.5", False)]


@pytest.mark.timeout(600)
def test_memory_is_compared_with_the_plan() -> None:
    """Of what was measured on a card alone; an update takes more than a rollout, and both fit an H100."""
    planned = run_part(PARTS["plan"], "cpu", "published", 600, patience=10)["figures"]
    assert 15 < planned["rollout_gb"] < planned["update_gb"] < 40 and 4.4 < planned["most_held_gb"] < 10
    found = against_plan({"policy": {"rollout_gb": 16.0, "update_gb": 0.0}, "plan": planned})
    assert found == {"rollout worker": {"planned_gb": planned["rollout_gb"], "measured_gb": 16.0}}


@pytest.mark.timeout(1200)
def test_the_gpu_parts_run_without_ray_simulator_and_vllm(tmp_path: Path) -> None:
    """In small and on the CPU, with those packages away: every figure that a goal is for is there."""
    file = tmp_path / "report.json"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Away:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {AWAY!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Away())\n"
    )
    command = [sys.executable, "-m", "verl.gpu_check", "--device", "cpu", "--shape", "tiny", "--json", str(file)]
    done = subprocess.run(
        [*command, "--only", ",".join(ASKED), "--minutes", "60"],
        cwd=ROOT,
        env={**os.environ, "SIDECAR_PYTHON": "", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert len(report["goals"]) == 5 and list(report["parts"]) == [*ASKED, "plan"]
    assert report["parts"]["critic"]["figures"]["same_verdicts"] == 1
    assert "times the straightforward way" in done.stdout


@pytest.mark.libero
@pytest.mark.timeout(600)
def test_a_libero_step_is_measured() -> None:
    """Physics and picture apart."""
    figures = run_part(PARTS["libero"], "cpu", "tiny", 600, patience=10)["figures"]
    assert figures["physics_ms"] > 0 and figures["render_ms"] > 0
