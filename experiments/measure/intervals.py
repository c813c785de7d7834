# SPDX-License-Identifier: BSD-3-Clause
"""Statistics of a run: ratios, intervals and quantiles; None where there is too little evidence.

Shares of calls get Clopper-Pearson intervals, as if calls were independent. Flows of one call are
not, so intervals of their shares are those of capture groups (clusters). Below ten clusters no
interval is given at all, only counts. An undefined ratio is None, never 0.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy.special import betaincinv  # type: ignore[import-untyped]

#: Fewer independent units than this: counts are shown, intervals are not.
FEWEST = 10
#: Resamples of a bootstrap: percentile bounds move under 1 % from here on.
RESAMPLES = 2000

Interval = tuple[float, float]
#: A row with a column `group`, its capture group.
Row = TypeVar("Row", bound=Mapping[str, object])


def derived_seed(base: int, *names: str) -> int:
    """Return a 63-bit seed from the base seed and some names (sha256).

    It depends on neither the order of work nor the number of processes.
    """
    text = "\0".join((str(base), *names)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole, or None where the whole is 0 (undefined)."""
    return part / whole if whole else None


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> Interval | None:
    """Return the exact interval of a binomial share (Clopper and Pearson 1934), None for n = 0.

    Bounds are quantiles of beta distributions; at 0 and n hits the outer bound is 0 or 1. Raises
    ValueError where hits are not between 0 and n.
    """
    if n == 0:
        return None
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}: hits must lie between 0 and n")
    tail = (1.0 - level) / 2.0
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1.0 - tail))
    return low, high


def share_interval(hits: int, n: int) -> Interval | None:
    """Return the Clopper-Pearson interval of independent units, None below ten of them."""
    return clopper_pearson(hits, n) if n >= FEWEST else None


def cluster_bootstrap(
    hits: Sequence[int],
    sizes: Sequence[int],
    seed: int,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval | None:
    """Return the percentile interval of sum(hits) / sum(sizes), resampling whole clusters.

    hits, sizes: one number per cluster (capture group). None below ten clusters. Raises ValueError
    where they are not equally many.
    """
    if len(hits) != len(sizes):
        raise ValueError(f"{len(hits)} clusters with hits, {len(sizes)} with sizes: must be equal")
    if len(sizes) < FEWEST:
        return None
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(sizes), size=(resamples, len(sizes)))
    top = np.asarray(hits, dtype=np.int64)[picks].sum(axis=1)
    bottom = np.asarray(sizes, dtype=np.int64)[picks].sum(axis=1)
    counted = bottom > 0
    shares = top[counted] / bottom[counted]
    if not len(shares):
        return None
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(shares, [tail, 1.0 - tail])
    return float(low), float(high)


def clustered_interval(hits: Sequence[int], sizes: Sequence[int], seed: int) -> Interval | None:
    """Return the 95 % interval of sum(hits) / sum(sizes): the widest of three, None below ten
    clusters.

    hits, sizes: one number per cluster (capture group). A bootstrap of clusters is too narrow where
    all hits are in one or few of them, so it is joined with two exact intervals (Clopper-Pearson):
    of single units, as if they were independent; and of the clusters with a hit, times the share
    hit within these (all of a cluster, where none is hit).
    """
    clusters = [(k, n) for k, n in zip(hits, sizes, strict=True) if n]
    if len(clusters) < FEWEST:
        return None
    hit = [(k, n) for k, n in clusters if k]
    total, units = sum(k for k, _ in clusters), sum(n for _, n in clusters)
    within = total / sum(n for _, n in hit) if hit else 1.0
    whole = clopper_pearson(len(hit), len(clusters)) or (0.0, 1.0)
    spans = [
        cluster_bootstrap([k for k, _ in clusters], [n for _, n in clusters], seed),
        clopper_pearson(total, units),
        (whole[0] * within, whole[1] * within),
    ]
    known = [span for span in spans if span is not None]
    low, high = min(low for low, _ in known), max(high for _, high in known)
    return min(low, total / units), max(high, total / units)


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the value at rank int(q * n) of the sorted values (an observed one), None for none."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def rule_of_three(n: int) -> float | None:
    """Return the 95 % upper bound of a rate with 0 events in n trials, 3 / n; None for n = 0."""
    return ratio(3.0, n)


def by_group(
    rows: Iterable[Row], is_hit: Callable[[Row], bool]
) -> tuple[Counter[str], Counter[str]]:
    """Return capture group -> rows, and capture group -> rows that are hits."""
    sizes: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for row in rows:
        group = str(row["group"])
        sizes[group] += 1
        hits[group] += is_hit(row)
    return sizes, hits


def interval_of_groups(sizes: Counter[str], hits: Counter[str], seed: int) -> Interval | None:
    """Return the 95 % interval of a share; the rows of a capture group are not independent."""
    groups = sorted(sizes)
    return clustered_interval([hits[one] for one in groups], [sizes[one] for one in groups], seed)
