"""Answers that could not be read: counted elsewhere, logged here with their text; on request their frames are kept."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from sidecar.config import InvalidConfig
from sidecar.desk import Verdict

logger = logging.getLogger(__name__)
_LOGGED_PER_S = 5.0  # a broken model must not fill the disk with the same line
_TEXT = 200


class InvalidLog:
    """Logs them, a few a second at most, and saves frames to ``config.frames_dir``."""

    def __init__(self, config: InvalidConfig) -> None:
        self.config = config
        self._saved = 0
        self._left_out = 0
        self._next_s = 0.0

    def note(self, verdict: Verdict) -> None:
        """One more invalid or failed verdict."""
        question, now = verdict.question, time.monotonic()
        if now < self._next_s:
            self._left_out += 1
        else:
            self._next_s = now + 1 / _LOGGED_PER_S
            more = f" ({self._left_out} more since the last line)" if self._left_out else ""
            logger.warning(
                "no valid verdict: %s of lane %s, episode %d, step %d: %s %r%s", question.kind.name, question.name,
                question.episode, question.steps[-1] if question.steps else -1, verdict.status.name,
                verdict.text[:_TEXT], more,
            )  # fmt: skip
            self._left_out = 0
        if self.config.frames_dir is not None and self._saved < self.config.max_files and verdict.images:
            self._save(Path(self.config.frames_dir), verdict)

    def _save(self, folder: Path, verdict: Verdict) -> None:
        question = verdict.question
        stem = f"{question.name}-{question.episode}-{question.steps[-1]}-{question.kind.name.lower()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for i, image in enumerate(verdict.images):
                PILImage.fromarray(np.ascontiguousarray(image)).save(folder / f"{stem}-{i}.png")
            record = {"task": question.task, "text": verdict.text, "status": verdict.status.name}
            (folder / f"{stem}.json").write_text(json.dumps(record, indent=1))
        except OSError as error:
            logger.warning("invalid.frames_dir=%s: cannot be written (%s)", folder, error)
        self._saved += 1
