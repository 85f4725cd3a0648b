"""A sidecar whose answers follow from the frames: the pixel of a :class:`FakeEnv` frame is its step.

    python fake_sidecar.py RUN_ID DONE_AT [hold]

DONE: pixel >= DONE_AT, answered in random order. VALUE: the steps of the frames it was given. An invalid answer for the
frame of step 200. With ``hold`` it answers nothing.
"""

from __future__ import annotations

import random
import sys

from shm_bridge import Kind, Question, Server, Status


def answer(server: Server, question: Question, done_at: int) -> None:
    pixels = [int(image[0, 0, 0]) for image in question.images()]
    assert all((image[-1] == 255).all() for image in question.images()), "upright: the row stored first is the last"
    if list(question.steps) != pixels:
        server.answer(question, status=Status.FAILED, valid=False)
    elif question.kind is Kind.VALUE:
        server.answer(question, values=[float(p) for p in pixels])
    else:
        done = pixels[0] >= done_at
        server.answer(question, done=done, probability=0.99 if done else 0.01)


def serve(run_id: str, done_at: int, hold: bool) -> None:
    rng = random.Random(0)
    held: list[Question] = []
    with Server.create(run_id) as server:
        server.set_ready(True)
        print("serving", flush=True)
        while True:
            server.wait(0.02)
            held += server.poll()
            if hold and held:
                print(f"holding {len(held)}", flush=True)
                continue
            rng.shuffle(held)
            for _ in range(min(len(held), rng.randint(1, 4))):
                answer(server, held.pop(), done_at)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), "hold" in sys.argv)
