"""``finetune`` on the command line: from demonstrations to a critic for one's own arm and camera.

python -m evo_vlac finetune --model models/vlac-tiny --demos lift.h5 stack.h5 --output runs/critic --tuner full
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from evo_vlac.checkpoint import inspect, require_native
from evo_vlac.cli.dataset_options import CAMERA_HELP, DATASET_HELP
from evo_vlac.cli.options import number
from evo_vlac.device import DTYPES
from evo_vlac.errors import OptionError
from evo_vlac.evaluation.heldout import judge_checkpoint
from evo_vlac.outputs import to_json, write_json
from evo_vlac.paths import from_home
from evo_vlac.training.finetune import FinetuneConfig, FinetuneResult, Progress, finetune
from evo_vlac.training.pairs import OTHER_TASKS, PairConfig, Shares


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``finetune``; their defaults are those of FinetuneConfig and PairConfig."""
    parser.epilog = (
        "example:\n  python -m evo_vlac finetune --model models/vlac-tiny --demos mine.hdf5 --output runs/critic"
    )
    parser.set_defaults(run=run)
    model = parser.add_argument_group("model")
    model.add_argument("--model", type=from_home, required=True, help="base checkpoint, a native InternVL")
    model.add_argument("--output", type=from_home, required=True, help="folder to write; OUTPUT/final is the result")
    model.add_argument("--tuner", choices=("lora", "full"), default="lora", help="adapter, or all weights")
    model.add_argument("--lora-rank", type=int, default=8)
    model.add_argument("--train-vision", action="store_true", help="vision tower and projector learn too")
    model.add_argument("--dtype", choices=DTYPES, default="float32")
    data = parser.add_argument_group("data")
    data.add_argument("--demos", type=from_home, nargs="+", default=[], metavar="DATASET", help=DATASET_HELP)
    data.add_argument(
        "--label-free",
        action="store_true",
        help="--demos are successes, by your word; of all data only pictures and instructions are read",
    )
    data.add_argument(
        "--play",
        type=from_home,
        nargs="+",
        default=[],
        metavar="DATASET",
        help="label-free: datasets that are no successes of the task, such as play",
    )
    data.add_argument("--tasks", nargs="+", default=[], help="an instruction a dataset (default: their own)")
    data.add_argument("--dataset", type=from_home, help="ready JSONL in ms-swift's format, in place of --demos")
    data.add_argument("--camera", help=CAMERA_HELP)
    data.add_argument("--pairs", type=int, default=10_000, help="how many pairs are drawn from the demonstrations")
    data.add_argument("--shares", default="", metavar="KIND:W,...", help=f"kinds: {', '.join(_share_names())}")
    data.add_argument("--other-tasks", nargs="+", default=list(OTHER_TASKS), help="instructions for wrong-task pairs")
    data.add_argument("--done-before", type=float, default=0.8, help="share of a success up to which done is 0")
    data.add_argument("--done-after", type=float, default=0.95, help="share of a success from which done is 1")
    data.add_argument("--near-positives", type=float, default=0.0, help="share of positives just after success")
    data.add_argument("--near", type=float, default=0.3, help="share of done's negatives from just before success")
    data.add_argument("--positives", type=float, default=0.4, help="share of done questions answered with 1")
    data.add_argument(
        "--heldout",
        type=from_home,
        nargs="+",
        default=[],
        metavar="DATASET",
        help="judge these before and after; OUTPUT/heldout.json",
    )
    train = parser.add_argument_group("training")
    train.add_argument("--steps", type=int, default=0, help="optimizer steps (default: by --epochs)")
    train.add_argument("--epochs", type=float, default=1.0)
    train.add_argument("--batch-size", type=int, default=16)
    train.add_argument("--learning-rate", type=float, help="default: 1e-5 full, 1e-4 LoRA")
    train.add_argument("--warmup", type=float, default=0.05, help="share of the steps")
    train.add_argument("--weight-decay", type=float, default=0.05)
    train.add_argument("--save-steps", type=int, default=200)
    train.add_argument("--workers", type=int, default=1, help="processes that read pictures")
    train.add_argument("--threads", type=int, default=0, help="CPU threads of the training (0: torch's choice)")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--timeout", type=float, default=0.0, help="seconds; 0: none")
    train.add_argument("--resume", action="store_true", help="go on from OUTPUT's last checkpoint")
    train.add_argument("--swift", nargs=argparse.REMAINDER, default=[], help="the rest goes to swift sft as it is")
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Trains as asked, and judges before and after where held-out files are named."""
    config = to_config(options)
    before = _judged(config, options.heldout, None)
    result = _with_progress(config)
    after = _judged(config, options.heldout, result)
    heldout = {"before": before, "after": after} if options.heldout else {}
    if heldout:
        write_json(config.output / "heldout.json", heldout)
    if options.json:
        table = {"final": str(result.final), "steps": result.steps, "seconds": round(result.seconds, 1)}
        sys.stdout.write(to_json({**table, "losses": result.losses, **heldout}) + "\n")
    else:
        sys.stdout.write(f"{result.final}: {result.steps} steps in {result.seconds:.0f} s, {last_loss(result)}\n")
        for name, figures in heldout.items():
            done, order = figures["done_frames"], figures["voc_success_mean"]
            shares = (number(share) or "-" for share in (done["precision"], done["recall"], order))
            sys.stdout.write("{}: done precision {} recall {}, VOC {}\n".format(name, *shares))


def _judged(config: FinetuneConfig, files: list[Path], result: FinetuneResult | None) -> dict[str, Any]:
    """Figures on held-out episodes: of the base (no ``result``), or of what training made of it."""
    if not files:
        return {}
    require_native(inspect(config.model))
    if result is None or config.tuner == "lora":
        model, adapter = config.model, result.final if result else None
    else:
        model, adapter = result.final, None
    return judge_checkpoint(model, files, adapter=adapter, camera=config.camera).table()


def to_config(options: argparse.Namespace) -> FinetuneConfig:
    """The configuration the options stand for; raises OptionError."""
    pairs = PairConfig(
        count=options.pairs,
        shares=parse_shares(options.shares),
        done_before=options.done_before,
        done_after=options.done_after,
        positives=options.positives,
        near=options.near,
        near_positives=options.near_positives,
        other_tasks=tuple(options.other_tasks),
        seed=options.seed,
        label_free=options.label_free,
    )
    return FinetuneConfig(
        model=options.model,
        output=options.output,
        demos=tuple(options.demos),
        play=tuple(options.play),
        tasks=tuple(options.tasks),
        dataset=options.dataset,
        camera=options.camera,
        pairs=pairs,
        tuner=options.tuner,
        steps=options.steps,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        weight_decay=options.weight_decay,
        lora_rank=options.lora_rank,
        train_vision=options.train_vision,
        dtype=options.dtype,
        save_steps=options.save_steps,
        workers=options.workers,
        threads=options.threads,
        seed=options.seed,
        timeout=options.timeout,
        resume=options.resume,
        extra=tuple(options.swift),
    )


def parse_shares(text: str) -> Shares:
    """``done:0.5,critic:0.3`` over the defaults; kinds not named keep theirs."""
    given: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, weight = part.partition(":")
        if name not in _share_names():
            raise OptionError(f"shares: {name!r} is unknown; allowed: {', '.join(_share_names())}")
        try:
            given[name] = float(weight)
        except ValueError as error:
            raise OptionError(f"shares: {part!r} is not KIND:NUMBER") from error
    return Shares(**given)


def _share_names() -> tuple[str, ...]:
    return tuple(item.name for item in fields(Shares))


def last_loss(result: FinetuneResult) -> str:
    """The last loss in words: lines of ms-swift's that report none are passed over."""
    known = [(step, loss) for step, loss in result.losses if not math.isnan(loss)]
    if known:
        step, loss = known[-1]
        return f"last loss {loss:.3f}" + ("" if step == result.losses[-1][0] else f" (at step {step})")
    return "the loss is not a number: a lower learning rate may help" if result.losses else "no loss was logged"


def _with_progress(config: FinetuneConfig) -> FinetuneResult:
    if not sys.stderr.isatty():
        return finetune(config)
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, transient=True) as bar:
        line = bar.add_task("pairs, then ms-swift's start", total=None)

        def show(step: int, steps: int, loss: float) -> None:
            bar.update(line, completed=step, total=steps)
            if not math.isnan(loss):
                bar.update(line, description=f"loss {loss:.3f}")

        progress: Progress = show
        return finetune(config, progress)
