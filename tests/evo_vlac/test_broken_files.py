"""What is said of a file that cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evo_vlac.broken_files import unreadable, writer_of


def test_a_file_held_open_for_writing_is_called_that(tmp_path: Path) -> None:
    """With the process that holds it, while it does; one that only reads it is not meant."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"half a film")
    code = "import sys; file = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"
    for mode, held in (("ab", True), ("rb", False)):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None and child.stdout.readline()
        said = unreadable(path, "a video", ValueError("moov atom not found"))
        assert (f"held open for writing by process {child.pid}" in said) == held
        child.communicate(timeout=30)
    assert writer_of(path) is None and "moov" in unreadable(path, "a video", ValueError("moov atom not found"))


def test_what_cannot_even_be_opened(tmp_path: Path) -> None:
    """The system's reason."""
    assert "cannot be opened: No such file" in unreadable(tmp_path / "none", "a video", ValueError("x"))
