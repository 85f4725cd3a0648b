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

from verl.gpu_check.goals import goals
from verl.gpu_check.parts import PARTS, run_part
from verl.gpu_check.planned import against_plan
from verl.gpu_check.table import print_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the tables and writes the JSON."""
    given = _parser().parse_args(arguments)
    about = machine(given.device)
    if about is None:
        sys.stderr.write(
            "no GPU: torch sees no CUDA device here; --device cpu --shape tiny runs the same parts in small\n"
        )
        return 2
    report = {**about, "shape": given.shape, "parts": measure(given)}
    figures = {name: part["figures"] for name, part in report["parts"].items() if "figures" in part}
    report |= {"goals": goals(figures), "memory": against_plan(figures, given.shape)}
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    print_report(report)
    return int(any("error" in part for part in report["parts"].values()))


def measure(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every part that was asked for: its seconds, and its figures or what was wrong."""
    end, found = time.monotonic() + 60 * given.minutes, {}
    for name in given.only:
        sys.stderr.write(f"{name} ...")
        sys.stderr.flush()
        found[name] = part = run_part(PARTS[name], given.device, given.shape, end - time.monotonic())
        sys.stderr.write(f" {part['s']:.0f} s{': ' + part['error'] if 'error' in part else ''}\n")
    return found


def machine(device: str) -> dict[str, Any] | None:
    """What is measured on; None where the device is not there."""
    import torch
    import transformers

    about = {"device": "CPU", "torch": torch.__version__, "transformers": transformers.__version__}
    about["date"] = time.strftime("%Y-%m-%d %H:%M")
    if device == "cpu":
        return about
    if not torch.cuda.is_available():
        return None
    card = torch.cuda.get_device_properties(0)
    return {**about, "device": card.name, "device_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}


def _parser() -> argparse.ArgumentParser:
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m verl.gpu_check", description=__doc__, formatter_class=text)
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,...", help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, too")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", choices=["published", "tiny"], default="published")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
