"""Snapshots as text for a person."""

from __future__ import annotations

from typing import Any

Snapshot = dict[str, Any]


def columns(rows: list[list[str]]) -> str:
    """Rows of cells, aligned; the first row is the head."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows) + "\n"


def _text(value: object) -> str:
    return "-" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)


def list_text(runs: list[Snapshot]) -> str:
    if not runs:
        return "no runs\n"
    head = ["run", "sidecar", "epoch", "phase", "lanes", "dead", "verdicts", "invalid", "failed", "MiB", "leftovers"]
    keys = ["run_id", "sidecar", "epoch", "phase", "lanes", "lanes_dead", "verdicts", "invalid", "failed"]
    rows = [
        [*[_text(run.get(key)) for key in keys], f"{run['bytes'] / 2**20:.1f}", str(run["leftovers"])] for run in runs
    ]
    return columns([head, *rows])


def show_text(shown: Snapshot, rate: float | None = None) -> str:
    """One run; ``rate`` is verdicts per second, when it is known."""
    lines = [
        f"run {shown['run_id']}   sidecar {shown['sidecar']} (pid {_text(shown.get('pid'))})   "
        f"epoch {_text(shown['epoch'])}   phase {_text(shown['phase'])}"
    ]
    if "questions" in shown:
        latency = "  ".join(f"{key} {_text(value)} us" for key, value in shown["latency_us"].items())
        per_s = "" if rate is None else f"   {rate:.1f} verdicts/s"
        batches = "  ".join(f"{size}: {count}" for size, count in shown["batch_sizes"].items()) or "-"
        lines += [
            f"verdicts {shown['verdicts']} (invalid {shown['invalid']}, failed {shown['failed']}, "
            f"late {shown['late']})   "
            f"questions {shown['questions']} (refused {shown['rejected']})   "
            f"lanes reclaimed {shown['reclaimed']}{per_s}",
            f"latency {latency}   batch sizes {batches}",
        ]
    if shown.get("metrics"):
        lines.append("   ".join(f"{key} {value}" for key, value in shown["metrics"].items()))
    return "\n".join(lines) + "\n\n" + _lanes_text(shown["lanes"])


def _lanes_text(lanes: list[Snapshot]) -> str:
    if not lanes:
        return "no lanes\n"
    head = ["lane", "name", "owner", "pid", "episode", "retained", "writing", "free", "open", "oldest ms", "cameras"]
    rows = [head]
    for lane in lanes:
        if "error" in lane:
            rows.append([str(lane["lane"]), lane["name"], lane["owner"], *["-"] * 7, lane["error"]])
            continue
        frames = lane["frames"]
        rows.append(
            [
                str(lane["lane"]),
                lane["name"],
                lane["owner"],
                _text(lane["pid"]),
                _text(lane["episode"]),
                str(frames["retained"]),
                str(frames["writing"]),
                str(frames["free"]),
                str(lane["questions"]["open"]),
                _text(lane["oldest_question_ms"]),
                ", ".join(lane["cameras"]),
            ]
        )
    return columns(rows)
