# SPDX-License-Identifier: BSD-3-Clause
"""DTLS records and the ClientHello's use_srtp extension: RFC 6347, 9147, 5764."""

from __future__ import annotations

from captures.compiled import kernel
from captures.octets import Octets, u8, u16, u24

RECORD = 13
HANDSHAKE = 12
USE_SRTP = 14

NOT_DTLS, DTLS, CLIENT_HELLO, CLIENT_HELLO_SRTP, SERVER_HELLO, SERVER_HELLO_SRTP = range(6)


@kernel
def read_dtls(b: Octets, at: int, end: int, size: int) -> int:
    """Tell what a payload that starts with a DTLS record is; see the constants above."""
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
    """Tell whether a hello, read from its session id on, has the use_srtp extension."""
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
