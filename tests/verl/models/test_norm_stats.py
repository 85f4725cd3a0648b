"""Un-normalising actions, normalising proprioception, choosing the dataset."""

from __future__ import annotations

import numpy as np
import pytest

from verl.models.openvla_oft import norm_stats
from verl.models.openvla_oft.errors import NormStatsError

STATS = {"q01": [-0.5, 0.0, 0.0], "q99": [0.5, 2.0, 1.0], "mask": [True, True, False]}


def test_bounds_map_onto_the_quantiles_and_leave_unmasked_dimensions() -> None:
    """-1 and 1 become q01 and q99; a dimension whose mask is false passes as it is."""
    bounds = norm_stats.Bounds(STATS, "bounds_q99", "x")
    out = bounds.denormalise(np.array([[-1.0, -1.0, 0.3], [1.0, 1.0, -0.3]]))
    assert np.allclose(out, [[-0.5, 0.0, 0.3], [0.5, 2.0, -0.3]], atol=1e-7)


def test_normalising_inverts_and_clips() -> None:
    """Inside the bounds the two maps are inverse; outside, the result is clipped to [-1, 1]."""
    bounds = norm_stats.Bounds(STATS, "bounds_q99", "x")
    raw = np.array([0.25, 1.5, 0.5])
    assert np.allclose(bounds.denormalise(bounds.normalise(raw)), raw, atol=1e-7)
    assert bounds.normalise(np.array([9.0, -9.0, 9.0])).tolist() == [1.0, -1.0, 1.0]


def test_a_missing_quantile_is_named() -> None:
    """Statistics for another normalisation are refused, not guessed."""
    with pytest.raises(NormStatsError, match=r"lack 'min', which bounds needs"):
        norm_stats.Bounds(STATS, "bounds", "x")


def test_the_key_is_found_with_liberos_suffix_or_named_as_missing() -> None:
    """``libero_10`` finds ``libero_10_no_noops``; an unknown key lists what there is; several need a choice."""
    stats = {"libero_10_no_noops": {}, "other": {}}
    assert norm_stats.choose(stats, "libero_10") == "libero_10_no_noops"
    with pytest.raises(NormStatsError, match=r"unnorm_key: 'bridge' .* \['libero_10_no_noops', 'other'\]"):
        norm_stats.choose(stats, "bridge")
    with pytest.raises(NormStatsError, match="several datasets"):
        norm_stats.choose(stats, None)
    with pytest.raises(NormStatsError, match="no norm_stats"):
        norm_stats.choose({}, None)
