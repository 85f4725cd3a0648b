"""A small critic that talks in numbers, for every test that needs a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.talking_critic import build_talking_critic

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def critic_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See :func:`tests.support.talking_critic.build_talking_critic`."""
    return build_talking_critic(tmp_path_factory.mktemp("critic") / "talking")


@pytest.fixture(autouse=True)
def gradients_as_before() -> Iterator[None]:
    """A service's process switches gradients off for its life; a bench that runs within a test does that, too."""
    enabled = torch.is_grad_enabled()
    yield
    torch.set_grad_enabled(enabled)
