"""The critic's configuration as the tests of environments need it: the plain rule."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from verl.critic_config import CriticConfig
from verl.trainer.load_config import load_config


@cache
def _plain() -> CriticConfig:
    """The defaults, without what the tiny critic's folder asks for."""
    return load_config(["critic.hold=1"])[0].critic


def critic_config(run_id: str = "run", **changes: Any) -> CriticConfig:
    """Bound to the sidecar ``run_id``; ``changes``: keys of ``critic``."""
    return dataclasses.replace(_plain(), run_id=run_id, **changes)
