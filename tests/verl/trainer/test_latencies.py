"""Percentiles out of a fixed number of buckets."""

from __future__ import annotations

import numpy as np
import pytest

from verl.trainer.latencies import Latencies


@pytest.mark.parametrize("percentile", [1, 50, 99, 100])
def test_a_percentile_is_right_to_one_per_cent(percentile):
    """Against numpy's, over five decades of latencies added in pieces."""
    values = np.random.default_rng(0).lognormal(10, 2, 20_000).astype(np.int64).clip(100, 10**9)
    latencies = Latencies()
    for part in np.array_split(values, 37):
        latencies.add(part)
    exact = np.percentile(values, percentile, method="inverted_cdf") / 1000
    assert latencies.percentile_ms(percentile) == pytest.approx(exact, rel=0.0101)


def test_nothing_of_what_was_added_is_kept_and_the_size_is_fixed():
    latencies = Latencies()
    before = latencies.counts.nbytes
    assert np.isnan(latencies.percentile_ms(50)) and before < 10_000
    values = np.full(1000, 5000)
    latencies.add(values)
    values[:] = 1
    assert latencies.percentile_ms(50) == pytest.approx(5.0, rel=0.0101) and latencies.counts.nbytes == before
    latencies.add(np.array([0, -3, 10**15]))
    assert latencies.counts.sum() == 1003
