# SPDX-License-Identifier: BSD-3-Clause
"""Significance: published p values, corrections in order, exact permutations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from midcall.experiments.measure import significance as sig


@pytest.mark.parametrize(("n", "p"), [(5, 0.0079), (4, 0.029), (3, 0.10)])
def test_all_or_none_of_so_many_runs_has_the_p_of_the_books(n: int, p: float) -> None:
    assert sig.fisher(n, n, 0, n) == pytest.approx(p, rel=0.02)
    assert sig.fisher(0, n, n, n) == pytest.approx(p, rel=0.02)
    assert sig.fisher(n, n, n, n) == 1.0


def test_fishers_lady_tasting_tea_is_not_significant() -> None:
    assert sig.fisher(3, 4, 1, 4) == pytest.approx(34 / 70)


@pytest.mark.parametrize("counts", [(6, 5, 0, 5), (-1, 5, 0, 5), (0, 5, 6, 5), (0, 5, -1, 5)])
def test_more_hits_than_runs_or_fewer_than_none_are_refused(
    counts: tuple[int, int, int, int],
) -> None:
    with pytest.raises(ValueError, match="{} of {} and {} of {}".format(*counts)):
        sig.fisher(*counts)


def test_holm_multiplies_by_rank_never_falls_and_keeps_the_order_given() -> None:
    assert sig.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert sig.holm([0.9, 0.8]) == [1.0, 1.0]
    assert sig.holm([]) == []


def test_the_shift_is_the_median_of_walsh_averages_and_its_interval_holds_it() -> None:
    a, b = [0.0, 0.0, 0.0], [1.0, 2.0, 6.0]
    assert sig.hodges_lehmann(a, b) == 2.75  # of 1, 1.5, 2, 3.5, 4, 6
    low, high = sig.shift_interval(a, b, 1)
    assert low <= 2.75 <= high
    assert low < high
    assert sig.shift_interval(a, b, 1) == (low, high)
    with pytest.raises(ValueError, match="3 and 2 values"):
        sig.hodges_lehmann(a, b[:2])


@pytest.mark.parametrize(("level", "interval"), [(0.4, (0.5, 0.5)), (0.6, (0.0, 1.0))])
def test_the_shifts_interval_holds_as_much_as_its_level_says(
    level: float, interval: tuple[float, float]
) -> None:
    # pairs that differ by 0 and 1, drawn twice: 0 and 1 for a quarter each, else 0.5
    assert sig.shift_interval([0.0, 0.0], [0.0, 1.0], 1, level) == interval


def test_drift_that_both_arms_share_hides_no_shift() -> None:
    a = [10.0 * n for n in range(8)]
    b = [value + 5 + n % 2 for n, value in enumerate(a)]
    assert sig.paired_permutation(a, b, 1) < 0.01
    assert sig.hodges_lehmann(a, b) == 5.5
    low, high = sig.shift_interval(a, b, 1)
    assert 5 <= low <= high <= 6


def test_a_paired_test_of_few_pairs_is_exact() -> None:
    assert sig.paired_permutation([0.0] * 5, [1, 2, 3, 4, 5], 1) == pytest.approx(2 / 32)
    assert sig.paired_permutation([1.0, 2.0], [1.0, 2.0], 1) == 1.0
    with pytest.raises(ValueError, match="1 and 2 values"):
        sig.paired_permutation([1.0], [1.0, 2.0], 1)


def test_a_paired_test_of_many_pairs_finds_a_shift_and_no_other() -> None:
    a = np.random.default_rng(1).normal(size=40)
    assert sig.paired_permutation(a.tolist(), (a + 1).tolist(), 2) < 0.001
    mixed = a + np.resize((1.0, -1.0), 40)
    assert sig.paired_permutation(a.tolist(), mixed.tolist(), 2) > 0.5


def test_fourteen_pairs_are_tried_with_every_sign_and_fifteen_with_drawn_ones() -> None:
    assert sig.paired_permutation([0.0] * 14, [1.0] * 14, 1) == 2 / 2**14
    drawn = sig.paired_permutation([0.0] * 15, [1.0] * 15, 1) * 20_001
    assert drawn == pytest.approx(round(drawn), abs=1e-9)


def test_a_paired_test_of_many_pairs_counts_the_signs_that_were_seen() -> None:
    assert sig.paired_permutation([0.0] * 40, [3.0] * 40, 1) == 1 / 20_001
    assert sig.paired_permutation([3.0] * 40, [3.0] * 40, 1) == 1.0


def test_a_paired_test_of_many_pairs_comes_near_the_exact_p() -> None:
    gaps = [3.0] * 12 + [-3.0] * 5
    exact = 2 * binom.sf(11, 17, 0.5)
    assert sig.paired_permutation([0.0] * 17, gaps, 1) == pytest.approx(exact, abs=0.01)


def test_arms_are_interleaved_so_that_drift_cancels() -> None:
    order = sig.abba(4)
    assert order == "ABBAABBA"
    assert sig.abba(3) == "ABBAAB"
    places = {arm: [at for at, one in enumerate(order) if one == arm] for arm in "AB"}
    assert sum(places["A"]) == sum(places["B"])
