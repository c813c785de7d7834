# SPDX-License-Identifier: BSD-3-Clause
"""DTLS records and hellos, also in fragments: RFC 6347, 9147, use_srtp: RFC 5764."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.classifier.protocols.hello import OVER_DTLS, WITH_SRTP, read_hello
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.hello_buffers import (
    BASE,
    DTLS_ROW,
    NEED,
    OCTETS,
    ROOM,
    drop_row,
    put16,
    put_piece,
    row_of,
    take_row,
)
from midcall.classifier.state.packet_fields import SIGN_NAME_AT, SIGN_UP

RECORD = 13
HANDSHAKE = 12
USE_SRTP = 14

#: Records of a datagram that are looked at for a hello's fragment.
RECORDS = 8

NOT_DTLS, DTLS, CLIENT_HELLO, CLIENT_HELLO_SRTP, SERVER_HELLO, SERVER_HELLO_SRTP = range(6)


@kernel
def read_dtls(b: Octets, at: int, end: int, size: int) -> int:
    """Return the kind of a DTLS payload, one of the constants above."""
    if end - at < RECORD:
        return NOT_DTLS
    kind, version, length = u8(b, at), u16(b, at + 1), u16(b, at + 11)
    if not 20 <= kind <= 25 or version not in (0xFEFF, 0xFEFD, 0xFEFC, 0x0100):
        return NOT_DTLS
    if length == 0 or RECORD + length > size:
        return NOT_DTLS
    if kind != 22 or u16(b, at + 3) != 0 or end - at < RECORD + HANDSHAKE + 35:
        return DTLS
    o, stop = at + RECORD, min(end, at + RECORD + length)
    message = u8(b, o)
    if message not in (1, 2) or u24(b, o + 6) != 0:
        return DTLS
    srtp = holds_use_srtp(b, o + HANDSHAKE + 34, stop, message == 1)
    if message == 1:
        return CLIENT_HELLO_SRTP if srtp else CLIENT_HELLO
    return SERVER_HELLO_SRTP if srtp else SERVER_HELLO


@kernel
def holds_use_srtp(b: Octets, o: int, stop: int, client: bool) -> bool:
    """Return whether a hello, read from its session id on, has the use_srtp extension."""
    if stop - o < 1:
        return False
    o += 1 + u8(b, o)
    if client:
        if stop - o < 1:
            return False
        o += 1 + u8(b, o)  # cookie
        if stop - o < 2:
            return False
        o += 2 + u16(b, o)  # cipher suites
        if stop - o < 1:
            return False
        o += 1 + u8(b, o)  # compression methods
    else:
        o += 3
    o += 2
    while stop - o >= 4:
        if u16(b, o) == USE_SRTP:
            return True
        o += 4 + u16(b, o + 2)
    return False


@kernel
def read_greeting(
    note: Any,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    signs: Numbers,
) -> bool:
    """Read the ClientHello of a datagram, whole or by its fragments (RFC 6347, section 4.2.3).

    Its fields are written to signs; returns whether it offers use_srtp.
    """
    for _ in range(RECORDS):
        if end - at < RECORD + HANDSHAKE + 1:
            return False
        stop = at + RECORD + u16(b, at + 11)
        if u8(b, at) != 22 or u16(b, at + 3) != 0:
            return False
        o = at + RECORD
        length, place, size = u24(b, o + 1), u24(b, o + 6), u24(b, o + 9)
        if u8(b, o) == 1 and place + size <= length:
            o, cut = o + HANDSHAKE, min(end, stop)
            if size == length:
                return read_hello(b, o, cut, o + length, OVER_DTLS, signs) & WITH_SRTP != 0
            if gather(note, hellos, meter, b, o, min(cut, o + size), place, length, signs):
                return True
        at = stop
    return False


@kernel
def gather(
    note: Any,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    o: int,
    stop: int,
    place: int,
    length: int,
    signs: Numbers,
) -> bool:
    """Add a fragment to a hello; reads the hello once it is complete.

    Returns whether the hello offers use_srtp.
    """
    if length > ROOM or place >= ROOM:
        return False
    message = u16(b, o - HANDSHAKE + 4)
    row_number = row_of(hellos, note, DTLS_ROW)
    if (
        row_number == 0
        or u32(hellos[row_number], BASE) != message
        or u16(hellos[row_number], NEED) != length
    ):
        row_number = take_row(hellos, meter, note, DTLS_ROW, message, I(signs[SIGN_UP]))
        put16(hellos[row_number], NEED, length)
    row = hellos[row_number]
    if put_piece(row, place, b, o, stop) < length:
        return False
    properties = read_hello(row, OCTETS, OCTETS + length, OCTETS + length, OVER_DTLS, signs)
    signs[SIGN_NAME_AT] = 0
    drop_row(hellos, note)
    return properties & WITH_SRTP != 0
