"""The memory plan beside what a run takes: planned and measured, by kind of process.

    python -m studies.plan_against_run [--episodes 48] [--write FILE] [--where NAME] [key=value ...]

A short run of the configuration (default: ``./launch.sh``'s own). Every ``EVERY_S`` seconds, of each of its processes,
from /proc/PID/smaps_rollup: ``Pss_Anon`` (its own), ``Pss_File`` (its share of mapped libraries: of all processes
together one figure, since who maps them is chance) and ``Pss_Shmem`` (frames without the critic, lanes, Ray's store).
Of /dev/shm: blocks of the run's files, and of the file of Ray's store that its raylet has open. Measured is the largest
sum of a kind at one moment; planned, the plan's in the phase that takes the most. Exit code 1: apart by over 10 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from studies.long_run import ROOT
from studies.results import enter

GB = 1e9
EVERY_S = 0.4
ALLOWED = 0.1
KINDS = {  # what in a command line tells the kind, as the plan names it
    "verl.trainer.main_ppo": "driver",
    "-m verl.launch": "driver",
    "ray::Learner": "learner",
    "ray::RolloutWorker": "rollout",
    "verl.envs.env_main": "environments",
    "-m sidecar --config": "sidecar",
    "sidecar.service_main": "sidecar",
    "sidecar.engines.replica_main": "sidecar",
    "ray::SidecarHost": "sidecar",
}
RAY, CODE = "Ray", "all"
STORE = "Ray's store"
SHORT = ["data.val_batch_size=8", "trainer.test_freq=-1"]
Sample = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=48)
    parser.add_argument("--write", type=Path, help="a JSON file, into whose `plan` the figures go")
    parser.add_argument("--where", default="default run", help="the name of the run in that file")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)
    overrides = [*SHORT, f"trainer.total_episodes={given.episodes}", *given.overrides]
    rows = compare(planned(overrides), measured(overrides))
    show(rows, given.where)
    if given.write is not None:
        found = {f"{given.where}: {who}": {"planned_gb": p, "measured_gb": m} for who, (p, m) in rows.items()}
        enter(given.write, "plan", found)
    return int(any(off(*row) > ALLOWED for row in rows.values()))


def planned(overrides: Sequence[str]) -> Sample:
    """Bytes by kind, and of all of main memory and of /dev/shm."""
    from verl.preflight.memory import reckon
    from verl.trainer.load_config import load_config
    from verl.trainer.memory_plan import HOST, SHM

    config, _ = load_config(list(overrides))
    plan, _ = reckon(config)
    found = {who: plan.most(HOST, who) for who in plan.kinds(HOST)}
    found |= {who: plan.most(SHM, who) for who in plan.kinds(SHM)}
    return {**found, "main memory": plan.most(HOST), "/dev/shm": plan.most(SHM)}


def measured(overrides: Sequence[str]) -> Sample:
    """The peaks of a run: of each kind, and of their sums at one moment. Raises RuntimeError when the run fails."""
    with tempfile.TemporaryDirectory(prefix="plan-") as work:
        run_id = f"plan-{os.getpid()}"
        own = [f"trainer.run_id={run_id}", f"trainer.default_local_dir={work}"]
        with open(Path(work) / "out.txt", "w") as out:
            command = [sys.executable, "-m", "verl.launch", *overrides, *own]
            child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        watch = Watch(psutil.Process(child.pid), run_id)
        try:
            while child.poll() is None:
                watch.look()
                time.sleep(EVERY_S)
        finally:
            end(child)
        if child.returncode:
            raise RuntimeError(f"the run ended with {child.returncode}: {(Path(work) / 'out.txt').read_text()[-2000:]}")
        return watch.peaks()


def end(child: subprocess.Popen[bytes], patience_s: float = 60.0) -> None:
    """Asks the run's guard to end it; one that does not is killed, and what it leaves behind cleans up."""
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Watch:
    """The processes below ``root``, look after look. One of Ray's workers gets its name, and its kind, when it becomes
    an actor; what it had before is that actor's, too."""

    def __init__(self, root: psutil.Process, run_id: str) -> None:
        self.root, self.run_id = root, run_id
        self.kinds: dict[int, str] = {}
        self.own: list[dict[int, float]] = []  # a look: bytes of each process
        self.others: list[Sample] = []  # a look: what is of no process

    def look(self) -> None:
        own: dict[int, float] = {}
        others: Sample = {CODE: 0.0, STORE: 0.0, "lanes": lanes(self.run_id)}
        with contextlib.suppress(psutil.Error):
            for process in [self.root, *self.root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error, OSError):
                    words, memory = " ".join(process.cmdline()), shares(process.pid)
                    if kind := next((kind for mark, kind in KINDS.items() if mark in words), None):
                        self.kinds[process.pid] = kind
                    others[CODE] += memory["Pss_File"]
                    others[STORE] += open_files(process.pid, "/dev/shm/") if "raylet/raylet" in words else 0.0
                    own[process.pid] = memory["Pss_Anon"]
                    if "verl.envs.env_main" in words:
                        own[process.pid] += open_files(process.pid, "/memfd:verl-frames")
        self.own.append(own)
        self.others.append(others)

    def peaks(self) -> Sample:
        """The most of each kind, of main memory and of /dev/shm, at one moment."""
        most: Sample = defaultdict(float)
        for own, others in zip(self.own, self.others):
            found: Sample = defaultdict(float)
            for pid, size in own.items():
                found[self.kinds.get(pid, RAY)] += size
            sums = {"main memory": sum(found.values()) + others[CODE], "/dev/shm": others["lanes"] + others[STORE]}
            for name, size in {**found, **others, **sums}.items():
                most[name] = max(most[name], size)
        return dict(most)


def lanes(run_id: str) -> float:
    """Bytes of the run's files in /dev/shm."""
    return sum(file.stat().st_blocks * 512.0 for file in Path("/dev/shm").iterdir() if run_id in file.name)


def shares(pid: int) -> Sample:
    """Bytes of /proc/PID/smaps_rollup by name."""
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return {name: int(value.split()[0]) * 1024.0 for name, _, value in lines if value.strip().endswith("kB")}


def open_files(pid: int, beginning: str) -> float:
    """Bytes of the files that a process has open and whose names begin so, deleted ones, too."""
    total = 0.0
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(one).startswith(beginning):
                total += os.stat(one).st_blocks * 512
    return total


def compare(plan: Sample, run: Sample) -> dict[str, tuple[float, float]]:
    """GB planned and measured, of all that is planned; what was never seen took 0."""
    return {who: (round(size / GB, 3), round(run.get(who, 0.0) / GB, 3)) for who, size in plan.items()}


def off(plan: float, run: float) -> float:
    """How far the plan is off, as a share of what was measured; 1 where something was planned and nothing measured."""
    return abs(plan - run) / run if run else float(plan > 0)


def show(rows: dict[str, tuple[float, float]], where: str) -> None:
    table = Table(title=f"{where}, GB", title_justify="left")
    for heading in ("", "planned", "measured", "off"):
        table.add_column(heading, justify="right" if heading else "left")
    for who, (plan, run) in rows.items():
        apart = f"{(plan - run) / run:+.0%}" if run else "never seen" if plan else ""
        table.add_row(who, f"{plan:.3f}", f"{run:.3f}", apart)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
