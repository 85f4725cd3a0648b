"""Typos over EVERY leaf of the configuration: an unknown name, a wrong type, a value out of range.

Each is refused with the key, the value and what is allowed. A leaf that takes any value of its type, and why, stands in
a list here.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sidecar.config import Config as SidecarConfig
from sidecar.config_file import from_mapping
from sidecar.errors import ConfigError as SidecarConfigError
from verl.config import Config
from verl.envs import factory
from verl.errors import ConfigError
from verl.trainer.load_config import load_config

ENVS = ("robosuite", "robosuite_cubes", "robosuite_tasks", "libero")
GROUPS = {name: load_config([f"env={name}"])[1] for name in ENVS}
SIDECAR = "critic.sidecar.config"

# Text that means something to somebody else: a name, a folder, an address. Looked up elsewhere, or taken as it is.
ANY_TEXT = {
    "actor_rollout_ref.model.path": "verl/trainer/preflight.py looks for the checkpoint",
    "actor_rollout_ref.rollout.unnorm_key": "verl/trainer/preflight.py looks in the checkpoint",
    "critic.run_id": "verl/launch/claim.py checks run ids",
    "critic.sidecar.python": "verl/trainer/preflight.py starts it",
    "trainer.project_name": "a title",
    "trainer.experiment_name": "a title",
    "trainer.run_id": "verl/launch/claim.py checks run ids",
    "trainer.default_local_dir": "a folder that is made",
    "trainer.ray_address": "verl/trainer/cluster.py joins it",
    "env.assets": "verl/trainer/preflight.py looks for the folder",
    "env.unnorm_key": "verl/trainer/preflight.py looks in the checkpoint",
}
# Keys that others are filled from: the mistake is told of the key that reads them.
READ_BY = {
    "env.suite": "data.task_suite_name",
    "env.num_images_in_input": "actor_rollout_ref.actor.num_images_in_input",
    "env.use_proprio": "actor_rollout_ref.rollout.use_proprio",
    "env.unnorm_key": "actor_rollout_ref.rollout.unnorm_key",
}
ALLOWED = ("must be", "allowed", "known are", "known:", "did you mean", "needs a checkpoint folder")


def leaves(tree: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Each key that holds a value, with its default."""
    for name, value in tree.items():
        key = f"{where}{name}"
        if key == SIDECAR:
            continue
        if isinstance(value, Mapping):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


KEYS = sorted({(env, key) for env, tree in GROUPS.items() for key, _ in leaves(tree) if env in ("robosuite", "libero")})
# the same keys hold for every environment: they are tried once
KEYS = [(env, key) for env, key in KEYS if key.startswith("env.") or env == "robosuite"]


def changed(env: str, key: str, value: Any) -> dict[str, Any]:
    """The configuration with ``key`` set, as hydra would hand it over: keys that are filled from it hold it, too."""
    tree = copy.deepcopy(GROUPS[env])
    for name in {key, READ_BY.get(key, key)}:
        *groups, last = name.split(".")
        node = tree
        for group in groups:
            node = node[group]
        node[last] = value
    return tree


def refusal(tree: dict[str, Any]) -> str | None:
    """What is said to a configuration; None where it is taken."""
    try:
        factory.check(Config.from_mapping(tree).env)
    except ConfigError as error:
        return str(error)
    return None


def told(message: str | None, key: str, value: Any) -> bool:
    """Whether the message names key, value and what is allowed, in one line."""
    if message is None or "\n" in message:
        return False
    names = {key, READ_BY.get(key, key)}
    shown = {repr(value), str(value), repr(value[0]) if isinstance(value, list) and value else repr(value)}
    return any(n in message for n in names) and any(s in message for s in shown) and any(a in message for a in ALLOWED)


@pytest.mark.parametrize(("env", "key"), KEYS)
def test_a_value_of_another_type_is_refused(env: str, key: str) -> None:
    """No key takes a group where a value belongs, or a word where a number, a switch or a list does."""
    values: list[Any] = [{"a": 1}]
    default = dict(leaves(GROUPS[env]))[key]
    if key not in ANY_TEXT and not isinstance(default, str):
        values.append("abc")
    for value in values:
        message = refusal(changed(env, key, value))
        assert told(message, key, value), f"{key}={value!r}: {message}"


