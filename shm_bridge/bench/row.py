"""Measures one row: serves in this process, workers in processes of their own.

python -m shm_bridge.bench.row '{"transport": "shm", ...}'   prints one JSON object on its last line
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from shm_bridge.bench.floor import measure_floor

IDLE_S = 1.0
WORKER_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Request:
    """What to measure: ``rounds`` round trips of each worker after ``warmup``."""

    transport: str
    height: int
    width: int
    workers: int
    mode: str
    warmup: int
    rounds: int
    gap_us: int = 0  # a worker sleeps so long between two round trips, untimed
    pin: bool = False  # one worker: sidecar and worker on a core each, as two busy processes are

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, 3)


def settle(request: Request, core: int) -> None:
    """Pins this process to its ``core``-th core. Ray is left alone: its daemons would all share that core."""
    cores = sorted(os.sched_getaffinity(0))
    if request.pin and request.workers == 1 and len(cores) > 1 and request.transport != "ray":
        os.sched_setaffinity(0, {cores[core]})


def work(request: dict[str, Any], kit: Any, pipe: Connection, cores: set[int]) -> None:
    """A worker: connects, warms up, waits for the start, measures."""
    asked = Request(**request)
    if cores:
        os.sched_setaffinity(0, cores)
    settle(asked, 1)
    module = importlib.import_module(f"shm_bridge.bench.transports.{asked.transport}")
    client = module.Client(kit, asked.shape, asked.mode == "spin")
    frame = np.random.default_rng(1).integers(0, 255, asked.shape, dtype=np.uint8)
    for _ in range(asked.warmup):
        client.round_trip(frame)
    pipe.send("warm")
    pipe.recv()
    latencies = np.empty(asked.rounds, np.int64)
    now = time.perf_counter_ns
    cpu = time.process_time_ns()
    for number in range(asked.rounds):
        if asked.gap_us:
            time.sleep(asked.gap_us / 1e6)
        start = now()
        client.round_trip(frame)
        latencies[number] = now() - start
    pipe.send((latencies, time.process_time_ns() - cpu))
    pipe.recv()
    client.close()


class Conductor(threading.Thread):
    """Starts the workers and takes their results while the main thread serves."""

    def __init__(self, request: Request, host: Any, cores: set[int]) -> None:
        super().__init__(daemon=True)
        context = multiprocessing.get_context("spawn")
        self.request = request
        self.done = False
        self.result: dict[str, Any] | None = None
        self.pipes: list[Connection] = []
        self.processes = []
        for worker in range(request.workers):
            ours, theirs = context.Pipe()
            arguments = (asdict(request), host.kit(worker), theirs, cores)
            self.pipes.append(ours)
            self.processes.append(context.Process(target=work, args=arguments, daemon=False))

    def run(self) -> None:
        try:
            for process in self.processes:
                process.start()
            self._expect()
            cpu = time.process_time_ns()
            time.sleep(IDLE_S)
            idle = (time.process_time_ns() - cpu) / (IDLE_S * 1e9)
            cpu, wall = time.process_time_ns(), time.perf_counter_ns()
            self._tell("go")
            results = self._expect()
            wall = time.perf_counter_ns() - wall
            cpu = time.process_time_ns() - cpu
            self._tell("end")
            latencies = np.concatenate([latency for latency, _ in results])
            self.result = summary(self.request, latencies, cpu + sum(each for _, each in results), wall, idle)
            for process in self.processes:
                process.join(20)
        finally:
            self.done = True
            for process in self.processes:
                if process.is_alive():
                    process.kill()

    def _tell(self, word: str) -> None:
        for pipe in self.pipes:
            pipe.send(word)

    def _expect(self) -> list[Any]:
        answers = []
        for pipe, process in zip(self.pipes, self.processes):
            deadline = time.monotonic() + WORKER_TIMEOUT_S
            while not pipe.poll(0.2):
                if process.exitcode is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"a worker of {self.request.transport} ended or hangs ({process.exitcode})")
            answers.append(pipe.recv())
        return answers


def summary(
    request: Request, latencies_ns: np.ndarray[Any, Any], cpu_ns: int | None, wall_ns: float, idle: float | None
) -> dict[str, Any]:
    """A row of the table; microseconds."""
    p50, p99, p999 = (float(np.percentile(latencies_ns, share)) / 1000 for share in (50, 99, 99.9))
    return {
        "transport": request.transport,
        "frame": f"{request.height}x{request.width}x3",
        "workers": request.workers,
        "mode": request.mode,
        "p50_us": round(p50, 2),
        "p99_us": round(p99, 2),
        "p999_us": round(p999, 2),
        "max_us": round(float(latencies_ns.max()) / 1000, 2),
        "verdicts_per_s": round(len(latencies_ns) / wall_ns * 1e9, 1),
        "cpu_us_per_verdict": None if cpu_ns is None else round(cpu_ns / 1000 / len(latencies_ns), 2),
        "idle_cpu_pct": None if idle is None else round(idle * 100, 3),
    }


def measure(request: Request) -> dict[str, Any]:
    """One row."""
    if request.transport in ("c_floor", "c_spin"):
        latencies, cpu_ns = measure_floor(
            request.height * request.width * 3,
            request.warmup,
            request.rounds,
            request.pin and request.workers == 1,
            request.gap_us,
            request.transport == "c_spin",
        )
        return summary(request, latencies, cpu_ns, float(latencies.sum()), 0.0)
    module = importlib.import_module(f"shm_bridge.bench.transports.{request.transport}")
    cores = os.sched_getaffinity(0)
    settle(request, 0)
    host = module.Host(request.workers, request.shape, request.mode == "spin")
    conductor = Conductor(request, host, cores)
    conductor.start()
    try:
        host.serve(lambda: not conductor.done)
    finally:
        conductor.done = True
        conductor.join(30)
        host.close()
    if conductor.result is None:
        raise RuntimeError(f"{request.transport}: a worker failed")
    if request.transport == "ray":  # its daemons and its actor are not in what was counted
        conductor.result["cpu_us_per_verdict"] = conductor.result["idle_cpu_pct"] = None
    return conductor.result


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(measure(Request(**json.loads(sys.argv[1])))) + "\n")
