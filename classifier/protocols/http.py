# SPDX-License-Identifier: BSD-3-Clause
"""HTTP/1 requests: the Host field (RFC 9112)."""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.packet_fields import (
    NAME_HTTP_HOST,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
)

GET, POST, HEAD, PUT, OPTIONS, CONNECT, HTTP = (
    int.from_bytes(word, "big")
    for word in (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN", b"HTTP")
)
HOST = int.from_bytes(b"ost:", "big")
#: Makes three letters lower case (names of fields have none: RFC 9110, section 5.1).
LOWER = 0x20202000


@kernel
def read_http(b: Octets, at: int, end: int, signs: Numbers) -> bool:
    """Return whether an HTTP/1 message starts here; a request's Host goes to signs."""
    if end - at < 12:
        return False
    word = u32(b, at)
    if word == HTTP:
        return True
    if word not in (GET, POST, HEAD, PUT, OPTIONS, CONNECT):
        return False
    for o in range(at + 4, min(end - 8, at + 2048)):
        if I(b[o]) == 10 and I(b[o + 1]) | 32 == 104 and u32(b, o + 2) | LOWER == HOST:
            start = o + 6
            while start < end and I(b[start]) == 32:
                start += 1
            stop = start
            while stop < end and stop - start < 253 and I(b[stop]) > 32 and I(b[stop]) != 58:
                stop += 1
            signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = start, stop - start
            signs[SIGN_NAME_KIND] = NAME_HTTP_HOST
            return True
    return True
