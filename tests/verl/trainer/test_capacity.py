"""Whether the critic keeps up: reckoned before anything starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl.trainer.capacity import PAIR_COST, Capacity, capacity, of_config
from verl.trainer.load_config import load_config


def test_dones_of_environments_that_ask_after_every_step():
    """64 that take .2 s a step want 320 a second; one critic of 230 makes more than a quarter of the time waiting."""
    found = capacity(64, 0.2, 1, 1, 230.0)
    assert (found.wanted, found.expected) == (pytest.approx(320), 230)
    assert found.waiting == pytest.approx(1 - 230 / 320)
    assert capacity(64, 0.2, 1, 8, 230.0).waiting == 0
    assert capacity(64, 0.2, 8, 1, 230.0).wanted == pytest.approx(40), "asked after every chunk"


def test_value_lists_come_on_top():
    """An episode of 520 steps, a pair each 8: 65 pairs of so many dones' cost, in the time of 520 steps."""
    with_lists = capacity(64, 0.2, 1, 1, 230.0, episode_steps=520, value_stride=8)
    assert with_lists.wanted == pytest.approx(320 * (1 + PAIR_COST * 65 / 520))


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_the_share_that_waits_is_that_of_a_closed_loop(wanted, expected):
    """What is answered is wanted times the time that is played; never less than none, never all."""
    found = Capacity(wanted, expected)
    assert 0 <= found.waiting < 1
    assert wanted * (1 - found.waiting) == pytest.approx(min(wanted, expected))


def test_the_line_of_each_preset():
    """A critic a GPU keeps up on a node of eight; one for all of them does not; a laptop has no line."""
    eight = ["env=libero", "hardware=h100_8", "data.task_suite_name=libero_10"]
    several = of_config(load_config(eight)[0])
    assert several is not None and several.waiting == 0 and several.line().endswith("on a node: nobody waits")
    one = of_config(load_config([*eight, "critic.sidecar.per=node"])[0])
    assert one is not None and one.wanted > 300 > one.expected
    waits = f"{one.waiting:.0%} of a rollout will be waiting"
    assert one.line() == f"critic: {one.wanted:.0f} verdicts/s wanted, 220 expected on a node: {waits}"
    assert of_config(load_config(["hardware=laptop"])[0]) is None
    assert of_config(load_config([*eight, "critic.enable=false"])[0]) is None
