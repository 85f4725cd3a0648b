"""Defects that the real scale would have met, each with a test: its outcome on the code before, and on today's.

    python studies/real_scale_defects.py [--before 0cc39c2]

Today's tests are copied into a worktree of the commit before and run there, then here. Both outcomes go to ``defects``
in docs/results/real_scale.json. A test that cannot even be imported there has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "real_scale.json"
DEFECTS = Path(__file__).with_suffix(".yaml")

# A module that ``tree`` lacks must not be taken from the checkout that pip installed for editing.
ALONE = """import sys
sys.meta_path[:] = [one for one in sys.meta_path if getattr(one, "__name__", "") != "_EditableFinder"]
"""


def defects() -> list[dict[str, str]]:
    """``wrong`` and ``test`` of each, in the order of their numbers."""
    found: list[dict[str, str]] = yaml.safe_load(DEFECTS.read_text())
    return found


def outcomes(tree: Path, scratch: Path) -> dict[str, str]:
    """Test -> passed or failed, in one run of pytest in ``tree``."""
    (scratch / "sitecustomize.py").write_text(ALONE)
    report = scratch / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    environment = {**os.environ, "PYTHONPATH": f"{scratch}:{tree}"}
    tests = [defect["test"] for defect in defects()]
    subprocess.run([*command, f"--junit-xml={report}", *tests], cwd=tree, env=environment, check=False)
    passed = {
        (case.get("classname"), case.get("name"))
        for case in ElementTree.parse(report).iter("testcase")
        if not len(case)  # a failure, an error and a skip are elements within
    }
    return {test: "passed" if _named(test) in passed else "failed" for test in tests}


def _named(test: str) -> tuple[str, str]:
    """A test as pytest's report names it."""
    path, _, name = test.partition("::")
    return path.removesuffix(".py").replace("/", "."), name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="0cc39c2", metavar="COMMIT")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        old = Path(scratch) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), given.before], check=True)
        try:
            shutil.copytree(ROOT / "tests", old / "tests", dirs_exist_ok=True)
            before = outcomes(old, Path(scratch))
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
        after = outcomes(ROOT, Path(scratch))
    found = [
        {
            "number": number,
            "name": defect["wrong"],
            "test": defect["test"],
            "before": before[test],
            "after": after[test],
        }
        for number, defect in enumerate(defects(), 1)
        for test in [defect["test"]]
    ]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**results, "defects": found}, indent=2) + "\n")
    for defect in found:
        print(f"{defect['number']:3} {defect['before']:6} -> {defect['after']:6}  {defect['name']}")


if __name__ == "__main__":
    main()
