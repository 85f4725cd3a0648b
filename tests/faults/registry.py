"""The faults by name. A fault is a function that gets a laboratory, breaks one thing, and returns what came of it.

@fault("kill-env", Exact(), "kill -9 of an environment process in ROLLOUT")
def kill_env(lab): ...
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.judge import Facts
from tests.faults.promises import Promise

if TYPE_CHECKING:
    from tests.faults.lab import Lab

MODULES = ("kills", "freezes", "signals", "owners", "environments", "critics", "files")
FAULTS: dict[str, Fault] = {}
Inject = Callable[["Lab"], Facts]


@dataclass(frozen=True, slots=True)
class Fault:
    """``subreaper``: whether orphans of the run come to the injector, as under ``tini -s`` or ``systemd --user``."""

    name: str
    promise: Promise
    what: str
    inject: Inject
    subreaper: bool = True


def fault(name: str, promise: Promise, what: str, subreaper: bool = True) -> Callable[[Inject], Inject]:
    """Registers the decorated function. A name is given once."""

    def register(inject: Inject) -> Inject:
        if name in FAULTS:
            raise ValueError(f"fault {name!r} is registered twice")
        FAULTS[name] = Fault(name, promise, what, inject, subreaper)
        return inject

    return register


def load() -> dict[str, Fault]:
    """All faults, in the order of their modules."""
    for module in MODULES:
        importlib.import_module(f"tests.faults.faults_{module}")
    return FAULTS


def choose(patterns: list[str]) -> list[Fault]:
    """Those that a pattern (``kill-*``) matches, all without one. Raises ValueError for a pattern without a match."""
    known = load()
    names = {name for pattern in patterns for name in fnmatch.filter(known, pattern)}
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"no fault is called {pattern!r}; --list shows all {len(known)}")
    return [one for name, one in known.items() if not patterns or name in names]
