"""The sidecar of the soak: answers from the pixels, now and then out of order and in batches."""

from __future__ import annotations

import random
import signal
import time
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

import numpy as np

from shm_bridge import Kind, Question, Reply, Server, Status


def answer(server: Server, question: Question, batch: int) -> None:
    """queue_us: the frame's mark; probability: the episode. A frame that is not of one mark is torn: FAILED."""
    marks = []
    for image in question.images():
        first = image[0, 0, 0]
        if not np.array_equal(image, np.broadcast_to(first, image.shape)):
            server.answer(question, Reply(status=Status.FAILED, valid=False))
            return
        marks.append(int(first))
    if question.kind is Kind.VALUE:
        server.answer(question, Reply(values=marks, batch_size=batch))
    else:
        episode = (question.episode % 1000) / 1000
        server.answer(question, Reply(probability=episode, queue_us=marks[-1], batch_size=batch))


def alive(parent: BaseProcess | None) -> bool:
    return parent is None or parent.is_alive()


def main(run_id: str, seed: int) -> None:
    """Until SIGTERM, until it is killed, or until the soak itself was."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    dice = random.Random(seed)
    parent = parent_process()
    with Server.create(run_id) as server:
        server.set_ready(True)
        held: list[Question] = []
        while not stopping and alive(parent):
            server.wait(0.02 if held else 0.2)
            held += server.poll()
            dice.shuffle(held)
            size = dice.randint(1, 48)
            batch, held = held[:size], held[size:]  # the rest stays for a later one
            time.sleep(dice.uniform(0, 0.01))  # an engine at work
            for question in batch:
                answer(server, question, len(batch))
            server.publish_metrics(held=len(held))
