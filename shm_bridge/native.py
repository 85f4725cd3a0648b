"""The optional compiled helper (``_native.pyx``): the ordinary question's way, many times shorter on either side.

``pip install`` builds it where there is a C compiler, ``python -m shm_bridge.build_native`` into a source tree. The
bridge is the same without: whatever the helper does not take, and everything when it is missing, goes the way in
Python. ``SHM_BRIDGE_NATIVE=0`` does without it.
"""

from __future__ import annotations

import importlib
import logging
import os
from types import ModuleType

logger = logging.getLogger(__name__)
VERSION = 4
VERDICT_FIELDS = "@QQQQddQQQQQQ"


def helper() -> ModuleType | None:
    """The helper; None when it was not built, is of another version, or is not wanted."""
    if os.environ.get("SHM_BRIDGE_NATIVE") == "0":
        return None
    try:
        module = importlib.import_module("shm_bridge._native")
    except ImportError:
        return None
    if getattr(module, "VERSION", None) != VERSION or module.FIELDS != VERDICT_FIELDS:
        logger.warning("the compiled helper is of another version; python -m shm_bridge.build_native builds it anew")
        return None
    return module
