"""How far does a critic's word alone take a policy? Trains it under several critics and seeds, and compares.

    python studies/learning_study.py                              # 3 seeds of the four critics, then the noise table
    python studies/learning_study.py --seeds 0 --arms vlac simulator
    python studies/learning_study.py --only report                # table, figure and JSON of the runs that are there

    vlac        VLAC's done, and its value where there was none (the default of ./launch.sh)
    done_only   VLAC's done alone
    simulator   the simulator's own done: the upper line
    shuffled    VLAC's rewards dealt out at random among the episodes of a rollout: the lower line
    noise-M-F   VLAC with M % of its done episodes missed and F % of the others taken for done

Success is always the simulator's, greedy, on the same initial states. A run that is finished is not run again; one that
was interrupted goes on from its checkpoint. Further ``key=value`` arguments go to every run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.stats import binomtest

from verl.trainer.report.curves import read_metrics

ROOT = Path(__file__).resolve().parents[1]
NOISE = ((30, 0), (60, 0), (0, 15), (0, 40), (30, 15))
ARMS: dict[str, tuple[str, ...]] = {
    "vlac": (),
    "done_only": ("critic.reward=done",),
    "simulator": ("critic.enable=false",),
    "shuffled": ("critic.shuffle=true",),
}
NOISE_ARMS = {
    f"noise-{missed}-{false}": (f"critic.noise.missed_done={missed / 100}", f"critic.noise.false_done={false / 100}")
    for missed, false in NOISE
}
LABELS = {
    "vlac": "VLAC, done + value",
    "done_only": "VLAC, done only",
    "simulator": "simulator's done",
    "shuffled": "shuffled VLAC",
}
JSON_KEYS = {
    "vlac": "vlac_done_value_success",
    "done_only": "vlac_done_success",
    "simulator": "simulator_done_success",
    "shuffled": "shuffled_critic_success",
}


@dataclass(frozen=True)
class Run:
    """One finished run: its summary and its evaluations as (training episodes, wall seconds, success)."""

    arm: str
    seed: int
    summary: dict[str, Any]
    points: list[tuple[float, float, float]]

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the final success."""
        count = self.summary["eval_states"]
        found = binomtest(round(self.summary["success_after"] * count), count).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def run_folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-{seed}"


def train(folder: Path, arm: str, seed: int, extra: list[str]) -> None:
    """Starts or resumes one run; its screen goes to ``<run>.log`` beside its folder."""
    target = run_folder(folder, arm, seed)
    command = [
        sys.executable,
        "-m",
        "verl.launch",
        f"trainer.default_local_dir={folder}",
        f"trainer.run_id={target.name}",
        f"data.seed={seed}",
        "trainer.save_freq=1",
        "trainer.videos=0",
        *(ARMS | NOISE_ARMS)[arm],
        *extra,
    ]
    if (target / "checkpoints").is_dir():
        command.append("trainer.resume_mode=auto")
    with (folder / f"{target.name}.log").open("ab") as log:
        result = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
    if result.returncode:
        raise SystemExit(f"error: {target.name} ended with {result.returncode}; see {log.name}")


def read(folder: Path) -> list[Run]:
    """The finished runs."""
    runs = []
    for path in sorted(folder.glob("*/summary.json")):
        arm, _, seed = path.parent.name.rpartition("-")
        if arm not in ARMS | NOISE_ARMS:
            continue
        rows = [row for row in read_metrics(path.parent / "metrics.jsonl") if "val/success" in row]
        points = [(row["train/episodes"], row["wall_s"], row["val/success"]) for row in rows]
        runs.append(Run(arm, int(seed), json.loads(path.read_text()), points))
    return runs


def results(runs: list[Run], extra: list[str]) -> dict[str, Any]:
    """What ``docs/results/learning.json`` holds."""
    found: dict[str, Any] = {
        "command": " ".join(["python studies/learning_study.py", *extra]),
        "date": datetime.date.today().isoformat(),
        "versions": {name: version(name) for name in ("torch", "transformers", "ray", "robosuite", "mujoco", "numpy")},
        "cpus": len(os.sched_getaffinity(0)),
    }
    for arm, key in JSON_KEYS.items():
        found[key] = [run.summary["success_after"] for run in runs if run.arm == arm]
    found["runs"] = [
        {
            "arm": run.arm,
            "seed": run.seed,
            "success_interval_95": [round(end, 4) for end in run.interval],
            **{
                name: run.summary.get(name)
                for name in (
                    "success_before",
                    "success_after",
                    "eval_states",
                    "episodes",
                    "wall_s",
                    "critic_precision",
                    "critic_recall",
                    "confusion",
                )
            },
            "curve": [{"episodes": e, "wall_s": w, "success": s} for e, w, s in run.points],
        }
        for run in runs
    ]
    return found


