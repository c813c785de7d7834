# SPDX-License-Identifier: BSD-3-Clause
"""Significance of differences between live runs; virtual time has no p values (repeats are copies).

The run is the unit. Block or no block: Fisher's exact test on interleaved runs. Degradation: paired
permutation test and Hodges-Lehmann shift, both of the paired differences. Several tests of one run
are corrected by Holm's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact  # type: ignore[import-untyped]

from midcall.experiments.measure.intervals import RESAMPLES, Interval

#: Up to this many pairs every sign is tried; beyond, signs are drawn.
EXHAUSTIVE = 14
DRAWS = 20_000


def fisher(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Return the two-sided p of Fisher's exact test of two shares (Fisher 1922)."""
    if not (0 <= hits <= n and 0 <= other_hits <= other_n):
        raise ValueError(f"{hits} of {n} and {other_hits} of {other_n}: hits must lie within n")
    table = [[hits, n - hits], [other_hits, other_n - other_hits]]
    return float(fisher_exact(table).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for several tests (Holm 1979), in the given order."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    out, highest = list(values), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[at]))
        out[at] = highest
    return out


def hodges_lehmann(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the median of the Walsh averages of the paired differences b - a.

    Hodges and Lehmann 1963, the estimator of one sample: an effect on both of a pair, such as the
    drift of a machine, cancels. Raises ValueError where the sides are not equally many, at least
    one.
    """
    return float(walsh_medians(gaps_of(a, b)[None, :]).item())


def shift_interval(
    a: Sequence[float], b: Sequence[float], seed: int, level: float = 0.95
) -> Interval:
    """Return the percentile interval of the Hodges-Lehmann shift, pairs drawn with repetition."""
    gaps = gaps_of(a, b)
    shifts = walsh_medians(np.random.default_rng(seed).choice(gaps, (RESAMPLES, len(gaps))))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(shifts, [tail, 1.0 - tail])
    return float(low), float(high)


def walsh_medians(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of the averages of all pairs of a row, each value with itself too.

    gaps: float64[k, n]; returns float64[k].
    """
    one, other = np.triu_indices(gaps.shape[1])
    middles = [np.median((row[one] + row[other]) / 2) for row in gaps]
    return np.array(middles)


def gaps_of(a: Sequence[float], b: Sequence[float]) -> NDArray[np.float64]:
    """Return the paired differences b - a, float64[n].

    Raises ValueError where the sides are not equally many, at least one.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} values: a paired test needs as many, at least one")
    gaps: NDArray[np.float64] = np.asarray(b, float) - np.asarray(a, float)
    return gaps


def paired_permutation(a: Sequence[float], b: Sequence[float], seed: int) -> float:
    """Return the two-sided p of the mean paired difference under random signs.

    Exact up to EXHAUSTIVE pairs, else by DRAWS drawn signs, the observed one counted among them.
    """
    gaps = gaps_of(a, b)
    observed = abs(gaps.mean()) * (1 - 1e-12)
    if len(gaps) <= EXHAUSTIVE:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(gaps))))
        return float((abs((signs * gaps).mean(axis=1)) >= observed).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(DRAWS, len(gaps)))
    return float((1 + (abs((signs * gaps).mean(axis=1)) >= observed).sum()) / (DRAWS + 1))


def abba(pairs: int) -> str:
    """Return the order of runs of two arms, equally many of each: ABBA..., which cancels drift."""
    return ("ABBA" * pairs)[: 2 * pairs]
