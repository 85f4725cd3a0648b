"""Parsing the command line and running one command: 0 if it went well, 2 with one clear line if not."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from evo_vlac.errors import EvoVlacError

log = logging.getLogger("evo_vlac")


class _Terminal(logging.StreamHandler[TextIO]):
    """A class of its own, since ms-swift and modelscope silence every plain StreamHandler of the root logger."""


_COMMANDS = {  # each is a module of this folder
    "critic": "score a trajectory: progress of its steps, and its value",
    "done": "is the task done in these images, or along this video?",
    "describe": "what task lies between the first and the last image?",
    "ask": "any question about any images",
    "action": "the arm's next action from 1 to 3 views and its state",
    "screen": "rank and filter the trajectories of a dataset, mask bad steps, write a report",
    "evaluate": "VOC, VROC, NR, F1 zero- and one-shot, and done against the data's truth",
    "finetune": "train a critic on demonstrations of one's own",
    "convert": "turn a published checkpoint into transformers' own format",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m evo_vlac",
        description="VLAC, a vision-language-action critic: progress, done, and what follows from them.",
        epilog="`python -m evo_vlac COMMAND --help` shows a command's options and an example.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        import_module(f"evo_vlac.cli.{name}").add_arguments(command)
        command.add_argument("-v", "--verbose", action="store_true", help="show what is being done")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the process's exit code."""
    options = build_parser().parse_args(arguments)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[_Terminal(sys.stderr)])
    try:
        code = options.run(options)
        sys.stdout.flush()
        return int(code or 0)
    except EvoVlacError as error:
        sys.stderr.write(f"evo_vlac {options.command}: {error}\n")
        return 2
    except BrokenPipeError:  # the reader of our output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write(f"evo_vlac {options.command}: interrupted\n")
        return 130
