# SPDX-License-Identifier: BSD-3-Clause
"""Retransmission: when the sender of a packet sends it again, by the rules of its protocol.

A capture holds no second copy of a packet that was never lost. A replay makes the copies that a
real sender would make, whatever lost the packet: a rule, a censor or the access link. Each copy
meets the rules again.

| packet | copies | sent again after | until | source |
|---|---|---|---|---|
| TCP data, SYN, FIN | 7 | 1 s, doubled, at most 60 s | it arrives | RFC 6298 2, 5; RFC 1122 |
| STUN request | 7 | 0.5 s, doubled | an answer | RFC 8489 6.2.1 |
| SIP INVITE | 7 | 0.5 s, doubled | an answer | RFC 3261 17.1.1.2 (timers A, B) |
| other SIP request | 11 | 0.5 s, doubled, at most 4 s | an answer | RFC 3261 17.1.2.2 |
| final answer to INVITE | 11 | 0.5 s, doubled, at most 4 s | the ACK | RFC 3261 13.3.1.4 |
| DTLS handshake record | 7 | 1 s, doubled, at most 60 s | it arrives | RFC 6347 4.2.4 |
| DNS question over UDP | 2 | 5 s | an answer | resolver(3), timeout and attempts |
| QUIC long header | 5 | 1 s, doubled | it arrives | RFC 9002 6.2 (initial RTT 333 ms) |
| other request (see below) | 7 | 1 s, doubled | an answer | RFC 8085 3.1.1 |

The last row is for requests of protocols that are not documented, which captures/calls pairs with
their replies: the app's own timer is unknown, so that of RFC 8085 is used.

Of the segments of one TCP stream that are lost, the earliest comes again first; the next one once
that one arrived (RFC 6298 5.4, RFC 5681 3.1). An answer to a request over UDP is sent again when
its request comes again. A request that has no answer in the capture is not repeated here: the
capture holds the copies that its sender made. Pure TCP acknowledgements, STUN indications, voice,
video and QUIC's 1-RTT packets are never sent again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.captures.packets.numbers import DNS_PORT, TCP, UDP
from midcall.classifier.state.flow_table import Records
from midcall.testbed.replay.packet_index import PacketIndex

Numbers = NDArray[np.int64]

MS = 1_000_000

#: Numbers of the rules below.
(
    NEVER_AGAIN,
    TCP_SEGMENT,
    STUN_REQUEST,
    SIP_INVITE,
    SIP_REQUEST,
    SIP_FINAL,
    DTLS_HANDSHAKE,
    DNS_QUESTION,
    QUIC_HANDSHAKE,
    APP_REQUEST,
) = range(10)


class Law(NamedTuple):
    """When one kind of packet is sent again.

    first: ns after the first sending; most: longest interval, ns; copies: sendings in all;
    answered: whether an answer ends it (otherwise the packet's own arrival does); name: for
    display.
    """

    name: str
    first: int
    most: int
    copies: int
    answered: bool


LONG = 1 << 62
LAWS = (
    Law("never", 0, 0, 1, False),
    Law("TCP retransmission (RFC 6298)", 1000 * MS, 60_000 * MS, 7, False),
    Law("STUN retransmission (RFC 8489)", 500 * MS, LONG, 7, True),
    Law("SIP timer A (RFC 3261)", 500 * MS, LONG, 7, True),
    Law("SIP timer E (RFC 3261)", 500 * MS, 4000 * MS, 11, True),
    Law("SIP timer G (RFC 3261)", 500 * MS, 4000 * MS, 11, True),
    Law("DTLS retransmission (RFC 6347)", 1000 * MS, 60_000 * MS, 7, False),
    Law("DNS resolver, 5 s and 2 attempts", 5000 * MS, LONG, 2, True),
    Law("QUIC probe timeout (RFC 9002)", 1000 * MS, LONG, 5, False),
    Law("initial timeout of RFC 8085", 1000 * MS, LONG, 7, True),
)
#: Columns of LAWS as the kernels read them: first, most, copies, answered. int64[laws, 4].
LAW_TABLE = np.array([(law.first, law.most, law.copies, law.answered) for law in LAWS], np.int64)
#: The most copies of one packet, answers that are repeated with their request included.
COPIES = 64

#: DTLS records of a handshake: ChangeCipherSpec and handshake.
CHANGE_CIPHER, HANDSHAKE = 20, 22
STUN_CLASS, STUN_REQUEST_CLASS = 0x0110, 0x0000


def laws(index: PacketIndex) -> NDArray[np.uint8]:
    """Return the rule of each packet of a capture, uint8[n], numbers into LAWS.

    SIP is left out: midcall.testbed.replay.script reads its messages.
    """
    out = np.zeros(len(index.facts), np.uint8)
    read_laws(index.packets.data, index.facts, index.flows, out)
    return out


@kernel
def read_laws(b: Octets, facts: Records, flows: Records, out: Octets) -> None:
    """Fill uint8[n] with each packet's rule."""
    for i in range(len(facts)):
        fact = facts[i]
        if fact["flow"] < 0:
            continue
        if fact["proto"] == TCP:
            out[i] = TCP_SEGMENT if fact["until"] != fact["sequence"] else NEVER_AGAIN
        elif fact["proto"] == UDP:
            flow = flows[fact["flow"]]
            dns = flow["source_port"] == DNS_PORT or flow["target_port"] == DNS_PORT
            out[i] = datagram_law(b, I(fact["at"]), I(fact["end"]), I(fact["stun"]), dns)


@kernel
def datagram_law(b: Octets, at: int, end: int, stun: int, dns: bool) -> int:
    """Return the rule of a datagram b[at:end]; stun: message type + 1, 0 where it is no STUN."""
    if stun > 0:
        return I(STUN_REQUEST if (stun - 1) & STUN_CLASS == STUN_REQUEST_CLASS else NEVER_AGAIN)
    if dns:
        question = end - at >= 12 and u8(b, at + 2) & 0x80 == 0
        return I(DNS_QUESTION if question else NEVER_AGAIN)
    if end - at >= 13 and u8(b, at + 1) == 0xFE and u16(b, at + 3) == 0:
        handshake = u8(b, at) in (CHANGE_CIPHER, HANDSHAKE)
        return I(DTLS_HANDSHAKE if handshake else NEVER_AGAIN)
    if is_quic_handshake(b, at, end):
        return I(QUIC_HANDSHAKE)
    return I(NEVER_AGAIN)


@kernel
def is_quic_handshake(b: Octets, at: int, end: int) -> bool:
    """Tell whether a datagram begins with a long header of QUIC version 1 or 2 (RFC 9000 17.2)."""
    if end - at < 7 or u8(b, at) & 0xC0 != 0xC0:
        return False
    high, low = u16(b, at + 1), u16(b, at + 3)
    known = (high == 0 and low == 1) or (high == 0x6B33 and low == 0x43CF)
    return bool(known and u8(b, at + 5) <= 20)


@kernel
def interval(table: Numbers, law: int, sent: int) -> int:
    """Return how long, in ns, after sending number `sent` (from 1) the next one is; -1: none."""
    if sent >= table[law, 2]:
        return I(-1)
    return I(min(table[law, 0] << (sent - 1), table[law, 1]))
