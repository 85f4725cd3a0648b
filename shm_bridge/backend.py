"""Which backend this process uses: native code where it was built, else Python. Chosen once, at first use.

The native classes (``native/_native.pyx``) are twins of Python's: the same names, constructors and methods. They go
the ordinary question's way, many times shorter. Whatever is not ordinary they leave untouched and say None, and their
caller goes on in Python, which is the reference. Python's twins of such methods say None to everything.

``pip install`` builds the native backend where there is a C compiler, ``python -m shm_bridge.build_native`` builds it
into a source tree. ``SHM_BRIDGE_NATIVE=0`` does without it.
"""

from __future__ import annotations

import importlib
import logging
import os
from functools import cache
from types import ModuleType
from typing import TypeVar

from shm_bridge.sync import semaphore

logger = logging.getLogger(__name__)
VERSION = 5
MODULE = "shm_bridge.native._native"
STALE = "the native backend is of another version; python -m shm_bridge.build_native builds it anew"
VERDICT_FIELDS = "@QQQQddQQQQQQ"
Twin = TypeVar("Twin")


@cache
def native() -> ModuleType | None:
    """The native backend; None when it was not built, is of another version, cannot work here or is not wanted."""
    if os.environ.get("SHM_BRIDGE_NATIVE") == "0" or not semaphore.HAS_CLOCKWAIT:
        return None
    try:
        module = importlib.import_module(MODULE)
    except ImportError as error:
        if error.name != MODULE:  # it is there, but was built of a tree whose files had other names
            logger.warning(STALE)
        return None
    if getattr(module, "VERSION", None) != VERSION or module.FIELDS != VERDICT_FIELDS:
        logger.warning(STALE)
        return None
    return module


def chosen(python: type[Twin]) -> type[Twin]:
    """The backend's class: the native twin, or ``python`` itself."""
    module = native()
    return python if module is None else getattr(module, python.__name__)
