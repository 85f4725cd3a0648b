"""``python -m verl.preflight`` as people call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from verl.errors import ConfigError
from verl.preflight import __main__ as command
from verl.trainer import preflight as start
from verl.trainer.load_config import load_config

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_default_can_start_says_the_quick_one():
    """The whole command: a line a check, exit code 0, nothing loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "verl.preflight", "--quick"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line.partition(":")[0][2:] for line in done.stdout.splitlines()[:-1]]
    assert names == [
        *("settings", "policy", "environment", "checkpoint to go on from", "critic", "devices", "cores"),
        *("main memory of a node", "/dev/shm of a node", "Ray's store"),
    ]
    assert done.stdout.splitlines()[-1] == "this run can start"


def test_each_thing_to_change_is_a_line_and_the_others_are_still_looked_at(tmp_path, capsys):
    """A checkpoint that is none, a wrong key of the sidecar, GPUs that are not there: exit code 1."""
    wrong = [
        f"actor_rollout_ref.model.path={tmp_path}",
        "critic.sidecar.config.batch.max_sise=3",
        "trainer.n_gpus_per_node=3",
    ]
    assert command.main(["--quick", *wrong]) == 1
    said = capsys.readouterr().out
    for words in (f"policy: actor_rollout_ref.model.path={tmp_path}", "did you mean", "trainer.n_gpus_per_node=3"):
        assert words in said
    assert "environment: robosuite" in said and "to change" in said.splitlines()[-1]


def test_what_a_runs_start_refuses_is_told_too(monkeypatch, capsys, tmp_path):
    """Whatever is added there, and whatever else is wrong: this command looks at it without knowing of it."""

    def refuse(config):
        raise ConfigError("trainer.nnodes=2 with trainer.ray_address=null")

    monkeypatch.setattr(start, "CHECKS", (*start.CHECKS, ("new", refuse)))
    assert command.main(["--quick", f"actor_rollout_ref.model.path={tmp_path}"]) == 1
    said = capsys.readouterr().out
    assert "new: trainer.nnodes=2 with trainer.ray_address=null" in said


def test_the_sidecar_is_asked_once(monkeypatch):
    """An interpreter's start, on a slow disk a minute."""
    asked = []
    monkeypatch.setattr(start, "check_sidecar", lambda *_: asked.append(1))
    assert command.main(["--quick"]) == 0 and len(asked) == 1


def test_a_verdict_is_waited_for_as_long_as_a_run_waits(tmp_path):
    """Its model's loading on top of the start's limit, and a verdict's patience."""
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(5 * 10**9)  # 200 s at the slowest
    config, _ = load_config(["critic.ready_timeout_s=300", f"critic.sidecar.config.model={tmp_path}"])
    (limit_s,) = [step.limit_s for step, _, _ in command.steps(config) if step.trial == "verdict"]
    assert limit_s >= (300 + 200) + (config.critic.verdict_timeout_s + 200)


def test_models_that_are_none_are_lines_and_no_traceback(tmp_path, capsys):
    """A policy for a critic, and a config.json that is broken."""
    assert command.main(["--quick", "critic.sidecar.config.model=models/openvla-oft-tiny"]) == 1
    said = capsys.readouterr().out
    assert "memory: critic.sidecar.config.model=" in said and "not that of an InternVL model" in said
    (tmp_path / "config.json").write_text("{")
    assert command.main(["--plan", f"actor_rollout_ref.model.path={tmp_path}"]) == 2
    assert "is not valid JSON" in capsys.readouterr().err


def test_a_trial_is_not_tried_where_its_ground_is_bad(monkeypatch, tmp_path, capsys):
    """Without the checkpoint there is no pass of the policy, but a picture and a verdict."""
    tried = []
    monkeypatch.setattr("verl.preflight.steps.run_step", lambda step, *_: tried.append(step.trial) or [])
    assert command.main([f"actor_rollout_ref.model.path={tmp_path}"]) == 1
    assert tried == ["frame", "verdict", "cluster"]
    tried.clear()
    assert command.main(["critic.enable=false"]) == 0
    assert tried == ["policy", "frame", "cluster"]


def test_a_wrong_key_is_one_line(capsys):
    assert command.main(["--plan", "data.n_sample=3"]) == 2
    assert capsys.readouterr().err.startswith("error: data.n_sample: unknown key; did you mean data.n_samples?")


def test_a_plan_that_does_not_fit_says_so_with_its_exit_code(capsys):
    assert command.main(["--plan", "env=libero", "hardware=h100_1", "actor_rollout_ref.model.lora_rank=0"]) == 1
    assert "a card:" in capsys.readouterr().out
