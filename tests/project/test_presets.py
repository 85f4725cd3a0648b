"""Presets and example scripts: each composes, holds only keys that exist, and keeps to its machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from evo_vlac.evaluation import ScreenOptions
from evo_vlac.evaluation.evaluator import EvaluationOptions
from evo_vlac.values import ValueOptions
from shm_bridge.rules import DoneRules, RewardRules
from sidecar.config_file import from_mapping
from tests.support.launching import ROOT
from verl.envs.factory import count_tasks, evaluation_states
from verl.envs.robosuite_env import TASKS
from verl.errors import ConfigError
from verl.trainer.assemble import critic_asked
from verl.trainer.load_config import CONFIG_FOLDER, load_config
from verl.trainer.ppo.schedule import Schedule

PRESETS = sorted(path.stem for path in (CONFIG_FOLDER / "hardware").glob("*.yaml"))
GPUS = {"laptop": 0, "h100_1": 1, "h100_8": 8, "h100_2x8": 16}


def check(config):
    """What must hold whatever the machine is."""
    gpus = (config.trainer.n_gpus_per_node or 0) * config.trainer.nnodes
    workers = config.rollout.workers * config.trainer.nnodes
    assert config.actor.fsdp_config.world_size == max(1, gpus)
    assert config.rollout.gpus_per_worker * workers < max(1, gpus), "something is left for the learners"
    assert config.actor.ppo_mini_batch_size % (config.actor.fsdp_config.world_size or 1) == 0
    sidecar = from_mapping({"run_id": "preset", **config.critic.sidecar.config})
    if gpus:
        assert sidecar.memory.budget_gb <= 10 and sidecar.memory.on_update == "offload"
        assert config.rollout.dtype == config.actor.fsdp_config.dtype == "bfloat16"


@pytest.mark.parametrize("env", ["robosuite", "libero"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_composes_and_fits_its_machine(preset, env):
    """With either environment; the sidecar takes its part of it, too."""
    config, _ = load_config([f"hardware={preset}", f"env={env}"])
    assert config.env["name"] == env
    assert (config.trainer.n_gpus_per_node or 0) * config.trainer.nnodes == GPUS[preset]
    check(config)


def test_a_preset_gives_way_to_keys_and_to_files(tmp_path):
    """In this order: defaults, preset, file, command line; a preset on the command line replaces that of the file."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"hardware": "h100_8", "env": "libero", "data": {"n_samples": 4}}))
    config, _ = load_config(["data.train_batch_size=32"], str(file))
    assert (config.rollout.workers, config.data.n_samples, config.data.train_batch_size) == (8, 4, 32)
    config, _ = load_config(["hardware=laptop"], str(file))
    assert (config.rollout.workers, config.data.n_samples) == (1, 4)


def test_an_unknown_preset_is_one_line_with_those_that_exist():
    with pytest.raises(ConfigError) as caught:
        load_config(["hardware=tpu"])
    for word in ("hardware/tpu", *PRESETS):
        assert word in str(caught.value)


