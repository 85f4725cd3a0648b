"""The report as tables for people."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 120  # in a file


def print_report(report: dict[str, Any]) -> None:
    """What was measured on; goals; memory against plan; every figure, or what was wrong."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    memory = f", {report['device_gb']:.0f} GB, CUDA {report['cuda']}" if "cuda" in report else ""
    console.print(
        f"{report['device']}{memory}; torch {report['torch']}, transformers {report['transformers']}; "
        f"shape: {report['shape']}; {report['date']}",
        soft_wrap=True,
    )
    if report["shape"] != "published":
        console.print("The goals are for the published shape on an H100: here they only show that all parts work.")
    _print(console, "goals", ("what", "measured", "goal", "met"), _goals(report))
    _print(console, "memory, GB", ("where", "planned", "measured", "planned/measured"), _memory(report))
    _print(console, "all figures", ("part", "s", "figure", "value"), _figures(report))


def _print(console: Console, title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _goals(report: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(one["what"], f"{one['value']:.3g}", one["goal"], "yes" if one["met"] else "NO") for one in report["goals"]]


def _memory(report: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            where,
            f"{one['planned_gb']:.1f}",
            f"{one['measured_gb']:.1f}",
            f"{one['planned_gb'] / one['measured_gb']:.2f}",
        )
        for where, one in report["memory"].items()
    ]


def _figures(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, part in report["parts"].items():
        said = part.get("figures") or {"error": part.get("error")}
        for number, (figure, value) in enumerate(said.items()):
            shown = f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
            head = (name, f"{part['s']:.0f}") if number == 0 else ("", "")
            rows.append((*head, figure, shown))
    return rows
