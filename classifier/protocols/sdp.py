# SPDX-License-Identifier: BSD-3-Clause
"""SDP inside SIP (RFC 8866): the addresses and ports at which media will be received."""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, find_octet, starts
from midcall.classifier.state.endpoint_table import (
    LEARN_SDP,
    TYPE_HINT,
    USER_HINT,
    endpoint_key,
    learn,
    packet_key,
)
from midcall.classifier.state.flow_table import METER_FRAGMENTS, Numbers, Records, mix
from midcall.classifier.state.verdicts import MEDIA, SETUP, SIP

LF, CR, SPACE, DOT, COLON = 10, 13, 32, 46, 58
#: Characters of an ICE user name fragment: RFC 8839 requires at least 4; all are read.
SHORTEST, LONGEST = 4, 256
#: Payload types of a line that are read.
TYPES = 16


@kernel
def number(b: Octets, at: int, end: int, stop_at: int) -> tuple[int, int]:
    """Read decimal digits; returns (value, where they end), (-1, at) without any."""
    value, o = I(0), at
    while o < end and o - at < 5 and 48 <= I(b[o]) <= 57:
        value = value * 10 + I(b[o]) - 48
        o += 1
    if o == at or (stop_at and (o >= end or I(b[o]) != stop_at)):
        return -1, at
    return value, o


@kernel
def read_address(b: Octets, at: int, end: int) -> int:
    """Read a dotted IPv4 address; returns its 32 bits, -1 for none."""
    lane = I(0)
    for part in range(4):
        value, at = number(b, at, end, DOT if part < 3 else 0)
        if value < 0 or value > 255:
            return -1
        lane = (lane << 8) | value
        at += 1
    return lane


@kernel
def learn_sdp(
    b: Octets, at: int, end: int, app: int, time: int, context: Records, meter: Numbers
) -> None:
    """Store every "m=" port with the address of the nearest "c=" line before or after it.

    The ICE user name fragment is stored, too: it identifies checks from any address.
    """
    lane, port = I(-1), I(-1)
    o = at
    while end - o >= 3:
        if I(b[o + 1]) == 61:  # "="
            if I(b[o]) == 99 and end - o > 12:  # "c=IN IP4 "
                lane = read_address(b, o + 9, end)
            elif I(b[o]) == 109:  # "m=audio 40000 ..."
                k = o + 2
                while k < end and I(b[k]) > SPACE:
                    k += 1
                port, _ = number(b, k + 1, end, SPACE)
            if lane > 0 and port > 0:
                for extra in range(2):  # RTP, and RTCP on the next port (RFC 3550, section 11)
                    key = endpoint_key(lane, 0, 0, 0, port + extra)
                    learn(context, meter, key, app, MEDIA, LEARN_SDP, time)
            elif I(b[o]) == 97 and starts(b, o + 2, end, b"ice-ufrag:"):  # RFC 8839, section 5.4
                learn(context, meter, fragment_key(b, o + 12, end), app, SETUP, LEARN_SDP, time)
                meter[METER_FRAGMENTS] = 1
        o = find_octet(b, o, end, LF) + 1


@kernel
def fragment_key(b: Octets, at: int, end: int) -> int:
    """Return the key of an ICE user name fragment (RFC 8445, 5.3) at `at`, 0 for a short one."""
    high, low, o = I(0x1B873593), I(0x3C6EF372), at
    while o < end and o - at < LONGEST and I(b[o]) > SPACE and I(b[o]) != COLON:
        high, low = mix(high, I(b[o])), mix(low, I(b[o]) ^ 0xFF)
        o += 1
    return endpoint_key(high, low, 0, 0, USER_HINT) if o - at >= SHORTEST else I(0)


@kernel
def learn_types(
    b: Octets,
    at: int,
    end: int,
    sender: int,
    version: int,
    time: int,
    context: Records,
    meter: Numbers,
) -> None:
    """Store the payload types of every "m=" line at the sender's address, for any port.

    sender: offset of the sender's address in the packet.
    """
    o = at
    while end - o >= 3:
        if I(b[o]) == 109 and I(b[o + 1]) == 61:  # "m=audio 40000 RTP/AVP 8 0 101"
            k = o + 2
            for _ in range(3):
                while k < end and I(b[k]) > SPACE:
                    k += 1
                k += 1
            for _ in range(TYPES):
                kind, k = number(b, k, end, 0)
                if kind < 0 or kind > 127:
                    break
                key = packet_key(b, sender, version, TYPE_HINT + kind)
                learn(context, meter, key, SIP, MEDIA, LEARN_SDP, time)
                k += 1
        o = find_octet(b, o, end, LF) + 1
