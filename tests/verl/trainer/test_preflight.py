"""Preflight: a mistake in the sidecar's keys is told before Ray starts, by the sidecar's own Python."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verl.errors import AssetsMissingError, ConfigError
from verl.trainer.load_config import load_config
from verl.trainer.preflight import namesakes, preflight

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def told(*overrides: str) -> str:
    config, _ = load_config(list(overrides))
    with pytest.raises((ConfigError, AssetsMissingError)) as caught:
        preflight(config)
    return str(caught.value)


def test_a_wrong_sidecar_key_ends_the_run_in_five_seconds(tmp_path):
    """The whole command, from its start to exit code 2: no Ray, no folder of a run, one line."""
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"trainer.default_local_dir={tmp_path}"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "critic.sidecar.config.batch.max_sise=3"], capture_output=True, text=True, timeout=60, check=False
    )
    assert time.monotonic() - started < 5
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.strip() == (
        "error: critic.sidecar.config.batch.max_sise: unknown key; did you mean critic.sidecar.config.batch.max_size? "
        "known: max_size, max_wait_ms"
    )


def test_every_mistake_has_its_line():
    """Each begins with the key as it stands in the training's configuration."""
    lines = told(
        "critic.sidecar.config.batch.max_size=0", "critic.sidecar.config.device=gpu", "critic.threshold=1.0"
    ).splitlines()
    assert sorted(line.strip().partition(": ")[0] for line in lines) == [
        "critic.sidecar.config.batch.max_size=0",
        "critic.sidecar.config.device='gpu'",
        "critic.threshold=1.0",
    ]


def test_what_is_right_passes():
    """The default, and a critic that only evaluation asks."""
    for overrides in ([], ["critic.enable=false", "critic.audit_val=true"]):
        preflight(load_config(overrides)[0])


def test_a_sidecar_that_is_not_asked_or_not_ours_is_not_checked():
    """Its keys are not used then."""
    wrong = "critic.sidecar.config.nonsense=1"
    for other in ("critic.enable=false", "critic.sidecar.start=false"):
        preflight(load_config([wrong, other])[0])


def test_the_sidecars_own_python_is_asked(tmp_path, monkeypatch):
    """``critic.sidecar.python``, else $SIDECAR_PYTHON: what it says counts, and what it cannot do is told."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$*" > "$0.said"\ncat > /dev/null\necho "No module named sidecar" >&2\nexit 1\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    expected = f"critic.sidecar.python={python}: cannot check the sidecar's configuration: No module named sidecar"
    assert told(f"critic.sidecar.python={python}") == expected
    assert "-m sidecar --check" in Path(f"{python}.said").read_text()
    monkeypatch.setenv("SIDECAR_PYTHON", str(python))
    assert told() == expected
    monkeypatch.setenv("SIDECAR_PYTHON", os.fspath(tmp_path / "nowhere"))
    assert "cannot be run (No such file or directory)" in told()


def test_a_package_of_our_name_from_elsewhere_is_noticed(tmp_path, monkeypatch):
    """The registry's ``verl`` beside ours: one line. Without it none: ours are named vlac-rl."""
    assert list(namesakes()) == []
    record = tmp_path / "verl-0.5.0.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text("Metadata-Version: 2.1\nName: verl\nVersion: 0.5.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = namesakes()
    assert line.startswith("a package 'verl' 0.5.0 that is not this project's")


ASSETS = "env.assets=/nowhere"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (
            ["actor_rollout_ref.model.path=models/vlac-tiny"],
            (
                "actor_rollout_ref.model.path=",
                "model_type='internvl'; allowed is openvla",
                "critic.sidecar.config.model",
            ),
        ),
        (
            ["critic.sidecar.config.model=models/openvla-oft-tiny"],
            ("critic.sidecar.config.model=", "another architecture (OpenVLAForActionPrediction)", "allowed: InternVL"),
        ),
        (["env=libero", ASSETS], ("env.assets='/nowhere'", "no folder with articulated_objects, scenes, textures")),
        (["env.cameras=[agentveiw]"], ("env.cameras", "'agentveiw'", "allowed are agentview, frontview")),
        (["env=libero", "env.cameras=[agentveiw]"], ("env.cameras", "'agentveiw'", "allowed are agentview, wrist")),
        (["env.tasks=[Lfit]"], ("env.tasks", "'Lfit'", "allowed are Lift, Stack")),
        (["env=libero", "env.tasks=[10]"], ("env.tasks", "10 is no task of libero_spatial", "allowed are 0 to 9")),
        (["data.task_suite_name=libero_goal"], ("data.task_suite_name='libero_goal'", "allowed is robosuite")),
        (["env=libero", "data.task_suite_name=libero_gaol"], ("data.task_suite_name='libero_gaol'", "libero_goal")),
    ],
)
def test_what_names_the_wrong_thing_is_found_before_anything_starts(mistake, words):
    """A critic for a policy and the other way round; assets, cameras and tasks that are not there."""
    message = told("actor_rollout_ref.rollout.unnorm_key=robosuite_lift", *mistake)
    for word in words:
        assert word in message


