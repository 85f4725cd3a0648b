"""Environments by the ``env`` section of the configuration."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from verl.config_tree import convert
from verl.envs.base import Camera, Environment
from verl.errors import ConfigError, VerlError

NAMES = ("robosuite", "libero")
METHODS = ("reset", "step", "render", "proprio", "close")
SAID = ("cameras", "max_steps", "tasks", "evaluation_states")  # the last is not asked of everybody
ELSEWHERE = ("name", "suite", "num_images_in_input", "use_proprio", "unnorm_key")  # keys that others read


def create_environment(env: Mapping[str, Any]) -> Environment:
    """The environment that ``env.name`` names: ``robosuite``, ``libero``, or ``package.module:callable``.

    A callable of your own is given the whole section and returns a :class:`verl.envs.base.Environment`; its ``reset``
    may take seed and task alone.
    """
    name = str(env.get("name", ""))
    if name == "robosuite":
        from verl.envs.robosuite_env import RobosuiteEnv

        return RobosuiteEnv(_options(env))
    if name == "libero":
        from verl.envs.libero_env import LiberoEnv

        return LiberoEnv(_options(env))
    made: Environment = _own(name)(env)
    return made if _told_what_for(made) else _SplitBySeed(made)


def _told_what_for(env: Environment) -> bool:
    """Whether ``env.reset`` takes the third argument, ``training``."""
    try:
        inspect.signature(env.reset).bind(0, 0, True)
    except TypeError:
        return False
    return True


class _SplitBySeed:
    """An environment of one's own whose ``reset`` takes seed and task: its seeds keep training and evaluation apart."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def reset(self, seed: int, task: int = 0, training: bool = True) -> None:
        self._env.reset(seed, task)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


def _options(env: Mapping[str, Any]) -> Any:
    """The checked keys of a built-in environment."""
    kind: Any
    if env["name"] == "robosuite":
        from verl.envs.robosuite_env import RobosuiteConfig as kind
    else:
        from verl.envs.libero_env import LiberoConfig as kind
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    for key in env:
        if key not in known and key not in ELSEWHERE:
            allowed = ", ".join(sorted(known))
            raise ConfigError(f"env.{key}: unknown key for env.name={env['name']}; known are {allowed}")
    return kind(**{k: convert(hints[k], v, f"env.{k}") for k, v in env.items() if k in known})


def _own(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"env.name={name!r}: allowed are {', '.join(NAMES)}, or package.module:callable of your own")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"env.name={name!r}: {error}") from error


def _check_own(name: str, made: Any) -> None:
    """What can be said without calling it: that it takes the section, and a class has an environment's methods."""
    if not callable(made):
        raise ConfigError(f"env.name={name!r}: {type(made).__name__}, which cannot be called")
    try:
        inspect.signature(made).bind({})
    except TypeError as error:
        raise ConfigError(f"env.name={name!r}: it is called with the section env, one argument: {error}") from None
    except ValueError:  # written in C: it does not say
        return
    missing = [method for method in METHODS if inspect.isclass(made) and not hasattr(made, method)]
    if missing and not hasattr(made, "__getattr__"):
        raise ConfigError(f"env.name={name!r}: the class has no {', '.join(missing)} (verl.envs.base.Environment)")


_known: dict[str, dict[str, Any]] = {}  # by the section: to ask an environment it must be built, which may take long


def _said(env: Mapping[str, Any]) -> dict[str, Any]:
    """What an environment of one's own says of itself, by name. Raises ConfigError when it cannot be built."""
    if (key := repr(env)) not in _known:
        try:
            own = create_environment(env)
            _known[key] = {name: getattr(own, name) for name in SAID if hasattr(own, name)}
            own.close()
        except VerlError:
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({at.filename}:{at.lineno})"
            raise ConfigError(f"env.name={env['name']!r}: it cannot be built: {what}") from error
    return _known[key]


def check(env: Mapping[str, Any]) -> None:
    """Refuses a wrong section before any time is spent on it; looks for what it names. Builds one's own environment.

    Raises:
        ConfigError: naming the key, the value and what is allowed.
        AssetsMissingError: the simulator's assets are not there.
    """
    name = convert(str, env.get("name", ""), "env.name")
    if name not in NAMES:
        _check_own(name, _own(name))
        missing = [attribute for attribute in SAID[:3] if attribute not in _said(env)]
        if missing:
            raise ConfigError(f"env.name={name!r}: it has no {', '.join(missing)} (verl.envs.base.Environment)")
        return
    options = _options(env)
    if name == "libero":
        from verl.envs.libero_setup import find_assets

        find_assets(options.assets)
    elif (suite := env.get("suite", name)) != name:
        raise ConfigError(
            f"data.task_suite_name={suite!r}: allowed is {name} with env.name={name}; LIBERO is env=libero"
        )


def count_tasks(env: Mapping[str, Any]) -> int:
    """How many tasks the section selects."""
    if env.get("name") == "robosuite":
        return len(_options(env).tasks)
    if env.get("name") == "libero":
        return len(_options(env).task_numbers())
    tasks: int = _said(env)["tasks"]
    return tasks


def evaluation_states(env: Mapping[str, Any]) -> int | None:
    """How many initial states a task has for evaluation; None where each seed is one."""
    if env.get("name") == "robosuite":
        return None
    if env.get("name") == "libero":
        states: int | None = _options(env).evaluation_states()
        return states
    return _said(env).get("evaluation_states")


def describe(env: Mapping[str, Any]) -> tuple[tuple[Camera, ...], int]:
    """Cameras and longest episode (steps), without building a simulator where that can be helped."""
    if env.get("name") in NAMES:
        options = _options(env)
        return options.camera_specs(), options.step_limit()
    own = _said(env)
    return own["cameras"], own["max_steps"]
