"""Which demonstrations to keep, and which of their steps to leave out of imitation learning.

    python examples/critic_screening.py DATASET --model models/vlac-tiny

DATASET: a LeRobot folder, an HDF5 file, or a folder of videos with a task file. The command line does the same with a
report: ``python -m evo_vlac screen DATASET --output screening``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evo_vlac import Critic, SwiftEngine
from evo_vlac.datasets import DatasetOptions, open_dataset
from evo_vlac.evaluation import ScreenOptions, screen
from evo_vlac.evaluation.screening import ranked

DATA = Path(__file__).with_name("data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default=str(DATA))
    parser.add_argument("--model", default="models/vlac-tiny")
    parser.add_argument("--task", help="replaces the dataset's own instructions")
    parser.add_argument("--skip", type=int, default=5, help="frames between the images of a pair")
    options = parser.parse_args()

    dataset = open_dataset(options.dataset, options=DatasetOptions(task=options.task))
    with Critic(SwiftEngine(options.model)) as critic:
        rows = [row for _, row in screen(critic, dataset, ScreenOptions(skip=options.skip))]

    for row in ranked(rows):
        verdict = "keep" if row.keep else "drop: " + ", ".join(row.reasons)
        masked = [step for step, good in enumerate(row.mask) if not good]
        print(f"{row.name}: VOC {row.voc:.2f}, NR {row.negative_rate:.2f}, done {row.done}, {verdict}")
        print(f"    steps to leave out: {masked}")


if __name__ == "__main__":
    main()
