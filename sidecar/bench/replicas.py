"""``python -m sidecar.bench.replicas``: what a critic in several processes costs, and what it gains.

Hand-over: one batch after the other through an engine that computes nothing, in this process, in a replica's (pixels in
shared memory), and in one that is sent the pixels through its pipe, apart from what is pickled. Throughput: a real
sidecar whose engine takes a fixed time a query, asked by as many lanes as always have a question open.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from evo_vlac.engine import Answer, Query
from evo_vlac.queries import done_query
from shm_bridge import CameraSpec, Controller, Kind, Lane, LaneSpec
from sidecar.config import Config, FixedConfig
from sidecar.engines.fixed import FixedEngine
from sidecar.engines.replica import Replica

READY_S = 60.0
Answering = Callable[[Sequence[Query]], list[Answer]]


@contextmanager
def here() -> Iterator[tuple[Answering, list[int]]]:
    """No hand-over."""
    yield FixedEngine(FixedConfig()).answer, []


@contextmanager
def by_arena() -> Iterator[tuple[Answering, list[int]]]:
    """A replica as the sidecar has it."""
    replica = Replica(0, "cpu", Config(run_id="bench", engine="fixed"))
    try:
        replica.start()
        replica.wait_loaded(READY_S)
        assert replica.pid is not None
        yield replica.answer, [replica.pid]
    finally:
        replica.close()


@contextmanager
def by_pipe() -> Iterator[tuple[Answering, list[int]]]:
    """A process that is sent the queries pickled, and their pixels after them (pickle's out-of-band buffers)."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(theirs,), daemon=True)
    process.start()
    theirs.close()

    def answer(queries: Sequence[Query]) -> list[Answer]:
        _send(ours, queries)
        answers: list[Answer] = ours.recv()
        return answers

    try:
        answer([])
        assert process.pid is not None
        yield answer, [process.pid]
    finally:
        ours.close()
        process.join(10)


def _echo(pipe: Connection) -> None:
    engine = FixedEngine(FixedConfig())
    try:
        while True:
            pipe.send(engine.answer(_receive(pipe)))
    except EOFError:
        return


def _send(pipe: Connection, queries: Sequence[Query]) -> None:
    whole = [query.with_(images=tuple(map(np.ascontiguousarray, query.images))) for query in queries]
    pixels: list[pickle.PickleBuffer] = []
    message = pickle.dumps(whole, protocol=5, buffer_callback=pixels.append)
    pipe.send_bytes(message)
    pipe.send([buffer.raw().nbytes for buffer in pixels])
    for buffer in pixels:
        pipe.send_bytes(buffer.raw())


def _receive(pipe: Connection) -> list[Query]:
    message = pipe.recv_bytes()
    buffers = [bytearray(size) for size in pipe.recv()]
    for buffer in buffers:
        pipe.recv_bytes_into(buffer)
    queries: list[Query] = pickle.loads(message, buffers=buffers)
    return queries


def hand_over(size: int, batch: int, seconds: float) -> list[dict[str, Any]]:
    """Batches a second and CPU microseconds a verdict (this process's and the other's) of each way."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (size, size, 3), np.uint8)[::-1] for _ in range(batch)]
    asked = [done_query(frame, "lift the red cube", keys=((0, 1, i, i),)) for i, frame in enumerate(frames)]
    rows = []
    for name, way in (("in this process", here), ("a replica: shared memory", by_arena), ("a pipe", by_pipe)):
        with way() as (answer, others):
            processes = [psutil.Process(), *map(psutil.Process, others)]
            answer(asked)
            before, start, count = _cpu(processes), time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                answer(asked)
                count += 1
            took, spent = time.perf_counter() - start, _cpu(processes) - before
        rows.append(
            {
                "way": name,
                "px": size,
                "batch": batch,
                "batches_per_s": count / took,
                "ms_per_batch": took / count * 1e3,
                "cpu_us_per_verdict": spent / count / batch * 1e6,
            }
        )
    return rows


def _cpu(processes: Sequence[psutil.Process]) -> float:
    """Seconds of user and system time."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def throughput(devices: str | None, lanes: int, batch: int, query_ms: float, seconds: float) -> dict[str, Any]:
    """Verdicts a second of a sidecar while every lane always waits for one, and its CPU microseconds a verdict."""
    run_id = f"bench-{secrets.token_hex(4)}"
    keys = [f"run_id={run_id}", "engine=fixed", f"fixed.per_query_ms={query_ms}", f"batch.max_size={batch}"]
    keys += ["log.level=warning", *([f"devices={devices}"] if devices else [])]
    with subprocess.Popen([sys.executable, "-m", "sidecar", *keys]) as process:
        try:
            with Controller.connect(run_id, READY_S) as controller:
                controller.wait_ready(READY_S)
                service = psutil.Process(controller.status()["pid"])
                answered, took, spent = _ask(run_id, lanes, seconds, [service, *service.children()])
        finally:
            process.terminate()
    return {
        "devices": devices or "none (in the service)",
        "lanes": lanes,
        "batch": batch,
        "query_ms": query_ms,
        "verdicts_per_s": answered / took,
        "cpu_us_per_verdict": spent / answered * 1e6,
    }


def _ask(run_id: str, count: int, seconds: float, processes: Sequence[psutil.Process]) -> tuple[int, float, float]:
    """Verdicts, seconds, and the processes' CPU seconds."""
    spec = LaneSpec(cameras=(CameraSpec("agentview", 256, 256),), frames=8)
    lanes = [Lane.attach(run_id, spec, timeout=READY_S, name=f"bench-{i}") for i in range(count)]
    try:
        for lane in lanes:
            lane.begin_episode(0, "lift the red cube")
        step, episode, answered = 0, 0, 0
        before, start = _cpu(processes), time.perf_counter()
        while time.perf_counter() - start < seconds:
            tickets = [_show(lane, step) for lane in lanes]
            for lane, ticket in zip(lanes, tickets):
                assert lane.wait(ticket, READY_S).valid
            answered, step = answered + count, step + 1
            if step == 4:
                step, episode = 0, episode + 1
                for lane in lanes:
                    lane.end_episode()
                    lane.begin_episode(episode, "lift the red cube")
        return answered, time.perf_counter() - start, _cpu(processes) - before
    finally:
        for lane in lanes:
            lane.close()


def _show(lane: Lane, step: int) -> int:
    frame = lane.reserve()
    frame["agentview"][...] = step
    lane.publish(frame, step)
    return lane.ask(Kind.DONE, frame)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.bench.replicas", description=__doc__)
    parser.add_argument("--px", type=int, default=256)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--query-ms", type=float, default=4.35, help="of the engine; 4.35: VLAC-2B, 230 dones a second")
    parser.add_argument("--devices", nargs="+", default=["", "cpu,cpu", "cpu,cpu,cpu,cpu"])
    parser.add_argument("--seconds", type=float, default=5.0, help="each measurement")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    ways = [row for batch in given.batch for row in hand_over(given.px, batch, given.seconds)]
    rates = [
        throughput(one or None, given.lanes, max(given.batch), given.query_ms, given.seconds) for one in given.devices
    ]
    if given.json:
        sys.stdout.write(json.dumps({"hand_over": ways, "throughput": rates}, indent=1) + "\n")
        return 0
    for rows in (ways, rates):
        sys.stdout.write("   ".join(rows[0]) + "\n")
        for row in rows:
            cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values())
            sys.stdout.write("   ".join(cells) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
