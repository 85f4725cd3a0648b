"""``ask``: any question about any images."""

from __future__ import annotations

import argparse

from evo_vlac.cli.options import add_json, add_model, emit, open_critic, read_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``ask``."""
    parser.epilog = "example:\n  python -m evo_vlac ask scene.png --question 'What color is the cube?'"
    parser.add_argument("image", nargs="+", help="images: paths, URLs, data URIs")
    parser.add_argument("--question", required=True, help="may hold <image> marks; without, images go in front")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Answers a question about images."""
    images = read_images(options.image)
    with open_critic(options) as critic:
        answer = critic.ask(images, options.question)
    emit(options, {"question": options.question, "answer": answer}, answer or "(the answer is empty)")
