# SPDX-License-Identifier: BSD-3-Clause
"""Allowances that several flows use up together: quotas of packets, octets, seconds and flows of a
client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.testbed.probing.strikes import Passing

#: Whose flows may share a quota.
SHARED = ("client", "pair")


def quotas(
    through: Passing, met: NDArray[np.bool_], shows: NDArray[np.bool_]
) -> Iterator[dict[str, Any]]:
    """Yield the allowances of a client, or of a client and a server, that its flows have used up
    together when the first packet shows an effect.

    met: bool[packets of the unit], what meets the match; shows: the same, what shows the effect.
    """
    unit = through.unit
    sizes = np.diff(np.append(through.offset, len(through.data)))
    packet, time = through.packet, through.time
    hit = (packet >= 0) & shows[packet]
    if not hit.any():
        return
    struck = int(np.flatnonzero(hit)[0])
    for per in SHARED:
        ends = unit[int(packet[struck])].ends
        of = [one for one, other in enumerate(through.ends) if other.near == ends.near
              and (per == "client" or other.far == ends.far)]  # fmt: skip
        first: dict[int, int] = {}
        for flow in of:
            places = np.flatnonzero((through.flow == flow) & (packet >= 0) & met[packet])
            if len(places):
                first[flow] = int(places[0])
        begun = {flow: place for flow, place in first.items() if place <= struck}
        if len(first) < 2:  # one that begins later finds the quota used up
            continue
        counted = np.zeros(len(packet), bool)
        for flow, place in begun.items():
            counted |= (through.flow == flow) & (np.arange(len(packet)) >= place)
        before = np.flatnonzero(counted[:struck])
        own = int(through.flow[struck])
        if not len(before):
            continue
        if begun.get(own) == struck:
            yield {"flows": len(begun) - 1, "per": per}
        up = unit[int(packet[struck])].up
        same = before[through.side[before] == through.side[struck]]
        for part, only in ((before, {}), (same, {"direction": "up" if up else "down"})):
            if len(part):
                yield {"packets": len(part), "per": per} | only
                yield {"bytes": int(sizes[part].sum() + sizes[struck] // 2), "per": per} | only
        middle = (int(time[struck]) + int(time[before[-1]])) / 2
        seconds = (middle - min(int(time[place]) for place in begun.values())) / 1e9
        if seconds > 0.02:
            yield {"seconds": round(seconds, 3), "per": per}
