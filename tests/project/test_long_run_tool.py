"""The long run's rule, on measurements that this test made up."""

from __future__ import annotations

import importlib.util

import numpy as np

from tests.support.launching import ROOT

SPEC = importlib.util.spec_from_file_location("long_run", ROOT / "studies" / "long_run.py")
assert SPEC is not None and SPEC.loader is not None
long_run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(long_run)
EPISODES = np.arange(1, 11) * 1000.0


def verdict(name: str, values: np.ndarray) -> dict:
    samples = [{"episodes": e, name: v} for e, v in zip(EPISODES, values)]
    return long_run.judge(samples)[name]


def test_what_the_driver_once_kept_of_every_episode_grows():
    """10.5 KB an episode, beside 400 MB that stay."""
    found = verdict("driver mb", 400 + 10.5 / 1024 * EPISODES)
    assert not found["flat"] and 80 < found["rise"] < 85


def test_a_descriptor_kept_every_thousand_episodes_grows():
    assert not verdict("driver fds", 40 + EPISODES / 1000)["flat"]


def test_what_rises_in_the_first_tenth_alone_and_then_varies_is_flat():
    noise = np.random.default_rng(0).normal(0, 2, 10)
    assert verdict("learner mb", np.where(EPISODES > 1000, 500, 300) + noise)["flat"]


def test_logs_grow_by_design_and_tell_how_much():
    found = verdict("logs mb", 300 * EPISODES / 2**20)
    assert found["flat"] and abs(found["bytes_an_episode"] - 300) < 1
