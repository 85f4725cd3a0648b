"""The log of replies without a verdict: unreadable answers with their text, missing answers with the reason.

They are counted elsewhere. On request the frames of unreadable answers are kept.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from shm_bridge import Kind, Question, Status
from sidecar.config import InvalidConfig
from sidecar.reply_builder import ExplainedReply

logger = logging.getLogger(__name__)
_LOGGED_PER_S = 5.0  # so that a broken model does not fill the disk with one line
_TEXT = 200
_WORDS = {Status.INVALID: "an unreadable answer", Status.FAILED: "no answer"}


@dataclass(slots=True)
class _Rate:
    """Of one status, so that an outage does not crowd out what the model said."""

    left_out: int = 0
    next_s: float = 0.0


class InvalidLog:
    """Logs them, a few a second of each status at most, and saves frames to ``config.frames_dir``."""

    def __init__(self, config: InvalidConfig) -> None:
        self.config = config
        self._saved = 0
        self._rates: dict[Status, _Rate] = {}

    def note(self, question: Question, reply: ExplainedReply) -> None:
        """One more invalid or failed reply, or a value list with pairs that could not be read."""
        now, rate = time.monotonic(), self._rates.setdefault(reply.status, _Rate())
        if now < rate.next_s:
            rate.left_out += 1
        else:
            more = f" ({rate.left_out} more since the last line)" if rate.left_out else ""
            self._log(question, reply, more)
            rate.left_out, rate.next_s = 0, now + 1 / _LOGGED_PER_S
        if self.config.frames_dir is not None and self._saved < self.config.max_files and reply.images:
            self._save(Path(self.config.frames_dir), question, reply)

    def _log(self, question: Question, reply: ExplainedReply, more: str) -> None:
        what = _WORDS.get(reply.status, "a value list with unreadable answers")
        listed = reply.unreadable and question.kind is Kind.VALUE
        count = f", {reply.unreadable} of {len(question.steps) - 1} pairs" if listed else ""
        logger.warning(
            "%s (%s): %s of lane %s, episode %d, step %d%s: %r%s",
            what,
            reply.status.name,
            question.kind.name,
            question.name,
            question.episode,
            question.steps[-1] if question.steps else -1,
            count,
            reply.text[:_TEXT],
            more,
        )

    def _save(self, folder: Path, question: Question, reply: ExplainedReply) -> None:
        stem = f"{question.name}-{question.episode}-{question.steps[-1]}-{question.kind.name.lower()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for i, image in enumerate(reply.images):
                PILImage.fromarray(np.ascontiguousarray(image)).save(folder / f"{stem}-{i}.png")
            record = {"task": question.task, "text": reply.text, "status": reply.status.name}
            (folder / f"{stem}.json").write_text(json.dumps(record, indent=1))
        except OSError as error:
            logger.warning("invalid.frames_dir=%s: cannot be written (%s)", folder, error)
        self._saved += 1
