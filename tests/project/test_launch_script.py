"""``launch.sh`` starts the checkout's packages from wherever it is called; relative paths are the caller's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_relative_paths_are_the_callers(tmp_path: Path) -> None:
    """It stays in the caller's folder, and a folder named verl there is not what is imported."""
    checkout, caller = tmp_path / "check out, a=b", tmp_path / "caller"
    (checkout / "setup").mkdir(parents=True)
    (caller / "verl" / "launch").mkdir(parents=True)
    (caller / "verl" / "launch" / "__main__.py").write_text("print('the wrong one')\n")
    (checkout / "verl" / "launch").mkdir(parents=True)
    (checkout / "verl" / "preflight").mkdir()
    for command in ("launch", "preflight"):
        told = f"import os, sys; print({command!r}, os.getcwd(), *sys.argv[1:])\n"
        (checkout / "verl" / command / "__main__.py").write_text(told)
    shutil.copy(ROOT / "launch.sh", checkout)
    venv = os.environ.get("VENV") or ROOT / ".venv"
    stub = f'ROOT="$(cd "$(dirname "${{BASH_SOURCE[0]}}")/.." && pwd)"\nVENV="{venv}"\nensure_environment() {{ :; }}\n'
    (checkout / "setup" / "environment.sh").write_text(stub)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for words in ((), ("preflight",)):
        command = [str(checkout / "launch.sh"), *words, "--config", "my, file=1.yaml"]
        ran = subprocess.run(command, cwd=caller, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.stdout == f"{words[0] if words else 'launch'} {caller} --config my, file=1.yaml\n", ran.stderr
    for words, told in (
        ((), "env=robosuite_lift"),
        (("env=libero",), "env=libero"),
        (("a=b env=c",), "a=b env=c env=robosuite_lift"),
    ):
        ran = subprocess.run(
            [command[0], *words], cwd=caller, env=environment, capture_output=True, text=True, timeout=60
        )
        assert ran.stdout == f"launch {caller} {told}\n", "the environment is named, or launch.sh's own"
