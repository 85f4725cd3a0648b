"""Pairs on disk, in ms-swift's format: ``train.jsonl``, the pictures it names, and a summary.

    demonstrations --outlines--> PairSampler --pairs--> frames needed --second read--> frames/*.png, train.jsonl

The files are read twice so that pictures of one episode at a time are in memory. ``summary.json`` is written last: a
folder without it is an unfinished one.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evo_vlac import prompts
from evo_vlac.datasets import DatasetOptions, Skipped, Trajectory, open_datasets
from evo_vlac.errors import OptionError, OutputError
from evo_vlac.training.pairs import Pair, PairConfig, PairSampler

logger = logging.getLogger(__name__)

STATE_QUESTION = "Where is the gripper, and how far is it open?"
_PROMPT_OF = {"done": "done", "done_wrong_task": "done", "describe": "task_description"}


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """``jsonl`` is what ms-swift reads; counts say what is in it, ``skipped`` which episodes cannot be read."""

    folder: Path
    jsonl: Path
    pairs: int
    frames: int
    episodes: int
    kinds: dict[str, int]
    answers: dict[str, int]
    skipped: tuple[Skipped, ...] = ()


def message(pair: Pair, images: Sequence[str]) -> dict[str, Any]:
    """A pair as one line of ms-swift's chat format."""
    kind = _PROMPT_OF.get(pair.kind)
    if pair.kind == "state":
        question = prompts.fill("vqa", STATE_QUESTION)
    elif kind is None:
        question = prompts.critic(pair.task, len(pair.reference), think=pair.kind == "think")
    else:
        question = prompts.fill(kind) if kind == "task_description" else prompts.fill(kind, pair.task)
    if "<image>" not in question:
        question = "<image>" * len(images) + question  # where engines and ms-swift put a picture without a mark
    return {
        "messages": [
            {"role": "system", "content": prompts.system_prompt()},
            {"role": "user", "content": question},
            {"role": "assistant", "content": pair.answer},
        ],
        "images": list(images),
    }


def build_training_set(
    demos: Sequence[Path],
    folder: Path,
    config: PairConfig,
    camera: str | None = None,
    tasks: Sequence[str] = (),
    play: Sequence[Path] = (),
) -> TrainingSet:
    """Draw pairs from datasets of demonstrations and write them; raises DatasetError, OptionError or OutputError.

    Label-free (``config.label_free``), what is named as ``demos`` are successes, by the word of the user, and
    ``play`` is anything else: its frames are taken for not done and its second halves for no progress, since play
    seldom does a task by chance. ``tasks``: an instruction for each of ``demos``, then for each of ``play``.
    """
    if play and not config.label_free:
        raise OptionError("play is for label-free training (label_free); else datasets say themselves what failed")
    options, paths = DatasetOptions(camera, labels=not config.label_free), [*demos, *play]
    again = open_datasets(paths, options, tasks, quiet=True)  # counts the tasks before anything is read
    first = open_datasets(demos, options, tasks[: len(demos)])
    outlines = [demo.outline() for demo in first]
    skipped = tuple(first.skipped)
    if play:
        toyed = open_datasets(play, options, tasks[len(demos) :])
        outlines += [replace(episode.outline(), success=False) for episode in toyed]
        skipped += tuple(toyed.skipped)
    pairs = PairSampler(outlines, config).draw()
    needed: dict[int, set[int]] = {}
    for pair in pairs:
        needed.setdefault(pair.demo, set()).update(pair.frames)
        needed.setdefault(pair.reference_demo, set()).update(pair.reference)
    jsonl, pictures = folder / "train.jsonl", folder / "frames"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").unlink(missing_ok=True)
        for index, episode in enumerate(again):
            _write_frames(episode, index, needed.get(index, set()), pictures)
        with jsonl.open("w", encoding="utf-8") as file:
            for pair in pairs:
                shown = [(pair.reference_demo, f) for f in pair.reference] + [(pair.demo, f) for f in pair.frames]
                images = [str(_picture(pictures, demo, frame).absolute()) for demo, frame in shown]
                file.write(json.dumps(message(pair, images)) + "\n")
        result = TrainingSet(
            folder=folder,
            jsonl=jsonl,
            pairs=len(pairs),
            frames=sum(map(len, needed.values())),
            episodes=len(outlines),
            kinds=dict(Counter(pair.kind for pair in pairs)),
            answers=dict(Counter(pair.answer for pair in pairs if pair.kind.startswith("done"))),
            skipped=skipped,
        )
        summary = {**asdict(result), "folder": str(folder), "jsonl": str(jsonl), "config": asdict(config)}
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the training set to {folder}: {error}") from error
    logger.info("%d pairs of %d episodes in %s: %s", len(pairs), len(outlines), jsonl, result.kinds)
    return result


def drawn_label_free(folder: Path) -> bool | None:
    """Whether the training set in ``folder`` was drawn without labels; None where no whole one is there."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return bool(summary["config"].get("label_free", False))
    except (OSError, ValueError, LookupError):
        return None


def _picture(pictures: Path, demo: int, frame: int) -> Path:
    return pictures / f"{demo:05d}-{frame:04d}.png"


def _write_frames(demo: Trajectory, index: int, frames: set[int], pictures: Path) -> None:
    from PIL import Image

    for frame in sorted(frames):
        # weak compression: the pictures are read many times and kept only as long as the training
        Image.fromarray(demo.frames[frame]).save(_picture(pictures, index, frame), compress_level=1)
