# SPDX-License-Identifier: BSD-3-Clause
"""Stateless features of one payload: kind, STUN details, entropy.

Kinds follow from the first octet (RFC 7983) and a few more. A box that matches by them is as easy
to deceive as real ones. `KIND_` numbers are positions in midcall.testbed.policy.language.PAYLOADS.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.captures.packets.numbers import STUN_COOKIE, TCP, UDP
from midcall.testbed.middlebox.media import stun_at

Numbers = NDArray[np.int64]

(
    KIND_UNKNOWN,
    KIND_STUN,
    KIND_CHANNEL,
    KIND_DTLS_HELLO,
    KIND_DTLS,
    KIND_RTP,
    KIND_RTCP,
    KIND_QUIC,
    KIND_TLS_HELLO,
    KIND_TLS,
    KIND_DNS,
    KIND_SIP,
    KIND_HTTP,
) = range(13)

#: Entropy is a share in parts of this.
WHOLE = 1 << 16
#: Largest number of octets in an entropy.
SAMPLE = 1024

#: Largest number of attributes that are read in one message.
ATTRIBUTES = 64


@kernel
def has_word(b: Octets, at: int, end: int, word: int) -> bool:
    """Tell whether a payload begins with four ASCII letters, given as a number."""
    return end - at >= 4 and u32(b, at) == word


@kernel
def is_http(b: Octets, at: int, end: int) -> bool:
    """Tell whether a payload begins an HTTP/1 request or response (RFC 9112)."""
    if end - at < 8:
        return False
    first = u32(b, at)
    return first in (0x47455420, 0x504F5354, 0x48454144, 0x50555420, 0x48545450, 0x434F4E4E,
                     0x4F505449)  # fmt: skip


@kernel
def is_sip(b: Octets, at: int, end: int) -> bool:
    """Tell whether a payload begins a SIP message (RFC 3261): SIP/, INVI, REGI, ACK, BYE, CANC."""
    return end - at >= 8 and u32(b, at) in (0x5349502F, 0x494E5649, 0x52454749, 0x41434B20,
                                            0x42594520, 0x43414E43)  # fmt: skip


@kernel
def tls_kind(b: Octets, at: int, end: int) -> int:
    """Return the kind of a payload that begins with a TLS record (RFC 8446 section 5.1), else 0."""
    if end - at < 5 or not 20 <= u8(b, at) <= 24 or u8(b, at + 1) != 3 or u8(b, at + 2) > 4:
        return KIND_UNKNOWN
    if u8(b, at) == 22 and end - at >= 6 and u8(b, at + 5) == 1:
        return KIND_TLS_HELLO
    return KIND_TLS


@kernel
def dtls_kind(b: Octets, at: int, end: int) -> int:
    """Return the kind of a payload that begins with a DTLS record (RFC 6347, 9147), else 0."""
    if end - at < 13 or not 20 <= u8(b, at) <= 63 or u8(b, at + 1) != 0xFE:
        return KIND_UNKNOWN
    if u8(b, at) == 22 and end - at >= 14 and u8(b, at + 13) == 1 and u24(b, at + 13) >> 16 == 1:
        return KIND_DTLS_HELLO
    return KIND_DTLS


@kernel
def is_quic(b: Octets, at: int, end: int) -> bool:
    """Tell whether a payload begins with a long header of QUIC 1, 2 or a draft (RFC 8999, 9369)."""
    if end - at < 7 or u8(b, at) & 0x80 == 0:
        return False
    version = u32(b, at + 1)
    return version in (1, 0x6B3343CF) or version >> 8 == 0xFF0000


@kernel
def datagram_kind(b: Octets, at: int, end: int) -> int:
    """Return the kind of a UDP payload by its first octets."""
    first = u8(b, at)
    if 20 <= first <= 63:
        return dtls_kind(b, at, end)
    if 0x40 <= first <= 0x7F:
        plain = end - at >= 4 and u16(b, at + 2) <= end - at - 4
        return KIND_CHANNEL if first <= 0x4F and plain else KIND_UNKNOWN
    if first >> 6 == 2 and end - at >= 8 and 192 <= u8(b, at + 1) <= 223:
        return KIND_RTCP
    if first >> 6 == 2 and end - at >= 12:
        return KIND_RTP
    return KIND_UNKNOWN


@kernel
def payload_kind(b: Octets, at: int, end: int, proto: int, dns: bool, quic: bool) -> int:
    """Return the kind of the payload b[at:end]; KIND_UNKNOWN also for an empty one.

    dns: whether a port of the flow is 53; quic: whether the flow began as QUIC.
    """
    if end <= at:
        return KIND_UNKNOWN
    if stun_at(b, at, end) > 0:
        return KIND_STUN
    if dns and end - at >= 12:
        return KIND_DNS
    if is_sip(b, at, end):
        return KIND_SIP
    if proto == TCP:
        return KIND_HTTP if is_http(b, at, end) else tls_kind(b, at, end)
    if proto != UDP:
        return KIND_UNKNOWN
    if quic or is_quic(b, at, end):
        return KIND_QUIC
    return datagram_kind(b, at, end)


# ---- STUN


@kernel
def stun_header(b: Octets, at: int, end: int) -> int:
    """Return where the STUN message of a payload begins, -1 where it is none."""
    if end - at >= 20 and u32(b, at + 4) == STUN_COOKIE:
        return at
    if end - at >= 22 and u32(b, at + 6) == STUN_COOKIE and u16(b, at) <= end - at - 2:
        return at + 2
    return I(-1)


@kernel
def stun_method(kind: int) -> int:
    """Return the method of a STUN message type (RFC 8489 section 5, its bits put together)."""
    return (kind & 0x000F) | ((kind & 0x00E0) >> 1) | ((kind & 0x3E00) >> 2)


@kernel
def has_attribute(b: Octets, at: int, end: int, wanted: Numbers, first: int, last: int) -> bool:
    """Tell whether a payload is STUN and holds an attribute of wanted[first:last]."""
    place = stun_header(b, at, end)
    if place < 0:
        return False
    place += 20
    for _ in range(ATTRIBUTES):
        if end - place < 4:
            return False
        kind = u16(b, place)
        for row in range(first, last):
            if wanted[row] == kind:
                return True
        place += 4 + ((u16(b, place + 2) + 3) & ~3)
    return False


# ---- entropy


@kernel
def entropy(b: Octets, at: int, end: int, tally: Numbers) -> int:
    """Return the Shannon entropy of b[at:end] over its maximum for that length, of WHOLE.

    -1 for fewer than 2 octets. tally: int64[256], scratch; only the first SAMPLE octets count.
    """
    count = min(end - at, SAMPLE)
    if count < 2:
        return I(-1)
    for octet in range(256):
        tally[octet] = 0
    for place in range(at, at + count):
        tally[u8(b, place)] += 1
    total = 0.0
    for octet in range(256):
        if tally[octet] > 1:
            total += tally[octet] * math.log2(tally[octet])
    most = math.log2(min(count, 256))
    return I(round((math.log2(count) - total / count) / most * WHOLE))