class NotAnEnvironment:
    def __init__(self, env: object) -> None: ...
    def reset(self, seed: int) -> None: ...


class TakesNothing:
    pass


class RaisesWhenBuilt(NotAnEnvironment):
    def __init__(self, env: object) -> None:
        raise RuntimeError("no camera here")

    def step(self) -> None: ...
    def render(self) -> None: ...
    def proprio(self) -> None: ...
    def close(self) -> None: ...


NUMBER = 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAnEnvironment", "the class has no step, render, proprio, close"),
        ("TakesNothing", "it is called with the section env, one argument"),
        ("NUMBER", "int, which cannot be called"),
        ("RaisesWhenBuilt", "it cannot be built: RuntimeError: no camera here ("),
    ],
)
def test_an_own_environment_is_looked_at_before_anything_starts(name, words):
    """Else an environment's process finds it, a minute later."""
    where = f"tests.verl.trainer.test_preflight:{name}"
    message = told("actor_rollout_ref.rollout.unnorm_key=robosuite_lift", f"env.name={where}")
    assert message.startswith(f"env.name={where!r}") and words in message


@pytest.mark.parametrize(
    "asked",
    ["actor_rollout_ref.rollout.device=cuda", "critic.sidecar.config.device=cuda:1", "trainer.n_gpus_per_node=4"],
)
def test_a_gpu_that_is_not_there_is_told(monkeypatch, asked):
    hide_gpus(monkeypatch)
    assert told(asked).startswith(asked) and "no GPU" in told(asked)


def hide_gpus(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_gpu_that_nobody_uses_here_is_not_looked_for(monkeypatch):
    """A critic that is not asked, or somebody else's; a cluster's GPUs, seen from a head that has none."""
    hide_gpus(monkeypatch)
    cuda = "critic.sidecar.config.device=cuda"
    for other in ("critic.enable=false", "critic.sidecar.start=false"):
        preflight(load_config([cuda, other])[0])
    preflight(load_config(["trainer.n_gpus_per_node=8", "trainer.ray_address=auto"])[0])


def test_gpus_that_are_hidden_are_missed_where_they_are_asked_for(monkeypatch):
    """The node has them: an actor would have found it."""
    hide_gpus(monkeypatch)
    monkeypatch.setattr("evo_vlac.gpu_node.gpus", lambda: 8)
    assert "CUDA_VISIBLE_DEVICES hides it" in told("trainer.n_gpus_per_node=8")
    preflight(load_config(["trainer.n_gpus_per_node=null"])[0])


def test_a_checkpoint_to_go_on_from_is_looked_for_before_anything_starts(tmp_path):
    message = told("trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}")
    assert message.startswith(f"trainer.resume_from_path={tmp_path}: not a checkpoint folder")


def test_keys_may_stand_on_both_sides_of_the_file(tmp_path):
    """The launcher adds the run's id at the end."""
    command = [sys.executable, "-m", "verl.launch", f"trainer.default_local_dir={tmp_path}"]
    done = subprocess.run(
        [*command, "--config", "/nowhere.yaml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "/nowhere.yaml" in done.stderr


def test_assets_named_by_the_environment_are_looked_for_too(monkeypatch):
    """LIBERO_ASSETS is as easily wrong as a key."""
    monkeypatch.setenv("LIBERO_ASSETS", "/nowhere")
    assert told("env=libero", "actor_rollout_ref.rollout.unnorm_key=robosuite_lift").startswith("LIBERO_ASSETS=")


def test_a_mistake_leaves_the_link_to_the_latest_run_alone(tmp_path):
    """The whole command: what `runs/latest` shows is still the last run that was started."""
    (tmp_path / "good").mkdir()
    (tmp_path / "latest").symlink_to("good")
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"trainer.default_local_dir={tmp_path}"]
    done = subprocess.run(
        [*command, "actor_rollout_ref.model.path=models/vlac-tiny"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.startswith("error: actor_rollout_ref.model.path")
    assert os.readlink(tmp_path / "latest") == "good" and len(list(tmp_path.iterdir())) == 2
