"""What several commands share: choosing a model, choosing pictures, writing results."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evo_vlac.abilities import Abilities
from evo_vlac.critic import Critic
from evo_vlac.datasets import DatasetOptions, is_dataset, open_dataset
from evo_vlac.engine import Image
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.images import is_address, load_image
from evo_vlac.outputs import to_json, write_json
from evo_vlac.paths import from_home
from evo_vlac.progress import bar
from evo_vlac.shipped_models import model_folder
from evo_vlac.video.reader import PICTURES, UNREAD, Video, read_video

log = logging.getLogger(__name__)

NOTHING = "-"
DEFAULT_MODEL = "models/vlac-tiny"
INPUT_HELP = "one video (mp4, mov, webm, gif, ...), folder of frames or dataset, or several images in order"


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model and what goes with it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=os.environ.get("EVO_VLAC_MODEL", DEFAULT_MODEL),
        help="checkpoint folder (default: $EVO_VLAC_MODEL, else %(default)s)",
    )
    group.add_argument("--adapter", help="peft adapter folder, as finetune writes it")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default: %(default)s)")
    group.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: %(default)s)")
    group.add_argument("--batch-size", type=int, default=16, help="questions at once; halved on out-of-memory")
    group.add_argument("--no-system-prompt", action="store_true", help="leave out the system prompt of the training")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


@contextlib.contextmanager
def open_critic(options: argparse.Namespace, title: str = "asking") -> Iterator[Critic]:
    """A critic over the chosen model; closed at the end. What libraries print goes to standard error."""
    from evo_vlac.swift_engine import SwiftEngine

    folder = model_folder(options.model)
    # an adapter may have taught it more
    abilities = options.abilities = Abilities() if options.adapter else Abilities.of(folder)
    with contextlib.redirect_stdout(sys.stderr):
        engine = SwiftEngine(
            folder,
            device=options.device,
            dtype=options.dtype,
            max_batch_size=options.batch_size,
            adapter=options.adapter,
        )
    system = "" if options.no_system_prompt else None
    with (
        bar(title) as progress,
        Critic(engine, system=system, batch_size=options.batch_size, progress=progress, abilities=abilities) as critic,
    ):
        with contextlib.redirect_stdout(sys.stderr):
            yield critic


def add_episode(parser: argparse.ArgumentParser) -> None:
    """--episode and --camera, for an input that is a dataset."""
    parser.add_argument("--episode", help="of a dataset: this one, by name or number from 0 (default: the first)")
    parser.add_argument("--camera", help="of a dataset: camera name or part of it (default: the first that fits)")


def read_inputs(paths: Sequence[str], fps: float | None) -> Video:
    """The frames the user names: one video or folder, or several images."""
    if len(paths) == 1 and not _is_image(paths[0]):
        return read_video(paths[0], fps=fps)
    return read_video([load_image(path) for path in paths])


def read_trajectory(options: argparse.Namespace) -> tuple[Video, str | None]:
    """The frames the user names, and their task: an episode of a dataset has its own, if none is given."""
    if not all(options.input):
        raise OptionError("an input is empty (a variable without a value?)")
    path = from_home(options.input[0])
    if len(options.input) > 1 or _is_image(options.input[0]) or not is_dataset(path):
        return read_inputs(options.input, options.fps), options.task
    wanted = DatasetOptions(options.camera, options.task, fps=options.fps, episode=options.episode)
    found = next(open_dataset(path, options=wanted), None)
    if found is None:
        raise DatasetError(f"{path} has no episode {options.episode or 'at all'}")
    if options.episode is None:
        log.warning("%s: episode %s is taken, the first that can be read (--episode chooses)", path, found.name)
    frames = tuple(found.frames)
    length = found.source_frames[-1] + 1
    return Video(frames, found.fps, found.name, found.source_frames, found.seconds, length), found.task


def read_images(paths: Sequence[str]) -> list[Image]:
    """Images, one from each path, URL or data URI."""
    return [load_image(path) for path in paths]


def emit(options: argparse.Namespace, result: dict[str, Any], text: str, output: str | Path | None = None) -> None:
    """Prints the result, as text or as JSON, and writes its JSON to ``output`` where given. ``not_trained_for`` in it:
    the kinds of questions that were asked and that the checkpoint does not know."""
    if lacking := getattr(options, "abilities", Abilities()).lacking:
        result = {**result, "not_trained_for": lacking}
    if output is not None:
        write_json(output, result)
    sys.__stdout__.write((to_json(result, indent=2) if options.json else text.rstrip("\n")) + "\n")  # type: ignore[union-attr]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first left-aligned, the others right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def without_empty(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows without the columns in which no row has anything: pictures have no seconds."""
    kept = [i for i in range(len(head)) if any(row[i] not in ("", NOTHING) for row in rows)]
    return [head[i] for i in kept], [[row[i] for i in kept] for row in rows]


def number(value: float | None, form: str = ".2f") -> str:
    """A number for a table; blank for None, a dash for NaN."""
    if value is None:
        return ""
    return NOTHING if value != value else format(value, form)


def mode_of(text: str) -> bool | str:
    """A value mode from its name."""
    allowed: dict[str, bool | str] = {"simple": True, "mix_f": "mix_f", "mirror": "mirror"}
    if text not in allowed:
        raise OptionError(f"mode is {text!r}; allowed: {', '.join(allowed)}")
    return allowed[text]


def _is_image(path: str) -> bool:
    return Path(path).suffix.lower() in PICTURES | UNREAD or is_address(path)
