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

    def __init__(self, trainer: TrainerConfig, folder: RunFolder, config: dict[str, Any]) -> None:
        self.started = time.monotonic()
        self._lines = open(folder.file("metrics.jsonl"), "a", buffering=1)  # noqa: SIM115
        self._board = self._wandb = None
        if "tensorboard" in trainer.logger:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder.file("tensorboard")))
        if "wandb" in trainer.logger:
            try:
                import wandb
            except ImportError:
                raise ConfigError("trainer.logger: wandb is not installed (pip install wandb)") from None
            self._wandb = wandb.init(
                project=trainer.project_name,
                name=trainer.experiment_name or folder.run_id,
                dir=str(folder.path),
                config=config,
            )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Records ``metrics`` at ``step`` (updates done so far)."""
        row = {"step": step, "wall_s": round(time.monotonic() - self.started, 3), **metrics}
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
