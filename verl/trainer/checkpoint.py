"""Finding a checkpoint and going on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from verl.errors import ConfigError
from verl.trainer.run_folder import RunFolder

if TYPE_CHECKING:
    from verl.trainer.ppo.loop import Trainer

LOAD_TIMEOUT_S = 3600.0


def find_checkpoint(wanted: str | None, folder: RunFolder) -> Path | None:
    """The folder that ``trainer.resume`` means; None for a fresh start (also with ``auto`` and none there yet)."""
    if wanted is None:
        return None
    if wanted == "auto":
        last = folder.file("checkpoints", "last")
        return last.resolve() if last.exists() else None
    path = Path(wanted).expanduser()
    if not (path / "trainer.json").is_file() or not (path / "learner.pt").is_file():
        raise ConfigError(f"trainer.resume={wanted}: not a checkpoint folder (trainer.json and learner.pt expected)")
    return path.resolve()


def resume(trainer: Trainer, checkpoint: Path) -> None:
    """Loads the learners and the trainer's own state, and hands the weights to the rollout workers."""
    import ray

    ray.get([learner.load.remote(str(checkpoint)) for learner in trainer.learners], timeout=LOAD_TIMEOUT_S)
    trainer.restore(json.loads((checkpoint / "trainer.json").read_text()))
