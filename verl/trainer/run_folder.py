"""``runs/<run id>/`` and the link ``runs/latest``: where a run leaves what it made.

config.yaml  metrics.jsonl  summary.json  curves.png  videos/  logs/  checkpoints/  tensorboard/
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from evo_vlac.paths import from_home
from verl.config import TrainerConfig
from verl.errors import ConfigError, RunFolderRemovedError


class RunFolder:
    """Creates the folder; refuses one that holds a finished or running run unless it is resumed."""

    def __init__(self, root: str, run_id: str, resume: bool = False) -> None:
        self.run_id = run_id
        self.path = self.place(root, run_id)
        if (self.path / "metrics.jsonl").exists() and not resume:
            raise ConfigError(
                f"trainer.run_id={run_id}: {self.path} exists already; choose another or resume it with "
                "trainer.resume_mode=auto"
            )
        for name in ("logs", "videos", "checkpoints", "tensorboard"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        self._link_latest()

    @staticmethod
    def place(root: str, run_id: str) -> Path:
        """Where the folder is, or will be."""
        return from_home(root).absolute() / run_id

    def _link_latest(self) -> None:
        link, temporary = self.path.parent / "latest", self.path.parent / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.path.name)
        os.replace(temporary, link)

    def file(self, *parts: str) -> Path:
        """A path in the folder."""
        return self.path.joinpath(*parts)

    def look(self) -> None:
        """Raises RunFolderRemovedError once the folder is no longer there."""
        if not self.path.exists():
            raise _removed(self.path)

    def removed(self, error: BaseException) -> RunFolderRemovedError | None:
        """What ``error`` means when it is about a file whose folder in this one was removed; else None."""
        if not isinstance(error, FileNotFoundError) or error.filename is None:
            return None
        file = Path(os.fsdecode(error.filename))
        inside = self.path in file.parents
        gone = [folder for folder in (self.path, *reversed(file.parents)) if inside and not folder.exists()]
        return _removed(gone[0]) if gone else None

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Whole or not at all."""
        temporary = self.file(f".{name}.part")
        temporary.write_text(json.dumps(content, indent=2, default=float) + "\n")
        os.replace(temporary, self.file(name))


def named_checkpoint(trainer: TrainerConfig) -> Path | None:
    """``trainer.resume_from_path``, looked at from outside. Raises ConfigError: it is no checkpoint's folder."""
    if trainer.resume_mode != "resume_path" or trainer.resume_from_path is None:
        return None
    path = from_home(trainer.resume_from_path)
    if not (path / "trainer.json").is_file() or not (path / "learner").is_dir():
        raise ConfigError(
            f"trainer.resume_from_path={path}: not a checkpoint folder (trainer.json and learner/ expected)"
        )
    return path


def _removed(folder: Path) -> RunFolderRemovedError:
    return RunFolderRemovedError(
        f"{folder} was removed or moved while the run wrote into it; what it had written there is gone with it"
    )
