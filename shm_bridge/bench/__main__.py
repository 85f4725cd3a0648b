"""``python -m shm_bridge.bench``: round trips of a frame and its verdict, ours against peers, in one run.

Every row times the same: the frame is written from an array of the worker's (one copy; HTTP and JPEG encode it), the
other side looks at its first and last byte, and the answer is back in the worker's hands. Ours makes the calls of a
training, with all checks (``Lane.reserve``, ``publish``, ``ask``, ``wait``, ``poll``; ``Server.wait``, ``poll``,
``cancelled``, ``answer``), and has one place for the frame, as the floors have. In mode "parked" each side sleeps when
there is nothing for it. Short round trips, back to back, hardly let anybody fall asleep; with --gap everybody sleeps
before each. Two floors in C, one memcpy each: c_floor then wakes and waits by semaphores, c_spin polls words.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
from typing import Any

from shm_bridge.bench.floor import compiler, measure_pauses
from shm_bridge.bench.plot import save_plot
from shm_bridge.bench.report import pauses, ratios, table

PEERS = ("mp_queue", "mp_pipe", "zeromq", "http_raw", "http_jpeg", "ray", "torchrl", "iceoryx2")
FLOORS = {"c_floor": "parked", "c_spin": "spin"}
ROUNDS = {"ray": 300, "http_jpeg": 600, "mp_queue": 1000, "torchrl": 800, "iceoryx2": 1500, "http_raw": 1500}
ROW_TIMEOUT_S = 300.0
Row = dict[str, Any]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shm_bridge.bench", description=__doc__)
    parser.add_argument("--peers", nargs="*", default=None, help=f"among {', '.join(PEERS)}; default: all; none: ours")
    parser.add_argument("--frames", nargs="+", type=int, default=[256, 448], help="sides of the square frames")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--modes", nargs="+", choices=["parked", "spin"], default=["parked", "spin"])
    parser.add_argument("--rounds", type=int, default=3000, help="round trips a row, over all workers")
    parser.add_argument("--repeats", type=int, default=3, help="whole passes; figures are medians over them")
    parser.add_argument(
        "--gap",
        type=int,
        default=0,
        metavar="US",
        help="a worker sleeps so long between two round trips, as one with a simulator",
    )
    parser.add_argument(
        "--no-pin",
        dest="pin",
        action="store_false",
        help="one worker: leave it to the scheduler whether both sides share a core",
    )
    parser.add_argument("--json", action="store_true", help="a list of rows instead of the table")
    parser.add_argument("--plot", metavar="FILE", help="save a plot (needs matplotlib)")
    options = parser.parse_args(arguments)
    if options.peers == ["none"]:
        options.peers = []
    return options


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def available(names: list[str]) -> list[str]:
    """The peers that can run here; a word for each that cannot."""
    found = []
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"error: --peers {name}; must be among {', '.join(PEERS)}")
        reason = importlib.import_module(f"shm_bridge.bench.transports.{name}").missing()
        if reason:
            say(f"skipped {name}: {reason}")
        else:
            found.append(name)
    return found


def plan(options: argparse.Namespace) -> list[Row]:
    """What to measure, ours next to the floor."""
    peers = available(list(PEERS) if options.peers is None else options.peers)
    floors = [name for name, mode in FLOORS.items() if mode in options.modes or name == "c_floor"] if compiler() else []
    if not floors:
        say("skipped c_floor and c_spin: no C compiler")
    rows = []
    for side in options.frames:
        for workers in options.workers:
            for transport in [*floors, "shm", *peers]:
                limit = 1 if transport in FLOORS else _max_workers(transport)
                if workers > limit:
                    continue
                modes = options.modes if transport == "shm" else [FLOORS.get(transport, "parked")]
                total = min(options.rounds, ROUNDS.get(transport, options.rounds))
                rounds = max(total // workers, 20)
                rows += [
                    {
                        "transport": transport,
                        "height": side,
                        "width": side,
                        "workers": workers,
                        "mode": mode,
                        "warmup": max(rounds // 10, 20),
                        "rounds": rounds,
                        "gap_us": options.gap,
                        "pin": options.pin,
                    }
                    for mode in modes
                ]
    return rows


def _max_workers(transport: str) -> int:
    return int(importlib.import_module(f"shm_bridge.bench.transports.{transport}").MAX_WORKERS)


def measure(row: Row) -> Row | None:
    """One row in a process of its own; None, and a word, when it fails."""
    command = [sys.executable, "-m", "shm_bridge.bench.row", json.dumps(row)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=ROW_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        say(f"skipped {row['transport']} with {row['workers']} workers: nothing within {ROW_TIMEOUT_S:.0f} s")
        return None
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        say(f"skipped {row['transport']} with {row['workers']} workers: {lines[-1]}")
        return None
    found: Row = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def merge(passes: list[Row]) -> Row:
    """Medians over the passes of one row; the maximum stays a maximum."""
    merged = dict(passes[0])
    for key, value in passes[0].items():
        if isinstance(value, float) or (value is not None and key.endswith(("_us", "_s", "_pct", "_verdict"))):
            numbers = [each[key] for each in passes]
            merged[key] = max(numbers) if key == "max_us" else round(statistics.median(numbers), 3)
    return merged


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    rows = plan(options)
    found: dict[int, list[Row]] = {}
    for repeat in range(options.repeats):
        for number, row in enumerate(rows):
            say(
                f"[{repeat + 1}/{options.repeats}] {row['transport']} {row['height']}px "
                f"{row['workers']} workers {row['mode']}"
            )
            measured = measure(row)
            if measured is not None:
                found.setdefault(number, []).append(measured)
    merged = [merge(found[number]) for number in sorted(found)]
    if options.json:
        sys.stdout.write(json.dumps(merged, indent=1) + "\n")
    else:
        sys.stdout.write(table(merged) + ratios(merged) + (pauses(measure_pauses(), merged) if compiler() else ""))
    if options.plot:
        say(save_plot(merged, options.plot))
    return 0 if any(row["transport"] == "shm" for row in merged) else 1


if __name__ == "__main__":
    sys.exit(main())
