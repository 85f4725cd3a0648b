"""A driver that stands still is named, and ended when Ray is the reason; one that works is left alone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from verl.trainer import watchdog
from verl.trainer.watchdog import ANSWER_S, ASK_EVERY_S, FROZEN_S, MOST_GAP_S, NAMED_S, OwnTime, Senses, Watchdog

GCS = "Ray's control server (gcs), process 7, is stopped"


class Driver:
    """A main thread as the watchdog sees it; ``live`` moves its time on, a look a second."""

    def __init__(self, stall_timeout_s: float = 600.0) -> None:
        self.time = self.cpu = 0.0
        self.beats, self.broken, self.asked = 0, [], 0
        self.said: list[tuple[float, str]] = []
        self.ended: list[tuple[float, str]] = []
        senses = Senses(lambda: self.time, lambda: self.cpu, lambda: (self.beats, "the rollout"), self._faults)
        self.dog = Watchdog(
            senses,
            lambda text: self.said.append((self.time, text)),
            lambda text: self.ended.append((self.time, text)),
            stall_timeout_s,
        )

    def _faults(self, ask: bool) -> list[str]:
        self.asked += ask
        return self.broken

    def live(self, seconds: int, beats: bool = False, cpu: float = 0.0) -> None:
        for _ in range(seconds):
            self.time, self.cpu, self.beats = self.time + 1, self.cpu + cpu, self.beats + beats
            self.dog.look()
            if self.ended:
                return


def test_a_stopped_daemon_is_named_within_a_minute_and_ends_the_run_within_two():
    driver = Driver()
    driver.live(500, beats=True)
    driver.broken = [GCS]
    driver.live(200)
    ((said, message),) = driver.said
    ((ended, reason),) = driver.ended
    assert said - 500 <= NAMED_S + 1 and GCS in message and "the rollout" in message
    assert ended - 500 <= FROZEN_S + 1 and GCS in reason
    assert FROZEN_S + ANSWER_S < 120, "also when the control server has to be asked"


def test_without_a_reason_it_is_named_and_ended_by_the_configured_bound():
    driver = Driver(stall_timeout_s=600)
    driver.live(599)
    assert len(driver.said) == 1 and not driver.ended
    driver.live(2)
    assert driver.ended
    assert driver.asked <= 600 / ASK_EVERY_S, "a process is started to ask, so not every second"


@pytest.mark.parametrize("life", [{"beats": True}, {"cpu": 0.3}], ids=["it beats", "it computes"])
def test_a_driver_that_lives_is_left_alone(life):
    """Hours in one call that uses its core: data of gigabytes is put into Ray's store, curves are drawn."""
    driver = Driver(stall_timeout_s=600)
    driver.broken = [GCS]
    driver.live(5000, **life)
    assert not driver.said and not driver.ended


def test_what_goes_on_is_said_and_watched_anew():
    driver = Driver(stall_timeout_s=600)
    driver.live(500)
    driver.live(1, beats=True)
    driver.live(500)
    assert [("stood still" in text, "goes on" in text) for _, text in driver.said] == [
        (True, False),
        (True, True),
        (True, False),
    ]
    assert not driver.ended


def test_time_in_which_the_driver_was_stopped_itself_does_not_count():
    """A laptop's lid, Ctrl-Z: nobody was late meanwhile."""
    now = 0.0
    clock = OwnTime(lambda: now)
    for gap in (1.0, 1.0, 3600.0, 1.0):
        now += gap
        clock()
    assert clock() == 3 + MOST_GAP_S


FROZEN = """
import os, threading, time
from verl.trainer import watchdog
from verl.trainer.watchdog import watching

watchdog.LOOK_S, watchdog.NAMED_S, watchdog.WORKS_CPU_S = 0.1, 1.0, 0.02  # the machine may be busy
def end(text):
    print("end", text, flush=True)
    os._exit(1)

with watching(lambda text: print("said", text, flush=True), end, 2.0):
    watchdog.beat("the rollout")
    started = time.monotonic()
    while time.monotonic() - started < 3.0:
        sum(range(10**6))
    print("worked", flush=True)
    threading.Lock().acquire() and threading.Event().wait()
"""


def test_the_thread_sees_a_real_main_thread_that_works_and_then_blocks():
    """Nothing is said of it while it computes, although it does not beat; the process is ended when it blocks."""
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["worked", "said", "end"]
    assert "the rollout" in done.stdout


def test_it_is_over_with_the_block():
    with watchdog.watching(lambda text: None, lambda text: None, 600.0):
        assert "watchdog" in [thread.name for thread in threading.enumerate()]
    deadline = time.monotonic() + 10
    while "watchdog" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
