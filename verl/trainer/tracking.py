"""Metrics to ``metrics.jsonl`` always, and to TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import json
import time
from typing import Any

from verl.config import TrainerConfig
from verl.errors import ConfigError
from verl.trainer.run_folder import RunFolder


class Tracker:
    """One line and one point a step and call of :meth:`log`."""

    def __init__(self, trainer: TrainerConfig, folder: RunFolder, config: dict[str, Any], updates: int = 0) -> None:
        """``updates``: already done, in a run that is resumed; what TensorBoard knows of later ones is dropped."""
        self.started, self.before_s = time.monotonic(), 0.0
        self._lines = open(folder.file("metrics.jsonl"), "a", buffering=1)  # noqa: SIM115
        self._board = self._wandb = None
        if "tensorboard" in trainer.logger:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder.file("tensorboard")), purge_step=updates + 1 if updates else None)
        if "wandb" in trainer.logger:
            try:
                import wandb
            except ImportError:
                raise ConfigError("trainer.logger: wandb is not installed (pip install wandb)") from None
            self._wandb = wandb.init(
                project=trainer.project_name,
                name=trainer.experiment_name or folder.run_id,
                id=folder.run_id,
                resume="allow",
                dir=str(folder.path),
                config=config,
            )

    def wall_s(self) -> float:
        """Seconds since the run began, without the time between a crash and its resumption."""
        return self.before_s + time.monotonic() - self.started

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Records ``metrics`` at ``step`` (updates done so far)."""
        row = {"step": step, "wall_s": round(self.wall_s(), 3), **metrics}
        self._lines.write(json.dumps(row, default=float) + "\n")
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.log(metrics, step=step)

    def close(self) -> None:
        """Flushes and closes every sink."""
        self._lines.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
