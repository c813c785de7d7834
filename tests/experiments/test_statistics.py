# SPDX-License-Identifier: BSD-3-Clause
"""Intervals against published values, and the cases where none may be given."""

from __future__ import annotations

import pytest

from experiments import statistics as st


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),  # Clopper and Pearson's chart; 1 - 0.025 ** (1 / 10)
        (10, 10, 0.6915, 1.0),
        (5, 10, 0.1871, 0.8129),
        (1, 10, 0.0025, 0.4450),
        (81, 263, 0.2527, 0.3676),  # Newcombe 1998, Statistics in Medicine 17:857, table I
        (15, 148, 0.0578, 0.1617),
        (1, 29, 0.0009, 0.1776),
        (0, 20, 0.0, 0.1684),
    ],
)
def test_clopper_pearson_gives_the_published_bounds(
    hits: int, n: int, low: float, high: float
) -> None:
    interval = st.clopper_pearson(hits, n)
    assert interval == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_no_trials_give_no_interval_and_no_ratio() -> None:
    assert st.clopper_pearson(0, 0) is None
    assert st.ratio(0, 0) is None
    assert st.rule_of_three(0) is None
    assert st.quantile([], 0.5) is None


def test_more_hits_than_trials_are_an_error() -> None:
    with pytest.raises(ValueError, match="11 hits of 10: hits must lie between 0 and n"):
        st.clopper_pearson(11, 10)


def test_below_ten_units_counts_stand_alone() -> None:
    assert st.share_interval(9, 9) is None
    assert st.share_interval(9, 10) == st.clopper_pearson(9, 10)
    assert st.cluster_bootstrap([1] * 9, [1] * 9, 1) is None


def test_a_bootstrap_depends_on_its_seed_alone() -> None:
    hits, sizes = [5, 0, 3, 9, 1, 4, 0, 2, 7, 6], [10] * 10
    first = st.cluster_bootstrap(hits, sizes, 3)
    assert first == st.cluster_bootstrap(hits, sizes, 3)
    assert first is not None
    assert first[0] < sum(hits) / sum(sizes) < first[1]


def test_clusters_that_agree_inside_make_the_interval_wider_than_independent_flows() -> None:
    hits, sizes = [10, 0] * 6, [10] * 12
    clustered = st.cluster_bootstrap(hits, sizes, 1)
    flows = st.clopper_pearson(sum(hits), sum(sizes))
    assert clustered is not None
    assert flows is not None
    assert clustered[1] - clustered[0] > 2 * (flows[1] - flows[0])


def test_a_derived_seed_tells_names_apart_and_fits_a_signed_word() -> None:
    seeds = {st.derived_seed(1, *names) for names in (("a", "b"), ("ab",), ("b", "a"), ())}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_quantile_is_an_observed_value() -> None:
    assert st.quantile([4, 1, 3, 2], 0.5) == 3
    assert st.quantile([4, 1, 3, 2], 0.95) == 4
    assert st.quantile([7], 0.0) == 7
