"""A sidecar with many lives: each is a process that is killed while it serves."""

from __future__ import annotations

import os
import select
import signal
import sys

from shm_bridge import Server
from tests.shm_bridge import echo


def _one_life(run_id: str, answers: int) -> None:
    """Answers so many questions, then dies with others in its hands."""
    server = Server.create(run_id)
    while True:
        server.wait(0.2)
        for question in server.poll():
            if answers == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            answers -= 1
            echo.answer(server, question)


def serve_lives(run_id: str, lives: int) -> None:
    """``lives`` deaths, then one life until a line comes; says how many deaths there were."""
    for life in range(lives):
        child = os.fork()
        if child == 0:
            _one_life(run_id, 8 + life % 5)
        os.waitpid(child, 0)
    with Server.create(run_id) as server:
        epoch = server.epoch
        while not select.select([sys.stdin], [], [], 0)[0]:
            server.wait(0.05)
            for question in server.poll():
                echo.answer(server, question)
    print(epoch - 1, flush=True)
