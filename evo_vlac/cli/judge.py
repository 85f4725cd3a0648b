"""``screen`` and ``evaluate``: whole datasets."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evo_vlac.cli.options import add_json, add_model, emit, mode_of, number, open_critic, table
from evo_vlac.critic import REF_NUM
from evo_vlac.datasets import FORMATS, DatasetOptions, open_dataset
from evo_vlac.outputs import write_json, write_text
from evo_vlac.parsing import DONE_THRESHOLD
from evo_vlac.video import read_video


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="LeRobot folder, HDF5 file(s), or folder of videos with a task file")
    parser.add_argument("--format", default="auto", choices=FORMATS, help="its layout (default: by what is there)")
    parser.add_argument("--camera", help="camera name or part of it (default: the first that is no wrist camera)")
    parser.add_argument("--task", help="replaces the dataset's own instructions")
    parser.add_argument("--limit", type=int, help="trajectories at most")
    parser.add_argument("--fps", type=float, help="frames a second at most (default: all)")
    parser.add_argument("--skip", type=int, default=5, help="frames between the images of a pair (default: 5)")
    parser.add_argument("--mode", default="simple", help="critics to values: simple, mix_f, mirror (default: simple)")
    parser.add_argument("--rich", action="store_true", help="decimals from the token probabilities")
    parser.add_argument("--ref-num", type=int, default=REF_NUM, help="reference frames shown (default: %(default)s)")


def _dataset(options: argparse.Namespace) -> Any:
    return open_dataset(
        options.dataset, options.format, DatasetOptions(options.camera, options.task, options.limit, options.fps)
    )


def add_screen(parser: argparse.ArgumentParser) -> None:
    """Options of ``screen``."""
    parser.epilog = "example:\n  python -m evo_vlac screen demos.hdf5 --output screening --min-voc 0.6"
    _add_dataset(parser)
    parser.add_argument("--output", help="folder for screening.json, report.html and kept.txt")
    parser.add_argument("--no-pictures", action="store_true", help="a report without pictures")
    parser.add_argument("--reference", help="video or folder of a success, shown to the critic (one-shot)")
    parser.add_argument("--no-reverse", action="store_true", help="leave out VROC and VOC-F1; half the questions")
    parser.add_argument("--tail", type=int, default=3, help="last frames whose done is asked (default: 3; 0: none)")
    keep = parser.add_argument_group("kept are trajectories with (off switches a bound off)")
    keep.add_argument("--min-voc", type=_bound, default=0.5, help="default: %(default)s")
    keep.add_argument("--min-vroc", type=_bound, default=None, help="default: off")
    keep.add_argument("--min-f1", type=_bound, default=None, help="default: off")
    keep.add_argument("--max-nr", type=_bound, default=0.5, help="default: %(default)s")
    keep.add_argument("--min-value", type=_bound, default=None, help="last value in percent; default: off")
    keep.add_argument("--min-done", type=_bound, default=0.5, help="default: %(default)s")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run_screen)


def run_screen(options: argparse.Namespace) -> None:
    """Screens a dataset; everything is written at the end, whole."""
    from evo_vlac.screening import ScreenOptions, Thresholds, screen, write_html
    from evo_vlac.screening.report import picture
    from evo_vlac.screening.screen import Row, ranked
    from evo_vlac.screening.screen import table as rows_of

    settings = ScreenOptions(
        skip=options.skip,
        reverse=not options.no_reverse,
        tail=options.tail,
        rich=options.rich,
        ref_num=options.ref_num,
        mode=mode_of(options.mode),
        thresholds=Thresholds(
            options.min_voc, options.min_vroc, options.min_f1, options.max_nr, options.min_value, options.min_done
        ),
    )
    reference = read_video(options.reference, fps=options.fps).frames if options.reference else ()
    dataset = _dataset(options)
    rows: list[Row] = []
    pictures: dict[str, bytes] = {}
    with open_critic(options) as critic, _count("screening") as tick:
        critic.progress = None
        for trajectory, row in screen(critic, dataset, settings, reference):
            rows.append(row)
            if options.output and not options.no_pictures:
                pictures[row.name] = picture(trajectory, row)
            tick()
    ordered = ranked(rows)
    result = {"dataset": options.dataset, "kept": sum(row.keep for row in rows), "trajectories": rows_of(ordered)}
    if options.output:
        folder = Path(options.output)
        write_json(folder / "screening.json", result)
        write_html(folder / "report.html", ordered, pictures, f"Screening of {Path(options.dataset).name}")
        write_text(folder / "kept.txt", "".join(f"{row.name}\n" for row in ordered if row.keep))
    emit(options, result, _screen_text(ordered))


def _screen_text(rows: list[Any]) -> str:
    lines = [
        [
            row.name,
            *(number(v) for v in (row.voc, row.vroc, row.voc_f1, row.negative_rate)),
            number(row.value, ".0f"),
            number(row.done),
            f"{row.mask.count(False)}/{len(row.mask)}",
            "keep" if row.keep else "drop",
        ]
        for row in rows
    ]
    head = ["trajectory", "VOC", "VROC", "F1", "NR", "value", "done", "masked", "verdict"]
    return table(head, lines) + f"\n{sum(row.keep for row in rows)} of {len(rows)} kept"


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Options of ``evaluate``."""
    parser.epilog = "example:\n  python -m evo_vlac evaluate heldout.hdf5 --skip 5 --json"
    _add_dataset(parser)
    parser.add_argument("--no-one-shot", action="store_true", help="leave out the one-shot figures")
    parser.add_argument("--threshold", type=float, default=DONE_THRESHOLD, help="of done (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="ask done of each EVERY-th frame (default: 1)")
    parser.add_argument("--failures", action="store_true", help="VOC also of trajectories known to have failed")
    parser.add_argument("--output", help="write the result as JSON here")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> None:
    """Evaluates a critic on a dataset."""
    from evo_vlac.evaluation import EvaluationOptions, evaluate

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
    dataset = _dataset(options)
    with open_critic(options) as critic, _count("evaluating") as tick:
        critic.progress = None
        found = evaluate(critic, dataset, settings, lambda _: tick())
    emit(options, found.as_dict(), _evaluate_text(found), options.output)


def _evaluate_text(found: Any) -> str:
    rows = []
    for name, figures in (("zero-shot", found.zero_shot), ("one-shot", found.one_shot)):
        for task, one in figures.items():
            numbers = (number(v) for v in (one.voc, one.vroc, one.negative_rate, one.voc_f1))
            rows.append([f"{task[:50]} ({name})", str(one.trajectories), *numbers])
    text = table(["task", "n", "VOC", "VROC", "NR", "F1"], rows)
    if found.done:
        lines = [
            [
                f"done by {level}",
                str(d.counts.total),
                *(number(v) for v in (d.counts.precision, d.counts.recall, d.counts.f1)),
                *(number(v, ".3f") for v in (d.calibration.ece, d.calibration.brier)),
                str(d.invalid),
            ]
            for level, d in found.done.items()
        ]
        text += "\n\n" + table(["", "n", "precision", "recall", "F1", "ECE", "Brier", "unreadable"], lines)
    return text


def _bound(text: str) -> float | None:
    if text.lower() in ("off", "none"):
        return None
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor off") from error


@contextlib.contextmanager
def _count(title: str) -> Iterator[Any]:
    """Counts trajectories on a terminal."""
    from tqdm import tqdm

    with tqdm(desc=title, unit=" trajectories", disable=not sys.stderr.isatty(), leave=False) as shown:
        yield lambda: shown.update(1)
