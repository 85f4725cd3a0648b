"""Held-out judging: a critic's verdicts on episodes it was not trained on, against the simulator's.

Three views: each frame on its own; each episode as in training (it ends at the critic's first done, which is right
if the simulator agrees at that frame); and the order of values along successes (VOC).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evo_vlac.critic import Critic
from evo_vlac.datasets import DatasetOptions, Trajectory, open_datasets
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.evaluation.evaluator import EvaluationOptions, Judged, judge
from evo_vlac.metrics import Binary, binary
from evo_vlac.parsing import DONE_THRESHOLD
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.training.pairs import OTHER_TASKS


@dataclass(frozen=True, slots=True)
class HeldoutOptions:
    """``skip``: frames between the pairs of a value list. ``slack``: frames by which a first done may come before the
    simulator's and still count in ``episodes_with_slack``. ``wrong_tasks`` are asked on frames whose own task is done.
    """

    threshold: float = DONE_THRESHOLD
    skip: int = 4
    slack: int = 2
    wrong_tasks: tuple[str, ...] = OTHER_TASKS
    wrong_frames: int = 1
    values: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise OptionError(f"threshold is {self.threshold}; 0 <= threshold < 1 is allowed")
        for name, low in (("skip", 1), ("slack", 0), ("wrong_frames", 0)):
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}; at least {low} is needed")


@dataclass(frozen=True, slots=True)
class HeldoutReport:
    """All episodes, and the figures made of them."""

    options: HeldoutOptions
    episodes: tuple[Judged, ...]

    def frames(self, threshold: float | None = None) -> Binary:
        """Frame by frame; an invalid answer is a no."""
        line = self.options.threshold if threshold is None else threshold
        said = [p > line for e in self.episodes for p in e.probabilities]
        return binary(said, [t for e in self.episodes for t in e.truth])

    def by_episode(self, threshold: float | None = None, slack: int = 0) -> Binary:
        """Episodes by their first done: right, too early or never (precision: of the ended ones, how many rightly)."""
        line = self.options.threshold if threshold is None else threshold
        counts = {"tp": 0, "fp": 0, "fn": 0, "tn": 0}
        for episode in self.episodes:
            said = episode.first_said(line) is not None
            if said:
                counts["tp" if episode.right(line, slack) else "fp"] += 1
            else:
                counts["fn" if any(episode.truth) else "tn"] += 1
        return Binary(counts["tp"], counts["fp"], counts["fn"], counts["tn"])

    def delays(self) -> list[int]:
        """Frames from the simulator's first success to the critic's first done, of the rightly ended episodes."""
        line, found = self.options.threshold, []
        for episode in self.episodes:
            said = episode.first_said(line)
            if said is not None and episode.right(line):
                found.append(said - episode.truth.index(True))
        return found

    def table(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        scored = [(e, e.zero_shot) for e in self.episodes if e.zero_shot is not None]
        finals: dict[str, list[float]] = defaultdict(list)
        for episode, row in scored:
            finals["success" if episode.success else "failure"].append(row.value)
        wrong = [said for e in self.episodes for said in e.wrong]
        delays = self.delays()
        return {
            "episodes": len(self.episodes),
            "frames": sum(len(e.truth) for e in self.episodes),
            "threshold": self.options.threshold,
            "done_frames": _counts(self.frames()),
            "done_episodes": _counts(self.by_episode()),
            "done_episodes_with_slack": {
                "slack": self.options.slack,
                **_counts(self.by_episode(None, self.options.slack)),
            },
            "done_delay_frames_mean": _mean(delays),
            "invalid": int(sum(np.isnan(e.probabilities).sum() for e in self.episodes)),
            "wrong_task": {"asked": len(wrong), "said_done": sum(wrong)},
            "voc_success_mean": _mean([row.voc for e, row in scored if e.success]),
            "voc_skip": self.options.skip,
            "final_value_mean": {name: _mean(found) for name, found in finals.items()},
            "by_kind": self._by_kind(),
        }

    def _by_kind(self) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        line = self.options.threshold
        for episode in self.episodes:
            row = table.setdefault(
                episode.kind,
                dict.fromkeys(
                    ("episodes", "success", "ended", "ended_rightly", "done_frames", "found_frames", "false_frames"), 0
                ),
            )
            row["episodes"] += 1
            row["success"] += any(episode.truth)
            row["ended"] += episode.first_said(line) is not None
            row["ended_rightly"] += episode.right(line)
            row["done_frames"] += sum(episode.truth)
            row["found_frames"] += sum(p > line and t for p, t in zip(episode.probabilities, episode.truth))
            row["false_frames"] += sum(p > line and not t for p, t in zip(episode.probabilities, episode.truth))
        return table


def judge_heldout(critic: Critic, demos: Iterable[Trajectory], options: HeldoutOptions | None = None) -> HeldoutReport:
    """Asks the critic about every frame of ``demos``, which need the simulator's per-frame success.

    Raises DatasetError where one has none, or there are no episodes.
    """
    options = options or HeldoutOptions()
    asked = EvaluationOptions(
        skip=options.skip,
        one_shot=False,
        threshold=options.threshold,
        failures=True,
        progress=options.values,
        reverse=False,
        wrong_tasks=options.wrong_tasks,
        wrong_frames=options.wrong_frames,
    )
    return HeldoutReport(options, tuple(judge(critic, _flagged(demos), asked)))


def _flagged(demos: Iterable[Trajectory]) -> Iterator[Trajectory]:
    for demo in demos:
        if demo.dones is None:
            raise DatasetError(f"{demo.name}: no per-frame success (dones), nothing to compare verdicts with")
        yield demo


def judge_checkpoint(
    model: Path,
    files: Sequence[Path],
    *,
    adapter: Path | None = None,
    camera: str | None = None,
    tasks: Sequence[str] = (),
    options: HeldoutOptions | None = None,
    device: str = "auto",
) -> HeldoutReport:
    """The same for a checkpoint (and adapter) on disk and datasets of demonstrations, by ms-swift."""
    with Critic(SwiftEngine(model, device=device, max_batch_size=32, adapter=adapter), batch_size=64) as critic:
        return judge_heldout(critic, open_datasets(files, DatasetOptions(camera), tasks), options)


def _counts(table: Binary) -> dict[str, float | int | None]:
    return {
        "precision": rounded(table.precision),
        "recall": rounded(table.recall),
        "f1": rounded(table.f1),
        "tp": table.true_positive,
        "fp": table.false_positive,
        "fn": table.false_negative,
        "tn": table.true_negative,
    }


def rounded(share: float | None) -> float | None:
    """To four decimals; None stays None."""
    return None if share is None else round(share, 4)


def _mean(found: Sequence[float]) -> float | None:
    return round(float(np.mean(found)), 4) if found else None
