"""``python -m shm_bridge.build_native``: compiles the native backend into a source tree, with Cython and ``cc``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "native" / "_native.pyx"
MODULE = "shm_bridge.native._native"
TIMEOUT_S = 240


def build(folder: Path, flags: tuple[str, ...] = ("-O2",)) -> Path:
    """Compiles the native backend into ``folder`` with the compiler's ``flags``.

    Raises:
        OSError: there is no compiler ``cc``.
        RuntimeError: Cython is missing, or it or the compiler fails; with what it says.
    """
    target = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    unfinished = target.with_suffix(f".{os.getpid()}")
    with tempfile.TemporaryDirectory() as work:
        translated = str(Path(work) / "_native.c")
        _run(
            [
                sys.executable,
                "-m",
                "cython",
                "--module-name",
                MODULE,
                str(SOURCE),
                "-o",
                translated,
            ]
        )
        _run(
            [
                "cc",
                *flags,
                "-shared",
                "-fPIC",
                f"-I{sysconfig.get_paths()['include']}",
                translated,
                "-o",
                str(unfinished),
                "-lpthread",
            ]
        )
    unfinished.replace(target)
    return target


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")


def main() -> int:
    """Builds into this source tree; the exit code."""
    if importlib.util.find_spec("Cython") is None:
        sys.stderr.write("error: Cython is missing: pip install -c setup/constraints.txt cython\n")
        return 1
    try:
        sys.stdout.write(f"built {build(SOURCE.parent)}\n")
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
