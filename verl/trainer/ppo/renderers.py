"""What the environments of each rollout worker are drawn with: in the log once a worker; what is wrong is told once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from verl.workers.advance import Advance

logger = logging.getLogger(__name__)


class Renderers:
    """``note``: tells the user of something."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self._names: dict[int, str] = {}
        self._told: set[str] = set()

    def reported(self, worker: int, report: Advance) -> None:
        """By the rollout worker with that number."""
        if report.renderer is not None and self._names.get(worker) != report.renderer:
            self._names[worker] = report.renderer
            logger.info("rollout worker %d: environments are drawn with %s", worker, report.renderer)
        if report.renderer_warning is not None and report.renderer_warning not in self._told:
            self._told.add(report.renderer_warning)
            self.note(f"rollout worker {worker}: {report.renderer_warning}")
