"""``python -m verl.gpu_check [--only PART,...] [--json FILE] [--device cuda|cpu] [--shape published|tiny]``.

Measures on one GPU, within ten minutes, what this project's plans rest on: the card's bf16 peak, the critic's verdicts
a second against it, the phases, the hand-over of weights, the policy's forward pass and update, a LIBERO step, and
memory against plan. Weights are random, of the published shapes; nothing is downloaded. Each part is a process of its
own with a limit of its own: one that fails is a line, and the others go on. ``--only critic,policy,phases,weights``
needs neither Ray, a simulator nor vLLM.

Exit code: 0 all parts measured, 1 a part failed, 2 no GPU or a wrong option.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl.gpu_check.goals import against_plan, goals
from verl.gpu_check.parts import MACHINE, MINUTES, PARTS, run_part
from verl.gpu_check.table import print_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the tables and writes the JSON."""
    given = _parser().parse_args(arguments)
    end = time.monotonic() + 60 * given.minutes
    about = run_part(MACHINE, given.device, given.shape, 60 * given.minutes, given.minutes / MINUTES)
    if "error" in about:
        sys.stderr.write(f"error: the machine cannot be looked at: {about['error']}\n")
        return 2
    if about["figures"]["device"] is None:
        sys.stderr.write(
            "no GPU: torch sees no CUDA device here; --device cpu --shape tiny runs the same parts in small\n"
        )
        return 2
    report = {**about["figures"], "date": time.strftime("%Y-%m-%d %H:%M"), "shape": given.shape}
    report["parts"] = measure(given, end)
    figures = {name: part["figures"] for name, part in report["parts"].items() if "figures" in part}
    memory = against_plan(figures) if given.shape == "published" else {}
    report |= {"goals": goals(figures), "memory": memory}
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    print_report(report)
    return int(any("error" in part for part in report["parts"].values()))


def measure(given: argparse.Namespace, end: float) -> dict[str, dict[str, Any]]:
    """Every part that was asked for, until ``end`` (monotonic): its seconds, and its figures or what was wrong."""
    found = {}
    planned = ["plan"] if {"policy", "critic"} & set(given.only) else []
    for name in dict.fromkeys([*given.only, *planned]):
        sys.stderr.write(f"{name} ...")
        sys.stderr.flush()
        left, patience = end - time.monotonic(), given.minutes / MINUTES
        found[name] = part = run_part(PARTS[name], given.device, given.shape, left, patience)
        sys.stderr.write(f" {part['s']:.0f} s{': ' + part['error'] if 'error' in part else ''}\n")
    return found


def _parser() -> argparse.ArgumentParser:
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m verl.gpu_check", description=__doc__, formatter_class=text)
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,...", help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, too")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", choices=["published", "tiny"], default="published")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="for all parts together, their own limits in proportion"
    )
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
