"""A sidecar for tests: its answers follow from the frames, so a wrong frame or a wrong asker shows.

The mark of a frame is in its first pixel (stored), repeated over the whole image: a half-written frame is told by it.
"""

from __future__ import annotations

import signal
import sys

import numpy as np

from shm_bridge import Kind, Lane, Question, Reply, Server, Status


def paint(image: np.ndarray, mark: int) -> None:
    image[...] = mark % 251


def mark_of(lane: int, episode: int, step: int) -> int:
    return (lane * 7 + episode * 31 + step * 3) % 251


def answer(server: Server, question: Question) -> bool:
    """DONE: probability = mark / 256, queue_us = the episode. VALUE: the marks. CRITIC: difference of the marks.

    Torn frames: FAILED.
    """
    marks = []
    for image in question.images():
        if (image != image[0, 0, 0]).any():
            return server.answer(question, Reply(status=Status.FAILED, valid=False))
        marks.append(int(image[0, 0, 0]))
    if question.kind is Kind.VALUE:
        return server.answer(question, Reply(values=marks))
    if question.kind is Kind.CRITIC:
        return server.answer(question, Reply(value=marks[1] - marks[0]))
    return server.answer(question, Reply(done=marks[0] > 128, probability=marks[0] / 256, queue_us=question.episode))


def serve(run_id: str, mode: str = "answer") -> None:
    """Until SIGTERM. Modes: answer; hold: takes questions, answers nothing and says each on a line."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    with Server.create(run_id) as server:
        server.set_ready(True)
        print("serving", flush=True)
        while not stopping:
            server.wait(0.2)
            for question in server.poll():
                if mode == "hold":
                    print(f"took {question.ticket}", flush=True)
                else:
                    answer(server, question)
            if server.phase_pending and server.requested_phase is not None:
                server.acknowledge_phase(server.requested_phase)
    sys.exit(0)


def frame(lane: Lane, episode: int, step: int, timeout: float = 5.0) -> int:
    """Reserves, paints and publishes; the mark."""
    slot = lane.reserve(timeout)
    mark = mark_of(lane.index, episode, step)
    for camera in lane.spec.cameras:
        paint(slot[camera.name], mark)
    lane.publish(slot, step)
    return mark
