"""The real engine is down three times in the middle of a run: the learner gets what it gets undisturbed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.launching import ROOT


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_outage_changes_no_sample():
    """Every update's samples are equal byte for byte, by their digests in driver.log."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.outage"], cwd=ROOT, capture_output=True, text=True, timeout=1700
    )
    assert done.returncode == 0, done.stdout + done.stderr
