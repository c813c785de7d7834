# SPDX-License-Identifier: BSD-3-Clause
"""Cut captures to the first seconds of their calls, because a live replay runs in real time.

Both backends replay the same cut (testbed.replay.excerpt), so that their verdicts can be compared.
"""

from __future__ import annotations

from typing import NamedTuple

from midcall.captures.packets.pcap import Packets
from midcall.experiments.spec.corpus import Item


class Cut(NamedTuple):
    """A cut capture: its item with the remaining calls and labels, and its packets.

    dropped: ids of the calls that begin after the cut.
    """

    item: Item
    packets: Packets
    dropped: list[str]


def cut(item: Item, packets: Packets, seconds: float | None) -> Cut:
    """Return a capture cut to the first `seconds` of its first call; None: not cut."""
    from midcall.testbed.replay.excerpt import excerpt

    if seconds is None:
        return Cut(item, packets, [])
    part = excerpt(packets, item.calls, item.labels, seconds)
    left = {call.id for call in part.calls}
    dropped = [call.id for call in item.calls if call.id not in left]
    return Cut(item._replace(calls=part.calls, labels=part.labels), part.packets, dropped)
