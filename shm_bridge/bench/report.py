"""The benchmark's rows as text for a person."""

from __future__ import annotations

from typing import Any

from shm_bridge.bench.floor import Pauses

Row = dict[str, Any]
COLUMNS = (
    ("transport", 10),
    ("frame", 10),
    ("workers", 7),
    ("mode", 6),
    ("p50_us", 9),
    ("p99_us", 9),
    ("p999_us", 9),
    ("max_us", 10),
    ("verdicts_per_s", 14),
    ("cpu_us_per_verdict", 18),
    ("idle_cpu_pct", 12),
)


def _cell(value: object, width: int) -> str:
    if value is None:
        return "-".rjust(width)
    return (f"{value:.1f}" if isinstance(value, float) else str(value)).rjust(width)


def table(rows: list[Row]) -> str:
    lines = ["  ".join(name.rjust(width) for name, width in COLUMNS)]
    lines += ["  ".join(_cell(row[name], width) for name, width in COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def ratios(rows: list[Row]) -> str:
    """Of p50, one worker, by frame: ours to the floor, peers to ours."""
    lines = []
    for frame in dict.fromkeys(row["frame"] for row in rows):
        one = {(r["transport"], r["mode"]): r for r in rows if r["frame"] == frame and r["workers"] == 1}
        ours, floor = one.get(("shm", "parked")), one.get(("c_floor", "parked"))
        if ours is None:
            continue
        parts = [f"p99/p50 {ours['p99_us'] / ours['p50_us']:.2f}"]
        if floor:
            parts.append(f"parked/floor {ours['p50_us'] / floor['p50_us']:.2f}")
            if ("shm", "spin") in one:
                parts.append(f"spin/floor {one['shm', 'spin']['p50_us'] / floor['p50_us']:.2f}")
            if ("c_spin", "spin") in one:
                parts.append(f"c_spin/floor {one['c_spin', 'spin']['p50_us'] / floor['p50_us']:.2f}")
        parts += [
            f"{name} {row['p50_us'] / ours['p50_us']:.1f}x"
            for (name, _), row in one.items()
            if name not in ("shm", "c_floor", "c_spin")
        ]
        lines.append(f"{frame}, one worker: " + ", ".join(parts))
    return "\n".join(lines) + "\n" if lines else ""


def pauses(found: Pauses, rows: list[Row]) -> str:
    """What the machine itself adds to the slowest round trips: two cores take part in each."""
    text = f"this machine takes a core away {found.per_s:.0f} times a second, for {found.mean_us:.0f} us"
    met = [
        f"{min(2 * found.per_s * row['p50_us'] / 1e4, 100):.1f} % of those of {row['p50_us']:.0f} us ({row['mode']})"
        for row in rows
        if row["transport"] == "shm" and row["workers"] == 1
    ]
    return text + (f"; of our round trips that hits {', '.join(met)}" if met else "") + "\n"