def draw(runs: list[Run], target: Path) -> None:
    """Success against training episodes and against wall time: thin lines the seeds, thick ones their mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    by_episodes, by_time = figure.subplots(1, 2, sharey=True)
    for index, arm in enumerate(ARMS):
        members = [run for run in runs if run.arm == arm and run.points]
        if not members:
            continue
        color, grid = f"C{index}", np.arange(0, max(run.points[-1][0] for run in members) + 1)
        for run in members:
            episodes, wall, success = (np.array(column) for column in zip(*run.points))
            by_episodes.plot(episodes, success, color=color, alpha=0.35, linewidth=1)
            by_time.plot(wall / 60, success, color=color, alpha=0.35, linewidth=1)
            low, high = run.interval
            by_episodes.errorbar(
                episodes[-1],
                success[-1],
                [[success[-1] - low], [high - success[-1]]],
                color=color,
                alpha=0.5,
                capsize=2,
            )
        mean = np.mean([np.interp(grid, [p[0] for p in r.points], [p[2] for p in r.points]) for r in members], axis=0)
        by_episodes.plot(grid, mean, color=color, linewidth=2.5, label=LABELS[arm])
    by_episodes.set(xlabel="training episodes", ylabel="success by the simulator", ylim=(-0.02, 1.02))
    by_time.set(xlabel="wall time, minutes")
    for axes in (by_episodes, by_time):
        axes.grid(alpha=0.3)
    by_episodes.legend(fontsize=9)
    figure.savefig(target, dpi=120)


def show(runs: list[Run]) -> None:
    table = Table(title="success by the simulator, greedy")
    table.add_column("critic", no_wrap=True)
    for column in ("seed", "before", "after", "95 %", "prec.", "recall", "eps", "min"):
        table.add_column(column, justify="right")
    for run in sorted(runs, key=lambda r: (list(ARMS | NOISE_ARMS).index(r.arm), r.seed)):
        row, (low, high) = run.summary, run.interval
        table.add_row(
            LABELS.get(run.arm, run.arm),
            str(run.seed),
            *(f"{100 * row[k]:.0f}%" for k in ("success_before", "success_after")),
            f"{100 * low:.0f}-{100 * high:.0f}",
            *(_percent(row.get(k)) for k in ("critic_precision", "critic_recall")),
            str(row["episodes"]),
            f"{row['wall_s'] / 60:.1f}",
        )
    Console().print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.0f}%"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "learning-study", help="of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *NOISE_ARMS], default=[*ARMS, *NOISE_ARMS])
    parser.add_argument("--noise-seeds", type=int, nargs="+", default=[0], help="seeds of the noise table's runs")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results", help="figure and JSON go here")
    parser.add_argument("--only", choices=["report"], help="do not train")
    options, extra = parser.parse_known_args()
    wrong = [word for word in extra if "=" not in word or word.startswith("-")]
    if wrong:
        parser.error(f"unknown argument {wrong[0]}")
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(a, s) for a in options.arms for s in (options.seeds if a in ARMS else options.noise_seeds)]
    if options.only is None:
        with Progress() as bar:
            row = bar.add_task("runs", total=len(jobs))
            for arm, seed in jobs:
                bar.update(row, description=f"{arm}, seed {seed}")
                if not (run_folder(folder, arm, seed) / "summary.json").is_file():
                    train(folder, arm, seed, extra)
                bar.advance(row)
    runs = read(folder)
    if not runs:
        parser.error(f"no finished run in {folder}")
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "learning.json").write_text(json.dumps(results(runs, extra), indent=1) + "\n")
    draw(runs, options.results / "learning.png")
    show(runs)
    print(f"{options.results / 'learning.json'}, {options.results / 'learning.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
