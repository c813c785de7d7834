# SPDX-License-Identifier: BSD-3-Clause
"""Interarrival jitter (RFC 3550, 6.4.1 and appendix A.8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel

Numbers = NDArray[np.int64]


@kernel
def running_jitter(transit: Numbers, out: Numbers) -> None:
    """Write RFC 3550's estimate after each packet; transit: arrival - sending time, by arrival.

    The estimate is kept 16-fold, as in appendix A.8.
    """
    scaled = I(0)
    for i in range(1, len(transit)):
        scaled += abs(transit[i] - transit[i - 1]) - ((scaled + 8) >> 4)
        out[i] = scaled >> 4


def jitter(sent: Numbers, came: Numbers) -> float:
    """Return the mean of RFC 3550's jitter over packets that came, in the times' unit."""
    order = np.argsort(came, kind="stable")
    transit = np.ascontiguousarray(came[order] - sent[order])
    out = np.zeros(len(transit), np.int64)
    running_jitter(transit, out)
    return float(out[1:].mean()) if len(out) > 1 else 0.0
