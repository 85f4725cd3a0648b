"""Imports robosuite whatever the machine: the one place where it is done.

robosuite's import looks at the machine in ways that stop a process that only wants its simulator:

- it opens the log ``/tmp/robosuite.log``, which may be another user's,
- it has numba keep what it compiles; where neither its folder nor the user's cache can be written to, that is an error,
- its own renderer, unused here, wants ``MUJOCO_EGL_DEVICE_ID`` to be in ``CUDA_VISIBLE_DEVICES``; the two count
  different things, and a Ray worker's variable is Ray's doing.

So its macros are set before it reads them, and it does not see the second variable.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from verl.errors import ConfigError

os.environ.setdefault("MUJOCO_GL", "egl")

MACROS = "robosuite.macros"
CUDA = "CUDA_VISIBLE_DEVICES"


def import_robosuite() -> tuple[Any, Any]:
    """robosuite and its OSC_POSE configuration, without three warnings about a file of macros that nobody needs.

    Raises:
        ConfigError: it is not installed.
    """
    with quiet(), _without(CUDA):
        if "robosuite" not in sys.modules:
            macros = _macros(_folder())
            import robosuite

            robosuite.macros = macros
        import robosuite
        from robosuite.controllers import load_controller_config
    return robosuite, load_controller_config(default_controller="OSC_POSE")


def _folder() -> Path:
    spec = importlib.util.find_spec("robosuite")
    if spec is None or spec.origin is None:
        raise ConfigError("env.name='robosuite' needs robosuite: pip install 'vlac-rl[train]'")
    return Path(spec.origin).parent


def _macros(folder: Path) -> ModuleType:
    """robosuite's module of settings, loaded before its package, with those that suit any machine."""
    spec = importlib.util.spec_from_file_location(MACROS, folder / "macros.py")
    assert spec is not None and spec.loader is not None
    macros: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    macros.FILE_LOGGING_LEVEL = None
    macros.CACHE_NUMBA = numba_can_keep(folder / "utils" / "control_utils.py")
    sys.modules[MACROS] = macros
    return macros  # type: ignore[no-any-return]


def numba_can_keep(source: Path) -> bool:
    """Whether numba has a folder for what it compiles of ``source``; without one it is compiled in every process."""
    import numba

    names: dict[str, Any] = {}
    exec(compile("def probe(): pass", str(source), "exec"), names)
    try:
        numba.njit(cache=True)(names["probe"])
    except RuntimeError:  # "no locator available"
        return False
    return True


@contextmanager
def _without(variable: str) -> Iterator[None]:
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines under ERROR for a while."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
