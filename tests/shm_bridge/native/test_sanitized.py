"""The native backend under the address and undefined-behaviour sanitizers, with the tests that reach it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shm_bridge.build_native import build
from tests.shm_bridge.conftest import ROOT

FILES = ("native/test_native.py", "worker/test_lane.py", "test_hostile.py", "test_faults.py")
FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer")


def runtimes() -> str | None:
    """The sanitizers' libraries, None without a compiler that has them."""
    if shutil.which("cc") is None:
        return None
    asked = [["cc", f"-print-file-name={name}"] for name in ("libasan.so", "libubsan.so")]
    paths = [subprocess.run(one, capture_output=True, text=True, check=True).stdout.strip() for one in asked]
    return " ".join(paths) if all(os.path.isabs(path) for path in paths) else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_native_code_reads_and_writes_nothing_beside_its_memory(tmp_path: Path):
    """A copy of bridge and tests with instrumented native code; any finding ends the process that made it."""
    if (libraries := runtimes()) is None:
        pytest.skip("no compiler with sanitizers")
    shutil.copytree(ROOT / "shm_bridge", tmp_path / "shm_bridge", ignore=shutil.ignore_patterns("_native*.so"))
    shutil.copytree(ROOT / "tests" / "shm_bridge", tmp_path / "tests" / "shm_bridge")
    for name in ("tests/__init__.py", "tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    build(tmp_path / "shm_bridge" / "native", FLAGS)
    sanitized = {
        "LD_PRELOAD": libraries,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    command = [sys.executable, "-m", "pytest", *(f"tests/shm_bridge/{name}" for name in FILES)]
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | sanitized, capture_output=True, text=True, timeout=1400, check=False
    )
    found = result.stdout + result.stderr
    assert result.returncode == 0 and "AddressSanitizer" not in found and "runtime error" not in found, found[-3000:]
    assert " skipped" not in found, found  # native code was there
