"""``curves.png``: success, reward, episode length and the critic over the run, from ``metrics.jsonl``.

A point is of one rollout or one evaluation; the share of unreadable replies is of the latest 64 episodes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

PANELS = (
    (
        "success",
        {
            "val/success": "simulator, evaluation",
            "train/complete": "VLAC, training",
            "train/env_success": "simulator, training (audit)",
        },
        (0, 1),
    ),
    ("reward", {"train/score": "mean score"}, (0, 1)),
    ("steps of an episode", {"train/steps": "training", "val/steps": "evaluation"}, None),
    ("verdict latency of each rollout, ms", {"critic/p50_ms": "p50", "critic/p99_ms": "p99"}, None),
    (
        "done against the simulator, each rollout",
        {
            "critic/precision": "precision",
            "critic/recall": "recall",
            "val/critic_precision": "precision, evaluation",
            "val/critic_recall": "recall, evaluation",
        },
        (0, 1),
    ),
    ("unreadable replies, latest 64 episodes", {"critic/invalid_share": "share"}, (0, 1)),
)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a torn last line is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def draw_curves(metrics: Path, target: Path, title: str) -> None:
    """Draws the panels against training episodes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    figure = Figure(figsize=(15, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, series, limits) in zip(figure.subplots(2, 3).flat, PANELS):
        for key, label in series.items():
            points = [(r.get("train/episodes", 0), r[key]) for r in rows if _is_number(r.get(key))]
            if points:
                axes.plot(*zip(*points), marker="o", markersize=4, label=label)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("training episodes")
        axes.grid(alpha=0.3)
        if limits:
            axes.set_ylim(limits[0] - 0.02, limits[1] + 0.02)
        if axes.has_data():
            axes.legend(fontsize=8)
        else:
            axes.text(0.5, 0.5, "not measured in this run", ha="center", transform=axes.transAxes, color="grey")
    figure.suptitle(title, fontsize=11)
    figure.savefig(target, dpi=110)
