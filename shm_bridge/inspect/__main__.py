"""``python -m shm_bridge.inspect list | show | watch | frame | clean``: looks at runs; ``clean`` alone changes any."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shm_bridge.errors import BridgeError, InvalidRequest
from shm_bridge.inspect import png, snapshot, table
from shm_bridge.liveness.cleaning import clean_all, clean_run, leftovers
from shm_bridge.names import checked_run_id
from shm_bridge.reader import LaneReader

Snapshot = dict[str, Any]
COMMANDS = {
    "list": "all runs",
    "show": "one run",
    "watch": "one run, live",
    "frame": "save a frame as the critic sees it",
    "clean": "remove what dead runs left",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shm_bridge.inspect", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        each = commands.add_parser(name, help=text)
        each.add_argument("--json", action="store_true")
        if name in ("show", "watch"):
            each.add_argument("run", nargs="?", help="run id; may be left out when there is one run only")
        if name == "watch":
            each.add_argument("--interval", type=float, default=1.0, help="seconds")
            each.add_argument("--count", type=int, default=0, help="end after so many looks; 0: never")
        if name == "frame":
            each.add_argument("lane", help="the lane's name or number")
            each.add_argument("--run", help="run id")
            each.add_argument("--camera", help="default: the lane's first")
            each.add_argument("--slot", type=int, help="default: the newest frame")
            each.add_argument("--out", required=True, metavar="FILE.png")
        if name == "clean":
            each.add_argument("run", nargs="?", help="run id; default: all runs")
            each.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    options = parser.parse_args(arguments or ["list"])
    return options if options.command else parser.parse_args(["list", *arguments])


def chosen(run_id: str | None) -> str:
    """The run meant: named, or the only one."""
    if run_id is not None:
        return checked_run_id(run_id)
    found = [run["run_id"] for run in snapshot.runs()]
    if len(found) == 1:
        return str(found[0])
    raise InvalidRequest(f"which run? there are {found or 'none'}")


def frame(options: argparse.Namespace) -> Snapshot:
    """Saves one frame; the reader maps the lane read-only."""
    run_id = chosen(options.run)
    with LaneReader.open(run_id, options.lane) as reader:
        slot = options.slot if options.slot is not None else reader.newest()
        if slot is None:
            raise InvalidRequest(f"lane {reader.name!r} has published no frame yet")
        image = reader.view(slot, options.camera)
        Path(options.out).write_bytes(png.encode(image))
        return {"run_id": run_id, "lane": reader.name, "slot": slot, "shape": list(image.shape), "file": options.out}


def clean(options: argparse.Namespace) -> dict[str, list[str]]:
    if options.run is None:
        return clean_all(dry_run=options.dry_run)
    run_id = checked_run_id(options.run)
    found = leftovers(run_id) if options.dry_run else clean_run(run_id)
    return {run_id: found} if found else {}


def looks(run_id: str, interval: float, count: int) -> Iterator[tuple[Snapshot, float | None]]:
    """Snapshots and verdicts per second, for ever or ``count`` times."""
    before: tuple[float, int] | None = None
    number = 0
    while True:
        shown = snapshot.show(run_id)
        now = (time.monotonic(), int(shown["verdicts"]))
        rate = (now[1] - before[1]) / (now[0] - before[0]) if before and now[1] >= before[1] else None
        before = now
        yield shown, rate
        number += 1
        if count and number >= count:
            return
        time.sleep(interval)


def watch(options: argparse.Namespace) -> None:
    """A live table on a terminal (with rich when it is there), else one block after the other."""
    run_id = chosen(options.run)
    pictures = looks(run_id, options.interval, options.count)
    if options.json:
        for shown, rate in pictures:
            sys.stdout.write(json.dumps(shown | {"verdicts_per_s": rate}) + "\n")
            sys.stdout.flush()
    elif sys.stdout.isatty() and importlib.util.find_spec("rich"):
        live: Any = importlib.import_module("rich.live").Live(auto_refresh=False, screen=True)
        text: Any = importlib.import_module("rich.text").Text
        with live:
            for shown, rate in pictures:
                live.update(text(table.show_text(shown, rate)), refresh=True)
    else:
        for shown, rate in pictures:
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            sys.stdout.write(clear + table.show_text(shown, rate) + "\n")
            sys.stdout.flush()


def _cleaned_text(found: dict[str, list[str]], dry_run: bool) -> str:
    word = "would remove" if dry_run else "removed"
    lines = [f"{word} {name}\n" for names in found.values() for name in names]
    return "".join(lines) or "nothing to clean\n"


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.command == "watch":
            watch(options)
            return 0
        result: Any
        if options.command == "list":
            result = snapshot.runs()
            text = table.list_text(result)
        elif options.command == "show":
            result = snapshot.show(chosen(options.run))
            text = table.show_text(result)
        elif options.command == "frame":
            result = frame(options)
            text = f"{result['file']}: lane {result['lane']}, slot {result['slot']}, {result['shape']}\n"
        else:
            result = clean(options)
            text = _cleaned_text(result, options.dry_run)
        sys.stdout.write(json.dumps(result) + "\n" if options.json else text)
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (BridgeError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
