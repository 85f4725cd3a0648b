"""``python -m shm_bridge.bench.lanes``: what more lanes cost: CPU per verdict, and a sidecar parked before them all.

Both sides run in one process and nobody sleeps in between: its CPU clock tells all. Passes of their own tell the
sidecar's share, since it alone has all lanes before it: a worker of a run has a process, and a cache, of its own, while
here the state of all of them goes through one. With --together 1 the sidecar looks after every single question, the
dearest way there is; the more lanes, the more of them have asked when it looks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

from shm_bridge import CameraSpec, Kind, Lane, LaneSpec, Reply, Server

SPEC = LaneSpec((CameraSpec("camera", 64, 64),), frames=2, questions=2, retain=False)
PASSES = 8
Result = dict[str, float]
Clock = Callable[[], int]


def _round(server: Server, lanes: list[Lane], step: int, together: int, clock: Clock) -> int:
    """One question of every lane; the sidecar looks when ``together`` of them have asked. What it took by ``clock``."""
    spent = 0
    for first in range(0, len(lanes), together):
        group = lanes[first : first + together]
        tickets = []
        for lane in group:
            slot = lane.reserve()
            lane.publish(slot, step)
            tickets.append(lane.ask(Kind.DONE, slot))
        begin = clock()
        server.wait(1.0)
        for question in server.poll():
            server.answer(question, Reply(done=bool(question.images()[0][0, 0, 0]), probability=0.5))
        spent += clock() - begin
        for lane, ticket in zip(group, tickets):
            lane.wait(ticket)
    return spent


def _cost(clock: Clock) -> float:
    """Of looking at the clock once, in ns."""
    begin = clock()
    for _ in range(1000):
        clock()
    return (clock() - begin) / 1001


def measure(count: int, verdicts: int, idle_s: float, together: int) -> Result:
    """CPU microseconds per verdict (median of 7 passes) and percent of a core parked, with ``count`` lanes."""
    run_id = f"lanes-{os.getpid()}"
    with Server.create(run_id, max_lanes=256) as server:
        lanes = [Lane.attach(run_id, SPEC, name=f"lane-{number}") for number in range(count)]
        try:
            for lane in lanes:
                lane.begin_episode(1, "benchmark")
            step, passes, sidecar = 0, [], []
            looks = -(-count // together)  # at the clock, a round
            rounds = max(verdicts // count, 1)
            for _ in range(PASSES):
                cpu, served = time.process_time_ns(), 0.0
                for _ in range(rounds):
                    _round(server, lanes, step, together, int)
                    step += 1
                passes.append((time.process_time_ns() - cpu) / 1000 / (rounds * count))
                for _ in range(rounds):
                    served += _round(server, lanes, step, together, time.thread_time_ns)
                    step += 1
                served -= rounds * looks * _cost(time.thread_time_ns)
                sidecar.append(served / 1000 / (rounds * count))
            cpu, begin = time.process_time_ns(), time.monotonic_ns()
            server.wait(idle_s)
            idle = (time.process_time_ns() - cpu) / (time.monotonic_ns() - begin) * 100
        finally:
            for lane in lanes:
                lane.close()
    both, own = (round(statistics.median(each[1:]), 2) for each in (passes, sidecar))
    return {"lanes": count, "cpu_us_per_verdict": both, "sidecar_us_per_verdict": own, "idle_cpu_pct": round(idle, 3)}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m shm_bridge.bench.lanes", description=__doc__)
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--verdicts", type=int, default=4096, help="a pass")
    parser.add_argument("--together", type=int, default=8, help="lanes that ask before the sidecar looks")
    parser.add_argument("--idle", type=float, default=3.0, help="seconds parked")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    results = [measure(count, options.verdicts, options.idle, options.together) for count in options.lanes]
    if options.json:
        sys.stdout.write(json.dumps(results) + "\n")
        return 0
    for result in results:
        both, own = (result[key] / results[0][key] for key in ("cpu_us_per_verdict", "sidecar_us_per_verdict"))
        sys.stdout.write(
            f"{result['lanes']:4.0f} lanes  {result['cpu_us_per_verdict']:6.2f} us CPU per verdict ({both:.2f}x), "
            f"of these the sidecar's {result['sidecar_us_per_verdict']:5.2f} ({own:.2f}x)  "
            f"parked {result['idle_cpu_pct']:.3f} % of a core\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
