"""Configuration: what is given arrives, what is wrong is one clear line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shm_bridge.rules import value_steps
from verl.critic_noise import VerdictNoise
from verl.envs.critic_link import scored_frames
from verl.errors import ConfigError
from verl.trainer.assemble import critic_asked
from verl.trainer.load_config import load_config


def test_the_default_is_valid_and_libero_is_one_override_away():
    config, _ = load_config([])
    assert config.critic.verdict_noise is None, "none is asked for"
    assert config.env["name"] == "robosuite" and config.critic.threshold == 0.9
    config, _ = load_config(["env=libero", "data.task_suite_name=libero_goal"])
    assert config.env["name"] == "libero" and config.rollout.unnorm_key == "libero_goal"
    config, _ = load_config(["env=robosuite_cubes"])
    assert config.env["name"] == "robosuite" and config.env["tasks"] == ["LiftRed", "LiftGreen"]
    assert config.rollout.unnorm_key == "robosuite_liftred_liftgreen"


def test_the_critics_keys_reach_the_environment_processes():
    """What a study degrades, and what a user sets, is what decides about an episode."""
    keys = ["critic.noise.missed_done=0.3", "critic.noise.false_done=0.1", "critic.hold=3", "data.seed=7"]
    critic = critic_asked(load_config(keys)[0], "run")
    assert critic.noise == critic.verdict_noise == VerdictNoise(0.3, 0.1, 7) and critic.done_rules.hold == 3
    assert critic.enable and critic.run_id == "run"
    assert critic_asked(load_config(["critic.enable=false"])[0], "run") is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.n_sample=3", ("data.n_sample", "data.n_samples")),
        ("critic.every=frame", ("critic.every", "frame", "step, chunk")),
        ("data.n_samples=many", ("data.n_samples", "many", "int")),
        ("env=mars", ("env/mars", "libero", "robosuite")),
        ("critic.threshold=1.5", ("critic.threshold", "1.5", "0 to 1")),
        ("critic.thresholds=[[lift, 2]]", ("critic.thresholds: 'lift'", "2", "0 to 1")),
        ("critic.thresholds=[[lift]]", ("critic.thresholds[0]", "list of 2")),
        ("+data.colour=red", ("data.colour", "unknown key")),
        ("n_samples", ("n_samples", "key=value")),
        ("actor_rollout_ref.model.vla=pi0", ("vla", "pi0", "openvla-oft")),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_what_is_allowed(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config([override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_file_comes_before_the_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("env: libero\ndata: {n_samples: 4, seed: 3}\ncritic: {sidecar: {config: {engine: swift}}}\n")
    config, _ = load_config(["data.n_samples=5"], str(file))
    assert (config.env["name"], config.data.n_samples, config.data.seed) == ("libero", 5, 3)
    assert config.critic.sidecar.config["engine"] == "swift"
    config, _ = load_config(["critic.sidecar.config.health.batch_s=5"])
    assert config.critic.sidecar.config["health"] == {"batch_s": 5}


def test_a_file_with_an_unknown_key_or_that_is_not_there_is_an_error(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: {n_sampels: 4}\n")
    with pytest.raises(ConfigError, match="n_sampels"):
        load_config([], str(file))
    with pytest.raises(ConfigError, match="no such file"):
        load_config([], str(tmp_path / "other.yaml"))


@pytest.mark.parametrize("stride", [5, 3, 12])
def test_a_stride_that_would_give_uneven_pairs_is_refused(stride):
    """Asked once a chunk, frames are drawn at chunk ends and for the value list: 0, 5, 8, 10, 15 are no even pairs."""
    keys = ["critic.every=chunk", f"critic.value_stride={stride}"]
    with pytest.raises(ConfigError) as caught:
        load_config(keys)
    words = (f"critic.value_stride={stride}", "critic.every=chunk", "1, 2, 4, multiples of", "action_chunks_len=8")
    for word in words:
        assert word in str(caught.value)
    for harmless in ("critic.every=step", "critic.reward=done", "critic.enable=false"):
        load_config([*keys, harmless])


BASE, _ = load_config([])


@given(every=st.sampled_from(["step", "chunk"]), stride=st.integers(1, 40), steps=st.integers(1, 60))
def test_every_stride_that_is_taken_gives_even_pairs(every, stride, steps):
    """All pairs of a value list are ``value_stride`` steps apart, but for the last, which may be shorter."""
    critic = dataclasses.replace(BASE.critic, every=every, value_stride=stride)
    try:
        chunk = dataclasses.replace(BASE, critic=critic).model.action_chunks_len
    except ConfigError:
        return
    drawn = [s for s in range(steps + 1) if every == "step" or s % chunk == 0 or s % stride == 0 or s == steps]
    assert scored_frames(drawn, steps, stride)[1] == value_steps(steps, stride)


@pytest.mark.parametrize(
    "key", ["critic.sidecar", "critic", "critic.noise", "actor_rollout_ref.model", "actor_rollout_ref", "data"]
)
def test_a_group_without_keys_is_refused_in_a_line(key, tmp_path):
    """Null where a group of keys belongs, on the command line or in a file."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(nested(key)))
    for arguments in ([f"{key}=null"], None), ([], str(tmp_path / "mine.yaml")):
        with pytest.raises(ConfigError):
            load_config(*arguments)


def test_an_environment_that_is_null_is_refused_on_the_command_line_and_unset_in_a_file(tmp_path):
    """It names a group of keys: null selects none."""
    with pytest.raises(ConfigError):
        load_config(["env=null"])
    (tmp_path / "mine.yaml").write_text("env: null\n")
    assert load_config([], str(tmp_path / "mine.yaml"))[0].env["name"] == "robosuite"


def nested(key: str) -> dict[str, Any] | None:
    """The tree in which ``key`` is null."""
    first, _, rest = key.partition(".")
    return {first: nested(rest) if rest else None}
