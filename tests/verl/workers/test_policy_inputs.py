"""``env.num_images_in_input`` and ``env.use_proprio``: set, they override the checkpoint's; unset, they are its own."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from verl.config import Config
from verl.errors import ConfigError
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats
from verl.trainer.assemble import learner_options, rollout_options
from verl.trainer.load_config import load_config
from verl.trainer.preflight import check_policy
from verl.workers.learner import Learner
from verl.workers.rollout import RolloutWorker

TINY = TinySize(image=32, patch=16, vision_dim=24, vision_heads=2, depth=2, hidden=32, layers=2, heads=2, mlp=48)
TWO = "env.cameras=[agentview,robot0_eye_in_hand]"


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A checkpoint with a proprio projector whose config.json says nothing of its inputs, as published ones are."""
    folder = tmp_path / "policy"
    make_policy(folder, TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    config = json.loads((folder / "config.json").read_text())
    for key in ("num_images_in_input", "use_proprio"):
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def configured(folder: Path, *overrides: str) -> Config:
    keys = (f"actor_rollout_ref.model.path={folder}", "actor_rollout_ref.rollout.unnorm_key=tiny")
    return load_config([*keys, "critic.enable=false", *overrides])[0]


def rollout_policy(config: Config) -> OpenVLAOFTPolicy:
    options = rollout_options(config, "run")
    pool = {**options.pool, "env_config": {"name": "tests.verl.envs.dot_env:DotEnv"}, "size": 1}
    worker = RolloutWorker(dataclasses.replace(options, pool=pool, device="cpu"))
    worker.close()
    return worker.policy


def test_what_is_set_overrides_the_checkpoint(silent: Path) -> None:
    """Two cameras and proprioception for a checkpoint that does not name them; the policy takes both."""
    config = configured(silent, "env.num_images_in_input=2", "env.use_proprio=true", TWO)
    check_policy(config)
    policy = rollout_policy(config)
    assert policy.config.inputs == {"num_images_in_input": 2, "use_proprio": True}
    images, proprio = np.zeros((1, 2, 32, 32, 3), np.uint8), np.zeros((1, 8), np.float32)
    assert policy.predict(images, ["lift"], proprio).actions.shape == (1, 8, 7)


def test_what_is_not_set_is_as_the_checkpoint_says(tmp_path: Path) -> None:
    """Unset is the default of every environment."""
    make_policy(tmp_path / "two", TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8, cameras=2)
    config = configured(tmp_path / "two", TWO)
    assert (config.actor.num_images_in_input, config.rollout.use_proprio) == (None, None)
    assert rollout_policy(config).config.inputs == {"num_images_in_input": 2, "use_proprio": True}


def test_proprioception_can_be_left_out(tmp_path: Path) -> None:
    """The projector's weights are not loaded then."""
    make_policy(tmp_path / "policy", TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    policy = rollout_policy(configured(tmp_path / "policy", "env.use_proprio=false"))
    assert policy.proprio_projector is None and not policy.config.use_proprio


def test_the_learner_trains_and_saves_the_same_policy(silent: Path, tmp_path: Path) -> None:
    """Rollout and learner see alike, and what is saved says so: it loads without these keys."""
    config = configured(silent, "env.num_images_in_input=2", "env.use_proprio=true", TWO)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    learner = Learner(learner_options(config), 0, 1, f"127.0.0.1:{port}")
    try:
        assert learner.policy.config.inputs == {"num_images_in_input": 2, "use_proprio": True}
        learner.save(str(tmp_path / "saved"))
        deadline = time.monotonic() + 60
        while not learner.written():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        learner.close()
    again = OpenVLAOFTPolicy.from_pretrained(tmp_path / "saved" / "policy")
    assert again.config.inputs == {"num_images_in_input": 2, "use_proprio": True}


@pytest.mark.parametrize("overrides", [["env.num_images_in_input=2"], [TWO]])
def test_cameras_and_images_must_agree(silent: Path, overrides: list[str]) -> None:
    """Told before anything starts, not by the first forward pass."""
    with pytest.raises(ConfigError, match=r"env\.cameras=\[.*: the policy takes [12] images"):
        check_policy(configured(silent, *overrides))
