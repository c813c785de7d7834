# SPDX-License-Identifier: BSD-3-Clause
"""Where an effect that strikes a share of packets begins and ends in a flow.

A struck packet that does not show the effect looks like one that is not struck, so counts cannot be
asked one by one. Of a flow with many packets the likelihood of each begin and end is computed: a
change between two shares (D. V. Hinkley, Inference about the change-point in a sequence of random
variables, Biometrika 57, 1970).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Shares of struck packets that are tried, as parts of the one known so far.
PARTS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
#: By how many nats an effect must explain more than none, and a begin or end more than none.
LEAST, COST = 6.0, 8.0
#: Probability below, and above, a 95 % interval.
TAIL = 0.025


class Bound(NamedTuple):
    """The likeliest first (or last) count that is struck, and a 95 % interval: the last one that is
    not struck and the first one that is, or the reverse."""

    value: float
    low: float
    high: float


def likeliest_window(
    counts: Floats, affected: NDArray[np.bool_], other: Floats, share: float, cost: float = COST
) -> tuple[Bound, Bound | None] | None:
    """Return where an effect begins and ends, None instead of an end that does not show; None where
    no effect shows. One that begins with the first count has no begin.

    counts: of each packet that can be judged, float64[n]; affected: which of them show the effect,
    bool[n]; other: with which probability one that is not struck does, float64[n]; share: of struck
    packets that do, about; cost: by how many nats a begin or end must explain more than none.
    """
    values, place = np.unique(counts, return_inverse=True)
    if not len(values):
        return None
    tried = [gained(place, affected, other, min(share * part, 0.98)) for part in PARTS]
    gain = max(tried, key=lambda one: float((one - np.minimum.accumulate(one)).max()))
    begins, ends = np.triu_indices(len(gain), 1)
    scores = gain[ends] - gain[begins] - cost * ((begins > 0) * 1.0 + (ends < len(values)))
    best = int(scores.argmax())
    if scores[best] < LEAST:
        return None
    weights = np.exp(scores - scores[best])
    low, high = interval(begins, weights)
    begin = Bound(values[begins[best]], values[low - 1] if low else 0.0, values[high])
    if ends[best] == len(values):
        return begin, None
    inside = ends < len(values)
    low, high = interval(ends[inside], weights[inside])
    return begin, Bound(values[ends[best] - 1], values[low - 1], values[high])


def gained(
    place: NDArray[np.int64], affected: NDArray[np.bool_], other: Floats, share: float
) -> Floats:
    """Return by how much packets of the first n counts are likelier if they are struck, ln,
    float64[counts + 1]. place: of each packet's count among all."""
    struck = other + share * (1 - other)
    gains = np.where(affected, np.log(struck / other), np.log((1 - struck) / (1 - other)))
    return np.concatenate([[0.0], np.cumsum(np.bincount(place, gains))])


def interval(places: NDArray[np.int64], weights: Floats) -> tuple[int, int]:
    """Return the first and last place of a 95 % interval."""
    total = np.cumsum(np.bincount(places, weights))
    return int((total > TAIL * total[-1]).argmax()), int((total >= (1 - TAIL) * total[-1]).argmax())
