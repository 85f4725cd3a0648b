"""Snapshots as text for a person."""

from __future__ import annotations

from typing import Any

from shm_bridge.inspect.figures import Group, grouped, text_of

Snapshot = dict[str, Any]


def columns(rows: list[list[str]]) -> str:
    """Rows of cells, aligned; the first row is the head. Columns of numbers are right-aligned."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    right = [all(_is_number(row[at]) for row in rows[1:]) for at in range(len(rows[0]))]
    lines = (
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(row, widths, right))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "", 1).isdigit()


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
    published = dict(shown.get("metrics") or {})
    up = f"   up {text_of('uptime_s', published['uptime_s'])}" if "uptime_s" in published else ""
    head = (
        f"run {shown['run_id']}   sidecar {shown['sidecar']} (pid {_text(shown.get('pid'))})   "
        f"epoch {_text(shown['epoch'])}   phase {_text(shown['phase'])}{_wanted(shown)}{up}\n\n"
    )
    for said in ("phase", "epoch", "uptime_s"):
        published.pop(said, None)
    groups = [*_bridge(shown, rate), *grouped(published)]
    width = max((len(title) for title, _ in groups), default=0)
    lines = [
        f"{title.ljust(width)}   " + "   ".join(f"{label} {value}" for label, value in rows) + "\n"
        for title, rows in groups
    ]
    return head + "".join(lines) + ("\n" if lines else "") + _lanes_text(shown["lanes"])


def _wanted(shown: Snapshot) -> str:
    """A phase that was asked for and is not there yet."""
    wanted = shown.get("phase_requested")
    return f" ({wanted} is asked for)" if wanted not in (None, shown["phase"]) else ""


def _bridge(shown: Snapshot, rate: float | None) -> list[Group]:
    """What the bridge itself counts, of all kinds of questions."""
    if "questions" not in shown:
        return []
    names = {key: key for key in ("questions", "verdicts", "invalid", "failed", "late")}
    names |= {"rejected": "refused", "reclaimed": "lanes reclaimed"}
    counts = [(label, f"{shown[key]:,}") for key, label in names.items()]
    latency = [(key, _milliseconds(value)) for key, value in shown["latency_us"].items()]
    batches = [(f"of {size}:", f"{count:,}") for size, count in shown["batch_sizes"].items()]
    if rate is not None:
        counts.append(("a second", f"{rate:.1f}"))
    return [("bridge", counts), ("all answered in", latency), ("batches", batches or [("-", "")])]


def _milliseconds(microseconds: float | None) -> str:
    """Three digits, from the bridge's microseconds to an outage's minutes."""
    if microseconds is None:
        return "-"
    value = microseconds / 1000
    return f"{value:.0f} ms" if value >= 100 else f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f} ms"


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
