"""Demonstrations in HDF5 (``python -m verl.envs.collect``) as training samples: one for each step of each episode.

Sample t of an episode of T steps: the observation before step t, and the actions t .. t + chunk - 1; what lies behind
the episode's end repeats the last action and is masked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from verl.models.openvla_oft import norm_stats
from verl.models.openvla_oft.errors import InputError

_ROTATION = slice(3, 6)
_ARRAYS = ("images", "proprio", "actions", "mask", "goals")


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """N samples.

    Attributes:
        images: (N, cameras, H, W, 3) uint8, upright.
        proprio: (N, P) float32.
        actions: (N, chunk, action_dim) float32, the robot's units.
        mask: (N, chunk) bool, whether the action was really taken.
        goals: (N, 3) float32, where the hand is when the episode's gripper first closes (metres); NaN if it never does.
        instructions: N texts.
        episodes: how many episodes they come from.
    """

    images: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    mask: np.ndarray
    goals: np.ndarray
    instructions: tuple[str, ...]
    episodes: int

    def __len__(self) -> int:
        return len(self.actions)

    @classmethod
    def read(
        cls,
        path: Path,
        cameras: Sequence[str],
        chunk: int,
        kinds: Sequence[str] = ("success",),
        limit: int | None = None,
    ) -> Demonstrations:
        """Reads the episodes of the given ``kinds``; of ``success`` only those that the simulator agreed with."""
        parts: list[tuple[np.ndarray, ...]] = []
        texts: list[str] = []
        with h5py.File(path, "r") as file:
            for name in sorted(file["data"], key=lambda n: int(n.rpartition("_")[2])):
                demo = file["data"][name]
                kind = demo.attrs["kind"]
                if kind not in kinds or (kind == "success" and not demo.attrs["success"]):
                    continue
                parts.append(_samples(demo, cameras, chunk))
                texts += [str(demo.attrs["task"])] * len(parts[-1][0])
                if limit is not None and len(parts) >= limit:
                    break
        if not parts:
            raise InputError(f"{path} has no episode of the kinds {list(kinds)}")
        return cls(*(np.concatenate(column) for column in zip(*parts)), tuple(texts), len(parts))

    @classmethod
    def join(cls, parts: Sequence[Demonstrations]) -> Demonstrations:
        """Those of several files, one after the other."""
        arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS]
        texts = tuple(text for part in parts for text in part.instructions)
        return cls(*arrays, texts, sum(part.episodes for part in parts))

    def where(self, kept: np.ndarray) -> Demonstrations:
        """The samples that ``kept`` (N,) bool marks."""
        arrays = {name: getattr(self, name)[kept] for name in _ARRAYS}
        return replace(self, **arrays, instructions=tuple(np.array(self.instructions)[kept]))

    def norm_stats(self) -> dict[str, Any]:
        """Statistics in the published form; the quantiles are what actions and proprioception are normalised by.

        Rotations get the full range: scripted demonstrations hardly turn the hand, and quantiles of almost nothing
        would blow noise up to all 256 bins. The gripper is not masked in, as in LIBERO's statistics.
        """
        taken = self.actions[:, 0]
        dim = taken.shape[1]
        action = norm_stats.describe(taken, [True] * (dim - 1) + [False])
        action["q01"][_ROTATION], action["q99"][_ROTATION] = [-1.0] * 3, [1.0] * 3
        return {
            "action": action,
            "proprio": norm_stats.describe(self.proprio),
            "num_transitions": len(self),
            "num_trajectories": self.episodes,
        }


def _samples(demo: h5py.Group, cameras: Sequence[str], chunk: int) -> tuple[np.ndarray, ...]:
    actions = demo["actions"][:].astype(np.float32)
    proprio = demo["obs/proprio"][:].astype(np.float32)
    steps = len(actions)
    ahead = np.arange(steps)[:, None] + np.arange(chunk)[None, :]
    images = np.stack([demo[f"obs/{camera}_image"][:steps] for camera in cameras], axis=1)
    closing = np.flatnonzero(actions[:, -1] > 0)
    goal = proprio[closing[0], :3] if len(closing) else np.full(3, np.nan, np.float32)
    goals = np.broadcast_to(goal, (steps, 3))
    return images, proprio[:steps], actions[np.minimum(ahead, steps - 1)], ahead < steps, goals
