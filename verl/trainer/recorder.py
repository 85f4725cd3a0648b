"""Writes what a run shows: metrics, videos, and at the end the summary, the curves and the table."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, SupportsFloat

from verl.config import Config
from verl.episode import Episode
from verl.trainer.report.curves import draw_curves
from verl.trainer.report.verdict_video import write_verdict_video
from verl.trainer.run_folder import RunFolder
from verl.trainer.tracking import Tracker

logger = logging.getLogger(__name__)
_OF_REQUEST = ("episode", "group", "task", "seed", "training")  # columns of episodes.jsonl
_OF_END = ("steps", "complete", "score", "env_success", "env_success_step", "invalid", "value_holes", "outages")
LISTED_VIDEOS = 100  # in the summary: the latest; the folder has all


class Recorder:
    """One a run. Files appear whole or not at all."""

    def __init__(self, config: Config, folder: RunFolder, tree: dict[str, Any], updates: int = 0) -> None:
        """``updates``: already done, in a run that is resumed."""
        self.config, self.folder = config, folder
        self.tracker = Tracker(config.trainer, folder, tree, updates)
        self.videos: list[str] = []
        self.stages: dict[str, float] = defaultdict(float)  # seconds, summed over training episodes

    def log(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Numbers of this step; NaN (nothing to tell) is left out."""
        known = {name: float(value) for name, value in metrics.items() if not math.isnan(float(value))}
        self.tracker.log(step, known)

    def episode(self, episode: Episode, step: int) -> None:
        """A line in ``episodes.jsonl``, and a video when it was recorded."""
        request, end = episode.request, episode.end
        row = {
            "step": step,
            **{name: getattr(request, name) for name in _OF_REQUEST},
            **{name: getattr(end, name) for name in _OF_END},
            "timings": {k: round(v, 4) for k, v in end.timings.items()},
            "ended": round(time.time(), 3),
        }
        if request.training:
            for stage, seconds in end.timings.items():
                self.stages[stage] += seconds
        with open(self.folder.file("episodes.jsonl"), "a") as lines:
            lines.write(json.dumps(row, default=float) + "\n")
        if end.frames is None:
            return
        kind = "train" if request.training else "eval"
        ending = "done" if end.complete else ("success" if end.env_success else "end")
        name = f"step{step:03d}-{kind}-{request.episode & 0xFFFFFF:05d}-{ending}.mp4"
        try:
            line = self.config.critic.rules_of(end.instruction).threshold
            write_verdict_video(end, self.folder.file("videos", name), line)
            self.videos = [*self.videos, name][-LISTED_VIDEOS:]
        except (OSError, ValueError) as error:  # a video is not worth a run
            logger.warning("video %s not written: %s", name, error)
        episode.forget_frames()

    def state(self) -> dict[str, Any]:
        """What a resumed run's summary needs of this one."""
        return {"videos": self.videos, "stages": dict(self.stages), "wall_s": self.tracker.wall_s()}

    def restore(self, state: dict[str, Any]) -> None:
        """The counterpart of :meth:`state`."""
        self.videos = list(state["videos"])
        self.stages.update(state["stages"])
        self.tracker.before_s = state["wall_s"]

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Completes the run's ``summary``; writes it to ``summary.json``, and ``curves.png``; returns it."""
        summary = {
            "run_id": self.folder.run_id,
            **summary,
            "wall_s": round(self.tracker.wall_s(), 1),
            "episode_s": {s: round(t / max(1, summary["episodes"]), 3) for s, t in self.stages.items()},
            "videos": self.videos,
        }
        self.folder.write_json("summary.json", _without_nan(summary))
        draw_curves(self.folder.file("metrics.jsonl"), self.folder.file("curves.png"), self.folder.run_id)
        return summary

    def close(self) -> None:
        self.tracker.close()


def _without_nan(tree: Any) -> Any:
    """NaN is not JSON: null stands for it."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree
