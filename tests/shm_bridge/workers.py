"""Worker processes for the fault tests; each is driven by lines on standard input and says what it did."""

from __future__ import annotations

import os
import sys

from shm_bridge import BridgeError, Kind, Lane
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import SPEC


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())  # in one piece, also beside a forked child


def attached(run_id: str, name: str = "victim", **options: object) -> Lane:
    lane = Lane.attach(run_id, SPEC, timeout=20, name=name, **options)  # type: ignore[arg-type]
    lane.begin_episode(1, "task")
    return lane


def mid_write(run_id: str) -> None:
    """Has reserved a frame and written half of it."""
    lane = attached(run_id)
    slot = lane.reserve()
    slot["agentview"][:8] = 200
    say(f"{lane.index} {lane.generation}")
    sys.stdin.readline()


def in_flight(run_id: str) -> None:
    """Has asked and waits."""
    lane = attached(run_id)
    echo.frame(lane, 1, 0)
    lane.ask(Kind.DONE, 0)
    say(f"{lane.index} {lane.generation}")
    sys.stdin.readline()


def forked(run_id: str) -> None:
    """Has a child that outlives it; the child tries to use the parent's lane, then says so and stays."""
    lane = attached(run_id)
    echo.frame(lane, 1, 0)
    lane.ask(Kind.DONE, 0)
    child = os.fork()
    if child == 0:
        try:
            lane.poll()
            say("child used the lane")
        except BridgeError as error:
            say(f"child {os.getpid()} {type(error).__name__}")
        lane.close()
        sys.stdin.readline()
        os._exit(0)
    say(f"parent {lane.index}")
    os.waitpid(child, 0)


def waiting(run_id: str, rounds: str = "1000000", grace: str = "30") -> None:
    """Asks for ever and checks every answer; says its count when told to stop, or the first thing that is wrong."""
    lane = attached(run_id, f"asker-{os.getpid()}", grace=float(grace))
    say("asking")
    count = 0
    episode = 1
    while count < int(rounds):
        step = count % SPEC.frames
        if step == 0 and count:
            lane.end_episode()
            episode += 1
            lane.begin_episode(episode, f"task {episode}")
        mark = echo.frame(lane, episode, step, timeout=30)
        verdict = lane.wait(lane.ask(Kind.DONE, step, timeout=30), timeout=30)
        if verdict.probability != mark / 256 or verdict.episode != episode or verdict.queue_us != episode:
            say(f"wrong {verdict}")
            return
        count += 1
    epoch = verdict.epoch
    lane.close()
    say(f"answered {count} epoch {epoch}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
