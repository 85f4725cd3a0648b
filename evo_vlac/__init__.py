"""evo_vlac: everything VLAC, the vision-language-action-critic, can do.

Names are loaded when first used, so that ``import evo_vlac`` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "GAC_model": "evo_vlac.compat.gac_model",
    "Critic": "evo_vlac.critic",
    "SwiftEngine": "evo_vlac.swift_engine",
    "Query": "evo_vlac.engine",
    "Answer": "evo_vlac.engine",
    "TokenInfo": "evo_vlac.engine",
    "Engine": "evo_vlac.engine",
    "DoneResult": "evo_vlac.parsing",
    "CriticResult": "evo_vlac.parsing",
    "TrajectoryResult": "evo_vlac.critic",
    "EvoVlacError": "evo_vlac.errors",
}

_MODULES = {name: f"evo_vlac.utils.{name}" for name in ("data_processing_vlm", "model_utils", "video_tool")}
_MODULES["utils"] = "evo_vlac.utils"

__all__ = sorted([*_WHERE, *_MODULES, "get_version"])


def get_version() -> str:
    """The installed version of this project."""
    from importlib.metadata import version

    return version("vlac-rl")


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name == "__version__":
        return get_version()
    raise AttributeError(f"module 'evo_vlac' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
