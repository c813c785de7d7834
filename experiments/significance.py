# SPDX-License-Identifier: BSD-3-Clause
"""Significance of differences between live runs; virtual time has no p values (repeats are copies).

The run is the unit. Block or no block: Fisher's exact test on interleaved runs. Degradation: paired
permutation test and Hodges-Lehmann shift. Several tests of one run are corrected by Holm's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.stats import fisher_exact  # type: ignore[import-untyped]

from experiments.statistics import RESAMPLES, Interval

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
    """Return p values corrected for being several (Holm 1979), in the order given."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    out, highest = [0.0] * len(values), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[at]))
        out[at] = highest
    return out


def hodges_lehmann(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the median of all differences b - a (Hodges and Lehmann 1963)."""
    if not a or not b:
        raise ValueError("a shift needs values on both sides")
    return float(np.median(np.subtract.outer(np.asarray(b), np.asarray(a))))


def shift_interval(
    a: Sequence[float], b: Sequence[float], seed: int, level: float = 0.95
) -> Interval:
    """Return the percentile bootstrap interval of the Hodges-Lehmann shift."""
    generator = np.random.default_rng(seed)
    one, other = (generator.choice(np.asarray(arm, float), (RESAMPLES, len(arm))) for arm in (a, b))
    gaps = other[:, None, :] - one[:, :, None]
    shifts = np.median(gaps.reshape(RESAMPLES, -1), axis=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(shifts, [tail, 1.0 - tail])
    return float(low), float(high)


def paired_permutation(a: Sequence[float], b: Sequence[float], seed: int) -> float:
    """Return the two-sided p of the mean paired difference under random signs.

    Exact up to EXHAUSTIVE pairs, else by DRAWS drawn signs, the observed one counted among them.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} values: a paired test needs as many, at least one")
    gaps = np.asarray(b, float) - np.asarray(a, float)
    seen = abs(gaps.mean()) * (1 - 1e-12)
    if len(gaps) <= EXHAUSTIVE:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(gaps))))
        return float((abs((signs * gaps).mean(axis=1)) >= seen).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(DRAWS, len(gaps)))
    return float((1 + (abs((signs * gaps).mean(axis=1)) >= seen).sum()) / (DRAWS + 1))


def abba(pairs: int) -> str:
    """Return the order of runs of two arms, as many of each: ABBA and so on, so drift cancels."""
    return "".join("AB" if at % 2 == 0 else "BA" for at in range(pairs))