def handed_on(folder, script, *arguments, **environment):
    """What an example script hands to the launcher, its own arguments last."""
    (folder / "examples").mkdir()
    shutil.copy(ROOT / "examples" / script, folder / "examples")
    (folder / "launch.sh").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    (folder / "launch.sh").chmod(0o755)
    done = subprocess.run(
        [folder / "examples" / script, "data.val_batch_size=7", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    config, _ = load_config(done.stdout.split())
    return config


@pytest.mark.parametrize("env", ["robosuite_lift", "robosuite_cubes", "robosuite_tasks"])
def test_tasks_bring_their_own_policy_and_critic(env):
    """The policy has that environment's statistics, and the critic is one that lies here."""
    config, _ = load_config([f"env={env}"])
    folder = ROOT / "models" / Path(config.model.path).name
    assert config.rollout.unnorm_key in json.loads((folder / "dataset_statistics.json").read_text())
    assert json.loads((folder / "config.json").read_text())["num_actions_chunk"] == config.model.action_chunks_len
    assert (ROOT / "models" / Path(config.critic.sidecar.config["model"]).name / "critic.yaml").is_file()


def test_two_cubes_ask_more_strictly_than_their_critic_wants_to_be_asked():
    """The rule that its folder holds is for one cube."""
    critic = load_config(["env=robosuite_cubes"])[0].critic
    assert (critic.hold, critic.threshold) == (5, 0.97)


def test_the_label_free_critic_is_asked_by_its_own_thresholds():
    """One for each instruction of the tasks that it was made for."""
    words = {TASKS[name].instruction for name in load_config(["env=robosuite_tasks"])[0].env["tasks"]}
    for env in ("robosuite_lift", "robosuite_tasks"):
        config, _ = load_config([f"env={env}"])
        assert words <= {told for told, _ in config.critic.thresholds}
        assert config.env["success_steps"] == config.critic.hold == 5, "the simulator is asked as VLAC is"


def test_what_an_environment_brings_gives_way_to_a_machines_preset():
    config, _ = load_config(["env=robosuite_lift", "hardware=h100_1"])
    assert config.rollout.dtype == "bfloat16" and Path(config.model.path).name == "openvla-oft-tiny-lift"


def test_a_published_critic_gets_the_plain_rule(tmp_path):
    """The first done ends an episode, values are relative: nothing that the tiny critic needs is left in a real run."""
    folder = tmp_path / "VLAC-2B"
    folder.mkdir()
    config = handed_on(tmp_path, "run_openvla_oft_rl.sh", SFT_MODEL_PATH="policy", VLAC_PATH=str(folder))
    critic = critic_asked(config, "run")
    assert (config.critic.hold, critic.hold, critic.every, critic.reward) == (1, 1, "step", "done_value")
    assert from_mapping({"run_id": "run", **config.critic.sidecar.config}).values.mode == "relative"


def test_every_place_with_a_default_of_its_own_has_the_plain_rule():
    """The configuration, the rules of done, the sidecar alone and the judges of data say the same."""
    config, _ = load_config(["critic.sidecar.config.model=VLAC-2B"])
    assert config.critic.done_rules == DoneRules() and config.critic.reward_rules == RewardRules()
    assert from_mapping({"run_id": "run", "model": "VLAC-2B"}).values.mode == "relative"
    assert {ValueOptions().mode, ScreenOptions().mode, EvaluationOptions().mode} == {True}


def test_a_published_policy_is_evaluated_as_published_and_n_is_the_number_of_states(tmp_path):
    """All 50 states of 10 tasks, each once; the run that trains holds 10 of each 50 out and n is 100, not 496."""
    pytest.importorskip("libero", reason="hf-libero is not installed (pip install 'vlac-rl[libero]')")
    for script, more, n in (("eval_openvla_oft.sh", 500, 500), ("run_openvla_oft_rl.sh", 496, 100)):
        folder = tmp_path / script
        folder.mkdir()
        paths = {"SFT_MODEL_PATH": "policy", "MODEL_PATH": "policy", "VLAC_PATH": "critic"}
        config = handed_on(folder, script, f"data.val_batch_size={more}", **paths)
        schedule = Schedule(config.data, count_tasks(config.env), evaluation_states(config.env))
        assert schedule.evaluation_states() == schedule.evaluation_episodes() == len(schedule.evaluation()) == n


@pytest.mark.parametrize("hardware", ["h100_1", "h100_8", "h100_2x8"])
@pytest.mark.parametrize("script", ["run_openvla_oft_rl.sh", "eval_openvla_oft.sh"])
def test_the_example_scripts_give_valid_configurations(tmp_path, script, hardware):
    """What they hand to the launcher composes, with any preset; their own arguments come last."""
    paths = {"SFT_MODEL_PATH": "policy", "MODEL_PATH": "policy", "VLAC_PATH": "critic", "HARDWARE": hardware}
    config = handed_on(tmp_path, script, **paths)
    assert config.model.path == "policy" and config.data.val_batch_size == 7
    assert config.trainer.val_only == script.startswith("eval")
    check(config)
