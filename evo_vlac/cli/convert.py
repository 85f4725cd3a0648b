"""``convert``: a published checkpoint into transformers' own format."""

from __future__ import annotations

import argparse

from evo_vlac.cli.options import add_json, emit
from evo_vlac.convert import convert
from evo_vlac.convert.check import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``convert``."""
    parser.epilog = (
        "example:\n  python -m evo_vlac convert VLAC-2B VLAC-2B-hf --reference-python ~/envs/reference/bin/python"
    )
    parser.add_argument("source", help="folder of the published checkpoint (InternVLChatModel with InternLM2)")
    parser.add_argument("target", help="folder to write; must not exist yet")
    parser.add_argument(
        "--reference-python",
        help="python of an environment of the reference set (transformers 4.51.3): the logits of both are compared",
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="largest difference of logits (default: %(default)s)"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Converts, and checks where a reference environment is named."""
    report = convert(options.source, options.target)
    result = {"target": str(report.target), "tensors": report.tensors, "shards": report.shards, "difference": None}
    text = f"{report.target}: {report.tensors} tensors in {report.shards} files"
    if options.reference_python:
        found = compare(options.source, options.target, options.reference_python, options.tolerance)
        result["difference"] = found.difference
        text += f"; logits differ by {found.difference:.2g} at most, answers are the same"
    else:
        text += "; not compared with the original (name an environment with --reference-python)"
    emit(options, result, text)
