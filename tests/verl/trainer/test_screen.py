"""``launch.sh | head``: whoever reads the screen may go; the run does not."""

from __future__ import annotations

import os

from tests.support.processes import program

TALKS = """
import logging, os, sys
from rich.console import Console
from verl.trainer import screen
logging.basicConfig(filename=sys.argv[1], level=logging.INFO)
screen.outlive_the_screen()
console = Console()
console.print("ready")
sys.stdin.readline()
for _ in range(3):
    console.print("a line that nobody reads")
    print("error: nor this", file=sys.stderr)
os.write(1, b"nor what C code writes")
logging.info("the end")
"""


def test_the_run_goes_on_when_nobody_reads_its_screen_any_more(tmp_path):
    """Exit code 0 to the last line, and its log says once a stream why the screen stops."""
    read, write = os.pipe()
    with program(TALKS, str(tmp_path / "log"), stdin=-1, stdout=write, stderr=write, text=False) as run:
        os.close(write)
        assert os.read(read, 6) == b"ready\n"
        os.close(read)
        run.stdin.write(b"\n")
        run.stdin.flush()
        assert run.wait(20) == 0
    log = (tmp_path / "log").read_text()
    assert log.count("nobody reads the screen") == 2 and log.endswith("the end\n")
