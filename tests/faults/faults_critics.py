"""The critic: slow, gone for a while, gone for ever, and every strange thing that a remote server can send."""

from __future__ import annotations

import contextlib
import re
import socket
import time

import psutil

from tests.faults.fake_openai import FakeServer, for_a_while
from tests.faults.judge import Facts
from tests.faults.lab import Lab, watch
from tests.faults.promises import EndsWithin, Exact
from tests.faults.registry import fault
from tests.faults.run import Run

AWHILE_S = 8.0
WAITED_S = 20.0  # critic.verdict_timeout_s where the critic stays away
MOST_MEMORY = 1 << 30  # of the service, whatever a server sends
SPARE = 128  # descriptors that the service may still open: a machine with a low limit, or one that has run for long
CONNECTIONS = 300
FLOOD_S = 15.0
STRANGE = EndsWithin(90, "prob|invalid|unreadable")
POISONED = EndsWithin(120, "(?=.*lane)(?=.*task)(?=.*step)")
UNREADABLE = EndsWithin(60, "unreadable|invalid|parse")
PAUSES = {
    "401": "refuses the key (401)",
    "500": "fails (500)",
    "login": "answers with a login page",
    "null": "says null",
    "number": "sends a number as content",
    "list": "sends a list as content",
    "drop": "drops connections",
    "hang": "does not answer",
}
SLOW = (
    "critic.sidecar.config.fixed.delay_ms=300",
    "critic.sidecar.config.batch.max_size=2",
    "actor_rollout_ref.rollout.episode_timeout_s=15",
)


def remote(lab: Lab, *arguments: str) -> tuple[Run, FakeServer]:
    server = lab.server()
    run = lab.start(*server.arguments(), *arguments)
    run.wait_episodes(4)
    run.now()
    return run, server


def away_for_a_while(lab: Lab, mode: str) -> Facts:
    run, server = remote(lab)
    for_a_while(server, mode, AWHILE_S)
    if not server.refused:
        run.notes.append("the critic was not asked meanwhile: the fault did not happen")
    return lab.facts(run)


def away_for_ever(lab: Lab, mode: str, *arguments: str) -> Facts:
    run, server = remote(lab, f"critic.verdict_timeout_s={WAITED_S:g}", *arguments)
    server.mode = mode
    return lab.facts(run)


for mode, words in PAUSES.items():
    fault(f"remote-{mode}", Exact(), f"the remote critic {words} for {AWHILE_S:g} s")(
        lambda lab, mode=mode: away_for_a_while(lab, mode)
    )


@fault("remote-401-ever", EndsWithin(90, "401"), "the remote critic refuses the key (401) for ever")
def refused(lab: Lab) -> Facts:
    return away_for_ever(lab, "401")


@fault("remote-null-ever", EndsWithin(90, "null|None|no chat completion"), "the remote critic says null for ever")
def null(lab: Lab) -> Facts:
    return away_for_ever(lab, "null")


@fault("remote-probability", STRANGE, "a log-probability of 1000 (critic.invalid=stop)")
def probability(lab: Lab) -> Facts:
    return away_for_ever(lab, "probability", "critic.invalid=stop")


@fault("remote-poison", POISONED, "one question is never answered, all others are")
def poison(lab: Lab) -> Facts:
    return away_for_ever(lab, "poison")


@fault("remote-huge", Exact(), "the remote critic sends bodies of 600 MB for 8 s; the service stays under 1 GB")
def huge(lab: Lab) -> Facts:
    return _bounded(lab, "huge")


@fault("remote-drip", Exact(), "the remote critic sends a byte every 2 s, for 12 s")
def drip(lab: Lab) -> Facts:
    return _bounded(lab, "drip", 12.0)


def _bounded(lab: Lab, mode: str, seconds: float = AWHILE_S) -> Facts:
    run, server = remote(lab)
    server.mode, most = mode, 0
    for _ in watch(run, seconds):
        for process in run.family.role("service"):
            with contextlib.suppress(psutil.Error):
                most = max(most, process.memory_info().rss)
    server.mode = "ok"
    if most > MOST_MEMORY:
        run.notes.append(f"the service took {most >> 20} MiB")
    return lab.facts(run)


@fault("critic-slow", Exact(240), "a critic that takes 300 ms for two questions, with episode_timeout_s=15")
def slow(lab: Lab) -> Facts:
    run = lab.start(*SLOW, total=16)
    run.wait_episodes(1)
    run.now()
    return lab.facts(run)


@fault("invalid-drop", Exact(may_drop=16), "unreadable answers for 3 s (critic.invalid=drop): groups shrink")
def unreadable_for_a_while(lab: Lab) -> Facts:
    run, server = remote(lab, "critic.invalid=drop")
    for_a_while(server, "unreadable", 3.0)
    return lab.facts(run)


@fault("invalid-drop-ever", UNREADABLE, "from now on unreadable answers alone with critic.invalid=drop")
def unreadable_dropped(lab: Lab) -> Facts:
    return away_for_ever(lab, "unreadable", "critic.invalid=drop")


@fault("invalid-stop", UNREADABLE, "an unreadable answer with critic.invalid=stop")
def unreadable_stops(lab: Lab) -> Facts:
    return away_for_ever(lab, "unreadable", "critic.invalid=stop")


@fault("page-flood", Exact(), f"{CONNECTIONS} idle connections to the status page, then a new lane")
def page_flood(lab: Lab) -> Facts:
    run = lab.start("critic.sidecar.config.metrics_port=0", "++env.step_s=0.2", total=48)  # longer than the flood
    run.wait_episodes()
    said = (run.folder / "logs" / f"sidecar-{run.id}.log").read_text()
    found = re.search(r"http://([\d.]+):(\d+)", said)
    assert found is not None, said
    service = run.find("service")
    service.rlimit(psutil.RLIMIT_NOFILE, (service.num_fds() + SPARE,) * 2)
    run.now()
    made = 0
    with contextlib.ExitStack() as connections:
        for _ in range(CONNECTIONS):
            if time.monotonic() > run.fault_at + FLOOD_S:  # it takes no more
                break
            with contextlib.suppress(OSError):
                client = socket.create_connection((found[1], int(found[2])), 0.5)
                connections.callback(client.close)
                made += 1
                client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        if made <= SPARE:
            run.notes.append(f"only {made} connections were made: the fault did not happen")
        run.find("env").kill()  # another takes its place, with lanes of its own
        return lab.facts(run)
