"""What docs/adapter.md shows of the rules runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.launching import ROOT


def test_the_example_of_the_rules_runs() -> None:
    """It holds by its own asserts, and imports nothing of ours but the bridge."""
    section = (ROOT / "docs" / "adapter.md").read_text().partition("## The rules without the training")[2]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    check = "import sys; assert not {'verl', 'sidecar', 'evo_vlac', 'torch'} & set(sys.modules)"
    command = [sys.executable, "-c", f"{example}\n{check}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
