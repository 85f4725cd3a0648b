"""Trains the tiny critic's vision tower to see where things are, before it is fine-tuned.

VLAC starts from an InternVL whose vision tower has seen millions of pictures; a tiny one starts from random weights,
and done questions alone, one bit a picture, teach it too little in many thousands of steps. So the tower and its
projector first learn to tell the simulator's position of the hand and of each object from single frames, by one linear
layer on all visual tokens that is dropped afterwards. Positions are in the training files (``objects/<name>`` of
:mod:`evo_vlac.datasets.hdf5`); the critic itself is never shown any.

Label-free (``LookConfig.label_free``) nothing of the simulator is read: the tower learns to give back the picture
itself, coarsely (``CELLS`` x ``CELLS`` mean colours), each cell in standard deviations of the data, so that what moves
counts and the table does not. An autoencoder whose code is the critic's visual tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import InternVLForConditionalGeneration, InternVLProcessor

from evo_vlac.datasets import DatasetOptions, open_datasets
from evo_vlac.datasets.hdf5 import CAMERA, read_demonstrations
from evo_vlac.errors import DatasetError
from evo_vlac.tiny.model import MEAN, STD

logger = logging.getLogger(__name__)

CELLS = 14  # a side: 8 px of 112, finer than a cube


@dataclass(frozen=True, slots=True)
class LookConfig:
    """``steps`` of ``batch_size`` frames, AdamW, linear warm-up and a cosine to zero."""

    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.05
    held_out: int = 20
    """Every ``held_out``-th episode is not learnt but judged."""
    seed: int = 0
    label_free: bool = False
    """The picture itself is learnt, in place of positions."""


@dataclass(frozen=True, slots=True)
class Sights:
    """Frames of all episodes, N together, with their targets.

    Attributes:
        episodes: the frames of each, T times (H, W, 3) uint8.
        places: (N, 3 K) float32, what is to be told of each frame: metres, NaN where the frame's scene has no such
            object; or label-free the colours of K cells, 0 to 1.
        names: the K objects; label-free none.
        held_out: (N,) bool, frames of the episodes kept for judging.
    """

    episodes: tuple[Sequence[npt.NDArray[np.uint8]], ...]
    places: npt.NDArray[np.float32]
    names: tuple[str, ...]
    held_out: npt.NDArray[np.bool_]

    def frames(self, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        """(B, H, W, 3) uint8, the frames with these numbers."""
        ends = np.cumsum([len(episode) for episode in self.episodes])
        which = np.searchsorted(ends, chosen, side="right")
        return np.stack([self.episodes[e][i - ends[e]] for e, i in zip(which, chosen)])  # counted from the end


def coarse(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(CELLS * CELLS * 3,) mean colours of the picture's cells, row by row, 0 to 1."""
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int)[:-1] for side in frame.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(frame, rows, axis=0, dtype=np.float64), columns, axis=1)
    area = np.diff(rows, append=frame.shape[0])[:, None] * np.diff(columns, append=frame.shape[1])
    return np.asarray(sums / (255 * area[..., None]), np.float32).ravel()


def read_films(paths: Sequence[Path], held_out: int, camera: str | None = CAMERA) -> Sights:
    """All frames of these datasets, of any layout, and nothing else of them; in memory as with :func:`read_sights`."""
    episodes, held = [], []
    for index, film in enumerate(open_datasets(paths, DatasetOptions(camera, labels=False))):
        episodes.append(film.frames)
        held.append(np.full(len(film), index % held_out == held_out - 1))
    if not episodes:
        raise DatasetError("no episodes to learn from")
    cells = np.stack([coarse(frame) for frames in episodes for frame in frames])
    return Sights(tuple(episodes), cells, (), np.concatenate(held))


def read_sights(paths: Sequence[Path], held_out: int, camera: str = CAMERA) -> Sights:
    """All frames of these files with their objects' positions, in memory (38 kB a frame of 112 px).

    Raises DatasetError where an episode has no positions.
    """
    episodes, objects, held = [], [], []
    for index, demo in enumerate(read_demonstrations(paths, camera)):
        if not demo.objects:
            raise DatasetError(f"{demo.name}: no positions (objects/<name>); python -m verl.envs.collect writes them")
        episodes.append(demo.frames)
        objects.append(demo.objects)
        held.append(np.full(len(demo), index % held_out == held_out - 1))
    if not episodes:
        raise DatasetError("no episodes to learn from")
    names = tuple(sorted({name for places in objects for name in places}))
    rows = [
        np.concatenate([places.get(name, np.full((len(f), 3), np.nan, np.float32)) for name in names], axis=1)
        for places, f in zip(objects, episodes)
    ]
    return Sights(tuple(episodes), np.concatenate(rows), names, np.concatenate(held))


