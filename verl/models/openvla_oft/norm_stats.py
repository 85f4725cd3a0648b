"""``dataset_statistics.json`` / ``norm_stats``: normalised actions to the robot's, proprioception to normalised.

Formulas of the published code (``_unnormalize_actions``, ``normalize_proprio``), with low/high = q01/q99 for
``bounds_q99`` and min/max for ``bounds``; dimensions whose ``mask`` is false pass unchanged:

    action  = (normalised + 1) / 2 * (high - low + 1e-8) + low
    proprio = clip(2 * (raw - low) / (high - low + 1e-8) - 1, -1, 1)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from verl.models.openvla_oft.errors import CheckpointError, NormStatsError

_BOUNDS = {"bounds_q99": ("q01", "q99"), "bounds": ("min", "max")}


class Bounds:
    """Low, high and mask of one quantity (``action`` or ``proprio``) of one dataset."""

    def __init__(self, stats: dict[str, Any], normalization: str, name: str) -> None:
        low, high = _BOUNDS[normalization]
        for key in (low, high):
            if key not in stats:
                raise NormStatsError(
                    f"norm_stats of {name} lack {key!r}, which {normalization} needs; they have {sorted(stats)}"
                )
        self.low, self.high = np.asarray(stats[low], np.float64), np.asarray(stats[high], np.float64)
        self.mask = np.asarray(stats.get("mask", np.ones_like(self.low)), bool)

    def __len__(self) -> int:
        return len(self.low)

    def denormalise(self, normalised: np.ndarray) -> np.ndarray:
        """(..., dim) in [-1, 1] to the raw range, float64."""
        return np.where(self.mask, 0.5 * (normalised + 1) * (self.high - self.low + 1e-8) + self.low, normalised)

    def normalise(self, raw: np.ndarray) -> np.ndarray:
        """(..., dim) raw to [-1, 1], clipped, float64."""
        scaled = np.where(self.mask, 2 * (raw - self.low) / (self.high - self.low + 1e-8) - 1, raw)
        return np.clip(scaled, -1.0, 1.0)


def load(folder: Path, from_config: dict[str, Any]) -> dict[str, Any]:
    """All datasets' statistics: ``dataset_statistics.json`` where it exists, else the configuration's."""
    path = folder / "dataset_statistics.json"
    if not path.exists():
        return from_config
    try:
        stats: dict[str, Any] = json.loads(path.read_text())
        return stats
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None


def choose(stats: dict[str, Any], key: str | None) -> str:
    """The dataset whose statistics to use: ``key``, or ``key`` + ``_no_noops`` (LIBERO's), or the only one there is."""
    if not stats:
        raise NormStatsError(
            "the checkpoint has no norm_stats and no dataset_statistics.json: actions cannot be un-normalised"
        )
    if key is None:
        if len(stats) > 1:
            raise NormStatsError(
                f"unnorm_key: the checkpoint has statistics of several datasets, name one of {sorted(stats)}"
            )
        return next(iter(stats))
    for candidate in (key, f"{key}_no_noops"):
        if candidate in stats:
            return candidate
    raise NormStatsError(f"unnorm_key: {key!r} is not in the checkpoint's norm_stats; it has {sorted(stats)}")


def describe(values: np.ndarray, mask: list[bool] | None = None) -> dict[str, Any]:
    """Statistics of (N, dim) raw values in the published form (mean, std, max, min, q01, q99, mask)."""
    stats: dict[str, Any] = {
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "max": values.max(0).tolist(),
        "min": values.min(0).tolist(),
        "q01": np.quantile(values, 0.01, axis=0).tolist(),
        "q99": np.quantile(values, 0.99, axis=0).tolist(),
    }
    if mask is not None:
        stats["mask"] = mask
    return stats
