"""Does screening find what is bad? Plants failures and reversed trajectories among good ones and counts.

    python -m verl.envs.collect --task Lift --episodes 80 --seed 900000 --out heldout.h5
    python studies/critic_planted.py heldout.h5 --model models/vlac-tiny

Of 40 trajectories 28 are successes, 8 failures, 4 successes played backwards. Bad is what screening should drop.
The tiny critic says the direction of a step better than its size, so pairs are ten frames apart, ``rich``, and kept is
what moves forward at all (VOC >= 0) and arrives (done >= 0.5); a larger critic deserves the stricter defaults of
``screen``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from evo_vlac import Critic, SwiftEngine
from evo_vlac.datasets import Trajectory, open_dataset
from evo_vlac.evaluation import ScreenOptions, Thresholds, screen
from evo_vlac.metrics import binary


def planted(paths: list[str], good: int, failures: int, reversed_: int) -> Iterator[tuple[Trajectory, bool]]:
    """The trajectories and whether they are bad. Successes end seven frames behind the simulator's first success, as a
    demonstrator would."""
    left = {"good": good, "reversed": reversed_, "failure": failures}
    for path in paths:
        for trajectory in open_dataset(path):
            end = trajectory.first_done
            if end is None:
                if left["failure"] and not trajectory.success:
                    left["failure"] -= 1
                    yield trajectory, True
                continue
            whole = trajectory.take(range(min(end + 8, len(trajectory))))
            if not all((whole.dones or ())[end:]):
                continue  # dropped again at once: neither a clean success nor a failure
            if left["reversed"] and left["good"] % 7 == 0:
                left["reversed"] -= 1
                backwards = whole.take(range(len(whole) - 1, -1, -1))
                yield replace(backwards, name=f"{whole.name} reversed", success=False), True
            if left["good"]:
                left["good"] -= 1
                yield whole, False
    if any(left.values()):
        raise SystemExit(f"not enough trajectories: still wanted {left}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demos", nargs="+", help="HDF5 files with successes and failures the critic has not seen")
    parser.add_argument("--model", default="models/vlac-tiny")
    parser.add_argument("--skip", type=int, default=10)
    parser.add_argument("--good", type=int, default=28)
    parser.add_argument("--failures", type=int, default=8)
    parser.add_argument("--reversed", type=int, default=4)
    parser.add_argument("--output", type=Path, help="write the result as JSON here")
    options = parser.parse_args()

    items = list(planted(options.demos, options.good, options.failures, options.reversed))
    settings = ScreenOptions(
        skip=options.skip, rich=True, thresholds=Thresholds(min_voc=0.0, max_nr=None, min_done=0.5)
    )
    with Critic(SwiftEngine(options.model)) as critic:
        rows = [row for _, row in screen(critic, [t for t, _ in items], settings)]
    for (_, bad), row in zip(items, rows):
        verdict = "keep" if row.keep else "drop: " + ", ".join(row.reasons)
        wrong = "" if bad != row.keep else "  <-- wrong"
        print(f"{'bad ' if bad else 'good'} {row.name:32} {verdict}{wrong}")
    counts = binary([not row.keep for row in rows], [bad for _, bad in items])
    result = {"trajectories": len(rows), "precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    print(json.dumps(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