@pytest.mark.parametrize(("env", "key"), [pair for pair in KEYS if pair[1] not in ANY_TEXT])
def test_a_value_out_of_range_is_refused(env: str, key: str) -> None:
    """Every number has a lower end, and is finite; every word is one of a list; a switch is true or false."""
    default = dict(leaves(GROUPS[env]))[key]
    if isinstance(default, bool):
        values: list[Any] = [2]
    elif isinstance(default, float):
        values = [-7.5, math.nan, math.inf]
    elif isinstance(default, int):
        values = [-7]
    elif isinstance(default, list):
        values = [[-7], ["abc"]] if key.startswith("env.") or "logger" in key else [[-7.0, 0.9], [0.5]]
    elif isinstance(default, str):
        values = ["abc"]
    else:
        values = [-7]
    for value in values:
        message = refusal(changed(env, key, value))
        assert told(message, key, value), f"{key}={value!r}: {message}"


@pytest.mark.parametrize(("env", "key"), KEYS)
def test_an_unknown_name_is_refused(env: str, key: str) -> None:
    """A letter too many: the message has the name, and the known ones."""
    tree = copy.deepcopy(GROUPS[env])
    *groups, last = key.split(".")
    node = tree
    for group in groups:
        node = node[group]
    node[f"{last}x"] = node.pop(last)
    message = refusal(tree)
    if key == "env.name":  # without it nobody knows which keys there are
        assert told(message, key, "")
        return
    assert message is not None and f"{key}x" in message and "known are" in message and last in message, message


@pytest.mark.parametrize("key", ["data.n_sampels", "trainer.total_episode", "actor_rollout_ref.actor.optim.lrr"])
def test_hydra_says_which_key_was_meant(key: str) -> None:
    """On the command line an unknown name is met before the configuration is built."""
    with pytest.raises(ConfigError) as caught:
        load_config([f"{key}=3"])
    assert f"{key}: unknown key; did you mean" in str(caught.value)


SIDECAR_ANY_TEXT = {"model", "adapter", "camera", "metrics_host", "trace", "run_id"}  # run_id: any that is a name
SIDECAR_ANY_TEXT |= {"reference.folder", "invalid.frames_dir", "log.file", "direct.converted_dir"}
SIDECAR_ANY_TEXT |= {"openai.model", "openai.api_key_env"}


def sidecar_leaves(kind: type, where: str = "") -> Iterator[tuple[str, Any]]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from sidecar_leaves(typing.cast(type, hint), f"{where}{name}.")
        else:
            yield f"{where}{name}", hint


def sidecar_refusal(key: str, value: Any) -> str | None:
    tree: dict[str, Any] = {"run_id": "typo", "engine": "fixed"}
    *groups, last = key.split(".")
    node = tree
    for group in groups:
        node = node.setdefault(group, {})
    node[last] = value
    try:
        from_mapping(tree)
    except SidecarConfigError as error:
        return "; ".join(error.problems)
    return None


def sidecar_keys() -> list[tuple[str, Any]]:
    return list(sidecar_leaves(SidecarConfig))


@pytest.mark.parametrize(("key", "hint"), sidecar_keys())
def test_each_key_of_the_sidecar_refuses_what_it_cannot_take(key: str, hint: Any) -> None:
    """The same, of the sidecar's own keys: another type, out of range, a name with a letter too many."""
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None)]
    values: list[Any] = [{"a": 1}]
    if str not in kinds:
        values.append("abc")
    if bool in kinds:
        values.append(2)
    elif float in kinds:
        values += [-777.5, math.nan, math.inf]
    elif int in kinds and key != "fixed.done_at_step":
        values.append(-777)
    elif key not in SIDECAR_ANY_TEXT:
        values.append("?")
    for value in values:
        message = sidecar_refusal(key, value)
        assert message is not None and told(message.splitlines()[0], key, value), f"{key}={value!r}: {message}"
    message = sidecar_refusal(f"{key}x", 1)
    assert message is not None and f"{key}x: unknown key" in message and "known: " in message
