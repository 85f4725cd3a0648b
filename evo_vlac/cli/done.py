"""``done``: is the task done, image by image?"""

from __future__ import annotations

import argparse

from evo_vlac.cli.options import (
    INPUT_HELP,
    add_episode,
    add_json,
    add_model,
    emit,
    number,
    open_critic,
    read_trajectory,
    table,
    without_empty,
)
from evo_vlac.critic import REF_NUM
from evo_vlac.errors import OptionError
from evo_vlac.images import load_image
from evo_vlac.parsing import DONE_THRESHOLD
from evo_vlac.video import read_video


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``done``."""
    parser.epilog = "example:\n  python -m evo_vlac done last_frame.png --task 'lift the red cube'"
    parser.add_argument("input", nargs="+", help=INPUT_HELP)
    parser.add_argument("--task", help="what the robot should do (needed unless --goal alone decides)")
    add_episode(parser)
    parser.add_argument("--goal", help="an image of the goal, compared with each image")
    parser.add_argument("--reference", help="video or folder of a success: done in context")
    parser.add_argument("--ref-num", type=int, default=REF_NUM, help="reference frames shown (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=5.0, help="frames a second taken at most (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=DONE_THRESHOLD, help="done over it (default: %(default)s)")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Asks done, image by image."""
    video, task = read_trajectory(options)
    if task is None and options.goal is None:
        raise OptionError("neither --task nor --goal is given; at least one is needed")
    reference = read_video(options.reference, fps=options.fps).frames if options.reference else ()
    goal = load_image(options.goal) if options.goal else None
    with open_critic(options, "done") as critic:
        answers = critic.done(
            video.frames,
            task,
            goal=goal,
            reference=reference,
            ref_num=options.ref_num,
            threshold=options.threshold,
        )
    first = next((i for i, answer in enumerate(answers) if answer.done), None)
    result = {
        "task": task,
        "threshold": options.threshold,
        "first_done": first,
        "images": [
            {
                "done": answer.done,
                "probability": answer.probability,
                "valid": answer.valid,
                "text": answer.text,
                "error": answer.error,
                "source_frame": frame,
                "second": second,
            }
            for answer, frame, second in zip(answers, video.source_frames, video.seconds)
        ],
    }
    rows = [
        [
            str(i),
            str(video.source_frames[i]),
            number(video.seconds[i]),
            number(a.probability, ".3f"),
            "yes" if a.done else ("no" if a.valid else f"unreadable: {a.text!r}"),
        ]
        for i, a in enumerate(answers)
    ]
    head = ["image", "source frame", "second", "probability", "done"]
    emit(options, result, table(*without_empty(head, rows)))
