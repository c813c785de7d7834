# SPDX-License-Identifier: BSD-3-Clause
"""Classify TLS by its ClientHello, complete in one segment or reassembled from several."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.apps.webrtc import IS_TLS, NAMED_CERTIFICATE, NAMED_DNS, NAMED_TLS
from midcall.classifier.path.endpoint_learning import CLIENT_HINT, recall_both
from midcall.classifier.path.verdict import apply_evidence
from midcall.classifier.protocols.certificate import certificate_rule, ends_plain
from midcall.classifier.protocols.tls import CLIENT_HELLO as TLS_HELLO
from midcall.classifier.protocols.tls import hello_size, read_tls
from midcall.classifier.protocols.tls import read_row as read_tls_row
from midcall.classifier.state.endpoint_table import LEARN_DNS, learn, packet_key
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_table import AWAITS, SERVER_UP, Numbers, Records
from midcall.classifier.state.hello_buffers import (
    BASE,
    EARLY_AT,
    EARLY_ROW,
    FILLED,
    KIND,
    NAMED,
    NEED,
    ROOM,
    SIDE,
    TLS_ROW,
    drop_row,
    put32,
    put_piece,
    row_of,
    shift_row,
    take_row,
)
from midcall.classifier.state.hostnames import text_rule
from midcall.classifier.state.packet_fields import (
    NAME_SNI,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_SOURCE_AT,
    SIGN_TCP_SEQUENCE,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
    SIGN_UP,
    SIGN_VERSION,
)
from midcall.classifier.state.verdicts import CERTAIN, MESSAGING, NOT_CALL, SETUP, TEAMS, UNDECIDED
from midcall.classifier.state.verdicts import NONE as NO_APP

#: The most segments of one ClientHello that are reassembled.
SEGMENTS = 64


@kernel
def tell_name(row: Octets, signs: Numbers) -> bool:
    """Return whether `signs` hold a name that this row had not yielded before; marks the row."""
    if signs[SIGN_NAME_KIND] and row[NAMED] == 0:
        row[NAMED] = 1
        signs[SIGN_NAME_AT] = 0
        return True
    signs[SIGN_NAME_AT] = signs[SIGN_NAME_LENGTH] = signs[SIGN_NAME_KIND] = 0
    return False


@kernel
def on_segment(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect a segment that begins a ClientHello; store it if the hello continues in others."""
    at, end, size = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], signs[SIGN_PAYLOAD_SIZE]
    hello_length = hello_size(b, at, end)
    named = signs[SIGN_NAME_KIND] != 0
    incomplete = end - at == size and (hello_length == 0 or hello_length > size)
    if named or not incomplete:
        on_hello(flow, context, meter, b, time, signs)
    if not incomplete:
        return
    base, row_number = I(signs[SIGN_TCP_SEQUENCE]), row_of(hellos, note, EARLY_ROW)
    offset = (base - u32(hellos[row_number], BASE)) & 0xFFFFFFFF
    if row_number and offset <= EARLY_AT:
        row = hellos[row_number]
        row[KIND] = TLS_ROW
        put32(row, BASE, base)
        shift_row(row, offset)
    else:
        row_number = take_row(hellos, meter, note, TLS_ROW, base, I(signs[SIGN_UP]))
        row = hellos[row_number]
    note["greets"] = 1
    row[NAMED] = 1 if named else 0
    put_piece(row, 0, b, at, end)
    if u16(row, FILLED) > size:
        on_row(flow, note, context, hellos, meter, row_number, b, time, signs)


