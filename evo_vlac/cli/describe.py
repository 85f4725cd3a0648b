"""``describe``: what task lies between the first and the last image?"""

from __future__ import annotations

import argparse

from evo_vlac.cli.options import add_json, add_model, emit, open_critic, read_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``describe``."""
    parser.epilog = "example:\n  python -m evo_vlac describe episode.mp4"
    parser.add_argument("input", nargs="+", help="a video or folder of frames, or images; the first and last are shown")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Names the task between the first and the last frame."""
    video = read_inputs(options.input, None)
    with open_critic(options) as critic:
        task = critic.describe(video.frames[0], video.frames[-1])
    emit(options, {"task": task}, task or "(no task was named)")
