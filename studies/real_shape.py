"""OpenVLA-OFT and VLAC-2B in their real shapes on a CPU: what each stage takes, in seconds and in memory.

    python -m studies.real_shape [--shape published|tiny] [--folder DIR] [--only policy critic] [--again] [--write FILE]

The weights are random, everything else is what a run does: the checkpoints are read by the project's own loaders, a
rollout worker plays one chunk in LIBERO, a sidecar process judges the frames of it, the policy is written as a run's
checkpoint is. Policy and critic come one after the other: 24 GB hold one of them. 35 GB of disk, which ``--folder``
keeps for the next time; a stage whose figures are in the file is not measured again (``--again`` does).

``peak_gb`` is the most that the stage's process had for itself (RssAnon and RssShmem of /proc, ten times a second);
``file_gb`` what it had mapped from files, which the kernel takes back when others want it; ``idle_gb`` what it had for
itself at the stage's begin. At the end the memory plan's figures are entered beside them, in ``plan``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from studies.results import enter
from studies.watching import Watching, rss

ROOT = Path(__file__).resolve().parents[1]
EVERY_S = 0.1
RUNS = {  # a process each, and the stages that it reports
    "policy checkpoint": ("write random policy",),
    "policy": ("policy: load", "policy: chunk", "LIBERO: reset", "LIBERO: step", "policy: write checkpoint"),
    "critic checkpoint": ("write random critic",),
    "critic": ("critic: load", "critic: done", "critic: critic", "critic: 8 dones"),
}


class Sample(NamedTuple):
    """A process at one moment. Bytes."""

    at: float  # time.monotonic()
    own: int
    file: int


class Watch(Watching):
    """Samples a process and all below it from another thread while it is entered."""

    def __init__(self, pid: int) -> None:
        self.root = psutil.Process(pid)
        self.seen: dict[int, list[Sample]] = {}
        super().__init__()

    def watch(self) -> None:
        while not self.left.wait(EVERY_S):
            try:
                pids = [self.root.pid, *(child.pid for child in self.root.children(recursive=True))]
            except psutil.NoSuchProcess:
                return
            now = time.monotonic()
            for pid in pids:
                if (found := resident(pid)) is not None:
                    self.seen.setdefault(pid, []).append(Sample(now, *found))

    def figures(self, stage: dict[str, Any]) -> dict[str, float]:
        """Peaks of the process ``pid`` from ``begin`` to ``end``."""
        samples = self.seen.get(stage["pid"], [])
        during = [s for s in samples if stage["begin"] - EVERY_S <= s.at <= stage["end"] + EVERY_S] or samples[-1:]
        return {
            "s": round(stage["s"], 3),
            "peak_gb": round(max((s.own for s in during), default=0) / 1e9, 3),
            "file_gb": round(max((s.file for s in during), default=0) / 1e9, 3),
            "idle_gb": round(during[0].own / 1e9, 3) if during else 0.0,
            **stage["more"],
        }


def resident(pid: int) -> tuple[int, int] | None:
    """Bytes in memory that nobody but the process can give back, and those mapped from files; None: it is gone."""
    try:
        found = rss(pid)
    except OSError:
        return None
    return found.get("RssAnon", 0) + found.get("RssShmem", 0), found.get("RssFile", 0)


def measure(run: str, given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """One process; gives its stages. It is the first that the kernel ends where memory runs out."""
    command = [sys.executable, "-m", "studies.real_shape_stages", run, given.shape, str(folder), str(given.threads)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        assert process.stdout is not None
        try:
            with Watch(process.pid) as watch:
                for line in process.stdout:
                    if line.startswith("{"):
                        stage = json.loads(line)
                        time.sleep(2 * EVERY_S)
                        yield stage["stage"], watch.figures(stage)
        finally:
            process.terminate()
    if process.returncode:
        raise SystemExit(f"{run}: exit code {process.returncode}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is not in the file yet, and prints a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["published", "tiny"], default="published")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "vlac-rl-real-shape"))
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--write", type=Path, help="a JSON file, into whose `real_shape` and `plan` the figures go")
    given = parser.parse_args(arguments)
    folder = given.folder / given.shape
    folder.mkdir(parents=True, exist_ok=True)
    known = given.write or folder / "figures.json"
    for run in given.only:
        stages = json.loads(known.read_text()).get("real_shape", {}) if known.exists() else {}
        if not given.again and all(stage in stages for stage in RUNS[run]):
            continue
        for stage, figures in measure(run, given, folder):
            print(f"{stage}: {json.dumps(figures)}", flush=True)
            enter(known, "real_shape", {stage: figures})
    compare(known, folder)
    return 0


def compare(known: Path, folder: Path) -> None:
    """Enters the memory plan's figures beside the measured ones into ``plan`` of the file."""
    from studies.real_shape_plan import against_plan

    enter(known, "plan", against_plan(folder, json.loads(known.read_text())["real_shape"]))


if __name__ == "__main__":
    sys.exit(main())
