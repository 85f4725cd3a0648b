"""Does anything grow in a long run? Measured at every tenth of the way, on the whole product.

    python studies/long_run.py tiny        10,000 episodes: an environment without physics, a critic without a model
    python studies/long_run.py default     1,000 of the default task
        [--episodes N] [--json FILE] [key=value ...]

Measured: memory of each process (USS: what it alone holds; the largest where there are several), open descriptors, the
run's part of /dev/shm, objects and bytes in Ray's store (from the run's own metrics), Ray's session folder,
checkpoints, the rest of the run's folder, seconds of an update. The rule was fixed before the first measurement: a
quantity is flat when the line fitted through its values at tenths 2 to 10 rises over that span by no more than 5 % of
their mean, or by no more than its allowance (8 MB; 4 descriptors; 8 objects; 0.5 s). What grows by design, a line an
episode in the logs, is told in bytes an episode. Exit code 1 when something else grows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
ROLES = {
    "driver": "verl.trainer.main_ppo",
    "supervisor": "-m sidecar --config",
    "service": "sidecar.service_main",
    "environment": "verl.envs.env_main",
    "rollout worker": "ray::RolloutWorker",
    "learner": "ray::Learner",
    "host": "ray::SidecarHost",
    "raylet": "raylet/raylet",
    "gcs": "gcs_server",
}
COMMON = [
    "trainer.videos=0",
    "trainer.logger=[console]",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=5",
    "critic.audit_min_precision=0",
    "data.val_batch_size=2",
]
TASKS = {
    "tiny": (
        10_000,
        [
            "env.name=tests.verl.envs.dot_env:DotEnv",
            "env.max_steps=24",
            "critic.sidecar.config.engine=fixed",
            "critic.sidecar.config.fixed.done_at_step=12",
            "data.n_samples=8",
            "data.train_batch_size=16",
            "data.filter_accuracy=false",
            "actor_rollout_ref.actor.ppo_epochs=1",
            "actor_rollout_ref.actor.optim.lr=1e-9",
        ],
    ),
    "default": (1_000, ["data.filter_accuracy=false", "actor_rollout_ref.actor.ppo_epochs=1"]),
}
ALLOWED = {"mb": 8.0, "fds": 4.0, "objects": 8.0, "s": 0.5}
STORE = {
    "store objects": "ray/objects",
    "store mb": "ray/mb",
    "store overflow mb": "ray/overflow_mb",
    "spilled mb": "ray/spilled_mb",
}
BY_DESIGN = ("logs mb",)
START_S, STILL_S = 300.0, 300.0
Sample = dict[str, float]


def folder_mb(path: Path) -> float:
    """Of a folder that others write to and delete from."""
    total = 0
    for file in path.rglob("*"):
        try:
            if file.is_file() and not file.is_symlink():
                total += file.stat().st_size
        except OSError:
            continue
    return total / 2**20


def processes(root: psutil.Process) -> Sample:
    """Memory and descriptors by role; the largest of a role."""
    found: Sample = {}
    for process in [root, *root.children(recursive=True)]:
        try:
            words = " ".join(process.cmdline())
            role = next((role for role, mark in ROLES.items() if mark in words), None)
            if role is None:
                continue
            unique = process.memory_full_info().uss / 2**20
            for name, value in ((f"{role} mb", unique), (f"{role} fds", process.num_fds())):
                found[name] = max(found.get(name, 0.0), float(value))
        except psutil.Error:
            continue
    return found


def sample(root: psutil.Process, folder: Path, before: int) -> Sample:
    """Everything, now; of Ray's store the most since the last of ``before`` samples: weights come and go."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    stores = [row for row in rows if "ray/objects" in row]
    updates = [row["wall_s"] for row in stores]
    found = processes(root)
    found["/dev/shm mb"] = sum(f.stat().st_size for f in Path("/dev/shm").iterdir() if folder.name in f.name) / 2**20
    found["checkpoints mb"] = folder_mb(folder / "checkpoints")
    found["logs mb"] = folder_mb(folder) - found["checkpoints mb"]
    for session in Path("/tmp/ray").glob("session_2*"):
        if any(session.name.endswith(f"_{p.pid}") for p in root.children(recursive=True)):
            found["ray session mb"] = folder_mb(session)
    recent = stores[-max(1, len(stores) // (before + 1)) :]
    for name, key in STORE.items():
        if recent:
            found[name] = max(row[key] for row in recent)
    if len(updates) > 2:
        found["a step of training s"] = float(np.median(np.diff(updates)[-5:]))
    return found


def count(folder: Path) -> int:
    """Episodes so far."""
    try:
        return (folder / "episodes.jsonl").read_bytes().count(b'"training": true')
    except OSError:
        return 0


def measure(task: str, episodes: int, overrides: list[str], console: Console) -> dict[str, Any]:
    """A run of ``episodes``, sampled ten times."""
    with tempfile.TemporaryDirectory(prefix="long-run-") as work:
        run_id = f"long-{task}-{int(time.time())}"
        folder = Path(work) / run_id
        command = [
            sys.executable,
            "-m",
            "verl.launch",
            *COMMON,
            *TASKS[task][1],
            f"trainer.total_episodes={episodes}",
            f"trainer.run_id={run_id}",
            f"trainer.default_local_dir={work}",
            *overrides,
        ]
        with open(Path(work) / "out.txt", "w") as out:
            child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        root, samples, started, last = psutil.Process(child.pid), [], time.monotonic(), (0, time.monotonic())
        try:
            while len(samples) < 9 and child.poll() is None:  # the tenth is taken before the run's end
                now = count(folder)
                last = (now, time.monotonic()) if now > last[0] else last
                if time.monotonic() - last[1] > (STILL_S if now else START_S):
                    said = (Path(work) / "out.txt").read_text()[-2000:]
                    raise TimeoutError(f"no episode for {STILL_S:.0f} s; {said}")
                if now >= (len(samples) + 1) * episodes // 10:
                    samples.append({"episodes": float(now), **sample(root, folder, len(samples))})
                    console.print(f"{now} episodes after {time.monotonic() - started:.0f} s")
                time.sleep(0.2)
            while child.poll() is None and count(folder) < episodes - episodes // 50:
                time.sleep(0.1)
            samples.append({"episodes": float(count(folder)), **sample(root, folder, len(samples))})
            code = child.wait(600)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait(60)
        if code:
            raise RuntimeError(f"the run ended with {code}: {(Path(work) / 'out.txt').read_text()[-2000:]}")
        return {"task": task, "episodes": episodes, "seconds": round(time.monotonic() - started), "samples": samples}


def judge(samples: list[Sample]) -> dict[str, dict[str, float | bool]]:
    """By quantity: value at the first and last tenth, growth over tenths 2 to 10, and whether that is flat."""
    names = sorted({name for one in samples for name in one} - {"episodes"})
    verdicts: dict[str, dict[str, float | bool]] = {}
    for name in names:
        points = [(one["episodes"], one[name]) for one in samples[1:] if name in one]
        if len(points) < 3:
            continue
        x, y = np.array(points).T
        rise = float(np.polyfit(x, y, 1)[0] * (x[-1] - x[0]))
        allowed = max(0.05 * float(np.mean(y)), ALLOWED[name.split()[-1]])
        verdicts[name] = {"second": float(y[0]), "last": float(y[-1]), "rise": rise, "flat": rise <= allowed}
        if name in BY_DESIGN:
            verdicts[name] |= {"flat": True, "bytes_an_episode": rise * 2**20 / (x[-1] - x[0])}
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    console = Console()
    result = measure(options.task, options.episodes or TASKS[options.task][0], options.overrides, console)
    result["verdicts"] = verdicts = judge(result["samples"])
    table = Table(title=f"{options.task}: {result['episodes']} episodes in {result['seconds']} s", title_justify="left")
    for heading in ("", "2nd tenth", "last", "rise", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for name, one in verdicts.items():
        end = "flat" if one["flat"] else "GROWS"
        if "bytes_an_episode" in one:
            end = f"by design, {one['bytes_an_episode']:.0f} bytes an episode"
        table.add_row(name, f"{one['second']:.1f}", f"{one['last']:.1f}", f"{one['rise']:+.1f}", end)
    console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(one["flat"] for one in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
