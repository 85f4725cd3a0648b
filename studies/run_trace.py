"""Joins what a training run has written into one trace for ui.perfetto.dev, and prints who is waited for.

    ./launch.sh trainer.run_id=traced "critic.sidecar.config.trace=$PWD/runs/traced/logs/sidecar-trace.json"
    python studies/run_trace.py runs/traced

Into the trace go the sidecar's batches, waits, phases and numbers (``logs/*trace*.json``), and every training episode
with the seconds of its stages (``episodes.jsonl``): the stages of an episode are sums, drawn one behind the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes ``trace.json`` into the run's folder and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    given = parser.parse_args(arguments)
    if not (given.run / "episodes.jsonl").is_file():
        parser.error(f"{given.run}: no run's folder (episodes.jsonl is missing)")
    events = [event for file in sorted((given.run / "logs").glob("*trace*.json")) for event in read(file)]
    episodes = [json.loads(line) for line in (given.run / "episodes.jsonl").read_text().splitlines()]
    report = summary(events, [one for one in episodes if one["training"]])
    events += [event for one in place(episodes) for event in episode_events(one)]
    target = given.run / "trace.json"
    target.write_text(json.dumps(events))
    sys.stdout.write((json.dumps(report, indent=1) if given.json else table(report, target)) + "\n")
    return 0


def read(file: Path) -> list[dict[str, Any]]:
    """The events of a trace that may be unfinished."""
    lines = file.read_text().splitlines()[1:]
    events: list[dict[str, Any]] = []
    for line in lines:
        try:
            events.append(json.loads(line.removesuffix(",")))
        except json.JSONDecodeError:  # the last line of a killed service
            break
    return events


def place(episodes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Episodes with ``start`` and ``ended`` (seconds) and the ``track`` on which they overlap no other."""
    free: list[float] = []
    timed = [one for one in episodes if "ended" in one]
    for one in timed:
        one["start"] = one["ended"] - sum(one["timings"].values())
    for one in sorted(timed, key=lambda e: e["start"]):
        track = next((i for i, end in enumerate(free) if end <= one["start"]), len(free))
        free[track : track + 1] = [one["ended"]]
        one["track"] = track
    return timed


def episode_events(one: dict[str, Any]) -> list[dict[str, Any]]:
    """An episode, and its stages below it."""
    common = {"ph": "X", "pid": 1, "tid": one["track"], "cat": "episode"}
    kind = "training" if one["training"] else "evaluation"
    args = {key: one[key] for key in ("steps", "complete", "score", "env_success")}
    events = [
        {"ph": "M", "pid": 1, "tid": one["track"], "name": "process_name", "args": {"name": "episodes"}},
        {
            **common,
            "name": f"{kind} {one['episode'] & 0xFFFFFF}",
            "ts": one["start"] * 1e6,
            "dur": (one["ended"] - one["start"]) * 1e6,
            "args": args,
        },
    ]
    at = one["start"]
    for stage, seconds in one["timings"].items():
        events.append({**common, "name": f"{stage} (sum)", "ts": at * 1e6, "dur": seconds * 1e6})
        at += seconds
    return events


def summary(events: Sequence[dict[str, Any]], episodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Seconds an episode by stage; the engine's busy share while it was in ROLLOUT and asked, batches, waits."""
    stages: dict[str, float] = defaultdict(float)
    for one in episodes:
        for stage, seconds in one["timings"].items():
            stages[stage] += seconds / len(episodes)
    batches = [event for event in events if event.get("ph") == "X" and event.get("cat") == "engine"]
    report: dict[str, Any] = {"episodes": len(episodes), "episode_s": dict(stages), "batches": len(batches)}
    if batches:
        busy = sum(one["dur"] for one in batches)
        asked = [event["args"]["value"] for event in events if event["name"] == "engine busy share"]
        working = [share for share in asked if share > 0]
        report |= {
            "engine_busy_s": busy / 1e6,
            "engine_busy_share_when_asked": sum(working) / len(working) if working else 0.0,
            "batch_ms_mean": busy / len(batches) / 1e3,
            "batch_size_mean": sum(one["args"]["size"] for one in batches) / len(batches),
            "waited_ms_mean": sum(one["args"]["waited_ms_mean"] for one in batches) / len(batches),
        }
    return report


def table(report: dict[str, Any], target: Path) -> str:
    """The report for a person."""
    lines = [f"{report['episodes']} training episodes, seconds an episode by stage:"]
    lines += [f"  {stage:14}{seconds:8.3f}" for stage, seconds in report["episode_s"].items()]
    if report["batches"]:
        lines.append(
            f"sidecar: {report['batches']} batches of {report['batch_size_mean']:.1f} questions, "
            f"{report['batch_ms_mean']:.1f} ms each behind {report['waited_ms_mean']:.1f} ms of waiting; "
            f"busy {report['engine_busy_share_when_asked']:.0%} of the time in which it was asked"
        )
    return "\n".join([*lines, f"open in ui.perfetto.dev: {target}"])


if __name__ == "__main__":
    sys.exit(main())
