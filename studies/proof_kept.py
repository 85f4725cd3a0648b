"""What the proof leaves in the repository, so that a later call on any machine goes on where this one stopped.

    docs/results/proof/            of the work folder what is small: ratings, audits, thresholds, the trainings' curves
                                   and their dones; of --world lift in proof_lift/
    models/                        the start and the critic that all of that was measured with

With ``--published`` the study begins from these instead of making its own; demonstrations alone are made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from verl.trainer.report.curves import read_metrics

ROOT = Path(__file__).resolve().parents[1]
_RESULTS, _MODELS = ROOT / "docs" / "results", ROOT / "models"
KEPT = {"robosuite": _RESULTS / "proof", "lift": _RESULTS / "proof_lift", "libero": _RESULTS / "proof_libero"}
MODELS = {
    "robosuite": {
        "start": _MODELS / "openvla-oft-tiny-tasks",
        "critic/training/final": _MODELS / "vlac-tiny-words",
    },
    "lift": {"start": _MODELS / "openvla-oft-tiny-lift"},
    "libero": {
        "start": _MODELS / "openvla-oft-tiny-libero",
        "critic/training/final": _MODELS / "vlac-tiny-libero",
    },
}
RUN = "runs/*-[0-9]*"  # not the link to the latest of them
NAMES = ("*.json", *(f"{RUN}/{name}.json" for name in ("summary", "rated", "sampler", "curve", "dones")))
Curves = Mapping[str, list[tuple[float, float]]]


def take(work: Path, world: str = "robosuite") -> None:
    """Puts what is published into an empty work folder; one with a start of its own is left alone."""
    if (work / "start").exists():
        return
    copy(KEPT[world], work)
    for name, folder in MODELS[world].items():
        shutil.copytree(folder, work / name)


def copy(source: Path, target: Path) -> None:
    """Copies what is small and kept, by its path."""
    for file in (file for pattern in NAMES for file in source.glob(pattern)):
        to = target / file.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)


def curves(run: Path, tasks: Sequence[str]) -> Curves:
    """By task (training episodes, success) of a training's own evaluations, from its metrics or what was kept of them;
    they are kept in ``curve.json`` of its folder."""
    kept, metrics = run / "curve.json", run / "metrics.jsonl"
    if metrics.exists():
        found: dict[str, list[tuple[float, float]]] = {}
        for row in read_metrics(metrics):
            for key, value in row.items():
                if key.startswith("val/success/"):
                    name = tasks[int(key.rpartition("/")[2])]
                    found.setdefault(name, []).append((row["train/episodes"], value))
        kept.write_text(json.dumps(found) + "\n")
    told: Curves = json.loads(kept.read_text())
    return told


def dones(run: Path, tasks: Sequence[str]) -> dict[str, dict[str, int]] | None:
    """By task, how many of a training's episodes the critic ended rightly and falsely, by the simulator's word, and how
    many successes it missed; counted from its episodes, or what was kept of that in ``dones.json``. None: neither is
    there."""
    kept, played = run / "dones.json", run / "episodes.jsonl"
    if played.exists():
        counts = {task: {"right": 0, "false": 0, "missed": 0} for task in tasks}
        for one in (json.loads(line) for line in played.read_text().splitlines()):
            if one["training"] and (one["complete"] or one["env_success"]):
                name = "missed" if not one["complete"] else "right" if one["env_success"] else "false"
                counts[tasks[one["task"]]][name] += 1
        kept.write_text(json.dumps(counts) + "\n")
    return json.loads(kept.read_text()) if kept.exists() else None
