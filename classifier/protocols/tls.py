# SPDX-License-Identifier: BSD-3-Clause
"""TLS over TCP: records, and the ClientHello in one segment or in several (RFC 8446)."""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24
from midcall.classifier.protocols.hello import OVER_TCP, read_hello
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.hello_buffers import FILLED, NEED, OCTETS, ROOM, put16

NOT_TLS, TLS, CLIENT_HELLO = range(3)

#: Octets before the hello's body: record header (5), handshake header (4).
HEADERS = 9
LONGEST_RECORD = 16384 + 2048


@kernel
def read_tls(b: Octets, at: int, end: int, signs: Numbers) -> int:
    """Return the kind of the TLS record that starts at `at`, NOT_TLS for none.

    The fields of a ClientHello are written to signs.
    """
    if end - at < 6:
        return NOT_TLS
    kind, version = u8(b, at), u16(b, at + 1)
    if not 20 <= kind <= 23 or version not in (0x0300, 0x0301, 0x0302, 0x0303, 0x0304):
        return NOT_TLS
    if u16(b, at + 3) > LONGEST_RECORD:
        return NOT_TLS
    if kind != 22 or u8(b, at + 5) != 1:
        return TLS
    if end - at >= HEADERS:
        stop = min(end, at + 5 + u16(b, at + 3))
        body = at + HEADERS
        read_hello(b, body, stop, body + u24(b, at + 6), OVER_TCP, signs)
    return CLIENT_HELLO


@kernel
def hello_size(b: Octets, at: int, end: int) -> int:
    """Return how many octets a ClientHello's record needs, 0 when its headers are cut.

    A hello in several records is read as far as its first record goes.
    """
    if end - at < HEADERS:
        return 0
    return min(HEADERS + u24(b, at + 6), 5 + u16(b, at + 3))


@kernel
def may_begin(b: Octets, at: int, end: int) -> bool:
    """Return whether a segment too short to be known could be the start of a ClientHello."""
    if end - at >= 6 or end - at < 1 or u8(b, at) != 22:
        return False
    if end - at >= 2 and u8(b, at + 1) != 3:
        return False
    if end - at >= 3 and u8(b, at + 2) > 4:
        return False
    if end - at == 5 and u16(b, at + 3) < 4:  # an empty record, as Skype sends
        return False
    return end - at < 4 or u8(b, at + 3) <= LONGEST_RECORD >> 8


@kernel
def read_row(row: Octets, signs: Numbers) -> int:
    """Read the available part of a hello in a row of the pool; returns NOT_TLS if it is none.

    Sets the row's NEED as soon as it is known.
    """
    filled = u16(row, FILLED)
    if filled < 6:
        return CLIENT_HELLO if may_begin(row, OCTETS, OCTETS + filled) else NOT_TLS
    record = read_tls(row, OCTETS, OCTETS + filled, signs)
    put16(row, NEED, min(hello_size(row, OCTETS, OCTETS + filled), ROOM))
    return record
