# SPDX-License-Identifier: BSD-3-Clause
"""State of a box per subject: flows, calls, clients, servers and pairs, per rule and direction.

A bounded hash table of STATE rows with 62-bit keys. Where all PROBES rows are taken, the least
recently used one is evicted and counted, as in real boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.classifier.state.flow_table import Records, mix, record_hash
from midcall.testbed.network.link import STATE

Numbers = NDArray[np.int64]

#: Scope of a rule, and subject of a bucket or queue.
SCOPES = ("packet", "flow", "call", "client", "pair", "server", "triple")
PACKET, FLOW_SCOPE, CALL, CLIENT, PAIR, SERVER, TRIPLE = range(7)

#: Salt of the keys of addresses.
ADDRESS = 0xADD7
#: Rows that are probed for one subject.
PROBES = 8
#: Rows of a box whose rules keep state, and of one whose rules do not.
ROOM, NO_ROOM = 1 << 14, PROBES


def memory(needed: bool) -> Records:
    """Return STATE[n], all free: with room for subjects where a rule needs it."""
    return np.zeros(ROOM if needed else NO_ROOM, STATE)


# ---- compiled


@kernel
def lanes_hash(lanes: Any, key: int) -> int:
    """Return the 32-bit hash of an address."""
    h = I(key)
    for lane in range(4):
        h = mix(h, I(lanes[lane]))
    return h


@kernel
def subject_half(scope: int, flow: Any, near_is_source: bool, key: int) -> int:
    """Return a 31-bit hash of a subject under a key."""
    if scope <= FLOW_SCOPE:
        return record_hash(flow, key)
    client = flow["source"] if near_is_source else flow["target"]
    server = flow["target"] if near_is_source else flow["source"]
    h = I(key)
    if scope != SERVER:
        h = lanes_hash(client, h)
    if scope == CALL:
        h = mix(h, I(flow["app"]) + 0x100)
    elif scope != CLIENT:
        h = mix(lanes_hash(server, h), 0x5BD1E995)
        if scope == TRIPLE:
            port = I(flow["target_port"]) if near_is_source else I(flow["source_port"])
            h = mix(h, port << 8 | I(flow["proto"]))
    return I(h & 0x7FFFFFFF)


@kernel
def subject(scope: int, flow: Any, near_is_source: bool, key: int, side: int) -> int:
    """Return the 62-bit key of (rule, subject, direction); never 0. side: -1 for both."""
    one = subject_half(scope, flow, near_is_source, mix(key, side + 0x51))
    two = subject_half(scope, flow, near_is_source, mix(key, side + 0xA7))
    return I((one << 31 | two) | 1)


@kernel
def address_key(one: int, two: int, three: int, four: int, key: int) -> int:
    """Return the 62-bit key of (rule, address), the address in four lanes; never 0."""
    left, right = mix(key, ADDRESS), mix(key, ADDRESS + 1)
    for lane in (one, two, three, four):
        left, right = mix(left, lane), mix(right, lane)
    return I(((left & 0x7FFFFFFF) << 31 | (right & 0x7FFFFFFF)) | 1)


@kernel
def known(rows: Records, key: int) -> int:
    """Return the row of a subject, -1 where it has none."""
    mask = len(rows) - 1
    for step in range(PROBES):
        at = ((key >> 20) + step) & mask
        if rows[at]["key"] == key:
            return I(at)
    return -1


@kernel
def recall(rows: Records, key: int, time: int, forgotten: Numbers) -> int:
    """Return the row of a subject, a new one where it has none.

    forgotten[0] counts evicted rows.
    """
    mask = len(rows) - 1
    best = I((key >> 20) & mask)
    for step in range(PROBES):
        at = ((key >> 20) + step) & mask
        row = rows[at]
        if row["key"] == key:
            row["seen"] = time
            return I(at)
        if rows[best]["key"] != 0 and (row["key"] == 0 or row["seen"] < rows[best]["seen"]):
            best = I(at)
    row = rows[best]
    if row["key"] != 0:
        forgotten[0] += 1
    row["key"], row["seen"] = key, time
    row["until"] = row["begun"] = -1
    row["packets"] = row["bytes"] = row["bad"] = 0
    row["due"] = row["busy"] = row["last"] = row["drawn"] = 0
    return best
