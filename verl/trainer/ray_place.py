"""Where Ray's session folder goes: its sockets lie in it, and a socket's path may have 107 bytes, no more.

Ray takes ``$TMPDIR``. A batch system's (``/scratch/slurm/job.1234567/...``) is often too long.
"""

from __future__ import annotations

import os
import tempfile

LONGEST = "/ray/session_2026-11-26_08-57-21_156386_4194304/sockets/plasma_store"
MOST = 107
SHORT = "/tmp"


def shorten_temp_folder() -> None:
    """Names ``/tmp`` to Ray, by RAY_TMPDIR, where ``$TMPDIR`` is too long; a folder that the user named stays."""
    if "RAY_TMPDIR" not in os.environ and len(os.fsencode(tempfile.gettempdir() + LONGEST)) > MOST:
        os.environ["RAY_TMPDIR"] = SHORT
