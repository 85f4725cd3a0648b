"""Missing system libraries are named with the line that installs them."""

from __future__ import annotations

import subprocess
import sys


def test_a_missing_rendering_library_names_the_line_that_installs_it() -> None:
    """Without libEGL or libOSMesa the error names the package, in a process of its own (imports are once for all)."""
    code = (
        "import ctypes.util, sys\n"
        "real = ctypes.util.find_library\n"
        "ctypes.util.find_library = lambda n: None if n in ('EGL', 'OSMesa', 'GL', 'OpenGL') else real(n)\n"
        "from verl.envs.renderer import _open_context\n"
        "from verl.errors import RenderingUnavailableError\n"
        "try:\n    _open_context(32, 32)\n"
        "except RenderingUnavailableError as error:\n    print(error); sys.exit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"MUJOCO_GL": "osmesa", "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert done.returncode == 3, done.stderr
    assert "apt-get install -y libosmesa6" in done.stdout or "apt-get install -y libegl1" in done.stdout
