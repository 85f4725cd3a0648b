"""SIGSTOP, for ever and for a while: what stands still is named within two minutes, and the run ends or goes on."""

from __future__ import annotations

import signal
import time

from tests.faults.faults_kills import with_checkpoint
from tests.faults.judge import Facts
from tests.faults.lab import Lab
from tests.faults.promises import EndsWithin, Exact, Promise
from tests.faults.registry import fault
from tests.faults.run import LONG_UPDATE

NAMED_S = 120.0
REPLACED = Exact(NAMED_S + 120)
FROZEN_LEARNER = EndsWithin(NAMED_S + 40, r"learner", resumes=True)
FROZEN_RAY = EndsWithin(NAMED_S + 40, r"raylet|gcs|\bray\b", resumes=True)
FOR_EVER: dict[str, tuple[str, Promise]] = {
    "env": ("an environment process", REPLACED),
    "rollout": ("the rollout worker", REPLACED),
    "supervisor": ("the sidecar's supervisor", Exact()),
    "service": ("the sidecar's service", Exact()),
    "host": ("the actor that keeps the sidecar", REPLACED),
    "learner": ("the learner", FROZEN_LEARNER),
    "raylet": ("Ray's raylet", FROZEN_RAY),
    "gcs": ("Ray's control server (gcs)", FROZEN_RAY),
}
IN_UPDATE = ("rollout", "host", "learner")
FOR_A_WHILE = {
    "rollout": 15.0,
    "learner": 15.0,
    "driver": 20.0,
    "launcher": 15.0,
    "raylet": 8.0,
    "gcs": 8.0,
}
GRACE = EndsWithin(40, "killed by SIGKILL", (137,))


def stop(lab: Lab, role: str, update: bool) -> Facts:
    if update:
        run = lab.start(*LONG_UPDATE)
        run.wait_update()
    elif isinstance(lab.promise, EndsWithin):
        run = with_checkpoint(lab)
    else:
        run = lab.start()
        run.wait_episodes()
    run.hit(role, signal.SIGSTOP)
    return lab.facts(run)


def pause(lab: Lab, role: str) -> Facts:
    run = lab.start()
    run.wait_episodes()
    run.pause(role, FOR_A_WHILE[role])
    return lab.facts(run)


for part, (words, promise) in FOR_EVER.items():
    fault(f"freeze-{part}", promise, f"SIGSTOP of {words} for ever, in ROLLOUT")(
        lambda lab, role=part: stop(lab, role, update=False)
    )
    if part in IN_UPDATE:
        fault(f"freeze-{part}-update", promise, f"SIGSTOP of {words} for ever, in UPDATE")(
            lambda lab, role=part: stop(lab, role, update=True)
        )
for part, seconds in FOR_A_WHILE.items():
    fault(f"pause-{part}", Exact(), f"SIGSTOP of the {part}, {seconds:g} s later SIGCONT")(
        lambda lab, role=part: pause(lab, role)
    )


@fault("freeze-driver", GRACE, "SIGSTOP of the driver for ever, then Ctrl-C")
def freeze_driver(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    run.hit("driver", signal.SIGSTOP)
    time.sleep(2.0)
    run.hit("launcher", signal.SIGINT)
    return lab.facts(run)


@fault("pause-all", Exact(), "SIGSTOP of every process of the run, 15 s later SIGCONT (a laptop's lid)")
def pause_all(lab: Lab) -> Facts:
    run = lab.start()
    run.wait_episodes()
    stopped = run.family.alive()
    run.now()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in stopped:
            if process.is_running():
                process.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(15.0)
    return lab.facts(run)
