"""Faults on whole runs that every change must stand: cheap ones of each class. All: ``python -m tests.faults``."""

from __future__ import annotations

import pytest

from tests.faults.apart import run_apart
from tests.faults.worker import KEPT, UNDISTURBED

pytestmark = pytest.mark.timeout(300)
EACH_CHANGE = ["kill-service", "remote-401", "kill-driver-int", "int-start", "resume-empty-state"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the rows of the undisturbed run, by which the others are judged."""
    place = tmp_path_factory.mktemp("faults")
    outcome = run_apart(UNDISTURBED, place)
    assert outcome.verdict == KEPT, outcome.problems
    return place


@pytest.mark.parametrize("name", EACH_CHANGE)
def test_its_promise_is_kept(name, folder):
    """No wrong reward, no duplicate, nothing left over, no traceback, no missed deadline."""
    outcome = run_apart(name, folder)
    assert outcome.verdict == KEPT, "\n".join([*outcome.problems, outcome.screen])
