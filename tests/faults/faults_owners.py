"""One run id, two launches: the second is refused, the first does not notice."""

from __future__ import annotations

import secrets

from tests.faults.judge import Facts
from tests.faults.lab import Lab
from tests.faults.promises import Exact, Refused
from tests.faults.registry import fault
from tests.faults.run import Run

HELD = Refused(r"run_id.*(held|holds|in use|running|belongs|taken|lives).*\d")  # by which process


@fault("two-at-once", HELD, "two launches with one run id at the same instant")
def two_at_once(lab: Lab) -> Facts:
    name = f"f-twice-{secrets.token_hex(3)}"
    one, other = lab.start(run_id=name), lab.start(run_id=name)
    first = one.until(lambda: next((r for r in (one, other) if r.process.poll() is not None), None), "one of them ends")
    return _both(lab, first, other if first is one else one)


@fault("second-on-living", HELD, "a second launch with the run id of a living run")
def second_on_living(lab: Lab) -> Facts:
    one = lab.start()
    one.wait_episodes()
    return _both(lab, lab.start(run_id=one.id), one)


@fault("resume-living", HELD, "resume_mode=auto with the run id of a living run that has a checkpoint")
def resume_living(lab: Lab) -> Facts:
    one = lab.start(total=48)
    one.wait_checkpoint()
    one.wait_episodes(20)
    return _both(lab, lab.start("trainer.resume_mode=auto", run_id=one.id, total=48), one)


def _both(lab: Lab, refused: Run, owner: Run) -> Facts:
    """What is left of the id is the owner's while it runs: judged with the owner."""
    ended = refused.until_ended(lab.promise.within)
    facts = refused.facts(ended, settle=0.0)
    facts.shm, facts.rows = [], []
    lab.also(Exact(300), owner.facts(330), "the first run")
    return facts
