"""``evaluate``: how well a critic judges a dataset."""

from __future__ import annotations

import argparse

from evo_vlac.cli.dataset_options import add_dataset, count, reading_text, trajectories
from evo_vlac.cli.options import add_json, add_model, emit, mode_of, number, open_critic, table
from evo_vlac.evaluation.evaluator import EvaluationOptions
from evo_vlac.evaluation.figures import Evaluation, evaluate
from evo_vlac.parsing import DONE_THRESHOLD


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``evaluate``."""
    parser.epilog = "example:\n  python -m evo_vlac evaluate heldout.hdf5 --skip 5 --json"
    add_dataset(parser)
    parser.add_argument("--no-one-shot", action="store_true", help="leave out the one-shot figures")
    parser.add_argument("--threshold", type=float, default=DONE_THRESHOLD, help="of done (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="ask done of each EVERY-th frame (default: 1)")
    parser.add_argument("--failures", action="store_true", help="VOC also of trajectories known to have failed")
    parser.add_argument("--output", help="write the result as JSON here")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluates a critic on a dataset."""
    settings = EvaluationOptions(
        skip=options.skip,
        one_shot=not options.no_one_shot,
        ref_num=options.ref_num,
        rich=options.rich,
        mode=mode_of(options.mode),
        threshold=options.threshold,
        every=options.every,
        failures=options.failures,
    )
    dataset = trajectories(options)
    with open_critic(options) as critic, count("evaluating") as tick:
        critic.progress = None
        found = evaluate(critic, dataset, settings, lambda _: tick())
    result = {**found.as_dict(), "skipped": dataset.skipped, "chosen": list(dataset.reading.chosen)}
    emit(options, result, _evaluate_text(found) + reading_text(dataset), options.output)


def _evaluate_text(found: Evaluation) -> str:
    rows = []
    for name, figures in (("zero-shot", found.zero_shot), ("one-shot", found.one_shot)):
        for task, one in figures.items():
            numbers = (number(v) for v in (one.voc, one.vroc, one.negative_rate, one.voc_f1))
            rows.append([f"{task[:50]} ({name})", str(one.trajectories), *numbers, str(one.invalid)])
    text = table(["task", "n", "VOC", "VROC", "NR", "F1", "unreadable"], rows)
    if not rows:
        text = "no progress to judge: all are known to have failed (--failures judges them, too), or have one frame"
    if not found.done:
        text += "\n\nno done to judge: the data does not say which trajectories succeeded"
    else:
        lines = [
            [
                f"done by {level}",
                str(d.counts.total),
                *(number(v) or "-" for v in (d.counts.precision, d.counts.recall, d.counts.f1)),
                *(number(v, ".3f") or "-" for v in (d.calibration.ece, d.calibration.brier)),
                str(d.invalid),
            ]
            for level, d in found.done.items()
        ]
        text += "\n\n" + table(["", "n", "precision", "recall", "F1", "ECE", "Brier", "unreadable"], lines)
    return text
