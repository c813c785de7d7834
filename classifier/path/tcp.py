# SPDX-License-Identifier: BSD-3-Clause
"""Inspect TCP payloads, segment by segment: TLS, HTTP, chat, telephony, framed STUN and RTP."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.apps.messenger import messenger_tcp
from midcall.classifier.apps.telephony import H225, H245, telephony_tcp
from midcall.classifier.apps.telephony import MESSAGE as SIP_MESSAGE
from midcall.classifier.apps.viber import viber_tcp
from midcall.classifier.apps.webrtc import IS_HTTP, IS_RTSP, NAMED_TLS, RTP_STREAM
from midcall.classifier.apps.whatsapp import whatsapp_tcp
from midcall.classifier.path.endpoint_learning import store_hosts
from midcall.classifier.path.rtp_evidence import on_rtcp, on_stream
from midcall.classifier.path.stun_evidence import on_stun
from midcall.classifier.path.tls_evidence import (
    await_certificate,
    on_more,
    on_nameless_tls,
    on_segment,
    on_server,
)
from midcall.classifier.path.verdict import apply_evidence, unless_excluded
from midcall.classifier.protocols.certificate import is_server_hello
from midcall.classifier.protocols.h323 import learn_channels
from midcall.classifier.protocols.http import read_http
from midcall.classifier.protocols.rtp import looks_like_rtp, read_rtcp, track_rtp
from midcall.classifier.protocols.rtsp import is_rtsp, learn_transport
from midcall.classifier.protocols.sdp import learn_sdp
from midcall.classifier.protocols.stun import read_stun
from midcall.classifier.protocols.tls import CLIENT_HELLO as TLS_HELLO
from midcall.classifier.protocols.tls import NOT_TLS, may_begin, read_tls
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_table import ALLOCATED, AWAITS, Numbers, Records
from midcall.classifier.state.hello_buffers import (
    EARLY_AT,
    EARLY_ROW,
    SIDE,
    TLS_ROW,
    put_piece,
    row_of,
    take_row,
)
from midcall.classifier.state.hostnames import name_rule
from midcall.classifier.state.packet_fields import (
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_PORT,
    SIGN_TCP_SEQUENCE,
    SIGN_UP,
)
from midcall.classifier.state.verdicts import CERTAIN, MESSAGING, NOT_CALL

#: A segment may precede the start of its hello only within this many packets of a flow.
EARLY = 5


@inlined
def inspect_tcp(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect one TCP segment. Only a ClientHello is reassembled from several segments."""
    at, end, size = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], signs[SIGN_PAYLOAD_SIZE]
    if end - at < 1:
        return
    first = note["seen"] == 1
    if I(flow["state"]) & AWAITS and not goes_on(note, hellos, signs):
        on_server(flow, meter, b, time, signs)
        return
    if note["hello"] and on_more(flow, note, context, hellos, meter, b, time, signs):
        return
    tls = read_tls(b, at, end, signs)
    if tls == TLS_HELLO or may_begin(b, at, end):
        on_segment(flow, note, context, hellos, meter, b, time, signs)
        return
    if tls != NOT_TLS and note["stun"] == 0:
        on_nameless_tls(flow, meter, context, b, time, signs)
        if is_server_hello(b, at, end):
            await_certificate(flow, I(signs[SIGN_UP]))
            if I(flow["state"]) & AWAITS:
                on_server(flow, meter, b, time, signs)
        return
    if is_rtsp(b, at, end):
        learn_transport(b, at, end, time, context, meter, signs)
        apply_evidence(flow, meter, IS_RTSP, 0, time)
        return
    if read_http(b, at, end, signs):
        on_host(flow, meter, b, time, signs)
        return
    evidence = unless_excluded(flow, whatsapp_tcp(b, at, end, first))
    evidence = evidence or unless_excluded(flow, messenger_tcp(b, at, end, first))
    port = min(I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT]))
    if evidence == 0:
        evidence = unless_excluded(flow, viber_tcp(b, at, end, size, port))
    if evidence == 0:
        evidence = unless_excluded(flow, telephony_tcp(note, b, at, end, size, port))
    if evidence:
        if evidence == SIP_MESSAGE:
            learn_sdp(b, at, end, (evidence >> 8) & 0xFF, time, context, meter)
            store_hosts(context, meter, b, at, end, size, time, signs)
        apply_evidence(flow, meter, evidence, size, time)
        if evidence in (H225, H245):
            learn_channels(b, at, end, time, context, meter, signs)
        return
    if I(flow["evidence"]) in (H225 & 0xFFFF, H245 & 0xFFFF):
        learn_channels(b, at, end, time, context, meter, signs)
    if first and note["hello"] == 0 and signs[SIGN_UP] and follows_handshake(flow):
        row_number = take_row(hellos, meter, note, EARLY_ROW, early_base(signs), I(signs[SIGN_UP]))
        put_piece(hellos[row_number], EARLY_AT, b, at, end)
    on_framed(flow, note, context, meter, b, at, end, size, time, signs)


