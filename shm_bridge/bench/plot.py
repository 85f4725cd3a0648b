"""The benchmark's rows as a picture; matplotlib is an extra."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

Row = dict[str, Any]


def save_plot(rows: list[Row], file: str) -> str:
    """Bars of p50 with a mark at p99, one panel a frame size, one worker. A word on what was done."""
    if not importlib.util.find_spec("matplotlib"):
        return "no plot: matplotlib is not installed"
    importlib.import_module("matplotlib").use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    frames = list(dict.fromkeys(row["frame"] for row in rows))
    figure, axes = pyplot.subplots(1, len(frames), figsize=(6 * len(frames), 4), squeeze=False)
    fewest = min(row["workers"] for row in rows)
    for axis, frame in zip(axes[0], frames):
        shown = sorted(
            (row for row in rows if row["frame"] == frame and row["workers"] == fewest), key=lambda row: row["p50_us"]
        )
        names = [f"{row['transport']}{' (spin)' if row['mode'] == 'spin' else ''}" for row in shown]
        colors = ["tab:orange" if row["transport"] == "shm" else "tab:gray" for row in shown]
        axis.barh(names, [row["p50_us"] for row in shown], color=colors)
        axis.plot([row["p99_us"] for row in shown], names, "k|", markersize=12, label="p99")
        axis.set_xscale("log")
        axis.set_xlabel("round trip, microseconds")
        axis.set_title(f"{frame}, {fewest} worker(s)")
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return f"plot: {file}"
