# SPDX-License-Identifier: BSD-3-Clause
"""Classify QUIC by the ClientHello in its client's Initial packets."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.apps.webrtc import NAMED_QUIC, OPEN_QUIC
from midcall.classifier.path.tls_evidence import on_name, tell_name
from midcall.classifier.path.verdict import apply_evidence
from midcall.classifier.protocols.quic import FIRST_ID, initial_at, make_keys, open_initial
from midcall.classifier.protocols.quic import read_row as read_quic_row
from midcall.classifier.state.flow_table import METER_INITIALS, Numbers
from midcall.classifier.state.hello_buffers import (
    FILLED,
    GREETED,
    ID,
    ID_SIZE,
    NEED,
    QUIC_ROW,
    drop_row,
    keep_id,
    row_of,
    take_row,
)
from midcall.classifier.state.hostnames import text_rule
from midcall.classifier.state.packet_fields import SIGN_UP
from midcall.classifier.state.verdicts import NONE as NO_APP
from midcall.classifier.state.verdicts import NOT_CALL, UNDECIDED

#: The most Initial packets that are decrypted: of a flow, and of one datagram.
INITIALS, COALESCED = 8, 3


@kernel
def on_initials(
    flow: Any,
    note: Any,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    time: int,
    signs: Numbers,
) -> None:
    """Decrypt the Initial packets at the start of a datagram until the ClientHello is complete."""
    for _ in range(COALESCED):
        salt, number_at, stop = initial_at(b, at, end)
        if salt < 0 or note["greets"] >= INITIALS:
            return
        row_number = row_of(hellos, note, QUIC_ROW)
        size = u8(b, at + 5)
        if row_number == 0 and size < FIRST_ID:
            return
        note["greets"] = I(note["greets"]) + 1
        new_row = row_number == 0
        if new_row:
            row_number = take_row(hellos, meter, note, QUIC_ROW, 0, I(signs[SIGN_UP]))
        row, plain = hellos[row_number], hellos[0]
        meter[METER_INITIALS] += 1
        make_keys(b, at + 6, size, salt, signs)
        opened = open_initial(b, at, end, salt, number_at, stop, row, plain, signs)
        if opened and new_row:
            keep_id(row, b, at + 6, size)
        elif not opened and not new_row:  # the server chose another id meanwhile; the keys stay
            make_keys(row, ID, u8(row, ID_SIZE), salt, signs)
            opened = open_initial(b, at, end, salt, number_at, stop, row, plain, signs)
        if opened:
            on_quic_hello(flow, meter, note, hellos, row_number, time, signs)
        elif new_row:
            drop_row(hellos, note)
        at = stop


@kernel
def on_quic_hello(
    flow: Any, meter: Numbers, note: Any, hellos: Octets, row_number: int, time: int, signs: Numbers
) -> None:
    """Classify a QUIC flow by the part of its ClientHello read so far."""
    row = hellos[row_number]
    read_quic_row(row, signs)
    new_name = tell_name(row, signs)
    rule = text_rule(signs) if new_name else I(0)
    complete = 0 < u16(row, NEED) <= u16(row, FILLED)
    if rule or complete:
        # The name replaces a verdict that was given before the name was complete.
        if flow["verdict"] == NOT_CALL and flow["app"] == NO_APP:
            flow["verdict"] = UNDECIDED
    if rule:
        on_name(flow, meter, rule, NAMED_QUIC, time)
    elif complete:
        apply_evidence(flow, meter, OPEN_QUIC, 0, time)
    if complete:
        note["greets"] = GREETED
        drop_row(hellos, note)


@kernel
def on_chlo(flow: Any, meter: Numbers, time: int, signs: Numbers) -> None:
    """Classify Google's QUIC by the host name in its unencrypted CHLO."""
    rule = text_rule(signs)
    if rule:
        on_name(flow, meter, rule, NAMED_QUIC, time)
