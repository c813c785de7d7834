# SPDX-License-Identifier: BSD-3-Clause
"""A pool of buffers that reassemble hellos from TLS segments, QUIC frames or DTLS fragments.

`hellos` is uint8[HELLOS, ROW]. Row 0 is scratch (the plain text of a QUIC packet). Every other row
holds one flow's hello: a header, ROOM octets at their offset in the hello, and a mark per octet
received. A flow's note holds the number of its row, and the row holds the number of its flow, so a
row reassigned to another flow is detected. When all rows are in use, the next in turn is reassigned
and counted.
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
NAMED = 13  # 1: its host name was already read
KIND = 14
ID_SIZE = 15  # the connection id that made the keys (QUIC)
ID = 16
OCTETS = 64
MARKS = OCTETS + ROOM
ROW = MARKS + ROOM

#: Kinds of rows; EARLY is a segment that came before the start of its hello.
TLS_ROW, EARLY_ROW, DTLS_ROW, QUIC_ROW = 1, 2, 3, 4
#: A row without a hello: counts of 4-bit groups (classifier.apps.skype).
SKYPE_ROW = 5
#: Offset of the first octets of an EARLY_ROW, which leaves room for octets before them.
EARLY_AT = ROOM // 2
#: `greets` of a note whose flow's hello is complete.
GREETED = 255
#: The most rows that are searched for a free one.
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
    """Return the number of a flow's row of this kind, 0 if it has none or lost it."""
    row_number = I(note["hello"])
    if row_number == 0:
        return 0
    row = hellos[row_number]
    if u32(row, OWNER) != I(note["flow"]) + 1 or u8(row, KIND) != kind:
        return 0
    return row_number


@kernel
def take_row(hellos: Octets, meter: Numbers, note: Any, kind: int, base: int, side: int) -> int:
    """Assign an empty row to a flow; returns the row's number."""
    drop_row(hellos, note)
    hand, count = I(meter[METER_HELLO_HAND]), len(hellos) - 1
    row_number = I(0)
    for step in range(min(SEARCH, count)):
        candidate = 1 + (hand + step) % count
        if u32(hellos[candidate], OWNER) == 0:
            row_number = candidate
            break
    if row_number == 0:
        row_number = 1 + (hand + SEARCH) % count
        meter[METER_HELLOS_LOST] += 1
    meter[METER_HELLO_HAND] = row_number - 1
    row = hellos[row_number]
    for i in range(OCTETS):
        row[i] = 0
    for i in range(MARKS, ROW):
        row[i] = 0
    put32(row, OWNER, I(note["flow"]) + 1)
    put32(row, BASE, base)
    row[KIND], row[SIDE] = kind, side
    note["hello"] = row_number
    return row_number


@kernel
def drop_row(hellos: Octets, note: Any) -> None:
    """Release the row of a flow, if it has one."""
    row_number = I(note["hello"])
    if row_number:
        if u32(hellos[row_number], OWNER) == I(note["flow"]) + 1:
            put32(hellos[row_number], OWNER, 0)
        note["hello"] = 0


@kernel
def put_piece(row: Octets, offset: int, b: Octets, at: int, end: int) -> int:
    """Copy b[at:end] to an offset of the hello, as far as it fits; returns FILLED."""
    size = min(end - at, ROOM - offset)
    for i in range(size):
        row[OCTETS + offset + i] = b[at + i]
    for i in range(size):
        row[MARKS + offset + i] = 1
    filled = u16(row, FILLED)
    while filled < ROOM and row[MARKS + filled]:
        filled += 1
    put16(row, FILLED, filled)
    return filled


@kernel
def shift_row(row: Octets, octets: int) -> None:
    """Remove a number of unfilled octets from the start of a row."""
    for i in range(ROOM - octets):
        row[OCTETS + i] = row[OCTETS + i + octets]
        row[MARKS + i] = row[MARKS + i + octets]
    for i in range(MARKS + ROOM - octets, ROW):
        row[i] = 0


@kernel
def keep_id(row: Octets, b: Octets, at: int, size: int) -> None:
    """Store the connection id, at most 20 octets, from which a flow's keys were derived."""
    row[ID_SIZE] = size
    for i in range(size):
        row[ID + i] = b[at + i]
