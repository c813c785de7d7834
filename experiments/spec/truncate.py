# SPDX-License-Identifier: BSD-3-Clause
"""Cut captures: the first seconds of their calls, for a replay that takes as long as they took.

Both backends are given the same cut (testbed.replay.excerpt), so that their verdicts can be
compared.
"""

from __future__ import annotations

from typing import NamedTuple

from midcall.captures.packets.pcap import Packets
from midcall.experiments.spec.corpus import Item


class Cut(NamedTuple):
    """A capture cut short: its item with the calls and labels that are left, and its packets.

    dropped: ids of calls that begin later and are left out.
    """

    item: Item
    packets: Packets
    dropped: list[str]


def cut(item: Item, packets: Packets, seconds: float | None) -> Cut:
    """Return a capture cut to the first `seconds` of its first call, None: as it is."""
    from midcall.testbed.replay.excerpt import excerpt

    if seconds is None:
        return Cut(item, packets, [])
    part = excerpt(packets, item.calls, item.labels, seconds)
    left = {call.id for call in part.calls}
    dropped = [call.id for call in item.calls if call.id not in left]
    return Cut(item._replace(calls=part.calls, labels=part.labels), part.packets, dropped)
