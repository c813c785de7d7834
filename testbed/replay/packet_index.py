# SPDX-License-Identifier: BSD-3-Clause
"""Packet index: one record of facts (FACT) per packet of a capture.

The classifier's decoder gives each packet's innermost IP packet and its flow. This module reads the
rest in the same pass. Then `answered` uses the facts to find the request that each reply answers:
by transaction id in STUN (RFC 8489 section 5), by message id in DNS (RFC 1035 section 4.1.1), by
acknowledgement number in TCP (RFC 9293 section 3.4: who acknowledges a byte has received it).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import DNS_PORT, STUN_COOKIE, TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, Tables, step_packet
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
        ("ip_end", "i8"),  # end of its captured bytes
        ("ip_size", "i8"),  # bytes on the wire, by the IP header
        ("at", "i8"),  # start of the TCP or UDP payload
        ("end", "i8"),  # end of the captured bytes of the payload
        ("size", "i8"),  # payload bytes on the wire
        ("proto", "i8"),
        ("version", "i8"),
        ("up", "i8"),  # 1: from its flow's source to its target
        ("whole", "i8"),  # 1: must not be fragmented (IPv6, or the DF flag of IPv4)
        ("stun", "i8"),  # STUN message type + 1, 0: no STUN
        ("flags", "i8"),  # TCP flags
        ("sequence", "i8"),  # TCP sequence number of the segment
        ("until", "i8"),  # sequence number of the byte after the segment
        ("acknowledged", "i8"),  # TCP acknowledgement number
    ]
)


#: The request of a reply is searched among this many packets: the last ones that the other
#: direction of the flow sent before the reply.
LOOK_BACK = 64
#: By what a reply names its request: nothing, STUN transaction id, DNS message id, TCP
#: acknowledgement number.
NO_KEY, STUN_KEY, DNS_KEY, TCP_KEY = 0, 1, 2, 3
#: Bit of a STUN message type that only responses have (RFC 8489 section 5).
STUN_RESPONSE = 0x0100


class PacketIndex(NamedTuple):
    """The packets of a capture, their facts FACT[n], and their flows FLOW[m] without verdicts."""

    packets: Packets
    facts: Records
    flows: Records


def index_packets(packets: Packets) -> PacketIndex:
    """Return the packet index of a capture."""
    engine = Engine(room=max(64, min(packets.total, 1 << 16)), model=None)
    engine.reserve(packets.total)
    facts = np.zeros(packets.total, FACT)
    read_facts(engine.tables, packets, engine.signs, facts)
    return PacketIndex(packets, facts, engine.flows())


@kernel
def read_facts(tables: Tables, packets: Packets, signs: Numbers, facts: Records) -> None:
    """Decode a capture in one pass and write a FACT per packet."""
    for i in range(len(packets.offset)):
        fact = facts[i]
        number = step_packet(tables, packets, i, i, signs)
        fact["flow"] = number
        if number >= 0:
            read_fact(fact, packets.data, signs)


@kernel
def read_fact(fact: Any, b: Octets, signs: Numbers) -> None:
    """Write the FACT of one packet; signs: what the decoder read from it."""
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
    """Return int64[n]: for each packet the number of the packet that it answers, -1 for none."""
    gate = np.full(len(index.facts), -1, np.int64)
    last = np.full(2 * len(index.flows), -1, np.int64)
    find_answered(index.packets.data, index.facts, index.flows, last, gate.copy(), gate)
    return gate


@kernel
def find_answered(
    b: Octets, facts: Records, flows: Records, last: Numbers, before: Numbers, gate: Numbers
) -> None:
    """Write to gate[i] the number of the packet that packet i answers.

    last, before: linked lists of the packets of each direction of each flow. last[2 * flow + up] is
    the newest packet, before[i] the one before packet i. They are int64[2 * flows] and int64[n],
    filled with -1.
    """
    for i in range(len(facts)):
        fact = facts[i]
        if fact["flow"] < 0:
            continue
        own_chain = 2 * fact["flow"] + fact["up"]
        other_chain = 2 * fact["flow"] + 1 - fact["up"]
        candidate, steps = last[other_chain], 0
        key_kind = key_kind_of(b, fact, flows[fact["flow"]])
        while key_kind != NO_KEY and candidate >= 0 and steps < LOOK_BACK:
            if answers(b, key_kind, fact, facts[candidate]):
                gate[i] = candidate
                break
            candidate, steps = before[candidate], steps + 1
        # A segment without bytes (or SYN or FIN) is never acknowledged, so it is no request.
        if fact["proto"] != TCP or fact["until"] != fact["sequence"]:
            before[i], last[own_chain] = last[own_chain], i


@kernel
def key_kind_of(b: Octets, fact: Any, flow: Any) -> int:
    """Return by what a packet names its request; NO_KEY: the packet is no reply."""
    if fact["proto"] == TCP:
        return TCP_KEY if fact["flags"] & ACK else NO_KEY
    if fact["stun"] > 0:
        return STUN_KEY if (fact["stun"] - 1) & STUN_RESPONSE else NO_KEY
    if fact["proto"] == UDP and fact["end"] - fact["at"] >= 12 and u8(b, fact["at"] + 2) & 0x80:
        if flow["source_port"] == DNS_PORT or flow["target_port"] == DNS_PORT:
            return DNS_KEY
    return NO_KEY


@kernel
def answers(b: Octets, key_kind: int, fact: Any, earlier: Any) -> bool:
    """Return whether a packet answers an earlier packet of the other direction."""
    reply_at, request_at = I(fact["at"]), I(earlier["at"])
    if key_kind == TCP_KEY:
        ahead = (fact["acknowledged"] - earlier["until"]) & 0xFFFFFFFF
        return bool(ahead < 0x80000000)
    if key_kind == DNS_KEY:
        return bool(earlier["end"] - request_at >= 2) and u16(b, reply_at) == u16(b, request_at)
    if earlier["stun"] == 0 or (earlier["stun"] - 1) & STUN_RESPONSE:
        return False
    # If the message is in a frame of RFC 4571, a length of two bytes precedes it.
    reply_at += 0 if u32(b, reply_at + 4) == STUN_COOKIE else 2
    request_at += 0 if u32(b, request_at + 4) == STUN_COOKIE else 2
    return (
        u32(b, reply_at + 8) == u32(b, request_at + 8)
        and u32(b, reply_at + 12) == u32(b, request_at + 12)
        and u32(b, reply_at + 16) == u32(b, request_at + 16)
    )
