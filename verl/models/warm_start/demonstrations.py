"""Demonstrations in HDF5 (``python -m verl.envs.collect``) as training samples: one for each step of each episode.

Sample t of an episode of T steps: the observation before step t, and the actions t .. t + chunk - 1; what lies behind
the episode's end repeats the last action and is masked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evo_vlac.datasets.hdf5 import StoredDemo, stored_demos
from evo_vlac.errors import DatasetError
from verl.models.openvla_oft import norm_stats
from verl.models.openvla_oft.errors import InputError

LOW_M = 0.01
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
        goals: (N, 6) float32 metres, where the hand will be at its next turning point, and at the episode's end. It
            turns where its gripper begins to close or to open; where that stays as it is all the time, where the hand
            is first within a centimetre of as low as it comes; after the last of them, at the end.
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
        paths: Path | Sequence[Path],
        cameras: Sequence[str],
        chunk: int,
        kinds: Sequence[str] = ("success",),
        succeeded: bool = False,
    ) -> Demonstrations:
        """Reads the episodes of the given ``kinds`` of all files. Nothing is held twice: the images of some thousand
        episodes are gigabytes.

        Args:
            succeeded: only those that the simulator called a success. Else nothing of the simulator's word is read.

        Raises:
            InputError: a file cannot be read, has no such episode, or one without actions or proprioception.
        """
        try:
            with ExitStack() as files:
                demos: list[StoredDemo] = []
                if not paths:
                    raise InputError("no file of demonstrations is given")
                for path in [paths] if isinstance(paths, Path) else paths:
                    found = [one for one in files.enter_context(stored_demos(path)) if _wanted(one, kinds, succeeded)]
                    if not found:
                        raise InputError(f"{path} has no episode of the kinds {list(kinds)}")
                    demos += found
                small = [_samples(demo, chunk) for demo in demos]
                images = _images(demos, [len(arrays[0]) for arrays in small], cameras)
                tasks = [demo.task for demo in demos]
        except DatasetError as error:
            raise InputError(str(error)) from error
        texts = tuple(task for task, arrays in zip(tasks, small) for _ in arrays[0])
        proprio, actions, mask, goals = (np.concatenate(column) for column in zip(*small))
        return cls(images, proprio, actions, mask, goals, texts, len(demos))

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


def _wanted(demo: StoredDemo, kinds: Sequence[str], succeeded: bool) -> bool:
    return demo.kind in kinds and (not succeeded or bool(demo.success))


def _images(demos: Sequence[StoredDemo], steps: Sequence[int], cameras: Sequence[str]) -> np.ndarray:
    """(N, cameras, H, W, 3) uint8: the observations before each of the steps, read one episode after the other."""
    ends = np.cumsum(steps)
    images = np.empty((0,), np.uint8)
    for demo, count, end in zip(demos, steps, ends):
        for i, camera in enumerate(cameras):
            frames = demo.frames(camera)
            if not images.size:
                images = np.empty((ends[-1], len(cameras), *frames.shape[1:]), np.uint8)
            images[end - count : end, i] = frames[:count]
    return images


def _samples(demo: StoredDemo, chunk: int) -> tuple[np.ndarray, ...]:
    """Proprioception, actions, mask and goals of one episode, a row a step."""
    actions, proprio = demo.actions, demo.proprio
    if actions is None or proprio is None:
        raise InputError(f"{demo.name} has no {'actions' if actions is None else 'proprioception (obs/proprio)'}")
    steps = len(actions)
    ahead = np.arange(steps)[:, None] + np.arange(chunk)[None, :]
    ends = np.broadcast_to(proprio[-1, :3], (steps, 3))
    goals = np.concatenate([_turning_points(proprio[:, :3], actions[:, -1] > 0), ends], axis=1)
    return proprio[:steps], actions[np.minimum(ahead, steps - 1)], ahead < steps, goals


def _turning_points(hand: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """(T, 3) metres: for each step, where the hand will be at its next turning point.

    Args:
        hand: (T + 1, 3), before each step and at the end.
        closed: (T,) bool, whether the gripper is told to close.
    """
    turns = np.flatnonzero(closed[1:] != closed[:-1]) + 1
    if not turns.size:
        turns = np.flatnonzero(hand[:, 2] < hand[:, 2].min() + LOW_M)[:1]
    turns = np.append(turns, len(hand) - 1)
    following: np.ndarray = hand[turns[np.searchsorted(turns, np.arange(len(closed)))]]
    return following
