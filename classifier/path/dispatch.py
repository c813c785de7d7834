# SPDX-License-Identifier: BSD-3-Clause
"""Dispatch each payload to the reader of its protocol, and assign notes to flows."""

from __future__ import annotations

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.apps.webrtc import NOT_INSPECTED, NOTHING_FOUND
from midcall.classifier.path.endpoint_learning import ask_context, inspect_dns
from midcall.classifier.path.give_up import finish, limit_reached
from midcall.classifier.path.tcp import inspect_tcp
from midcall.classifier.path.udp import inspect_udp
from midcall.classifier.path.verdict import apply_evidence, is_final, settle_flow
from midcall.classifier.protocols.dns import PORTS as DNS_PORTS
from midcall.classifier.state.features import KEPT, observe
from midcall.classifier.state.flow_scratch import clear, give_back, next_victim, take_note
from midcall.classifier.state.flow_table import (
    METER_INSPECTED,
    METER_NO_PAYLOAD,
    METER_RECYCLED,
    Numbers,
    Records,
)
from midcall.classifier.state.hello_buffers import TLS_ROW, drop_row, row_of
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_PORT,
    SIGN_UP,
)


@inlined
def inspect(
    flows: Records,
    number: int,
    notes: Records,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    model: Records,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect one payload of a flow that is not settled."""
    flow = flows[number]
    meter[METER_INSPECTED] += 1
    proto = signs[SIGN_PROTO]
    if meter[METER_NO_PAYLOAD]:
        observe_only(flows, number, notes, meter, model, time, signs)
        return
    if proto == UDP:
        if signs[SIGN_SOURCE_PORT] in DNS_PORTS or signs[SIGN_TARGET_PORT] in DNS_PORTS:
            if inspect_dns(flow, context, meter, b, time, signs):
                return
    elif proto != TCP:
        apply_evidence(flow, meter, NOT_INSPECTED, 0, time)
        settle_flow(flow)
        return
    note = notes[note_of(flows, number, notes, meter, model, time)]
    note["seen"] = min(I(note["seen"]) + 1, 65535)
    if proto == UDP:
        observe(note, signs[SIGN_PAYLOAD_SIZE], time, signs[SIGN_UP])
        inspect_udp(flow, note, context, hellos, meter, b, time, signs)
        ask_context(flow, meter, note, context, b, time, signs)
    else:
        inspect_tcp(flow, note, context, hellos, meter, b, time, signs)
    if limit_reached(flow, note, model, proto):
        finish(flow, note, meter, model)
    if is_final(flow) and row_of(hellos, note, TLS_ROW) == 0:
        settle_flow(flow)
        drop_row(hellos, note)
        give_back(notes, meter, I(flow["note"]) - 1)
        flow["note"] = 0


@kernel
def observe_only(
    flows: Records,
    number: int,
    notes: Records,
    meter: Numbers,
    model: Records,
    time: int,
    signs: Numbers,
) -> None:
    """Classify a flow by sizes, gaps and directions alone. No octet of its payload is read."""
    flow = flows[number]
    if signs[SIGN_PROTO] != UDP:
        apply_evidence(
            flow, meter, NOT_INSPECTED if signs[SIGN_PROTO] != TCP else NOTHING_FOUND, 0, time
        )
        settle_flow(flow)
        return
    note = notes[note_of(flows, number, notes, meter, model, time)]
    note["seen"] = min(I(note["seen"]) + 1, 65535)
    observe(note, signs[SIGN_PAYLOAD_SIZE], time, signs[SIGN_UP])
    if note["seen"] >= KEPT:
        finish(flow, note, meter, model)
        settle_flow(flow)
        give_back(notes, meter, I(flow["note"]) - 1)
        flow["note"] = 0


@inlined
def note_of(
    flows: Records, number: int, notes: Records, meter: Numbers, model: Records, time: int
) -> int:
    """Return the number of a flow's note; takes a free one, or another flow's, if it has none."""
    flow = flows[number]
    if flow["note"]:
        return I(flow["note"]) - 1
    note_number = take_note(notes, meter)
    if note_number < 0:
        note_number = next_victim(notes, meter)
        victim = flows[notes[note_number]["flow"]]
        finish(victim, notes[note_number], meter, model)
        settle_flow(victim)
        victim["note"] = 0
        meter[METER_RECYCLED] += 1
    clear(notes[note_number], number, time)
    flow["note"] = note_number + 1
    return note_number
