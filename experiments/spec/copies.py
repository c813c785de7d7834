# SPDX-License-Identifier: BSD-3-Clause
"""Recordings with the same packets, apart from addresses and timestamps, count as one session.

A capture that a user adds can be a copy of another one: anonymised, cut, moved in time, or the
public file under another name. Counted as separate sessions, copies would look like independent
evidence. Two captures are copies if most payloads of the smaller one also occur in the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midcall.captures.packets.pcap import Packets
from midcall.experiments.spec.corpus import Item

#: Shorter payloads are too common; of longer ones the first octets and the length are compared.
SHORTEST, COMPARED = 40, 200
#: Payloads that two captures must share, and the share of the smaller one's.
FEWEST, SHARE = 20, 0.5


def payloads(packets: Packets) -> frozenset[int]:
    """Return hashes of a capture's transport payloads, valid within this process."""
    from midcall.testbed.replay.packet_index import index_packets

    facts, data = index_packets(packets).facts, packets.data.tobytes()
    hashes = set()
    for at, end, size in zip(
        facts["at"].tolist(), facts["end"].tolist(), facts["size"].tolist(), strict=True
    ):
        if end - at >= SHORTEST:
            hashes.add(hash((data[at : min(end, at + COMPARED)], size)))
    return frozenset(hashes)


def are_copies(one: frozenset[int], other: frozenset[int]) -> bool:
    """Return whether two captures, given as payload hashes, hold the same packets."""
    shared = len(one & other)
    return shared >= FEWEST and shared >= SHARE * min(len(one), len(other))


def one_session(items: Sequence[Item], packets: Mapping[str, Packets]) -> list[Item]:
    """Return the items; an added copy of another capture gets the group of that capture.

    packets: by sha256. Of two added copies, the first in order keeps its group.
    """
    if not any(item.capture.added for item in items):
        return list(items)
    hashes = {sha256: payloads(one) for sha256, one in packets.items()}
    groups: list[tuple[frozenset[int], str]] = [
        (hashes[item.capture.sha256], item.capture.group)
        for item in items
        if not item.capture.added
    ]
    out = []
    for item in items:
        own = hashes[item.capture.sha256]
        if item.capture.added:
            group = next((g for other, g in groups if are_copies(own, other)), None)
            if group is not None:
                capture = item.capture.model_copy(update={"group": group})
                item = item._replace(capture=capture)
            groups.append((own, item.capture.group))
        out.append(item)
    return out
