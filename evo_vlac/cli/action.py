"""``action``: the arm's next action from 1 to 3 views and its state."""

from __future__ import annotations

import argparse

from evo_vlac.cli.options import add_json, add_model, emit, open_critic, read_images
from evo_vlac.errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``action``."""
    parser.epilog = (
        "example:\n  python -m evo_vlac action front.png wrist.png --task 'lift the red cube' "
        "--state -18 11 418 -124 65 -133 0"
    )
    parser.add_argument("view", nargs="+", help="1 to 3 camera views")
    parser.add_argument("--task", required=True, help="what the robot should do")
    parser.add_argument(
        "--state",
        type=float,
        nargs=7,
        metavar=("X", "Y", "Z", "ROLL", "PITCH", "YAW", "OPEN"),
        required=True,
        help="end effector: mm, degrees, gripper",
    )
    parser.add_argument(
        "--kind",
        default="action",
        choices=("action", "action_chunk", "action_short", "position", "position_short"),
        help="what is asked for (default: %(default)s)",
    )
    parser.add_argument("--think", action="store_true", help="reasoning before the action")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Asks for the next action."""
    if len(options.view) > 3:
        raise OptionError(f"{len(options.view)} views; 1 to 3 are allowed")
    state = [int(value) if value == int(value) else value for value in options.state]
    views = read_images(options.view)
    with open_critic(options) as critic:
        result = critic.action(views, state, options.task, kind=options.kind, think=options.think)
    out = {"action": result.action, "valid": result.valid, "text": result.text}
    emit(options, out, result.text if result.valid else f"no action can be read from the answer {result.text!r}")
