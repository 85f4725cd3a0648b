"""robosuite is imported whatever the machine is like; each in a process of its own, since imports are once for all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORT = "from verl.envs.robosuite_env import RobosuiteConfig, RobosuiteEnv\nRobosuiteEnv(RobosuiteConfig()).reset(0)\n"
FOREIGN_LOG = """
import logging
def refused(self, path, *_, **__):
    raise PermissionError(13, "Permission denied", path)
logging.FileHandler.__init__ = refused
"""
NO_CACHE = """
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []
"""


def run(code: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_log_of_another_user_is_not_opened() -> None:
    """/tmp/robosuite.log belongs to the first user of the machine who imported robosuite."""
    run(FOREIGN_LOG + IMPORT)


def test_numba_without_a_folder_to_write_to() -> None:
    """A read-only environment and a user without a home: it is compiled again in each process."""
    run(NO_CACHE + IMPORT)


@pytest.mark.parametrize("visible", ["3", "GPU-8f1c2d3e-0000-1111-2222-333344445555", ""])
def test_the_device_that_renders_need_not_be_one_that_cuda_sees(visible: str) -> None:
    """Ray gives a worker CUDA_VISIBLE_DEVICES=3; EGL's devices are counted from 0. The variable stays as it was."""
    check = f"import os\nassert os.environ['CUDA_VISIBLE_DEVICES'] == {visible!r}\n"
    run(IMPORT + check, CUDA_VISIBLE_DEVICES=visible, MUJOCO_EGL_DEVICE_ID="0")
