# SPDX-License-Identifier: BSD-3-Clause
"""Openings: packets inside a tunnel wait until its handshake is complete."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.testbed.replay.script import Script

Numbers = NDArray[np.int64]


class Opening(NamedTuple):
    """The end of a tunnel's handshake: packets of the capture that wait until packet `by` came.

    begin: the first packet of its handshake.
    """

    by: int
    inside: Numbers
    begin: int


def through(orders: Script, openings: tuple[Opening, ...]) -> Script:
    """Return a script whose packets inside tunnels wait for their openings."""
    if not openings:
        return orders
    latches = np.column_stack((orders.latches, np.full(len(orders.flow), -1)))
    need, owner = list(orders.need), list(orders.latch_call)
    pairs = [
        (packet, int(latch))
        for packet in np.flatnonzero(np.diff(orders.first_opens)).tolist()
        for latch in orders.opens[orders.first_opens[packet] : orders.first_opens[packet + 1]]
    ]
    for by, inside, _ in openings:
        latches[inside, -1] = len(need)
        pairs.append((by, len(need)))
        need.append(1)
        owner.append(-1)
    pairs.sort()
    steps = np.arange(len(orders.flow) + 1)
    keys = np.array([packet for packet, _ in pairs], np.int64)
    return orders._replace(
        latches=latches,
        need=np.array(need, np.int64),
        latch_call=np.array(owner, np.int64),
        first_opens=np.searchsorted(keys, steps).astype(np.int64),
        opens=np.array([latch for _, latch in pairs], np.int64),
    )
