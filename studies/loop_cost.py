"""What VLAC in the loop costs: the same rollouts with the environment's done and with the critic's, side by side.

    python studies/loop_cost.py [--delay-ms 30] [--json] [--trace trace.json] [key=value ...]

An engine that takes a fixed time for a batch stands in for VLAC on a GPU: what is measured is asking, waiting and
drawing, not the model. Policy, environment, bridge and sidecar are the real ones, of the default configuration
(``key=value`` changes it). The arm is held still, so that every episode has the same length in every mode.

    env            the environment's done; frames are drawn where the policy looks, at the chunks' ends
    env, frames    the same, and a frame drawn after every step, as LIBERO's own environments do
    VLAC, chunk    the critic is asked about the last frame of every chunk
    VLAC, step     the critic is asked about the frame after every step

Episodes of all modes take turns; medians are compared. ``--trace`` gives the sidecar's side for ui.perfetto.dev.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from verl.bench.way import cpu_clock

ROOT = Path(__file__).resolve().parents[1]
MODES = {
    "env": (None, False),
    "env, frames": (None, True),
    "VLAC, chunk": ("chunk", False),
    "VLAC, step": ("step", False),
}
AGAINST = {"VLAC, chunk": "env", "VLAC, step": "env, frames"}
STAGES = ("reset", "physics", "render", "verdict_wait", "policy_wait")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the sidecar and the environments are ended
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from verl.trainer.load_config import load_config

    config, _ = load_config(given.overrides)
    given.episodes = given.episodes or config.data.n_samples * config.data.train_batch_size
    with ExitStack() as stack:
        run_id = f"loop-cost-{secrets.token_hex(4)}"
        controller = stack.enter_context(sidecar(run_id, given.delay_ms, given.trace, config.critic.sidecar.config))
        workers = {every: stack.enter_context(worker(run_id, every, given)) for every in (None, "chunk", "step")}
        report = measure(workers, given, controller)
        sys.stdout.write((json.dumps(report, indent=1) if given.json else table(report)) + "\n")
        sys.stdout.flush()  # before the processes are ended: on a busy machine that takes a while
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the training's configuration")
    parser.add_argument("--delay-ms", type=float, default=30.0, help="that the engine takes for a batch")
    parser.add_argument("--episodes", type=int, help="of each mode in each round (default: a rollout of the training)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trace", metavar="FILE", help="write what the sidecar does, for ui.perfetto.dev")
    parser.add_argument("--json", action="store_true")
    return parser


@contextmanager
def sidecar(run_id: str, delay_ms: float, trace: str | None, keys: dict[str, Any]) -> Iterator[Any]:
    """A sidecar with the stand-in engine, its value lists made as ``keys`` (its own ones) say; gives a Controller."""
    from shm_bridge import Controller

    options = ["engine=fixed", f"fixed.delay_ms={delay_ms}", "batch.max_size=64", "log.level=warning"]
    options += [f"values.{name}={value}" for name, value in keys.get("values", {}).items()]
    options += [f"trace={Path(trace).absolute()}"] if trace else []
    process = subprocess.Popen([sys.executable, "-m", "sidecar", f"run_id={run_id}", *options], cwd=ROOT)
    try:
        with Controller.connect(run_id, 60) as controller:
            controller.wait_ready(60)
            yield controller
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def worker(run_id: str, every: str | None, given: argparse.Namespace) -> Iterator[Any]:
    """A rollout worker whose environments ask the critic ``every`` step or chunk (None: not at all)."""
    from verl.trainer.assemble import rollout_options
    from verl.trainer.load_config import load_config
    from verl.workers.rollout import RolloutWorker

    config, _ = load_config([*given.overrides, f"critic.every={every or 'step'}", f"critic.enable={every is not None}"])
    options = rollout_options(config, run_id)
    one = RolloutWorker(dataclasses.replace(options, pool={**options.pool, "name": f"w-{every}"}))
    act = one.pool.act
    one.pool.act = lambda env, actions, episode=None: act(env, np.zeros_like(actions), episode)
    try:
        roll_out(one, options.pool["size"], 0, False)  # all processes started before the next worker's are
        yield one
    finally:
        one.close()


def measure(workers: dict[str | None, Any], given: argparse.Namespace, controller: Any) -> dict[str, Any]:
    """Rounds of all modes in changing order."""
    walls: dict[str, list[float]] = {mode: [] for mode in MODES}
    stages: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    cpu: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    steps: dict[str, int] = {}
    busy: list[float] = []
    for number in range(1, given.rounds + 1):
        order = list(MODES)[number % len(MODES) :] + list(MODES)[: number % len(MODES)]
        for mode in order:
            every, drawn = MODES[mode]
            before = busy_seconds(controller) if mode == "VLAC, step" else 0.0
            parts = {
                "environments": workers[every].pool.pids(),
                "policy": [os.getpid()],
                "sidecar": [controller.status()["pid"]],
            }
            spent = {name: -cpu_seconds(*pids) for name, pids in parts.items()}
            wall, episodes = roll_out(workers[every], given.episodes, number, drawn)
            taken = sum(e.steps for e in episodes)
            cpu[mode].append({name: 1e3 * (spent[name] + cpu_seconds(*pids)) / taken for name, pids in parts.items()})
            walls[mode].append(wall / taken)
            stages[mode].append({s: statistics.mean(e.timings[s] for e in episodes) for s in STAGES})
            steps[mode] = max(e.steps for e in episodes)
            if mode == "VLAC, step":
                busy.append((busy_seconds(controller) - before) / wall)
    ms = {mode: 1e3 * statistics.median(values) for mode, values in walls.items()}
    return {
        "delay_ms": given.delay_ms,
        "rounds": given.rounds,
        "episodes": given.episodes,
        "steps": steps,
        "ms_per_step": ms,
        "ms_per_step_all": {mode: [1e3 * v for v in values] for mode, values in walls.items()},
        "episode_s": {m: {s: statistics.median(r[s] for r in rows) for s in STAGES} for m, rows in stages.items()},
        "cpu_ms_per_step": {m: {p: statistics.median(r[p] for r in rows) for p in rows[0]} for m, rows in cpu.items()},
        "cost": {mode: ms[mode] / ms[other] - 1 for mode, other in AGAINST.items()},
        "cost_with_drawing": {mode: ms[mode] / ms["env"] - 1 for mode in AGAINST},
        "engine_busy_share": statistics.median(busy),
    }


def busy_seconds(controller: Any) -> float:
    """For how long the engine has worked so far; the sidecar tells once a second."""
    time.sleep(1.2)
    return float(controller.status()["metrics"].get("engine_busy_s", 0.0))


def cpu_seconds(*pids: int) -> float:
    """CPU time that processes have used so far, of user and kernel."""
    return sum(time.clock_gettime(cpu_clock(pid)) for pid in pids)


def roll_out(one: Any, count: int, number: int, drawn: bool) -> tuple[float, list[Any]]:
    """Seconds of ``count`` episodes of training, and how they ended."""
    from verl.episode import EpisodeRequest

    first = roll_out.episode = getattr(roll_out, "episode", 0) + count  # type: ignore[attr-defined]
    requests = [EpisodeRequest(first + i, 0, 0, 1000 * number + i, training=True, record=drawn) for i in range(count)]
    episodes: list[Any] = []
    started = time.monotonic()
    while len(episodes) < count:
        report = one.advance(requests, 5.0)
        requests = []
        if report.lost:
            raise RuntimeError(f"an episode was lost: {report.lost[0]}")
        episodes += [episode.end for episode in report.episodes]
    return time.monotonic() - started, episodes


def table(report: dict[str, Any]) -> str:
    """The report for a person."""
    lines = [f"{'':14}{'ms a step':>10}" + "".join(f"{stage:>14}" for stage in STAGES) + "   (seconds an episode)"]
    for mode, ms in report["ms_per_step"].items():
        stages = report["episode_s"][mode]
        lines.append(f"{mode:14}{ms:10.2f}" + "".join(f"{stages[stage]:14.3f}" for stage in STAGES))
    for mode, parts in report["cpu_ms_per_step"].items():
        lines.append(f"{mode:14} CPU ms a step: " + ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items()))
    for mode, other in AGAINST.items():
        lines.append(
            f"{mode}: {report['cost'][mode]:+.1%} of rollout wall time against `{other}`, "
            f"{report['cost_with_drawing'][mode]:+.1%} against `env`"
        )
    lines.append(f"engine busy share, asked every step: {report['engine_busy_share']:.0%}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
