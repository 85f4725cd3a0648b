"""A sidecar whose answers follow from the frames: the pixel of a :class:`FakeEnv` frame is its step.

    python fake_sidecar.py RUN_ID DONE_AT [hold] [down=SECONDS] [fails=STEP] [pause=SECONDS] [holes=SHARE] [text=STEP]

DONE: pixel >= DONE_AT, answered in random order. VALUE: the steps of the frames it was given. With ``hold`` it answers
nothing; ``down``: every question fails for so long after the first one; ``fails``: a question about that step of
'task 0' always does; ``pause``: before each answer; ``holes``: the share of unreadable pairs in each value list;
``text``: the reply about that step cannot be read.
"""

from __future__ import annotations

import random
import sys
import time

from shm_bridge import Kind, Question, Reply, Server, Status

first_ns = 0


def answer(server: Server, question: Question, done_at: int, told: dict[str, float]) -> None:
    global first_ns
    first_ns = first_ns or time.monotonic_ns()
    time.sleep(told.get("pause", 0.0))
    pixels = [int(image[0, 0, 0]) for image in question.images()]
    assert all((image[-1] == 255).all() for image in question.images()), "upright: the row stored first is the last"
    down = time.monotonic_ns() - first_ns < told.get("down", 0.0) * 1e9
    fails = told.get("fails") == pixels[-1] and question.task == "task 0"
    if down or fails or list(question.steps) != pixels:
        server.answer(question, Reply(status=Status.FAILED, valid=False))
    elif told.get("text") == pixels[-1]:
        server.answer(question, Reply(status=Status.INVALID, valid=False))
    elif question.kind is Kind.VALUE:
        server.answer(question, Reply(values=[float(p) for p in pixels], probability=1.0 - told.get("holes", 0.0)))
    else:
        done = pixels[0] >= done_at
        server.answer(question, Reply(done=done, probability=0.99 if done else 0.01))


def serve(run_id: str, done_at: int, hold: bool, told: dict[str, float]) -> None:
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
                answer(server, held.pop(), done_at, told)


if __name__ == "__main__":
    pairs = (word.split("=") for word in sys.argv[3:] if "=" in word)
    serve(sys.argv[1], int(sys.argv[2]), "hold" in sys.argv, {name: float(value) for name, value in pairs})
