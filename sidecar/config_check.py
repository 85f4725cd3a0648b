"""``python -m sidecar --check``: what is wrong with a configuration, without importing torch or loading weights.

Keys, their types and values; that packages, checkpoint, adapter and reference are there. Not looked at: what only the
start shows (a device, memory, a port, a run id in use, a server's address).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evo_vlac import gpu_node
from sidecar.config import Config
from sidecar.config_file import load
from sidecar.engines import registry
from sidecar.errors import ConfigError, SidecarError
from sidecar.reference import load_reference


def problems(file: str | Path | None, overrides: Sequence[str] = ()) -> list[str]:
    """One line for each problem, which begins with the key; empty when all is well."""
    return look(file, overrides)[0]


def look(file: str | Path | None, overrides: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The problems, and beside them what works and may be meant otherwise; ``file`` is read once."""
    try:
        config = load(file, overrides)
    except ConfigError as error:
        return list(error.problems), []
    looks: tuple[Callable[[Config], object], ...] = (
        registry.check_packages,
        registry.check_checkpoint,
        registry.check_adapter,
        lambda config: load_reference(config.reference),
    )
    found = []
    for one in looks:
        try:
            one(config)
        except SidecarError as error:
            found.append(" ".join(str(error).split()))
    return found, _notices(config)


def _notices(config: Config) -> list[str]:
    """The CPU, where GPUs are and torch is its CPU build."""
    build = gpu_node.cpu_build() if config.engine in registry.LOCAL and config.device == "auto" else None
    if build is None or not (count := gpu_node.gpus()):
        return []
    return [
        f"device=auto takes the CPU: torch {build} is the CPU build, and this node has {count} GPU(s); "
        f"{gpu_node.install(build)}"
    ]
