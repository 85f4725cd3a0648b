"""Looks at everything that can be wrong before any time is spent: paths, tasks, sizes, run ids."""

from __future__ import annotations

import json
from pathlib import Path

from verl.config import Config
from verl.envs.factory import check
from verl.errors import ConfigError


def preflight(config: Config) -> None:
    """Raises :class:`ConfigError`, naming the first thing that cannot work."""
    check_policy(config)
    check(config.env)
    if config.critic.enable and config.critic.sidecar.start:
        check_critic(config)


def check_policy(config: Config) -> None:
    """The policy's folder has a configuration, weights, and the statistics that ``unnorm_key`` names."""
    key = "actor_rollout_ref.model.path"
    folder = _checkpoint(key, config.model.path)
    statistics = folder / "dataset_statistics.json"
    known = json.loads(statistics.read_text()) if statistics.is_file() else {}
    known = known or json.loads((folder / "config.json").read_text()).get("norm_stats", {})
    wanted = config.rollout.unnorm_key
    if wanted not in known and f"{wanted}_no_noops" not in known:
        raise ConfigError(
            f"actor_rollout_ref.rollout.unnorm_key={wanted}: {folder} has statistics of "
            f"{', '.join(sorted(known)) or 'nothing'}"
        )


def check_critic(config: Config) -> None:
    """The critic's folder, when the sidecar is to load one from here."""
    model = config.critic.sidecar.config.get("model")
    if isinstance(model, str) and config.critic.sidecar.config.get("engine") not in ("openai", "fixed"):
        _checkpoint("critic.sidecar.config.model", model)


def _checkpoint(key: str, path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{key}={path}: no such folder")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{key}={path}: not a checkpoint, config.json is missing")
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"{key}={path}: not a checkpoint, no *.safetensors in it")
    try:
        json.loads((folder / "config.json").read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"{key}={path}: config.json is broken ({error})") from None
    return folder
