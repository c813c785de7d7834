# SPDX-License-Identifier: BSD-3-Clause
"""The table of endpoints learned from set-up, by which later flows are identified.

An entry holds an endpoint (address and port), its app, and the source of that knowledge. Each
source can be switched off (`Engine(learn=...)`), and the evidence of a flow identified here names
the source. The table is bounded, and its entries expire. Entries are learned in packet order, so
the table does not depend on how flows are distributed.
"""

from __future__ import annotations

import numpy as np

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.state.flow_table import (
    METER_CONTEXT_LOST,
    METER_LEARN,
    Numbers,
    Records,
    mix,
)
from midcall.classifier.state.packet_fields import SIGN_SOURCE_AT, SIGN_TARGET_AT, SIGN_VERSION
from midcall.classifier.state.verdicts import maker_of

CONTEXT = np.dtype(
    [
        ("key", "i8"),
        ("time", "i8"),  # when it was learned, ns
        ("app", "u1"),
        ("source", "u1"),
        ("role", "u1"),  # what the name that DNS gave serves
        ("pad", "u1", (5,)),
    ]
)

# Sources, one bit each.
LEARN_STUN, LEARN_SOCKET, LEARN_SDP, LEARN_DNS = 1, 2, 4, 8
LEARN_ALL = LEARN_STUN | LEARN_SOCKET | LEARN_SDP | LEARN_DNS

# Hints have these numbers in place of a port: a host whose signalling announced a call, a pair of
# hosts, an ICE user name fragment, a host whose signalling the snaplen cut, and, above all ports,
# the payload types that a host announced.
HOST_HINT, PAIR_HINT, USER_HINT, CUT_HINT, TYPE_HINT = 2, 3, 4, 5, 1 << 17
#: In place of a port: the address is a synchronisation source of RTP.
SOURCE_HINT = 1 << 16
#: Smaller sources are constants or counters, so that different calls share them.
SMALLEST_SOURCE = 1 << 16

#: Slots that one key may be stored in.
WAYS = 8
#: Age at which entries expire, in ns (10 minutes: two TURN allocation lifetimes, RFC 8656).
LIFETIME = 600 * 1_000_000_000

# Ports on which many apps' servers answer: such an endpoint identifies no app.
SHARED_PORTS = (53, 80, 123, 443, 3478, 3479, 3480, 3481, 5060, 5349, 19302, 19303, 19304, 19305)


@kernel
def endpoint_key(lane0: int, lane1: int, lane2: int, lane3: int, port: int) -> int:
    """Return a 62-bit key of an address (IPv4: only the first lane) and port; never 0."""
    high, low = mix(0x1F83D9AB, lane0), mix(0x5BE0CD19, port)
    if lane1 | lane2 | lane3:
        high = mix(mix(mix(high, lane1), lane2), lane3)
        low = mix(mix(mix(low, lane3), lane2), lane1)
    return ((mix(high, port) & 0x3FFFFFFF) << 32) | mix(low, lane0) | 1


@kernel
def packet_key(b: Octets, at: int, version: int, port: int) -> int:
    """Return the key of an address in the packet."""
    if version == 4:
        return endpoint_key(u32(b, at), 0, 0, 0, port)
    return endpoint_key(u32(b, at), u32(b, at + 4), u32(b, at + 8), u32(b, at + 12), port)


@kernel
def stun_key(b: Octets, at: int, header: int) -> int:
    """Return the key of an XOR address attribute's value at `at` (RFC 8489, 14.2), 0 for none."""
    if at == 0:
        return 0
    port = u16(b, at + 2) ^ 0x2112
    lane = u32(b, at + 4) ^ STUN_COOKIE
    if I(b[at + 1]) == 1:
        return endpoint_key(lane, 0, 0, 0, port)
    if I(b[at + 1]) != 2:
        return 0
    return endpoint_key(
        lane,
        u32(b, at + 8) ^ u32(b, header + 8),
        u32(b, at + 12) ^ u32(b, header + 12),
        u32(b, at + 16) ^ u32(b, header + 16),
        port,
    )


@kernel
def is_shared_port(port: int) -> bool:
    """Return whether an endpoint on this port is shared by apps."""
    return port < 1024 or port in SHARED_PORTS


@kernel
def learn(
    context: Records, meter: Numbers, key: int, app: int, role: int, source: int, time: int
) -> None:
    """Store that an endpoint belongs to an app, in place of the oldest entry of its WAYS slots.

    A maker does not replace one of its apps, unless that entry has expired.
    """
    if key == 0 or not meter[METER_LEARN] & source:
        return
    mask = len(context) - 1
    home = (key >> 1) & mask
    replaced, oldest = home, I(context[home]["time"])
    for step in range(WAYS):
        slot = (home + step) & mask
        if context[slot]["key"] == key or context[slot]["key"] == 0:
            replaced, oldest = slot, 0
            break
        if context[slot]["time"] < oldest:
            replaced, oldest = slot, I(context[slot]["time"])
    entry = context[replaced]
    if entry["key"] == key and time - I(entry["time"]) <= LIFETIME:
        if app == maker_of(I(entry["app"])):
            app = I(entry["app"])
    if oldest and time - oldest < LIFETIME:
        meter[METER_CONTEXT_LOST] += 1
    entry["key"], entry["time"], entry["app"] = key, time, app
    entry["source"], entry["role"] = source, role


@kernel
def recall(context: Records, key: int, time: int) -> int:
    """Return `role << 16 | source << 8 | app` of an endpoint, 0 if unknown or expired."""
    return recall_within(context, key, time, LIFETIME)


@kernel
def recall_within(context: Records, key: int, time: int, limit: int) -> int:
    """Return the same as `recall` for entries not older than `limit` ns, 0 for older ones."""
    mask = len(context) - 1
    home = (key >> 1) & mask
    for step in range(WAYS):
        entry = context[(home + step) & mask]
        if entry["key"] == key:
            if time - entry["time"] > limit:
                return 0
            return (I(entry["role"]) << 16) | (I(entry["source"]) << 8) | I(entry["app"])
        if entry["key"] == 0:
            return 0
    return 0


@kernel
def pair_key(b: Octets, at: int, other: int, version: int) -> int:
    """Return the key of two addresses of the packet, the same in either order."""
    total, parts = I(0), I(0)
    for lane in range(1 if version == 4 else 4):
        one, two = u32(b, at + 4 * lane), u32(b, other + 4 * lane)
        total = mix(total, (one + two) & 0xFFFFFFFF)
        parts = mix(parts, one ^ two)
    return endpoint_key(total, parts, 0, 0, PAIR_HINT)


@kernel
def source_key(source: int) -> int:
    """Return the key of a synchronisation source, 0 for one below SMALLEST_SOURCE."""
    return endpoint_key(source, 0, 0, 0, SOURCE_HINT) if source >= SMALLEST_SOURCE else I(0)


@kernel
def app_of_source(context: Records, source: int, time: int) -> int:
    """Return the app in whose call a synchronisation source was seen, 0 for none."""
    key = source_key(source)
    return recall(context, key, time) & 0xFF if key else I(0)


@kernel
def host_app(context: Records, b: Octets, hint: int, time: int, signs: Numbers) -> int:
    """Return the app stored under a hint for either host of a packet, 0 for none."""
    version = signs[SIGN_VERSION]
    known = recall(context, packet_key(b, signs[SIGN_SOURCE_AT], version, hint), time)
    if known == 0:
        known = recall(context, packet_key(b, signs[SIGN_TARGET_AT], version, hint), time)
    return known & 0xFF