@kernel
def on_more(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> bool:
    """Add a segment to the ClientHello stored for its flow; returns whether it belongs there."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    early = row_of(hellos, note, EARLY_ROW)
    row_number = early or row_of(hellos, note, TLS_ROW)
    same_side = row_number > 0 and u8(hellos[row_number], SIDE) == signs[SIGN_UP]
    if early and same_side and read_tls(b, at, end, signs) == TLS_HELLO:
        return False
    if same_side and end - at == signs[SIGN_PAYLOAD_SIZE] and note["greets"] < SEGMENTS:
        row = hellos[row_number]
        offset = (I(signs[SIGN_TCP_SEQUENCE]) - u32(row, BASE)) & 0xFFFFFFFF
        if offset < ROOM:
            put_piece(row, offset, b, at, end)
            if early:
                return False
            note["greets"] = I(note["greets"]) + 1
            return on_row(flow, note, context, hellos, meter, row_number, b, time, signs)
        if offset > 0xFFFF0000 and early == 0:  # a retransmission or a keep-alive probe
            note["greets"] = I(note["greets"]) + 1
            return True
    drop_row(hellos, note)
    if early == 0:
        on_nameless_tls(flow, meter, context, b, time, signs)
    return False


@kernel
def on_row(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    row_number: int,
    b: Octets,
    time: int,
    signs: Numbers,
) -> bool:
    """Classify a TLS flow by the part of its ClientHello read so far; returns whether it is TLS."""
    row = hellos[row_number]
    named = signs[SIGN_NAME_KIND] != 0  # the segment itself holds the name
    start, length = signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH]
    message = read_tls_row(row, signs)
    new_name = tell_name(row, signs)
    if named:
        signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = start, length
        signs[SIGN_NAME_KIND] = NAME_SNI
    complete = 0 < u16(row, NEED) <= u16(row, FILLED)
    if message != TLS_HELLO or complete:
        drop_row(hellos, note)
    if message != TLS_HELLO:
        return False
    if new_name or (complete and row[NAMED] == 0):
        on_hello(flow, context, meter, b, time, signs)
    return True


@kernel
def on_hello(
    flow: Any, context: Records, meter: Numbers, b: Octets, time: int, signs: Numbers
) -> None:
    """Classify a TLS ClientHello by its server name, else by the DNS answer for the address."""
    rule = text_rule(signs) if signs[SIGN_NAME_KIND] else I(0)
    if rule == 0:
        on_nameless_tls(flow, meter, context, b, time, signs)
        if signs[SIGN_NAME_KIND] == 0 or is_address(signs):
            await_certificate(flow, 1 - I(signs[SIGN_UP]))
        return
    on_name(flow, meter, rule, NAMED_TLS, time)
    if rule >> 8 == TEAMS:
        key = packet_key(b, signs[SIGN_SOURCE_AT], signs[SIGN_VERSION], CLIENT_HINT)
        learn(context, meter, key, TEAMS, MESSAGING, LEARN_DNS, time)


@kernel
def is_address(signs: Numbers) -> bool:
    """Return whether a host name is a literal IPv4 address (RFC 6066 forbids it; some send it)."""
    last = I(signs[SIGN_TEXT + max(I(signs[SIGN_TEXT_LENGTH]) - 1, 0)])
    return 48 <= last <= 57


@kernel
def on_name(flow: Any, meter: Numbers, rule: int, evidence_number: int, time: int) -> None:
    """Classify a flow by the app and role of a host name."""
    app, role = rule >> 8, rule & 0xFF
    verdict = CERTAIN if role == SETUP else NOT_CALL
    apply_evidence(flow, meter, pack(app, evidence_number, verdict, role), 0, time)


@kernel
def on_nameless_tls(
    flow: Any, meter: Numbers, context: Records, b: Octets, time: int, signs: Numbers
) -> None:
    """Classify TLS without a server name by DNS, else as TLS of no known app."""
    known = recall_both(context, b, 0, time, signs)
    if known >> 16 == SETUP:
        apply_evidence(flow, meter, pack(known & 0xFF, NAMED_DNS, CERTAIN, SETUP), 0, time)
    elif known:
        apply_evidence(flow, meter, pack(known & 0xFF, NAMED_DNS, NOT_CALL, MESSAGING), 0, time)
    else:
        apply_evidence(flow, meter, IS_TLS, 0, time)


@kernel
def await_certificate(flow: Any, side: int) -> None:
    """Keep a nameless TLS flow open until its server's certificate; side: SIGN_UP of the server."""
    if flow["verdict"] == NOT_CALL and flow["app"] == NO_APP:
        flow["state"] = (I(flow["state"]) | AWAITS) & ~SERVER_UP
        if side:
            flow["state"] = I(flow["state"]) | SERVER_UP


@kernel
def on_server(flow: Any, meter: Numbers, b: Octets, time: int, signs: Numbers) -> None:
    """Look for a known name in the server's packets that are not encrypted yet."""
    side = 1 if I(flow["state"]) & SERVER_UP else 0
    if signs[SIGN_UP] != side:
        return
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    rule = certificate_rule(b, at, end, signs)
    if rule:
        flow["verdict"] = UNDECIDED
        on_name(flow, meter, rule, NAMED_CERTIFICATE, time)
    if rule or ends_plain(b, at, end):
        flow["state"] = I(flow["state"]) & ~AWAITS
