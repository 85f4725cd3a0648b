"""Where the time of runs went, as a table in Markdown: ``python -m verl.trainer.report.stages RUN [RUN ...]``.

A run is its folder, or the ``summary.json`` in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def stage_table(summaries: Sequence[dict[str, Any]]) -> str:
    """A row a run: wall time (s) by the run's stages, then seconds of one training episode by its stages."""
    run_stages = _names(summaries, "time_s")
    episode_stages = _names(summaries, "episode_s")
    heads = ["run", "wall, s", *run_stages, *(f"episode: {name.replace('_', ' ')}" for name in episode_stages)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for summary in summaries:
        cells = [str(summary["run_id"]), f"{summary['wall_s']:.0f}"]
        cells += [f"{summary['time_s'].get(name, 0.0):.1f}" for name in run_stages]
        cells += [f"{summary['episode_s'].get(name, 0.0):.2f}" for name in episode_stages]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _names(summaries: Sequence[dict[str, Any]], key: str) -> list[str]:
    """All stages, in the order in which they first appear."""
    return list(dict.fromkeys(name for summary in summaries for name in summary[key]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a run without a readable summary."""
    parser = argparse.ArgumentParser(prog="python -m verl.trainer.report.stages", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    summaries = []
    for path in parser.parse_args(arguments).runs:
        file = path / "summary.json" if path.is_dir() else path
        try:
            summaries.append(json.loads(file.read_text()))
        except (OSError, ValueError) as error:
            sys.stderr.write(f"error: {file}: not the summary of a finished run ({error})\n")
            return 2
    sys.stdout.write(stage_table(summaries) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
