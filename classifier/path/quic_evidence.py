# SPDX-License-Identifier: BSD-3-Clause
"""QUIC judged by what its client's Initials say."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.apps.webrtc import NAMED_QUIC, OPEN_QUIC
from midcall.classifier.path.tls_evidence import on_name, tell_name
from midcall.classifier.path.verdict import conclude
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
from midcall.classifier.state.verdicts import NONE as NOBODY
from midcall.classifier.state.verdicts import NOT_CALL, UNDECIDED

#: Initials of a flow that are opened, and of one datagram.
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
    """Open the Initials at the head of a datagram until the client's hello is whole."""
    for _ in range(COALESCED):
        salt, number, stop = initial_at(b, at, end)
        if salt < 0 or note["greets"] >= INITIALS:
            return
        which = row_of(hellos, note, QUIC_ROW)
        size = u8(b, at + 5)
        if which == 0 and size < FIRST_ID:
            return
        note["greets"] = I(note["greets"]) + 1
        fresh = which == 0
        if fresh:
            which = take_row(hellos, meter, note, QUIC_ROW, 0, I(signs[SIGN_UP]))
        row, plain = hellos[which], hellos[0]
        meter[METER_INITIALS] += 1
        make_keys(b, at + 6, size, salt, signs)
        opened = open_initial(b, at, end, salt, number, stop, row, plain, signs)
        if opened and fresh:
            keep_id(row, b, at + 6, size)
        elif not opened and not fresh:  # the server chose another id meanwhile; the keys stay
            make_keys(row, ID, u8(row, ID_SIZE), salt, signs)
            opened = open_initial(b, at, end, salt, number, stop, row, plain, signs)
        if opened:
            on_quic_hello(flow, meter, note, hellos, which, time, signs)
        elif fresh:
            drop_row(hellos, note)
        at = stop


@kernel
def on_quic_hello(
    flow: Any, meter: Numbers, note: Any, hellos: Octets, which: int, time: int, signs: Numbers
) -> None:
    """Judge a QUIC flow by what its client's hello has said so far."""
    row = hellos[which]
    read_quic_row(row, signs)
    told = tell_name(row, signs)
    rule = text_rule(signs) if told else I(0)
    whole = 0 < u16(row, NEED) <= u16(row, FILLED)
    if rule or whole:
        # What was said before the name was whole gives way to it.
        if flow["verdict"] == NOT_CALL and flow["app"] == NOBODY:
            flow["verdict"] = UNDECIDED
    if rule:
        on_name(flow, meter, rule, NAMED_QUIC, time)
    elif whole:
        conclude(flow, meter, OPEN_QUIC, 0, time)
    if whole:
        note["greets"] = GREETED
        drop_row(hellos, note)


@kernel
def on_chlo(flow: Any, meter: Numbers, time: int, signs: Numbers) -> None:
    """Judge Google's QUIC by the host name that its CHLO told in plain."""
    rule = text_rule(signs)
    if rule:
        on_name(flow, meter, rule, NAMED_QUIC, time)
