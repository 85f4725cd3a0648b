"""``screen``: ranks and filters the trajectories of a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from evo_vlac.cli.dataset_options import add_dataset, count, reading_text, trajectories
from evo_vlac.cli.options import add_json, add_model, emit, mode_of, number, open_critic, table
from evo_vlac.errors import DatasetError
from evo_vlac.evaluation.screening import Row, ScreenOptions, Thresholds, ranked, screen
from evo_vlac.evaluation.screening import table as rows_of
from evo_vlac.evaluation.screening_report import picture, write_html
from evo_vlac.outputs import write_json, write_text
from evo_vlac.video import read_video


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``screen``."""
    parser.epilog = "example:\n  python -m evo_vlac screen demos.hdf5 --output screening --min-voc 0.6"
    add_dataset(parser)
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Screens a dataset; the results are written at the end."""
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
    dataset = trajectories(options)
    rows: list[Row] = []
    pictures: dict[str, bytes] = {}
    with open_critic(options) as critic, count("screening") as tick:
        critic.progress = None
        for trajectory, row in screen(critic, dataset, settings, reference):
            rows.append(row)
            if options.output and not options.no_pictures:
                pictures[row.name] = picture(trajectory, row)
            tick()
    if not rows:
        raise DatasetError(f"{options.dataset} holds no trajectories")
    ordered = ranked(rows)
    result = {
        "dataset": options.dataset,
        "kept": sum(row.keep for row in rows),
        "trajectories": rows_of(ordered),
        "skipped": dataset.skipped,
        "chosen": list(dataset.reading.chosen),
    }
    if options.output:
        folder = Path(options.output)
        write_json(folder / "screening.json", result)
        title = f"Screening of {Path(options.dataset).name}"
        write_html(folder / "report.html", ordered, pictures, title, dataset.skipped)
        write_text(folder / "kept.txt", "".join(f"{row.name}\n" for row in ordered if row.keep))
    emit(options, result, _screen_text(ordered) + reading_text(dataset))


def _screen_text(rows: list[Row]) -> str:
    lines = [
        [
            row.name,
            *(number(v) if row.judged else "-" for v in (row.voc, row.vroc, row.voc_f1, row.negative_rate)),
            number(row.value, ".0f") if row.judged else "-",
            number(row.done) or ("?" if row.tail else ""),
            f"{row.mask.count(False)}/{len(row.mask)}",
            str(row.invalid),
            "keep" if row.keep else "drop",
        ]
        for row in rows
    ]
    head = ["trajectory", "VOC", "VROC", "F1", "NR", "value", "done", "masked", "unreadable", "verdict"]
    return table(head, lines) + f"\n{sum(row.keep for row in rows)} of {len(rows)} kept"


def _bound(text: str) -> float | None:
    if text.lower() in ("off", "none"):
        return None
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor off") from error
