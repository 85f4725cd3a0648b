"""What ``docs/results/proof.json`` has of the proof's study, as far as its stages have come."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, ttest_1samp

from studies.proof_kept import curves, dones
from studies.proof_training import ARMS
from studies.results import commit

PAIR = ("vlac", "simulator")


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
            found[task]["constant_shift"] = {**told, "success": [told["success"]], "episodes_to_80": [None]}
    for name in ("start", "cloning", "rejection"):
        for task, success in _told(work / f"rated-{name}.json").items():
            found[task][name] = {"success": [success], "episodes_to_80": [None]}
    for task, success in _told(work / "sampler-start.json").items():
        found[task].setdefault("start", {})["sampler"] = [success]
    for arm in arms:
        for run in sorted((work / "runs").glob(f"{arm}-*/summary.json")):
            rated, sampler = (_told(run.with_name(f"{name}.json")) for name in ("rated", "sampler"))
            said = dones(run.parent, tasks) if "critic.enable=false" not in ARMS[arm] else None
            for name, points in curves(run.parent, tasks).items():
                task = found.setdefault(name, {})
                row = task.setdefault(arm, {"success": [], "episodes_to_80": []})
                row["success"].append(rated.get(name, points[-1][1]))
                row["episodes_to_80"].append(episodes_to(points))
                row.setdefault("sampler", []).append(sampler.get(name))
                row.setdefault("dones", []).append(said and said[name])
    for row in (row for task in found.values() for row in task.values()):
        for name in ("sampler", "dones"):
            if set(map(type, row.get(name, ()))) == {type(None)}:  # it was not asked
                del row[name]
    audits = {task: work / f"audit-{task}.json" for task in tasks}
    judged = {task: json.loads(file.read_text()) for task, file in audits.items() if file.exists()}
    thresholds = work / "thresholds.json"
    lasting = {file.stem.removeprefix("lasting-"): json.loads(file.read_text()) for file in work.glob("lasting-*.json")}
    differences = {name: difference(found, name) for name in ("success", "episodes_to_80")}
    return {
        "tasks": found,
        "difference": differences,
        "critic": {task: _audited(told) for task, told in judged.items()},
        "thresholds": json.loads(thresholds.read_text()) if thresholds.exists() else {},
        **({"lasting": dict(sorted(lasting.items()))} if lasting else {}),
        **provenance(),
    }


def _told(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return told


def difference(tasks: Mapping[str, Mapping[str, Any]], figure: str) -> dict[str, float | int | None]:
    """VLAC's less the simulator's, paired by task and seed, with 95 % intervals over the seeds: ``low``, ``high`` by a
    bootstrap of means, ``t_low`` and ``t_high`` by Student's t, which are wider and to be believed where seeds are few.

    Pairs of which one is None (80 % was never reached) are left out and counted as ``open``. Seeds are drawn whole:
    their tasks share a training. Without two seeds there is no interval.
    """
    rows = [(task["vlac"][figure], task["simulator"][figure]) for task in tasks.values() if {*PAIR} <= task.keys()]
    pairs = [list(zip(*row)) for row in rows]
    seeds = [[one for one in seed if None not in one] for seed in zip(*pairs)]
    means = [float(np.mean([a - b for a, b in seed])) for seed in seeds if seed]
    told = {"mean": None, "low": None, "high": None, "seeds": len(means), "pairs": sum(map(len, seeds))}
    told["open"] = sum(map(len, pairs)) - told["pairs"]
    if means:
        told["mean"] = float(np.mean(means))
    if len(means) > 1:
        interval = bootstrap((means,), np.mean, method="percentile", rng=0).confidence_interval
        wide = ttest_1samp(means, 0.0).confidence_interval()
        told |= {"low": float(interval.low), "high": float(interval.high)}
        told |= {"t_low": float(wide.low), "t_high": float(wide.high)}
    return told


def _audited(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Precision and recall over n frames, and what became of the episodes."""
    frames = told["frames"]
    n = sum(frames[key] for key in ("tp", "fp", "fn", "tn"))
    return {"precision": frames["precision"], "recall": frames["recall"], "n": n, "episodes": told["episodes"]}


def provenance() -> dict[str, Any]:
    """What figures need beside them."""
    names = ("torch", "transformers", "ray", "robosuite", "mujoco", "numpy")
    versions = {name: version(name) for name in names}
    return {"commit": commit(), "versions": versions, "date": datetime.date.today().isoformat()}
