"""kill -9 of each part, in ROLLOUT and in UPDATE."""

from __future__ import annotations

import time

from tests.faults.judge import Facts
from tests.faults.lab import Lab
from tests.faults.promises import EndsWithin, Exact, Promise
from tests.faults.registry import fault
from tests.faults.run import LONG_UPDATE, Run

INTO_UPDATE_S = 0.5
LEARNER = EndsWithin(60, r"learner", resumes=True)
RAY = EndsWithin(120, r"raylet|gcs|\bray\b", resumes=True)
ALONE = EndsWithin(40, "", codes=(-9,), resumes=True, nobody_left=True)
KILLED = EndsWithin(40, "killed by SIGKILL", codes=(137,), resumes=True)
PARTS: dict[str, tuple[str, Promise]] = {
    "env": ("an environment process", Exact()),
    "rollout": ("the rollout worker", Exact()),
    "supervisor": ("the sidecar's supervisor", Exact()),
    "service": ("the sidecar's service", Exact()),
    "host": ("the actor that keeps the sidecar", Exact()),
    "learner": ("the learner", LEARNER),
}


def in_rollout(lab: Lab, role: str) -> Facts:
    run = with_checkpoint(lab) if isinstance(lab.promise, EndsWithin) else lab.start()
    run.wait_episodes()
    run.hit(role)
    return lab.facts(run)


def with_checkpoint(lab: Lab) -> Run:
    """A run in the middle of its second rollout: there is a checkpoint to go on from."""
    run = lab.start(total=48)
    run.wait_checkpoint()
    run.wait_episodes(20)
    return run


def in_update(lab: Lab, role: str) -> Facts:
    run = lab.start(*LONG_UPDATE)
    run.wait_update()
    time.sleep(INTO_UPDATE_S)
    run.hit(role)
    return lab.facts(run)


for part, (words, promise) in PARTS.items():
    fault(f"kill-{part}", promise, f"kill -9 of {words} in ROLLOUT")(lambda lab, role=part: in_rollout(lab, role))
    fault(f"kill-{part}-update", promise, f"kill -9 of {words} in UPDATE")(lambda lab, role=part: in_update(lab, role))


@fault("kill-raylet", RAY, "kill -9 of Ray's raylet")
def kill_raylet(lab: Lab) -> Facts:
    return in_rollout(lab, "raylet")


@fault("kill-gcs", RAY, "kill -9 of Ray's control server (gcs)")
def kill_gcs(lab: Lab) -> Facts:
    return in_rollout(lab, "gcs")


@fault("kill-driver", KILLED, "kill -9 of the driver (out of memory)")
def kill_driver(lab: Lab) -> Facts:
    return in_rollout(lab, "driver")


@fault("kill-launcher", EndsWithin(60, "interrupted", (-9,), resumes=True), "kill -9 of the launcher alone")
def kill_launcher(lab: Lab) -> Facts:
    run = with_checkpoint(lab)
    run.hit("launcher")
    return run.facts(lab.promise.within, settle=lab.promise.within)


def launcher_and_driver(lab: Lab) -> Facts:
    run = with_checkpoint(lab)
    driver = run.find("driver")
    run.hit("launcher")
    driver.kill()
    return lab.facts(run)


WHAT = "kill -9 of launcher and driver"
fault("kill-launcher-driver", ALONE, f"{WHAT}; orphans go to init", subreaper=False)(launcher_and_driver)
fault("kill-under-subreaper", ALONE, f"{WHAT} below a subreaper, as tini -s")(launcher_and_driver)
