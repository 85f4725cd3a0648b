"""The proof's learning curves as a picture: a panel a task, a line a training.

    python -m studies.proof_picture [FOLDER] [--out FILE]

FOLDER is a work folder of ``studies.proof``; without it, what is kept of one. Success is that of a training's own
evaluations; the dots on the right are the last policies' on the fresh states, where ``rate`` has been.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from studies.proof_kept import KEPT, curves
from studies.proof_worlds import WORLDS

COLOURS = {
    "vlac": "tab:blue",
    "failure": "tab:purple",
    "simulator": "tab:green",
    "shuffled": "tab:gray",
    "other_task": "tab:orange",
}
NAMES = {
    "vlac": "VLAC's verdicts",
    "failure": "VLAC's, tasks by what they fail",
    "simulator": "the simulator's done",
    "shuffled": "VLAC's rewards, shuffled",
    "other_task": "VLAC, asked about another task",
}


def draw(folder: Path, tasks: Sequence[str], target: Path) -> int:
    """Writes ``target`` (PNG); returns the number of trainings that are drawn.

    Raises:
        FileNotFoundError: ``folder`` has no training that has ended.
    """
    runs = [run.parent for arm in NAMES for run in sorted(folder.glob(f"runs/{arm}-[0-9]*/summary.json"))]
    if not runs:
        raise FileNotFoundError(f"{folder} has no training that has ended")
    figure = Figure(figsize=(3.2 * len(tasks), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)
    told = dict[str, Line2D]()
    for run in runs:
        arm, rated = run.name.rpartition("-")[0], run / "rated.json"
        fresh = json.loads(rated.read_text()) if rated.exists() else {}
        points = curves(run, tasks)
        for panel, task in zip(panels[0], tasks):
            episodes, success = zip(*points[task])
            (told[NAMES[arm]],) = panel.plot(episodes, [100 * s for s in success], color=COLOURS[arm], alpha=0.7)
            if task in fresh:
                panel.plot([1.03 * episodes[-1]], [100 * fresh[task]], "o", color=COLOURS[arm], alpha=0.7)
    for panel, task in zip(panels[0], tasks):
        panel.set(title=task, xlabel="episodes of all tasks", ylim=(-2, 102))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("success by the simulator, %")
    figure.legend(told.values(), told.keys(), loc="outside lower center", ncols=len(told), frameon=False)
    figure.savefig(target, dpi=90)
    return len(runs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--world", choices=WORLDS, default="robosuite")
    parser.add_argument("--out", type=Path, help="learning.png of the folder")
    options = parser.parse_args(arguments)
    folder: Path = options.folder or KEPT[options.world]
    out: Path = options.out or folder / "learning.png"
    print(f"{out}: {draw(folder, WORLDS[options.world].tasks, out)} trainings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
