"""From command line and files to a checked configuration; every mistake is one line."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evo_vlac.shipped_models import model_folder
from evo_vlac.text_files import read_text, texts_as_written
from verl.config import Config
from verl.errors import ConfigError
from verl.trainer.critic_folder import as_tree, critic_rules
from verl.trainer.hydra_text import TEXTS, as_hydra, hydra_text

CONFIG_FOLDER = Path(__file__).parent.absolute() / "config"
CRITIC_GROUP = "critic_folder"  # its place in the order is in ppo_trainer.yaml


def load_config(overrides: list[str], file: str | None = None) -> tuple[Config, dict[str, Any]]:
    """The configuration: each layer gives way to those after it.

        ppo_trainer.yaml -> critic.yaml of the critic's folder -> env -> hardware preset -> ``file`` -> ``overrides``

    ``env`` selects the environment's keys, and with some the models and the recipe (``config/env``); ``hardware``, a
    preset for a machine (``config/hardware``); ``file`` is the same tree, any part of it. Which critic it is, all
    layers together say.

    Returns:
        The checked dataclasses, and the resolved tree (for ``config.yaml``).

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    # the sidecar checks its own keys: here any is taken
    free = [f"++{text}" if text.startswith("critic.sidecar.config.") else text for text in map(as_hydra, overrides)]
    wanted = _one_preset([*(_flatten(file) if file else []), *free])
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"{text!r}: an override has the form key=value")
    try:
        resolved = _compose(wanted)
        if rules := critic_rules(resolved):
            # a group of hydra's, since only hydra knows whether a later layer sets the same key
            ConfigStore.instance().store("found", as_tree(rules), group=CRITIC_GROUP, package="_global_")
            resolved = _compose([f"{CRITIC_GROUP}=found", *wanted])
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # the last: null for a group, in hydra
        raise ConfigError(_unknown_key(error) or _one_line(error)) from None
    return Config.from_mapping(resolved), resolved


def _compose(overrides: list[str]) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        resolved = OmegaConf.to_container(compose("ppo_trainer", overrides=overrides), resolve=True)
    assert isinstance(resolved, dict)
    for key in ("actor_rollout_ref.model.path", "critic.sidecar.config.model"):
        _find_model(resolved, key)
    return {str(key): value for key, value in resolved.items()}


def _find_model(tree: Any, key: str) -> None:
    """Puts the folder of a shipped model in the place of its name; see :mod:`evo_vlac.shipped_models`."""
    *groups, name = key.split(".")
    for group in groups:
        tree = tree.get(group) if isinstance(tree, dict) else None
    if isinstance(tree, dict) and isinstance(tree.get(name), str):
        tree[name] = model_folder(tree[name])


def _one_preset(overrides: list[str]) -> list[str]:
    """``hardware=NAME`` as hydra wants it for a group without a default; the last one counts."""
    presets = [text for text in overrides if text.startswith("hardware=")]
    others = [text for text in overrides if not text.startswith("hardware=")]
    return [f"+{text}" for text in presets[-1:]] + others


def _flatten(file: str) -> list[str]:
    """A YAML file's leaves as hydra overrides; ``env: libero`` and ``hardware: h100_8`` select a group."""
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"--config {file}: no such file")
    try:
        text = read_text(path)
        tree = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise ConfigError(f"--config {file}: {_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"--config {file}: must hold a mapping")
    texts_as_written(tree, yaml.load(text, yaml.BaseLoader), TEXTS)
    environment = tree.pop("env", None)
    if isinstance(environment, dict):
        group = environment.pop("group", None)
        leaves = list(_leaves(environment, "env"))
    else:
        group, leaves = environment, []
    selected = [f"env={group}"] if group else []
    if preset := tree.pop("hardware", None):
        selected.append(f"hardware={preset}")
    return selected + leaves + list(_leaves(tree, ""))


def _leaves(tree: dict[Any, Any], where: str) -> Any:
    for key, value in tree.items():
        path = f"{where}.{key}" if where else str(key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            # an interpolation must reach OmegaConf unquoted
            whole = isinstance(value, str) and value.startswith("${")
            yield f"++{path}={value if whole else hydra_text(value)}"


def _unknown_key(error: Exception) -> str | None:
    """hydra's refusal of an unknown key, with the known key that is most like it."""
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found is None:
        return None
    key = found[1]
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        known = list(_keys(OmegaConf.to_container(compose("ppo_trainer")), ""))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    advice = f"did you mean {close[0]}?" if close else f"the keys are listed in {CONFIG_FOLDER / 'ppo_trainer.yaml'}"
    return f"{key}: unknown key; {advice}"


def _keys(tree: Any, where: str) -> Iterator[str]:
    for key, value in tree.items():
        path = f"{where}.{key}" if where else str(key)
        yield path
        if isinstance(value, dict):
            yield from _keys(value, path)


def _one_line(error: Exception) -> str:
    """hydra's message without its advice and its indented context."""
    cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
    lines = [line.strip() for line in f"{error}\n{cause}".splitlines() if line.strip()]
    noise = ("Set the env", "full_key", "object_type", "To append", "Config search", "provider=")
    useful = [line for line in lines if not line.startswith(noise)]
    return "; ".join(dict.fromkeys(useful)) or type(error).__name__
