"""What ``docs/results/proof.json`` has of the proof's study, as far as its stages have come."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from studies.results import commit
from verl.trainer.report.curves import read_metrics


def episodes_to(points: Sequence[tuple[float, float]], goal: float = 0.8) -> float | None:
    """Training episodes at which the success of (episodes, success) points first reaches ``goal``; None: never."""
    return next((episodes for episodes, success in points if success >= goal), None)


def results(work: Path, tasks: Sequence[str], arms: Sequence[str]) -> dict[str, Any]:
    """The mapping of ``docs/results/proof.json``, as far as stages have come."""
    found: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for task in tasks:
        file = work / f"shift-{task}.json"
        if file.exists():
            told = json.loads(file.read_text())
            for method in ("start", "constant_shift"):
                found[task][method] = {"success": [told[method]], "episodes_to_80": [None]}
            found[task]["constant_shift"] |= {key: told[key] for key in ("dimension", "while", "amount")}
    for arm in arms:
        for run in sorted((work / "runs").glob(f"{arm}-*/summary.json")):
            for name, points in _curves(run.parent / "metrics.jsonl", tasks).items():
                task = found.setdefault(name, {})
                row = task.setdefault(arm, {"success": [], "episodes_to_80": []})
                row["success"].append(points[-1][1])
                row["episodes_to_80"].append(episodes_to(points))
    audits = {task: work / f"audit-{task}.json" for task in tasks}
    judged = {task: json.loads(file.read_text()) for task, file in audits.items() if file.exists()}
    return {"tasks": found, "critic": {task: _audited(told) for task, told in judged.items()}, **provenance()}


def _audited(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Precision and recall over n frames, and what became of the episodes."""
    frames = told["frames"]
    n = sum(frames[key] for key in ("tp", "fp", "fn", "tn"))
    return {"precision": frames["precision"], "recall": frames["recall"], "n": n, "episodes": told["episodes"]}


def _curves(file: Path, tasks: Sequence[str]) -> Mapping[str, list[tuple[float, float]]]:
    """By the number of the task, as evaluations name it: (training episodes, success)."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in read_metrics(file):
        for key, value in row.items():
            if key.startswith("val/success/"):
                name = tasks[int(key.rpartition("/")[2])]
                curves.setdefault(name, []).append((row["train/episodes"], value))
    return curves


def provenance() -> dict[str, Any]:
    """What figures need beside them."""
    names = ("torch", "transformers", "ray", "robosuite", "mujoco", "numpy")
    versions = {name: version(name) for name in names}
    return {"commit": commit(), "versions": versions, "date": datetime.date.today().isoformat()}
