"""Environments that raise, crash, hang, fork, print, close, or say what is no number."""

from __future__ import annotations

from tests.faults.fenv import SLOW_S, write_fault
from tests.faults.judge import Facts
from tests.faults.lab import Lab
from tests.faults.promises import EndsWithin, Exact, Promise
from tests.faults.registry import fault

ONCE: dict[str, tuple[str, Promise]] = {
    "raise_reset": ("raises in reset", Exact()),
    "raise": ("raises in a step", Exact()),
    "crash": ("crashes (SIGSEGV) in a step", Exact()),
    "exit": ("ends its process in a step", Exact()),
    "hang": ("hangs in a step", Exact(240)),
    "fork": ("forks, and dies; the child lives on", Exact()),
    "noisy": ("prints 8 MB", Exact()),
    "close": ("closes all descriptors", Exact()),
}
NO_NUMBER = r"(?=.*(fenv|FaultEnv|environment))(?=.*proprio)(?=.*(nan|inf|finite))"


def inject(lab: Lab, kind: str, times: int, *arguments: str) -> Facts:
    folder = lab.directory("faults")
    run = lab.start(f"+env.faults={folder}", *arguments)
    run.wait_episodes(4)
    run.now()
    write_fault(folder, kind, times)
    return lab.facts(run)


for kind, (words, promise) in ONCE.items():
    fault(f"env-{kind.replace('_', '-')}", promise, f"an environment {words}, once")(
        lambda lab, kind=kind: inject(lab, kind, 1)
    )


@fault("env-raise-always", EndsWithin(150, "unstable simulation"), "every episode raises from now on")
def always(lab: Lab) -> Facts:
    return inject(lab, "raise", 0)


@fault("env-nan", EndsWithin(150, NO_NUMBER), "NaN in the proprioception of every episode from now on")
def nan(lab: Lab) -> Facts:
    return inject(lab, "nan", 0)


@fault("env-inf", EndsWithin(150, NO_NUMBER), "infinity in the proprioception of every episode from now on")
def infinite(lab: Lab) -> Facts:
    return inject(lab, "inf", 0)


@fault("env-slow-step", Exact(), f"a step takes {SLOW_S:g} s, three times, with episode_timeout_s=60")
def slow_step(lab: Lab) -> Facts:
    return inject(lab, "slow", 3, "actor_rollout_ref.rollout.episode_timeout_s=60")
