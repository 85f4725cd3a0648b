"""The optional compiled helper (``native.c``): the ordinary question's way, a few microseconds shorter on either side.

``pip install`` builds it where there is a C compiler, ``python -m shm_bridge.build_native`` into a source tree. The
bridge is the same without: whatever the helper does not take, and everything when it is missing, goes the way in
Python. ``SHM_BRIDGE_NATIVE=0`` does without it.
"""

from __future__ import annotations

import importlib
import logging
import os
from types import ModuleType

from shm_bridge import layout
from shm_bridge.layout import VERDICT_WORDS, FrameState, FrameWord, QuestionWord, WorkerWord

logger = logging.getLogger(__name__)
VERSION = 1
WORDS = (
    VERSION, layout.WORKER_OFFSET // 8, WorkerWord.ASKED, WorkerWord.CANCELLED, WorkerWord.TASK_SEQ,
    (QuestionWord.COUNT, *list(QuestionWord)[1:-1]), tuple(FrameWord), FrameState.PUBLISHED,
    (*range(1, 11), VERDICT_WORDS),
)  # fmt: skip


def helper() -> ModuleType | None:
    """The helper; None when it was not built, is of another version, or is not wanted."""
    if os.environ.get("SHM_BRIDGE_NATIVE") == "0":
        return None
    try:
        module = importlib.import_module("shm_bridge._native")
    except ImportError:
        return None
    if module.WORDS != WORDS or layout.VERDICT.format != "@QQQQddQQQQQQ":
        logger.warning("the compiled helper is of another version; python -m shm_bridge.build_native builds it anew")
        return None
    return module
