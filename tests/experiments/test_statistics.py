# SPDX-License-Identifier: BSD-3-Clause
"""Intervals against published values, and the cases where none may be given."""

from __future__ import annotations

import hashlib

import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from midcall.experiments.measure import intervals as st


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),  # Clopper and Pearson's chart; 1 - 0.025 ** (1 / 10)
        (10, 10, 0.6915, 1.0),
        (1, 1, 0.025, 1.0),
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


@pytest.mark.parametrize(("hits", "n"), [(11, 10), (-1, 10), (0, -1)])
def test_more_hits_than_trials_or_fewer_than_none_are_an_error(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} hits of {n}: hits must lie between 0 and n"):
        st.clopper_pearson(hits, n)


def test_below_ten_units_counts_stand_alone() -> None:
    assert st.share_interval(9, 9) is None
    for n in (10, 11):
        assert st.share_interval(9, n) == st.clopper_pearson(9, n) is not None
    assert st.cluster_bootstrap([1] * 9, [1] * 9, 1) is None


def test_a_bootstrap_depends_on_its_seed_alone() -> None:
    hits, sizes = [5, 0, 3, 9, 1, 4, 0, 2, 7, 6], [10] * 10
    first = st.cluster_bootstrap(hits, sizes, 3)
    assert first == st.cluster_bootstrap(hits, sizes, 3)
    assert first is not None
    assert first[0] < sum(hits) / sum(sizes) < first[1]


@pytest.mark.parametrize(
    "hits", [[1] + [0] * 11, [0] * 11 + [1], [1, 0] * 20], ids=["first", "last", "half"]
)
def test_a_bootstrap_of_equal_clusters_has_the_quantiles_of_a_binomial(hits: list[int]) -> None:
    n = len(hits)
    expected = binom.ppf([0.025, 0.975], n, sum(hits) / n) / n
    found = st.cluster_bootstrap(hits, [1] * n, 1, resamples=20_000)
    assert found == pytest.approx(tuple(expected))


def test_resamples_without_any_flow_count_for_nothing() -> None:
    assert st.cluster_bootstrap([0] * 9 + [1], [0] * 9 + [1], 1) == (1.0, 1.0)
    assert st.cluster_bootstrap([0] * 10, [0] * 10, 1) is None
    once = [st.cluster_bootstrap([0] * 10, [0] * 9 + [1], seed, resamples=1) for seed in range(200)]
    assert once.count(None) / 200 == pytest.approx(0.9**10, abs=0.1)


@pytest.mark.parametrize("sizes", [[1] * 11, [1] * 9])
def test_hits_without_sizes_are_an_error(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=f"10 clusters with hits, {len(sizes)} with sizes"):
        st.cluster_bootstrap([1] * 10, sizes, 1)


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


def test_a_derived_seed_is_the_first_63_bits_of_the_digest() -> None:
    digest = hashlib.sha256(b"1\0a\0b").hexdigest()
    assert st.derived_seed(1, "a", "b") == int(digest[:16], 16) // 2


def test_a_quantile_is_an_observed_value() -> None:
    assert st.quantile([4, 1, 3, 2], 0.5) == 3
    assert st.quantile([4, 1, 3, 2], 0.95) == 4
    assert st.quantile([4, 1, 3, 2], 1.0) == 4
    assert st.quantile([7], 0.0) == 7
