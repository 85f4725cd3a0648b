"""Environments by configuration: the shipped sections are accepted, wrong keys are named before time is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from verl.envs.factory import check, count_tasks, create_environment, describe
from verl.errors import ConfigError

SECTIONS = Path(__file__).parents[3] / "verl" / "trainer" / "config" / "env"


def shipped(name: str) -> dict[str, Any]:
    """A shipped section, with what hydra would have put in."""
    section: dict[str, Any] = yaml.safe_load((SECTIONS / f"{name}.yaml").read_text())
    return {**section, "unnorm_key": "x"}


def test_the_shipped_robosuite_section_is_accepted() -> None:
    """Every key of the section is known; cameras, steps and tasks are those of the section."""
    section = shipped("robosuite")
    check(section)
    cameras, steps = describe(section)
    assert [(c.name, c.shape) for c in cameras] == [("agentview", (112, 112, 3))]
    assert (steps, count_tasks(section)) == (32, 1)


@pytest.mark.libero
def test_the_shipped_libero_section_is_accepted() -> None:
    """All tasks of the suite, the published number of steps."""
    section = shipped("libero")
    check(section)
    cameras, steps = describe(section)
    assert [(c.name, c.shape) for c in cameras] == [("agentview", (256, 256, 3))]
    assert (steps, count_tasks(section)) == (220, 10)
    assert count_tasks({**section, "tasks": [3, 4]}) == 2


def test_an_environment_of_ones_own_is_named_by_module_and_callable() -> None:
    """``package.module:callable`` is given the section and returns the environment."""
    env = create_environment({"name": "tests.verl.envs.fake_env:FakeEnv", "max_steps": 5})
    assert env.max_steps == 5
    with pytest.raises(ConfigError, match=r"env.name='no.such:Thing': No module named"):
        check({"name": "no.such:Thing"})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "robosuit"}, "env.name='robosuit': allowed are robosuite, libero"),
        ({}, "env.name='': allowed are robosuite, libero"),
        ({"name": "robosuite", "task": ["Lift"]}, "env.task: unknown key for env.name=robosuite; known are cameras"),
    ],
)
def test_wrong_sections_are_named(section: dict[str, Any], message: str) -> None:
    """One line with the key, the value and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        check(section)
    assert message in str(caught.value)
