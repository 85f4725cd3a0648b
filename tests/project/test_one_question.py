"""docs/architecture.md lists what a question comes through: it is compared with a real one."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.launching import ROOT

MOST_FILES, MOST_TYPES = 30, 11  # what is there today; a change that needs more says why


def test_a_question_comes_through_what_the_page_says() -> None:
    """The files and types of a real question are those of the page, and no more than there were."""
    command = [sys.executable, "-m", "tests.project.one_question"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    split = next(i for i, line in enumerate(lines) if line.endswith(" types"))
    files, types = lines[1:split], lines[split + 1 :]
    page = (ROOT / "docs" / "architecture.md").read_text()
    road = page.partition("## Road 1")[2].partition("## Road 2")[0]
    rows = "".join(line for line in road.splitlines(keepends=True) if line.startswith("|"))
    assert sorted(re.findall(r"`([\w/]+\.py(?: \*)?)`", rows)) == sorted(files)
    assert sorted(re.findall(r"^\| `([\w.]+)` \|", rows, re.MULTILINE)) == sorted(types)
    assert f"`{lines[0]}`" in road and f"`{lines[split]}`" in road
    assert len(files) <= MOST_FILES and len(types) <= MOST_TYPES


def test_every_file_that_the_page_names_is_there() -> None:
    """A path with a folder is one of the repository."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    paths = set(re.findall(r"[\w-]+(?:/[\w-]+)+\.(?:py|yaml|json|md)", page)) | set(re.findall(r"`(\w+/[\w/]*)`", page))
    tops = ("shm_bridge", "evo_vlac", "sidecar", "verl", "tests")
    wrong = [path for path in paths if path.startswith(tops) and not (ROOT / path).exists()]
    assert not wrong