def learn_to_look(model: Path, paths: Sequence[Path], output: Path, config: LookConfig) -> dict[str, float]:
    """Trains vision tower and projector of ``model`` on these files; ``output`` is renamed into place when complete.

    Returns the mean distance in millimetres of predicted and true position on held-out episodes, by object; label-free
    ``unexplained``, the share of the cells' variance that is not told.
    """
    sights = (read_films if config.label_free else read_sights)(paths, config.held_out)
    torch.manual_seed(config.seed)
    processor = InternVLProcessor.from_pretrained(model)
    critic = InternVLForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    reader = _Reader(critic, sights)
    for step, loss in _train(reader, sights, config):
        if step % 100 == 0:
            logger.info("looking: step %d of %d, loss %.4f", step, config.steps, loss)
    errors = _errors(reader, sights)
    logger.info("looking: %s", ", ".join(f"{name} {off:.2f}" for name, off in errors.items()))
    partial = output.with_name(output.name + ".part")
    critic.save_pretrained(partial)
    processor.save_pretrained(partial)
    partial.rename(output)
    return errors


class _Reader(nn.Module):
    """Positions or colours, in standard deviations of the data, from frames."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, critic: InternVLForConditionalGeneration, sights: Sights) -> None:
        super().__init__()
        text: Any = critic.config.text_config
        self.critic = critic.model
        self.head = nn.Linear(critic.config.image_seq_length * text.hidden_size, sights.places.shape[1])
        self.register_buffer("mean", torch.tensor(np.nanmean(sights.places, axis=0)))
        self.pictures = not sights.names
        least = 0.02 if self.pictures else 1e-4
        self.register_buffer("deviation", torch.tensor(np.nanstd(sights.places, axis=0) + least))

    def forward(self, frames: npt.NDArray[np.uint8]) -> torch.Tensor:
        """(B, H, W, 3) uint8 to (B, 3 K)."""
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        pixels = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        tokens: torch.Tensor = self.critic.get_image_features(pixel_values=pixels).pooler_output
        places: torch.Tensor = self.head(tokens.flatten(1))
        return places

    def loss(self, frames: npt.NDArray[np.uint8], places: npt.NDArray[np.float32]) -> torch.Tensor:
        """Huber's, over known coordinates; of pictures the mean square: a cell's median is mostly the table."""
        target = (torch.from_numpy(places) - self.mean) / self.deviation
        if self.pictures:
            return nn.functional.mse_loss(self(frames), target)
        known = ~target.isnan()
        loss: torch.Tensor = nn.functional.smooth_l1_loss(self(frames)[known], target[known], beta=0.1)
        return loss

    @torch.inference_mode()
    def off(self, frames: npt.NDArray[np.uint8], places: npt.NDArray[np.float32]) -> torch.Tensor:
        """(B, 3 K) predicted minus true."""
        off: torch.Tensor = self(frames) * self.deviation + self.mean - torch.from_numpy(places)
        return off

    def distances(self, frames: npt.NDArray[np.uint8], places: npt.NDArray[np.float32]) -> torch.Tensor:
        """(B, K) distance in metres of predicted and true position; NaN for an object that the scene does not have."""
        distances: torch.Tensor = self.off(frames, places).reshape(len(frames), -1, 3).norm(dim=2)
        return distances


def _train(reader: _Reader, sights: Sights, config: LookConfig) -> Iterator[tuple[int, float]]:
    rng = np.random.default_rng(config.seed)
    learnt = np.flatnonzero(~sights.held_out)
    weights = [p for name, p in reader.named_parameters() if not name.startswith("critic.language_model")]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, config.warmup_steps),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.steps - config.warmup_steps)),
        ],
        [config.warmup_steps],
    )
    reader.train()
    for step in range(1, config.steps + 1):
        chosen = rng.choice(learnt, config.batch_size)
        loss = reader.loss(sights.frames(chosen), sights.places[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        scheduler.step()
        yield step, float(loss.detach())
    reader.eval()


def _errors(reader: _Reader, sights: Sights) -> dict[str, float]:
    judged = np.flatnonzero(sights.held_out)
    if not len(judged):
        return {}
    parts = np.array_split(judged, -(-len(judged) // 256))
    if not sights.names:
        squares = torch.cat([reader.off(sights.frames(part), sights.places[part]) ** 2 for part in parts])
        variance = float(np.var(sights.places[judged], axis=0).mean())
        return {"unexplained": round(float(squares.mean()) / max(variance, 1e-12), 4)}
    rows = [reader.distances(sights.frames(part), sights.places[part]) for part in parts]
    mean = torch.cat(rows).nanmean(dim=0) * 1000
    return {name: round(float(mm), 2) for name, mm in zip(sights.names, mean)}
