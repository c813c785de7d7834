# SPDX-License-Identifier: BSD-3-Clause
"""TLS over TCP: the ClientHello's server name (RFC 8446, RFC 6066 section 3)."""

from __future__ import annotations

from captures.compiled import kernel
from captures.octets import Octets, u8, u16
from classifier.flow import Numbers
from classifier.signs import NAME_SNI, SIGN_NAME_AT, SIGN_NAME_KIND, SIGN_NAME_LENGTH

NOT_TLS, TLS, CLIENT_HELLO = range(3)


@kernel
def read_tls(b: Octets, at: int, end: int, signs: Numbers) -> int:
    """Tell whether a TLS record starts here; a ClientHello's name goes to signs."""
    if end - at < 6:
        return NOT_TLS
    kind, version = u8(b, at), u16(b, at + 1)
    if not 20 <= kind <= 23 or version not in (0x0300, 0x0301, 0x0302, 0x0303, 0x0304):
        return NOT_TLS
    if u16(b, at + 3) > 16384 + 2048:
        return NOT_TLS
    if kind != 22 or u8(b, at + 5) != 1:
        return TLS
    read_client_hello(b, at + 9, min(end, at + 5 + u16(b, at + 3)), signs)
    return CLIENT_HELLO


@kernel
def read_client_hello(b: Octets, o: int, stop: int, signs: Numbers) -> None:
    """Find the server name of a ClientHello whose body starts at o."""
    o += 34
    if stop - o < 1:
        return
    o += 1 + u8(b, o)
    if stop - o < 2:
        return
    o += 2 + u16(b, o)
    if stop - o < 1:
        return
    o += 1 + u8(b, o) + 2
    while stop - o >= 4:
        kind, length = u16(b, o), u16(b, o + 2)
        o += 4
        if kind == 0 and length >= 5 and stop - o >= length:
            name = u16(b, o + 3)
            if u8(b, o + 2) == 0 and 0 < name <= length - 5:
                signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = o + 5, name
                signs[SIGN_NAME_KIND] = NAME_SNI
            return
        o += length
