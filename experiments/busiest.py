# SPDX-License-Identifier: BSD-3-Clause
"""The busiest flow: what stands for a call whose flows nobody named.

An added capture can have a label for the call alone. To be replayed, a call needs flows: its media
is taken to be the busiest UDP flow (of a web port only where there is no other, TCP where there is
no UDP), its set-up the other UDP flows of the same socket. Packets are counted, verdicts are not
looked at: a call that the classifier misses is replayed all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from captures.calls import Call
from experiments.corpus import Item

Row = Mapping[str, Any]

#: Fewer packets than this are no conversation.
FEWEST_PACKETS = 20
#: Ports of flows that are hardly media: names, time, discovery, sharing, web.
UNLIKELY = frozenset((53, 67, 123, 137, 138, 443, 546, 547, 1900, 3702, 5353, 5355))

NOTE = "the call's flows were not named, its busiest flow stands for it"


def with_flows(item: Item, rows: Sequence[Row]) -> Item:
    """Return the item with flows in every call that has none; `rows` are the capture's flows."""
    if item.labels or all(call.flows for call in item.calls):
        return item
    return item._replace(calls=[_completed(call, rows) for call in item.calls])


def _completed(call: Call, rows: Sequence[Row]) -> Call:
    found = None if call.flows else busiest(rows)
    if found is None:
        return call
    setup = [int(row["frame"]) for row in beside(found, rows)]
    more = {"media": [int(found["frame"])], "setup": sorted(setup), "inferred": True, "note": NOTE}
    return call.model_copy(update=more)


def busiest(rows: Sequence[Row]) -> Row | None:
    """Return the flow that is most likely the media, None where no flow is busy."""
    busy = [row for row in rows if row["packets"] >= FEWEST_PACKETS]

    def likelihood(row: Row) -> tuple[bool, bool, int]:
        likely = row["src_port"] not in UNLIKELY and row["dst_port"] not in UNLIKELY
        return row["proto"] == "udp", likely, int(row["packets"])

    known = [row for row in busy if row["proto"] in ("udp", "tcp")]
    return max(known, key=likelihood, default=None)


def beside(media: Row, rows: Sequence[Row]) -> list[Row]:
    """Return the other UDP flows that share a socket (address and port) with the media."""
    sockets = _sockets(media)
    return [
        row
        for row in rows
        if row is not media
        and row["proto"] == media["proto"] == "udp"
        and sockets & _sockets(row)
        and row["frame"] != media["frame"]
    ]


def _sockets(row: Row) -> set[tuple[Any, Any]]:
    return {(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])}
