# SPDX-License-Identifier: BSD-3-Clause
"""Packet index: per packet of a capture, the facts that decide which packet answers which.

One pass of the classifier's decoder gives the innermost IP packet and the flow; this module reads
the rest. Then `answered` finds the packet that each reply answers: by transaction id in STUN (RFC
8489 section 5), by message id in DNS (RFC 1035 section 4.1.1), by acknowledgement number in TCP
(RFC 9293 section 3.4: a segment that acknowledges a byte was sent after the byte came).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import DNS_PORT, STUN_COOKIE, TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, step
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.packet_fields import (
    SIGN_IP_AT,
    SIGN_IP_END,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_TCP_FLAGS,
    SIGN_TCP_SEQUENCE,
    SIGN_UP,
    SIGN_VERSION,
)
from midcall.testbed.middlebox.media import stun_at
from midcall.testbed.network.tcp import ACK, FIN, SYN, find_tcp

Numbers = NDArray[np.int64]

FACT = np.dtype(
    [
        ("flow", "i8"),  # number in the packet index's flow table, -1: no IP flow
        ("ip_at", "i8"),
        ("ip_end", "i8"),  # where it was captured to
        ("ip_size", "i8"),  # bytes on the wire, by the IP header
        ("at", "i8"),  # the transport's payload ...
        ("end", "i8"),  # ... up to where it was captured
        ("size", "i8"),  # payload bytes on the wire
        ("proto", "i8"),
        ("version", "i8"),
        ("up", "i8"),  # 1: from its flow's source to its target
        ("whole", "i8"),  # 1: must not be fragmented
        ("stun", "i8"),  # STUN message type + 1
        ("flags", "i8"),  # of TCP
        ("sequence", "i8"),
        ("until", "i8"),  # sequence number behind this segment
        ("acknowledged", "i8"),
    ]
)


#: How far back a reply's request is looked for, in packets of the same flow and direction.
LOOK_BACK = 64


class PacketIndex(NamedTuple):
    """The packets of a capture, with FACT[n] per packet and FLOW[m] per flow (verdicts unused)."""

    packets: Packets
    facts: Records
    flows: Records


def index_packets(packets: Packets) -> PacketIndex:
    """Return the packet index of a capture."""
    engine = Engine(room=max(64, min(packets.total, 1 << 16)), model=None)
    engine.reserve(packets.total)
    facts = np.zeros(packets.total, FACT)
    read_facts(*engine.tables, *packets, engine.signs, facts)
    return PacketIndex(packets, facts, engine.flows())


@kernel
def read_facts(
    flows: Records,
    index: Numbers,
    notes: Records,
    context: Records,
    hellos: Octets,
    fragments: Numbers,
    spill: Records,
    meter: Numbers,
    model: Records,
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    signs: Numbers,
    facts: Records,
) -> None:
    """Walk a capture once and write a FACT per packet."""
    for i in range(len(offset)):
        fact = facts[i]
        number = step(
            flows,
            index,
            notes,
            context,
            hellos,
            fragments,
            spill,
            meter,
            model,
            data,
            offset[i],
            offset[i] + captured[i],
            wire[i],
            time[i],
            link[i],
            i,
            signs,
        )
        fact["flow"] = number
        if number >= 0:
            read_fact(fact, data, signs)


@kernel
def read_fact(fact: Any, b: Octets, signs: Numbers) -> None:
    """Write the FACT row of one packet from the decoder's signs."""
    at, end = signs[SIGN_IP_AT], signs[SIGN_IP_END]
    fact["ip_at"], fact["ip_end"], fact["ip_size"] = at, end, end - at
    fact["version"], fact["proto"] = signs[SIGN_VERSION], signs[SIGN_PROTO]
    if signs[SIGN_VERSION] == 4:
        fact["ip_size"] = max(u16(b, at + 2), end - at)
        fact["whole"] = 1 if u8(b, at + 6) & 0x40 else 0
    else:
        fact["ip_size"] = max(u16(b, at + 4) + 40, end - at)
        fact["whole"] = 1
    fact["up"] = signs[SIGN_UP]
    fact["at"], fact["end"] = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    fact["size"] = signs[SIGN_PAYLOAD_SIZE]
    fact["stun"] = stun_at(b, signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END])
    if signs[SIGN_PROTO] == TCP:
        flags = signs[SIGN_TCP_FLAGS]
        fact["flags"], fact["sequence"] = flags, signs[SIGN_TCP_SEQUENCE]
        flag_bytes = (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
        fact["until"] = (
            signs[SIGN_TCP_SEQUENCE] + signs[SIGN_PAYLOAD_SIZE] + flag_bytes
        ) & 0xFFFFFFFF
        header = find_tcp(b, at, end)
        if flags & ACK and header > 0 and end - header >= 12:
            fact["acknowledged"] = u32(b, header + 8)


# ---- replies


def answered(index: PacketIndex) -> Numbers:
    """Return per packet the number of the packet it answers, -1 for none: int64[n]."""
    gate = np.full(len(index.facts), -1, np.int64)
    last = np.full(2 * len(index.flows), -1, np.int64)
    find_answered(index.packets.data, index.facts, index.flows, last, gate.copy(), gate)
    return gate


@kernel
def find_answered(
    b: Octets, facts: Records, flows: Records, last: Numbers, before: Numbers, gate: Numbers
) -> None:
    """Find each packet's request among the last packets of its flow's other direction.

    last: int64[2 * flows], before: int64[n], both -1: chains of a flow's packets by direction.
    """
    for i in range(len(facts)):
        fact = facts[i]
        if fact["flow"] < 0:
            continue
        own_chain = 2 * fact["flow"] + fact["up"]
        other_chain = 2 * fact["flow"] + 1 - fact["up"]
        candidate, steps = last[other_chain], 0
        key_kind = wants(b, fact, flows[fact["flow"]])
        while key_kind > 0 and candidate >= 0 and steps < LOOK_BACK:
            if answers(b, key_kind, fact, facts[candidate]):
                gate[i] = candidate
                break
            candidate, steps = before[candidate], steps + 1
        # A segment without bytes of its own is never acknowledged, so no reply waits for it.
        if fact["proto"] != TCP or fact["until"] != fact["sequence"]:
            before[i], last[own_chain] = last[own_chain], i


@kernel
def wants(b: Octets, fact: Any, flow: Any) -> int:
    """Return the kind of key by which a packet names its request: 1 STUN, 2 DNS, 3 TCP; 0 none."""
    if fact["proto"] == TCP:
        return 3 if fact["flags"] & ACK else 0
    if fact["stun"] > 0:
        return 1 if (fact["stun"] - 1) & 0x0100 else 0
    if fact["proto"] == UDP and fact["end"] - fact["at"] >= 12 and u8(b, fact["at"] + 2) & 0x80:
        if flow["source_port"] == DNS_PORT or flow["target_port"] == DNS_PORT:
            return 2
    return 0


@kernel
def answers(b: Octets, key_kind: int, fact: Any, earlier: Any) -> bool:
    """Return True where a packet answers an earlier one of the other direction."""
    reply_at, request_at = I(fact["at"]), I(earlier["at"])
    if key_kind == 3:
        ahead = (fact["acknowledged"] - earlier["until"]) & 0xFFFFFFFF
        return bool(ahead < 0x80000000)
    if key_kind == 2:
        return bool(earlier["end"] - request_at >= 2) and u16(b, reply_at) == u16(b, request_at)
    if earlier["stun"] == 0 or (earlier["stun"] - 1) & 0x0100:
        return False
    # A frame of RFC 4571 puts two bytes before the message.
    reply_at += 0 if u32(b, reply_at + 4) == STUN_COOKIE else 2
    request_at += 0 if u32(b, request_at + 4) == STUN_COOKIE else 2
    return (
        u32(b, reply_at + 8) == u32(b, request_at + 8)
        and u32(b, reply_at + 12) == u32(b, request_at + 12)
        and u32(b, reply_at + 16) == u32(b, request_at + 16)
    )
