"""The sidecar's own configuration, as a training hands it on: a tree of keys, written as a YAML file for each sidecar.

Its keys are the sidecar's (docs/sidecar.md), which checks them: see :func:`verl.trainer.preflight.check_sidecar`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from verl.critic_config import CriticConfig
from verl.errors import ConfigError


def sidecar_settings(critic: CriticConfig, run_id: str, gpus: int | None) -> dict[str, Any]:
    """``critic.sidecar.config``, with what the training says in keys of its own.

    Args:
        gpus: of a node that the run has (``trainer.n_gpus_per_node``); None: all that are there.

    Raises:
        ConfigError: a critic a GPU without GPUs.
    """
    said = {"run_id": run_id, "threshold": critic.threshold}
    if critic.sidecar.per == "gpu":
        if gpus == 0 and "devices" not in critic.sidecar.config:
            raise ConfigError("critic.sidecar.per=gpu: trainer.n_gpus_per_node=0; allowed is node")
        said["devices"] = "all" if gpus is None else ",".join(f"cuda:{i}" for i in range(gpus))
    return {**said, **critic.sidecar.config}


def write_sidecar_settings(critic: CriticConfig, run_id: str, path: Path, gpus: int | None) -> Path:
    """The file for ``python -m sidecar --config``. Paths become absolute: Ray's actors work in another folder."""
    settings = sidecar_settings(critic, run_id, gpus)
    for key in ("model", "adapter"):
        settings |= _absolute(settings, key)
    if isinstance(reference := settings.get("reference"), dict):
        settings["reference"] = reference | _absolute(reference, "folder")
    path.write_text(yaml.safe_dump(settings))
    return path


def _absolute(tree: dict[str, Any], key: str) -> dict[str, str]:
    """The key's path made absolute, where it is one that exists here."""
    value = tree.get(key)
    if isinstance(value, str) and value and Path(value).expanduser().exists():
        return {key: str(Path(value).expanduser().absolute())}
    return {}
