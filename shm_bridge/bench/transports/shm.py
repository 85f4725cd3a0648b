"""Ours: the frame is written once, into the lane; the sidecar looks at it where it lies.

The calls are those that an environment (verl/envs/critic_link.py) and the sidecar (sidecar/service.py) make for each
frame; tests/project/test_bench_road.py holds that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from shm_bridge import CameraSpec, Kind, Lane, LaneSpec, Reply, Server, Status

MAX_WORKERS = 1024
FRAMES = 1  # as the floor has: who waits for each verdict needs no more
SPIN_US = 2000.0


def missing() -> str | None:
    return None


class Host:
    def __init__(self, workers: int, shape: tuple[int, int, int], spin: bool) -> None:
        self.run_id = f"bench-{os.getpid()}"
        self.server = Server.create(self.run_id, max_lanes=max(256, workers), spin_us=SPIN_US if spin else 0.0)
        self.server.set_ready(True)

    def kit(self, worker: int) -> Any:
        return self.run_id, worker

    def serve(self, running: Callable[[], bool]) -> None:
        server = self.server
        while running():
            server.wait(0.1)
            for question in server.poll():
                if server.cancelled(question):
                    server.answer(question, Reply(status=Status.CANCELLED, valid=False))
                    continue
                image = question.images()[0]
                ends = image.item(0) + image.item(-1)
                server.answer(question, Reply(done=ends > 400, probability=0.5))

    def close(self) -> None:
        self.server.close()


class Client:
    def __init__(self, kit: Any, shape: tuple[int, int, int], spin: bool) -> None:
        run_id, worker = kit
        spec = LaneSpec((CameraSpec("camera", shape[0], shape[1], shape[2]),), frames=FRAMES, retain=False)
        self.lane = Lane.attach(run_id, spec, timeout=60, name=f"worker-{worker}", spin_us=SPIN_US if spin else 0.0)
        self.lane.begin_episode(worker, "benchmark")
        self.step = 0

    def round_trip(self, frame: np.ndarray[Any, Any]) -> None:
        lane = self.lane
        slot = lane.reserve()
        slot["camera"][...] = frame
        lane.publish(slot, self.step)
        self.step += 1
        lane.wait(lane.ask(Kind.DONE, slot), timeout=30.0)
        lane.poll()  # whatever else has come: nothing here

    def close(self) -> None:
        self.lane.close()
