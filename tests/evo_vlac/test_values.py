"""Values follow the published formulas exactly, and are defined where those are not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_vlac.errors import OptionError
from evo_vlac.values import ValueOptions, critic_to_values, next_value, pair_indices, process, reward

CRITICS = st.lists(st.integers(-99, 100).map(float), max_size=40)
MODES = st.sampled_from([True, "mix_f", False, "mirror"])


def published(critics: Sequence[float], mode: bool | str) -> list[float]:
    """The formulas as the paper's code has them, read off FACTS: written apart from ours, to hold ours against it."""
    values = [0.0]
    for c in critics:
        v = values[-1]
        if c > 0 or mode is True:
            values.append(v + (100 - v) * c / 100)
        elif mode == "mix_f":
            values.append(max(10, 100 - 100 * max(100 - v, 1) / (100 + c)) if v > 50 else v * (1 + c / 100))
        else:
            values.append(100 - 100 * max(100 - v, 1) / (100 + c))
    return values


@given(CRITICS, MODES)
def test_values_are_the_published_ones(critics: list[float], mode: bool | str) -> None:
    """Where the published formulas are defined, ours give the same."""
    got, wanted = critic_to_values(critics, mode), published(critics, mode)
    assert got == pytest.approx(wanted, rel=1e-9, abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40), MODES)
def test_values_are_defined_everywhere(critics: list[float], mode: bool | str) -> None:
    """Any critics, invalid ones among them: as many finite values and one, never over 100."""
    values = critic_to_values(critics, mode)
    assert len(values) == len(critics) + 1 and values[0] == 0
    assert all(math.isfinite(v) and v <= 100 + 1e-9 for v in values)


@given(CRITICS)
def test_mix_stays_within_the_scale(critics: list[float]) -> None:
    """mix_f keeps values between 0 and 100 whatever falls."""
    assert all(0 <= v <= 100 for v in critic_to_values(critics, "mix_f"))


@given(st.floats(0, 100), MODES)
def test_an_invalid_answer_leaves_the_value(value: float, mode: bool | str) -> None:
    """NaN is neither progress nor regress."""
    assert next_value(value, math.nan, mode) == value


@pytest.mark.parametrize("mode", ["mix_f", False])
def test_minus_one_hundred_does_not_divide_by_zero(mode: bool | str) -> None:
    """c = -100, and anything below it, counts as -99 where the formula divides."""
    for critic in (-100.0, -150.0, -math.inf):
        assert next_value(80.0, critic, mode) == next_value(80.0, -99.0, mode)


@given(st.integers(0, 200), st.integers(1, 30), st.booleans())
def test_the_last_frame_is_always_scored(frames: int, skip: int, frame_skip: bool) -> None:
    """Whatever the length and the skip, the last pair ends at the last frame, and pairs go forward."""
    pairs = pair_indices(frames, skip, frame_skip)
    if frames < 2:
        assert pairs == []
        return
    assert pairs[-1][1] == frames - 1
    assert all(0 <= a < b < frames and b - a <= skip for a, b in pairs)
    if frame_skip:
        assert pairs[0][0] == 0
        assert all(left[1] == right[0] for left, right in itertools.pairwise(pairs))
        upstream = [(i - skip, i) for i in range(skip, frames, skip)]
        assert pairs[: len(upstream)] == upstream
    elif frames > skip:
        assert pairs == [(i - skip, i) for i in range(skip, frames)]


def test_impossible_schedules_are_refused() -> None:
    """A skip of 0 and negative lengths are named."""
    with pytest.raises(OptionError, match="skip is 0"):
        pair_indices(5, 0)
    with pytest.raises(OptionError, match="frames is -1"):
        pair_indices(-1)


def test_options_apply_in_order() -> None:
    """Scale, related critics, bias, clips, values anew: one worked example."""
    options = ValueOptions(addition_scale=2, related_critic=True, bias=-1, positive_clip=5, negative_clip=2)
    critics, values = process([40.0, 4.0, -20.0], options)
    # halved: 20, 2, -10 -> values 0, 20, 21.6, 13.76 -> differences 20, 1.6, -7.84 -> biased 19, .6, -8.84 -> clipped
    assert critics == pytest.approx([19.0, 0.0, -8.84])
    assert values == pytest.approx([0.0, 19.0, 19.0, 10.16])


@given(CRITICS, MODES, st.floats(-5, 5), st.floats(0, 20), st.floats(0, 20))
def test_clips_zero_small_values_only(
    critics: list[float], mode: bool | str, bias: float, positive: float, negative: float
) -> None:
    """What is within the clips is 0, what is beyond is the biased critic; values belong to the clipped critics."""
    options = ValueOptions(mode=mode, bias=bias, positive_clip=positive, negative_clip=negative)
    out, values = process(critics, options)
    for before, after in zip(critics, out):
        biased = before + bias
        small = (positive != 0 and 0 <= biased <= positive) or (negative != 0 and -negative <= biased <= 0)
        assert after == (0.0 if small else pytest.approx(biased))
    assert values == critic_to_values(out, mode)


def test_a_scale_of_zero_is_refused() -> None:
    """addition_scale divides."""
    with pytest.raises(OptionError, match="addition_scale is 0"):
        ValueOptions(addition_scale=0)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_rewards_lie_between_zero_and_one(value: float) -> None:
    """Percent to reward, clipped; an unknown value is no reward."""
    assert 0 <= reward(value) <= 1
    assert reward(50.0) == 0.5 and reward(math.nan) == 0
