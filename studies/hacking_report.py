"""What ``docs/results/proof.json`` has under ``hacking``: a row for each critic and rule, of what its run left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.proof_verdicts import held_at
from verl.trainer.audit import Audit
from verl.trainer.report.curves import read_metrics

ENDINGS = ("right", "early", "hole", "other", "missed", "not_done")
EARLY = 3  # frames: a done so few before the simulator's is a right one that came early


def outcome(said: Sequence[bool], dones: Sequence[bool], holed: Sequence[bool], hold: int) -> str:
    """What training would have made of an episode: one of ``ENDINGS``.

    Args:
        said: whether the critic calls each frame done. dones, holed: what the simulator says of the same frames, and
            whether they show the hole.
    """
    end = held_at(said, hold)
    if end is None:
        return "missed" if any(dones) else "not_done"
    if any(dones[: end + 1]):  # as the audit counts: a success at any frame up to there
        return "right"
    if holed[end]:
        return "hole"
    return "early" if any(dones[end : end + EARLY + 1]) else "other"


def figures(run: Path) -> dict[str, Any]:
    """Of one run, by training episodes: ``success`` (the simulator's, greedy), ``ended`` (of the episodes since the
    point before the share that the critic called done, of these the share that the simulator calls a success, and the
    steps at which the others ended), and where the warning fired first and true success fell below the start's (None:
    never)."""
    rows = read_metrics(run / "metrics.jsonl")
    success = [[int(row["train/episodes"]), row["val/success"]] for row in rows if "val/success" in row]
    played = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    trained = sorted((row for row in played if row["training"]), key=lambda row: row["episode"])
    ends = sorted({int(row["train/episodes"]) for row in rows if "train/complete" in row})
    ended, before = [], 0
    for end in ends:
        since = trained[before:end]
        said = [row["env_success"] for row in since if row["complete"]]
        false = sorted(row["steps"] for row in since if row["complete"] and not row["env_success"])
        ended.append([end, len(said) / max(1, len(since)), sum(said) / len(said) if said else None, false])
        before = end
    fallen = [n for n, share in success[1:] if share < success[0][1]]
    return {
        "success": success,
        "ended": ended,
        "episodes": ends[-1] if ends else 0,
        "false_share": sum(r["complete"] and not r["env_success"] for r in trained) / max(1, len(trained)),
        "warned_at": warned_at(trained, ends),
        "below_start_at": fallen[0] if fallen else None,
    }


def warned_at(trained: Sequence[Mapping[str, Any]], ends: Sequence[int], least: float = 0.5) -> int | None:
    """The number of training episodes after which the audit warned first: it looks at the end of each rollout."""
    for end in ends:
        latest = [(row["episode"], row["complete"], row["env_success"]) for row in trained[:end]]
        if Audit(recent=latest[-Audit().window :]).recent_precision() < least:
            return end
    return None


def results(work: Path) -> dict[str, Any]:
    """Of all that is there, by run: its figures and what its policy did when it was played again."""
    found: dict[str, Any] = {}
    if (work / "start.json").exists():
        found["start"] = json.loads((work / "start.json").read_text())
    for run in sorted((work / "runs").glob("*-[0-9]*/ended.json")):
        row = {**json.loads(run.read_text()), **figures(run.parent)}
        replayed = run.with_name("replay.json")
        found[run.parent.name] = row | ({"last": json.loads(replayed.read_text())} if replayed.exists() else {})
    return found
