"""The trials on the tiny default: each does its thing for real, and what is broken is a line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verl.envs.fake_env import FakeEnv
from verl.preflight import trials
from verl.preflight.line import GOOD, LOOK
from verl.preflight.steps import read_lines
from verl.trainer.load_config import load_config
from verl.workers.sidecar_host import SidecarHost

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def names(trial, *overrides):
    config, _ = load_config(list(overrides))
    lines = list(trial(config))
    assert all(line.state == GOOD for line in lines), lines
    return [line.name for line in lines]


def test_the_policy_plays_one_chunk():
    assert names(trials.policy) == ["policy's pass"]


def test_a_picture_is_drawn_and_the_renderer_named():
    assert names(trials.frame) == ["frame", "renderer"]


def test_drawing_in_software_beside_gpus_is_told_as_a_run_tells_it(monkeypatch):
    """With the container's setting."""
    monkeypatch.setattr("verl.envs.egl.renderer", lambda: "softpipe (software rasterizer)")
    monkeypatch.setattr("evo_vlac.gpu_node.gpus", lambda: 8)
    _, line = trials.frame(load_config([])[0])
    assert (line.name, line.state) == ("renderer", LOOK) and "NVIDIA_DRIVER_CAPABILITIES" in line.said


def test_a_sidecar_and_its_verdict_are_waited_for_as_a_run_waits(tmp_path, monkeypatch):
    """By the size of its model."""
    waited = []
    monkeypatch.setattr(SidecarHost, "start", lambda self: None)
    monkeypatch.setattr(SidecarHost, "wait_ready", lambda self, limit_s: waited.append(limit_s))
    monkeypatch.setattr(trials, "_ask", lambda run_id, ready_s, patience: waited.append(patience))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(5 * 10**9)  # 200 s at the slowest
    config, _ = load_config([f"critic.sidecar.config.model={tmp_path}"])
    list(trials.verdict(config))
    assert waited == [config.critic.ready_timeout_s + 200, config.critic.verdict_timeout_s + 200]


def test_a_sidecar_answers_about_the_shipped_picture():
    """A stand-in for the engine: the way there and back is the run's."""
    fixed = ("critic.sidecar.config.engine=fixed", "critic.sidecar.config.fixed.done_at_step=0")
    assert names(trials.verdict, *fixed) == ["verdict"]


class Blank(FakeEnv):
    """Its renderer draws nothing."""

    def render(self, camera, out):
        out[...] = 0


def test_a_picture_of_one_colour_is_no_picture():
    config, _ = load_config(["env.name=tests.verl.preflight.test_trials:Blank"])
    (line,) = trials.frame(config)
    assert line.name == "frame" and "of one colour" in line.said


def test_a_broken_checkpoint_is_a_line_and_exit_code_1(tmp_path, capsys):
    assert trials.main(["policy", f"actor_rollout_ref.model.path={tmp_path}"]) == 1
    (line,) = read_lines(capsys.readouterr().out)
    assert line.name == "policy's pass" and str(tmp_path) in line.said


def test_learners_sum_and_a_worker_takes_a_bucket():
    """On a Ray of its own, with two learners."""
    two = ("actor_rollout_ref.actor.fsdp_config.world_size=2", "actor_rollout_ref.rollout.device=cpu")
    assert names(trials.cluster, *two) == ["Ray", "collective", "weights"]