@kernel
def goes_on(note: Any, hellos: Octets, signs: Numbers) -> bool:
    """Return whether a segment has the direction of its flow's incomplete ClientHello."""
    row_number = row_of(hellos, note, TLS_ROW)
    return row_number > 0 and u8(hellos[row_number], SIDE) == signs[SIGN_UP]


@kernel
def follows_handshake(flow: Any) -> bool:
    """Return whether a flow began with a few packets without payload: perhaps its handshake."""
    packets = I(flow["packets_up"]) + I(flow["packets_down"])
    return I(flow["payload_packets"]) < packets <= EARLY


@kernel
def early_base(signs: Numbers) -> int:
    """Return the sequence number at which the row of an early segment begins."""
    return (I(signs[SIGN_TCP_SEQUENCE]) - EARLY_AT) & 0xFFFFFFFF


@kernel
def on_host(flow: Any, meter: Numbers, b: Octets, time: int, signs: Numbers) -> None:
    """Classify plain HTTP by its Host field."""
    rule = I(0)
    if signs[SIGN_NAME_KIND]:
        rule = name_rule(b, signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH], 0, signs)
    if rule:
        apply_evidence(flow, meter, pack(rule >> 8, NAMED_TLS, NOT_CALL, MESSAGING), 0, time)
    else:
        apply_evidence(flow, meter, IS_HTTP, 0, time)


@kernel
def on_framed(
    flow: Any,
    note: Any,
    context: Records,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect STUN without framing, or STUN, RTP and RTCP behind RFC 4571 length words."""
    if read_stun(b, at, end, size, 0, signs) and u32(b, at + 4) == STUN_COOKIE:
        on_stun(flow, note, context, meter, b, size, time, signs)
        return
    if u8(b, at) >> 4 == 4 and (I(flow["state"]) & ALLOCATED or are_channels(b, at, end, size)):
        on_channels(flow, meter, note, b, at, end, size, time, signs)
        return
    for _ in range(16):
        if end - at < 14:
            return
        length = u16(b, at)
        if length < 8 or length + 2 > size:
            return
        at, size = at + 2, size - 2
        stop = min(end, at + length)
        if u8(b, at) < 2 and read_stun(b, at, stop, length, 1, signs):
            if u32(b, at + 4) == STUN_COOKIE:
                on_stun(flow, note, context, meter, b, length, time, signs)
        elif u8(b, at) >> 6 == 2:
            on_framed_media(flow, meter, note, b, at, stop, length, time, signs)
        at, size = at + length, size - length


@kernel
def are_channels(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether ChannelData messages with RTP or RTCP inside fill a segment exactly.

    So they are recognised in a flow whose TURN allocation came before the capture began.
    """
    for _ in range(16):
        if end - at < 16 or u16(b, at) >> 12 != 4 or u8(b, at + 4) >> 6 != 2:
            return False
        step = (u16(b, at + 2) + 7) & ~3
        if step >= size:
            return step == size
        at, size = at + step, size - step
    return False


@kernel
def on_channels(
    flow: Any,
    meter: Numbers,
    note: Any,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect RTP and RTCP in ChannelData over TCP, padded to 4 octets (RFC 8656, 12.5)."""
    for _ in range(16):
        if end - at < 12 or not 0x4000 <= u16(b, at) <= 0x4FFF:
            return
        length = u16(b, at + 2)
        if length + 4 > size:
            return
        if u8(b, at + 4) >> 6 == 2:
            stop = min(end, at + 4 + length)
            on_framed_media(flow, meter, note, b, at + 4, stop, length, time, signs)
        step = (length + 7) & ~3
        at, size = at + step, size - step


@kernel
def on_framed_media(
    flow: Any,
    meter: Numbers,
    note: Any,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect RTP or RTCP in an RFC 4571 frame."""
    source = read_rtcp(b, at, end, size)
    if source:
        on_rtcp(flow, meter, note, b, at, source - 1, time)
    elif looks_like_rtp(b, at, end, size):
        track = track_rtp(note, b, at, end, time, signs)
        if track >= 0:
            run, payload_type = I(note["rtp_run"][track]), I(note["rtp_type"][track])
            if flow["verdict"] == CERTAIN:
                on_stream(flow, meter, note, b, at, run, payload_type, False, time, signs)
            elif run >= 5:
                apply_evidence(flow, meter, RTP_STREAM, payload_type, time)
