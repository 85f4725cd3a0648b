"""Defects that the real scale would have met, each with a test: its outcome on the code before, and on today's.

    python -m studies.real_scale_defects [--before 0cc39c2]

Today's tests are copied into a worktree of the commit before and run there, then here. Both outcomes go to ``defects``
in docs/results/real_scale.json. A test that cannot even be imported there, since it names what did not exist, counts as
failed; ``imported_before`` tells it from one that failed by what it saw.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import yaml

from studies.results import enter

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
    """Test -> passed, failed or "cannot be imported". A pytest for each file: one that cannot be imported runs none."""
    (scratch / "sitecustomize.py").write_text(ALONE)
    environment = {**os.environ, "PYTHONPATH": f"{scratch}:{tree}"}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--timeout=300"]
    tests = [defect["test"] for defect in defects()]
    found = {}
    for file in dict.fromkeys(test.partition("::")[0] for test in tests):
        report = scratch / "report.xml"
        report.unlink(missing_ok=True)
        here = [test for test in tests if test.startswith(f"{file}::")]
        subprocess.run([*command, f"--junit-xml={report}", *here], cwd=tree, env=environment, check=False)
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else []
        ran = {(case.get("classname"), case.get("name")): "failed" if len(case) else "passed" for case in cases}
        found |= {test: ran.get(_named(test), "cannot be imported") for test in here}
    return found


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
    found = []
    for number, defect in enumerate(defects(), 1):
        test = defect["test"]
        seen = "failed" if before[test] == "cannot be imported" else before[test]
        row = {"number": number, "name": defect["wrong"], "test": test, "before": seen, "after": after[test]}
        found.append({**row, "imported_before": before[test] != "cannot be imported"})
    enter(RESULTS, "defects", found)
    for row in found:
        how = "" if row["imported_before"] else " (cannot be imported)"
        print(f"{row['number']:3} {row['before']}{how} -> {row['after']}  {row['name']}")


if __name__ == "__main__":
    main()
