"""Numbers that are not finite end where they come from, with a name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.verl.envs.fake_env import FakeEnv
from tests.verl.workers.test_learner import TINY
from verl.envs.checks import check_decisions, checked_proprio, checked_success
from verl.envs.messages import Observation
from verl.episode import EpisodeRequest
from verl.errors import InvalidActionError, InvalidObservationError
from verl.models.openvla_oft.tiny import make_policy, unit_stats
from verl.workers.rollout import RolloutOptions, RolloutWorker


@pytest.mark.parametrize(
    ("proprio", "words"),
    [
        (np.array([0, 0, np.nan, 0, 0, 0, 0, 0]), "nan"),
        (np.array([0, 0, np.inf, 0, 0, 0, 0, 0]), "inf"),
        (np.full(8, 1e300), "inf"),  # not in float32
        (np.zeros((1, 8)), r"shape \(1, 8\)"),
        (np.zeros(9), r"shape \(9,\)"),
        (None, "shape"),
        (["a"] * 8, "could not convert"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_proprioception_that_no_policy_can_use_names_the_environment(
    monkeypatch: pytest.MonkeyPatch, proprio: Any, words: str
) -> None:
    env = FakeEnv({})
    monkeypatch.setattr(env, "proprio", lambda: proprio)
    place = r"tests.verl.envs.fake_env:FakeEnv, task 1 \('task 0'\), seed 7, step 24: proprioception.*"
    with pytest.raises(InvalidObservationError, match=place + words):
        checked_proprio(env, 1, 7, 24)


def test_what_is_right_passes_as_it_is() -> None:
    assert checked_proprio(FakeEnv({}), 0, 0, 0).dtype == np.float32
    for success in (True, np.True_, 1, 1.0):
        assert checked_success(FakeEnv({}), success) is True
    for success in (False, np.False_, 0, 0.0, None):
        assert checked_success(FakeEnv({}), success) is False


def test_a_success_that_is_not_finite_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for success in (float("nan"), np.float32("inf"), float("nan")):
            assert checked_success(FakeEnv({}), success) is False
    assert [record.getMessage().split("says ")[1] for record in caplog.records] == [
        "success=nan: taken for no success",
        "success=inf: taken for no success",
    ]


@pytest.mark.parametrize("broken", ["actions", "log-probabilities"])
def test_a_policy_that_is_not_finite_is_named_with_the_episode(broken: str) -> None:
    """Rows that only fill a pass up do not matter."""
    batch = [Observation(0, 40 + i, 1, 8 * i, {}, np.zeros(8), "lift") for i in range(3)]
    given = {"actions": np.zeros((4, 8, 7)), "log-probabilities": np.zeros((4, 56))}
    given[broken][3] = np.nan
    check_decisions("models/mine", batch, *given.values())
    given[broken][1].flat[5] = -np.inf
    with pytest.raises(InvalidActionError, match=f"policy models/mine gave {broken} .* episode 41, step 8 .*1 of 3"):
        check_decisions("models/mine", batch, *given.values())


def test_a_rollout_with_broken_weights_ends_with_that_error(tmp_path: Path) -> None:
    """Tokens sampled from NaN are tokens like any other: nothing else would tell."""
    make_policy(tmp_path / "policy", TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    pool = {"env_config": {"name": "tests.verl.envs.dot_env:DotEnv"}, "critic": None, "size": 1}
    worker = RolloutWorker(
        RolloutOptions(
            str(tmp_path / "policy"), "tiny", False, 1.0, True, False, 4, None, "cpu", "float32", 1, 0, False, pool
        )
    )
    try:
        for parameter in worker.policy.parameters():
            torch.nn.init.constant_(parameter, torch.nan)
        with pytest.raises(InvalidActionError, match=f"{tmp_path}/policy gave log-probabilities .* episode 3, step 0"):
            worker.advance([EpisodeRequest(3, 0, 0, 0, training=True)], 60.0)
    finally:
        worker.close()
