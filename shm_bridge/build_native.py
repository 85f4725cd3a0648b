"""``python -m shm_bridge.build_native``: compiles the optional helper into a source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
TIMEOUT_S = 120


def build(folder: Path, flags: tuple[str, ...] = ("-O2",)) -> Path:
    """Compiles the helper into ``folder`` with the compiler's ``flags``.

    Raises:
        OSError: there is no compiler ``cc``.
        RuntimeError: it fails; with what it says.
    """
    target = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    unfinished = target.with_suffix(f".{os.getpid()}")
    command = ["cc", *flags, "-shared", "-fPIC", f"-I{sysconfig.get_paths()['include']}", str(SOURCE), "-o",
               str(unfinished), "-lpthread"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    unfinished.replace(target)
    return target


if __name__ == "__main__":
    sys.stdout.write(f"built {build(SOURCE.parent)}\n")
