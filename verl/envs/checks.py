"""What an environment or a policy may not hand on: numbers that are not finite, and arrays of another shape.

Left alone they become actions without a meaning, and gradients that are not finite long after.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from verl.envs.base import PROPRIO_DIM, Environment
from verl.envs.messages import Observation
from verl.errors import InvalidActionError, InvalidObservationError

logger = logging.getLogger(__name__)


def checked_proprio(env: Environment, task: int, seed: int, step: int) -> np.ndarray:
    """The environment's proprioception, (8,) float32.

    Raises:
        InvalidObservationError: it has another shape or type, or is not finite.
    """
    given: Any = env.proprio()
    try:
        proprio = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidObservationError(f"{_where(env, task, seed, step)}: proprioception {given!r}: {error}") from None
    if proprio.shape != (PROPRIO_DIM,):
        raise InvalidObservationError(
            f"{_where(env, task, seed, step)}: proprioception of shape {proprio.shape}, must be ({PROPRIO_DIM},)"
        )
    if not np.isfinite(proprio).all():
        raise InvalidObservationError(
            f"{_where(env, task, seed, step)}: proprioception {proprio.tolist()}, must be finite"
        )
    return proprio


def checked_success(env: Environment, success: Any) -> bool:
    """What the simulator said of a step; a number that is not finite is no success, and that is said once."""
    if isinstance(success, float | np.floating) and not np.isfinite(success):
        _say_no_success(_name(env), str(success))
        return False
    return bool(success)


def check_decisions(policy: str, batch: Sequence[Observation], actions: np.ndarray, log_probs: np.ndarray) -> None:
    """Holds what the policy ``policy`` decided to be finite; a row an observation (there may be more rows).

    Raises:
        InvalidActionError: it names the first observation for which it is not.
    """
    for name, rows in (("actions", actions), ("log-probabilities", log_probs)):
        good = np.isfinite(rows[: len(batch)]).reshape(len(batch), -1).all(axis=1)
        if not good.all():
            seen = batch[int(np.argmin(good))]
            raise InvalidActionError(
                f"the policy {policy} gave {name} that are not finite in episode {seen.episode}, step {seen.step} "
                f"({seen.instruction!r}, {len(batch) - int(good.sum())} of {len(batch)} observations): its weights or "
                "its norm_stats are broken"
            )


def _name(env: Environment) -> str:
    return f"{type(env).__module__}:{type(env).__qualname__}"


def _where(env: Environment, task: int, seed: int, step: int) -> str:
    return f"environment {_name(env)}, task {task} ({env.instruction!r}), seed {seed}, step {step}"


@cache
def _say_no_success(name: str, success: str) -> None:
    logger.warning("environment %s says success=%s: taken for no success", name, success)
