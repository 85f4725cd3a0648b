"""INT, TERM and HUP to the launcher, from the first second to the last, and to the guard; a reader that leaves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

import psutil

from tests.faults.faults_kills import with_checkpoint
from tests.faults.judge import Facts
from tests.faults.lab import Lab
from tests.faults.promises import EndsWithin, Exact
from tests.faults.registry import fault
from tests.faults.run import LONG_UPDATE, Run

STOPPED = EndsWithin(40, "interrupted", (130,))
RESUMABLE = EndsWithin(40, "interrupted", (130,), resumes=True)
AT_ONCE = EndsWithin(30, "killed by SIGKILL", (137,))
DRIVER_DIED = EndsWithin(30, "killed by SIGKILL|interrupted", (130, 137))


def send(lab: Lab, run: Run, numbers: Sequence[int], gap: float = 0.0) -> Facts:
    for place, number in enumerate(numbers):
        if place:
            time.sleep(gap)
        if run.process.poll() is not None:
            break
        run.hit("launcher", number) if not place else run.launcher.send_signal(number)
    return lab.facts(run)


def once_there_is(role: str, number: int) -> Callable[[Lab], Facts]:
    def inject(lab: Lab) -> Facts:
        run = lab.start()
        run.find(role)
        return send(lab, run, [number])

    return inject


fault("int-start", STOPPED, "Ctrl-C in the first second")(once_there_is("driver", signal.SIGINT))
fault("term-start", STOPPED, "SIGTERM while Ray starts")(once_there_is("raylet", signal.SIGTERM))
fault("hup-start", STOPPED, "SIGHUP while the learner starts")(once_there_is("learner", signal.SIGHUP))


@fault("int-rollout", RESUMABLE, "Ctrl-C in ROLLOUT")
def int_rollout(lab: Lab) -> Facts:
    return send(lab, with_checkpoint(lab), [signal.SIGINT])


@fault("term-update", STOPPED, "SIGTERM in UPDATE")
def term_update(lab: Lab) -> Facts:
    run = lab.start(*LONG_UPDATE)
    run.wait_update()
    return send(lab, run, [signal.SIGTERM])


@fault("term-checkpoint", RESUMABLE, "SIGTERM while a checkpoint is written")
def term_checkpoint(lab: Lab) -> Facts:
    run = lab.start()
    folder = run.folder / "checkpoints"
    run.until(lambda: list(folder.glob(".part-*")) or (folder / "last").exists(), "a checkpoint under way")
    return send(lab, run, [signal.SIGTERM])


@fault("int-shutdown", EndsWithin(40, "", (0, 130)), "Ctrl-C when the summary is written")
def int_shutdown(lab: Lab) -> Facts:
    run = lab.start(total=16)
    run.until((run.folder / "summary.json").exists, "the summary")
    return send(lab, run, [signal.SIGINT])


@fault("int-twice", AT_ONCE, "Ctrl-C twice: stop at once")
def int_twice(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    return send(lab, run, [signal.SIGINT] * 2, gap=0.3)


@fault("int-six-times", AT_ONCE, "Ctrl-C six times: the last ones while the guard cleans up")
def int_often(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    return send(lab, run, [signal.SIGINT] * 6, gap=0.25)


@fault("kill-driver-int", DRIVER_DIED, "the driver is killed, Ctrl-C while the guard cleans up", subreaper=False)
def kill_driver_int(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    run.hit("driver")
    time.sleep(0.3)
    run.launcher.send_signal(signal.SIGINT)
    return lab.facts(run)


@fault("term-cleaning", STOPPED, "SIGTERM, and again while the guard cleans up", subreaper=False)
def term_cleaning(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    driver = run.find("driver")
    run.hit("launcher", signal.SIGTERM)
    run.until(lambda: not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE, "the driver's end", 40)
    run.launcher.send_signal(signal.SIGTERM)
    return lab.facts(run)


@fault("head", Exact(), "the reader of its output leaves (| head)")
def head(lab: Lab) -> Facts:
    reader, writer = os.pipe()
    run = lab.start(stdout=writer)
    os.close(writer)
    run.wait_episodes()
    run.now()
    os.close(reader)
    return lab.facts(run)
