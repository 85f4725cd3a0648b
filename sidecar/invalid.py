"""Verdicts that are none: answers that could not be read, with their text; queries without an answer, with the reason.

They are counted elsewhere and logged here; on request the frames of unreadable answers are kept.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from shm_bridge import Kind, Status
from sidecar.config import InvalidConfig
from sidecar.desk import Verdict

logger = logging.getLogger(__name__)
_LOGGED_PER_S = 5.0  # a broken model must not fill the disk with the same line
_TEXT = 200


_WORDS = {Status.INVALID: "an unreadable answer", Status.FAILED: "no answer"}


@dataclass(slots=True)
class _Rate:
    """Of one status: an outage's lines must not take the place of what the model said."""

    left_out: int = 0
    next_s: float = 0.0


class InvalidLog:
    """Logs them, a few a second of each status at most, and saves frames to ``config.frames_dir``."""

    def __init__(self, config: InvalidConfig) -> None:
        self.config = config
        self._saved = 0
        self._rates: dict[Status, _Rate] = {}

    def note(self, verdict: Verdict) -> None:
        """One more invalid or failed verdict, or a value list with pairs that could not be read."""
        now, rate = time.monotonic(), self._rates.setdefault(verdict.status, _Rate())
        if now < rate.next_s:
            rate.left_out += 1
        else:
            more = f" ({rate.left_out} more since the last line)" if rate.left_out else ""
            self._log(verdict, more)
            rate.left_out, rate.next_s = 0, now + 1 / _LOGGED_PER_S
        if self.config.frames_dir is not None and self._saved < self.config.max_files and verdict.images:
            self._save(Path(self.config.frames_dir), verdict)

    def _log(self, verdict: Verdict, more: str) -> None:
        question = verdict.question
        what = _WORDS.get(verdict.status, "a value list with unreadable answers")
        listed = verdict.unreadable and question.kind is Kind.VALUE
        count = f", {verdict.unreadable} of {len(question.steps) - 1} pairs" if listed else ""
        logger.warning(
            "%s (%s): %s of lane %s, episode %d, step %d%s: %r%s",
            what,
            verdict.status.name,
            question.kind.name,
            question.name,
            question.episode,
            question.steps[-1] if question.steps else -1,
            count,
            verdict.text[:_TEXT],
            more,
        )

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
