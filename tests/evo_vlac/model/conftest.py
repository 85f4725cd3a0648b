"""A small critic that talks in numbers, for every test that needs a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.talking_critic import build_talking_critic


@pytest.fixture(scope="session")
def critic_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See :func:`tests.support.talking_critic.build_talking_critic`."""
    return build_talking_critic(tmp_path_factory.mktemp("critic") / "talking")
