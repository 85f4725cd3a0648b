"""The measured rows as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(console: Console, report: dict[str, Any]) -> None:
    """Episodes per minute and ratio to ours; where the environments' time went; where the processors' went."""
    rows = report["rows"]
    table = Table(title=report["title"], title_justify="left")
    for heading in ("way", "episodes/min", "by repeat", "ours is", "steps/s", "steps", "done"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        ratio = report["ratios"].get(row["way"])
        times = "" if ratio is None else f"{ratio:.2f} x"
        repeats = " ".join(f"{rate:.1f}" for rate in row["by_repeat"])
        done = f"{row['done']} of {row['episodes']}"
        steps = [f"{row['steps_per_second']:.0f}", f"{row['mean_steps']:.0f}"]
        table.add_row(row["way"], f"{row['episodes_per_minute']:.1f}", repeats, times, *steps, done)
    console.print(table)
    console.print(_seconds("seconds of an episode, in its environment's process", rows, "stage_s"))
    console.print(_seconds("processor seconds of an episode", rows, "cpu_s", total=True))
    for row in rows:
        console.print(f"{row['way']}: {row['text']}", soft_wrap=True)


def _seconds(title: str, rows: list[dict[str, Any]], key: str, total: bool = False) -> Table:
    table = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row[key]))
    for heading in ("way", *(name.replace("_", " ") for name in names), *(["all"] if total else [])):
        table.add_column(heading, no_wrap=heading == "way")
    for row in rows:
        cells = [f"{row[key][name]:.2f}" if name in row[key] else "" for name in names]
        table.add_row(row["way"], *cells, *([f"{sum(row[key].values()):.2f}"] if total else []))
    return table
