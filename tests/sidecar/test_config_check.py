"""``python -m sidecar --check``: everything that is wrong, a line each, in a moment and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidecar.config_check import problems

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "models" / "vlac-tiny"


def check(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar", "--check", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_the_command_says_each_mistake_in_a_line(tmp_path: Path) -> None:
    """Key, value, what is allowed; exit code 2; no traceback; in under five seconds."""
    file = tmp_path / "s.yaml"
    file.write_text("run_id: r1\nengine: direct\nmodel: m\nbatch: {max_size: 0, maxwait: 3}\nmetrics_port: 70000\n")
    started = time.monotonic()
    done = check("--config", str(file), "threshold=1.5")
    assert time.monotonic() - started < 5
    assert (done.returncode, done.stderr) == (2, "")
    assert sorted(done.stdout.splitlines()) == [
        "batch.max_size=0: allowed: 1 to 4096",
        "batch.maxwait: unknown key; did you mean batch.max_wait_ms? known: max_size, max_wait_ms",
        "metrics_port=70000: allowed: null, 0 (any free one) or a port number",
        "threshold=1.5: allowed: 0 <= threshold < 1",
    ]


def test_the_command_is_silent_when_all_is_well() -> None:
    """Exit code 0; the file may come through a pipe; nothing is started."""
    done = check("--config", "/dev/stdin", text=f"{{run_id: r1, model: {TINY}}}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_cpu_build_of_torch_beside_gpus_is_noticed(tmp_path: Path) -> None:
    """Not refused: one line on standard error, by the packages' list alone; none where the CPU is meant."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'\n")
    smi.chmod(0o755)
    (tmp_path / "torch-2.13.0+cpu.dist-info").mkdir()
    (tmp_path / "torch-2.13.0+cpu.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.13.0+cpu\n")
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "sidecar", "--check", "run_id=r1", f"model={TINY}"]
    for device, said in (
        ("auto", "warning: device=auto takes the CPU: torch 2.13.0+cpu is the CPU build"),
        ("cpu", ""),
    ):
        done = subprocess.run(
            [*command, f"device={device}"], capture_output=True, text=True, env={**os.environ, **paths}, check=False
        )
        assert done.returncode == 0 and done.stderr.startswith(said) and bool(done.stderr) == bool(said)


def test_torch_is_not_imported() -> None:
    """It costs seconds; the package is only looked for."""
    code = (
        "import sys; from sidecar.config_check import problems; "
        f"found = problems(None, ['run_id=r1', 'model={TINY}']); sys.exit('torch' in sys.modules or bool(found))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=nowhere"], ["model=nowhere: no checkpoint at nowhere: there is no such folder"]),
        (["model=docs"], ["model=docs: docs is not a checkpoint: config.json is missing"]),
        (["engine=fixed", "reference.folder=nowhere"], ["reference.folder=nowhere: no such folder"]),
        (["engine=fixed", "adapter=x"], ["adapter=x: engine=fixed takes none; merge it first"]),
        (
            ["model=docs", "adapter=docs", "reference.folder=nowhere"],
            ["model=docs: ", "adapter=docs: no adapter at docs", "reference.folder=nowhere"],
        ),
    ],
)
def test_what_is_not_there_is_named(overrides: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, packages: each with its key."""
    monkeypatch.chdir(ROOT)
    found = problems(None, ["run_id=r1", *overrides])
    assert len(found) == len(said) and all(line.startswith(begin) for line, begin in zip(found, said))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of it is imported."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert problems(None, ["run_id=r1", f"model={TINY}"]) == ["engine=direct: the package torch is not installed here"]
