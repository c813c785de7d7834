# SPDX-License-Identifier: BSD-3-Clause
"""Hellos that come in pieces (TLS segments, QUIC frames, DTLS fragments): a pool of buffers.

`hellos` is uint8[HELLOS, ROW]. Row 0 is scratch (the plain text of a QUIC packet); every other row
holds one flow's hello: a header, ROOM octets at their offset in the hello, and a mark per octet
that came. A flow finds its row by its note; the row names the flow, so a row that was given to
somebody else is noticed. When all are in use the next in turn is taken, and counted.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.state.flow_table import METER_HELLO_HAND, METER_HELLOS_LOST, Numbers

#: Rows of the pool, and octets of a hello that are kept.
HELLOS, ROOM = 256, 4096
# A row: header, octets, marks.
OWNER = 0  # u32: flow number + 1, 0: free
BASE = 4  # u32: the sequence number of octet 0, or a message's number
NEED = 8  # u16: octets of the hello (at most ROOM), 0: not known yet
FILLED = 10  # u16: octets from the start without a gap
SIDE = 12  # SIGN_UP of its packets
NAMED = 13  # 1: its name was told already
KIND = 14
ID_SIZE = 15  # the connection id that made the keys (QUIC)
ID = 16
OCTETS = 64
MARKS = OCTETS + ROOM
ROW = MARKS + ROOM

#: What a row holds; EARLY is a segment that came before the start of its hello.
TLS_ROW, EARLY_ROW, DTLS_ROW, QUIC_ROW = 1, 2, 3, 4
#: ... or no hello at all: counts of 4-bit groups (classifier.apps.skype).
SKYPE_ROW = 5
#: Where the first octets of an EARLY_ROW stand, so that what comes before them has room.
EARLY_AT = ROOM // 2
#: `greets` of a note whose flow said hello.
GREETED = 255
#: Rows that are looked at for a free one.
SEARCH = 32


@kernel
def put16(b: Octets, o: int, number: int) -> None:
    """Write a big-endian 16-bit number."""
    b[o] = (number >> 8) & 0xFF
    b[o + 1] = number & 0xFF


@kernel
def put32(b: Octets, o: int, number: int) -> None:
    """Write a big-endian 32-bit number."""
    put16(b, o, number >> 16)
    put16(b, o + 2, number)


@kernel
def row_of(hellos: Octets, note: Any, kind: int) -> int:
    """Return the number of a flow's row of this kind, 0 where it has none (any more)."""
    which = I(note["hello"])
    if which == 0:
        return 0
    row = hellos[which]
    if u32(row, OWNER) != I(note["flow"]) + 1 or u8(row, KIND) != kind:
        return 0
    return which


@kernel
def take_row(hellos: Octets, meter: Numbers, note: Any, kind: int, base: int, side: int) -> int:
    """Give a flow a row, empty; returns its number."""
    drop_row(hellos, note)
    hand, count = I(meter[METER_HELLO_HAND]), len(hellos) - 1
    which = I(0)
    for step in range(min(SEARCH, count)):
        candidate = 1 + (hand + step) % count
        if u32(hellos[candidate], OWNER) == 0:
            which = candidate
            break
    if which == 0:
        which = 1 + (hand + SEARCH) % count
        meter[METER_HELLOS_LOST] += 1
    meter[METER_HELLO_HAND] = which - 1
    row = hellos[which]
    for i in range(OCTETS):
        row[i] = 0
    for i in range(MARKS, ROW):
        row[i] = 0
    put32(row, OWNER, I(note["flow"]) + 1)
    put32(row, BASE, base)
    row[KIND], row[SIDE] = kind, side
    note["hello"] = which
    return which


@kernel
def drop_row(hellos: Octets, note: Any) -> None:
    """Take its row from a flow, if it has one."""
    which = I(note["hello"])
    if which:
        if u32(hellos[which], OWNER) == I(note["flow"]) + 1:
            put32(hellos[which], OWNER, 0)
        note["hello"] = 0


@kernel
def put_piece(row: Octets, place: int, b: Octets, at: int, end: int) -> int:
    """Put b[at:end] at an offset of the hello, as far as it fits; returns FILLED."""
    size = min(end - at, ROOM - place)
    for i in range(size):
        row[OCTETS + place + i] = b[at + i]
    for i in range(size):
        row[MARKS + place + i] = 1
    filled = u16(row, FILLED)
    while filled < ROOM and row[MARKS + filled]:
        filled += 1
    put16(row, FILLED, filled)
    return filled


@kernel
def shift_row(row: Octets, octets: int) -> None:
    """Drop that many octets from the start of a row, which were never filled."""
    for i in range(ROOM - octets):
        row[OCTETS + i] = row[OCTETS + i + octets]
        row[MARKS + i] = row[MARKS + i + octets]
    for i in range(MARKS + ROOM - octets, ROW):
        row[i] = 0


@kernel
def keep_id(row: Octets, b: Octets, at: int, size: int) -> None:
    """Remember the connection id, at most 20 octets, that made a flow's keys."""
    row[ID_SIZE] = size
    for i in range(size):
        row[ID + i] = b[at + i]
