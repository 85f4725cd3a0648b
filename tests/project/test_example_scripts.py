"""The shell scripts in examples/: paths arrive as they were given, relative ones are the caller's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from verl.trainer.load_config import load_config

ROOT = Path(__file__).parents[2]
ODD = ["check point=1, [new]", "Müller's 12:30", "~backup", "a\\b#c", "007"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The examples beside a ``launch.sh`` that prints its folder and its arguments, each ended by NUL."""
    root = tmp_path / "check out, a=b"
    shutil.copytree(ROOT / "examples", root / "examples", ignore=shutil.ignore_patterns("data", "__pycache__"))
    (root / "launch.sh").write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$PWD" "$@"\n')
    (root / "launch.sh").chmod(0o755)
    (root / "setup").mkdir()
    venv = os.environ.get("VENV") or ROOT / ".venv"
    stub = f'ROOT="{root}"\nVENV="{venv}"\nensure_environment() {{ :; }}\n'
    (root / "setup" / "environment.sh").write_text(stub)
    return root


def called(script: Path, caller: Path, *arguments: str, **environment: str) -> list[str]:
    caller.mkdir(exist_ok=True)
    command = ["bash", str(script), *arguments]
    ran = subprocess.run(
        command, cwd=caller, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    folder, *given = ran.stdout.rpartition("\n")[2].split("\0")[:-1]
    assert folder == str(caller), "the caller's folder, for relative paths"
    return given


@pytest.mark.parametrize("odd", ODD)
def test_models_arrive_as_they_are_named(checkout: Path, tmp_path: Path, odd: str) -> None:
    """Of the policy and of the critic, in environment variables and on the command line."""
    script, caller = checkout / "examples" / "run_openvla_oft_rl.sh", tmp_path / "caller"
    given = called(script, caller, "hardware=laptop", SFT_MODEL_PATH=f"policies/{odd}", VLAC_PATH=odd)
    config, tree = load_config(given)
    assert config.model.path == f"policies/{odd}" and tree["critic"]["sidecar"]["config"]["model"] == odd
    given = called(checkout / "examples" / "eval_openvla_oft.sh", caller, "hardware=laptop", MODEL_PATH=odd)
    assert load_config(given)[0].model.path == odd


def test_relative_paths_of_the_libero_example(checkout: Path, tmp_path: Path) -> None:
    """It makes its policy in the checkout, and starts in the caller's folder."""
    (checkout / "examples" / "make_random_policy.py").write_text("import os, sys; os.makedirs(sys.argv[1])\n")
    caller = tmp_path / "caller"
    given = called(checkout / "examples" / "libero_tiny.sh", caller, "libero_goal", "trainer.default_local_dir=out")
    policy = checkout / "runs" / "random-policy-libero_goal"
    assert f"actor_rollout_ref.model.path={policy}" in given and policy.is_dir() and given[-1].endswith("=out")


def test_a_policy_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    """``make_random_policy.py`` is called by its path, from anywhere."""
    odd = "12:30, [Müller] a=b"
    command = [str(ROOT / "examples" / "make_random_policy.py"), odd, "--unnorm-key", "libero_goal"]
    python = str(Path(os.environ.get("VENV") or ROOT / ".venv") / "bin" / "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([python, *command], cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    assert (tmp_path / odd / "config.json").is_file()
