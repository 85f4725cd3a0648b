"""Makes a sidecar's direct engine fail on command. Python finds this at its start: PYTHONPATH names the folder.

``$VLAC_BREAK`` is a folder: while it holds the file ``down``, every batch fails. A file ``arm-values`` turns into
``down`` at the first batch with a pair for a value list, so that the outage begins while a value list is open. Each
failed batch is a line in ``failed``: the time (UNIX, seconds) and the kinds of its queries.

Nothing of the product is imported here: the class is changed when the service imports it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from pathlib import Path

TARGET = "sidecar.engines.direct"


class _Breaker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        _break(module.DirectEngine, Path(os.environ["VLAC_BREAK"]))


def _break(engine, folder):
    answer = engine.answer

    def answer_or_fail(self, queries):
        kinds = sorted(query.kind for query in queries)
        armed = folder / "arm-values"
        if "critic" in kinds and armed.exists():
            armed.rename(folder / "down")
        if (folder / "down").exists():
            with open(folder / "failed", "a") as lines:
                lines.write(f"{time.time():.3f} {' '.join(kinds)}\n")
            raise RuntimeError("engine down")
        return answer(self, queries)

    engine.answer = answer_or_fail


if "VLAC_BREAK" in os.environ:
    sys.meta_path.insert(0, _Breaker())
