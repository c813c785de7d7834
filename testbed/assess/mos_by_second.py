# SPDX-License-Identifier: BSD-3-Clause
"""MOS of one second of audio, from its loss and jitter alone (midcall.testbed.assess.quality).

The delay of the network is unknown at one point of the path, so only the de-jitter buffer and the
codec count: the buffer is JITTERS times the interarrival jitter, within the bounds of quality.py.
The MOS is therefore an upper bound for a path with a long delay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.testbed.assess.quality import ASSUMED, BUFFER_LEAST, BUFFER_MOST, opinion, rating

#: Size of the de-jitter buffer in units of the jitter: of exponential delays, 98 % come in time.
JITTERS = 4.0


def mos_by_second(loss: NDArray[np.float64], jitter_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the MOS of each second, NaN where the loss is NaN; a loss of 1 has MOS 1.

    loss: share of the audio packets; jitter_ms: interarrival jitter, NaN: only the smallest buffer.
    """
    buffer = JITTERS * np.nan_to_num(jitter_ms)
    delay = np.clip(buffer, BUFFER_LEAST / 1e6, BUFFER_MOST / 1e6) + ASSUMED.delay_ms
    result = np.full(len(loss), np.nan)
    for i in np.flatnonzero(~np.isnan(loss)):
        share = float(loss[i])
        result[i] = 1.0 if share >= 1 else opinion(ASSUMED, rating(ASSUMED, float(delay[i]), share))
    return result
