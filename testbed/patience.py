# SPDX-License-Identifier: BSD-3-Clause
"""Patience: after how long the sender of a packet that got lost sends it again, if it does.

A capture holds no copy of what was never lost. Who waits for an answer does not give up at one lost
packet, so what a link or a bucket lost by chance is sent again, later each time:

- TCP after 300 ms (RFC 6298; Linux begins at 200 ms and a round trip);
- STUN requests and answers after 500 ms (RFC 8489 section 6.2.1: an answer that is lost comes again
  with its request), SIP too (RFC 3261, T1);
- DTLS handshakes after 1 s (RFC 6347 section 4.2.4.1); DNS after 1 s (stub resolvers: 1 to 5 s).

Where an app has timers of its own, these stand for them. Voice and video are never sent again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, kernel
from captures.octets import Octets, u8, u16
from classifier.decode import TCP, UDP
from classifier.flow import Records
from testbed.payloads import DNS_PORT, is_sip
from testbed.survey import Survey

Numbers = NDArray[np.int64]

MS = 1_000_000
SEGMENT, REQUEST, HANDSHAKE, QUESTION = 300 * MS, 500 * MS, 1000 * MS, 1000 * MS

#: DTLS records of a handshake: ChangeCipherSpec and handshake.
CHANGE_CIPHER, GREETING = 20, 22
STUN_CLASS, INDICATION = 0x0110, 0x0010


def patience(held: Survey) -> Numbers:
    """Return per packet after how long its sender sends it again, in ns; 0: it does not."""
    out = np.zeros(len(held.facts), np.int64)
    read_patience(held.packets.data, held.facts, held.flows, out)
    return out


@kernel
def read_patience(b: Octets, facts: Records, flows: Records, out: Numbers) -> None:
    """Fill int64[n] with each sender's patience."""
    for i in range(len(facts)):
        fact = facts[i]
        if fact["flow"] < 0:
            continue
        if fact["proto"] == TCP:
            out[i] = SEGMENT if fact["until"] != fact["sequence"] else 0
        elif fact["proto"] == UDP:
            flow = flows[fact["flow"]]
            dns = flow["source_port"] == DNS_PORT or flow["target_port"] == DNS_PORT
            out[i] = datagram(b, I(fact["at"]), I(fact["end"]), I(fact["stun"]), dns)


@kernel
def datagram(b: Octets, at: int, end: int, stun: int, dns: bool) -> int:
    """Return a UDP sender's patience, in ns; stun: message type + 1."""
    if stun > 0:
        return I(0 if (stun - 1) & STUN_CLASS == INDICATION else REQUEST)
    if dns:
        return QUESTION
    if is_sip(b, at, end):
        return REQUEST
    if end - at >= 13 and u8(b, at + 1) == 0xFE and u16(b, at + 3) == 0:
        return I(HANDSHAKE if u8(b, at) in (CHANGE_CIPHER, GREETING) else 0)
    return I(0)
