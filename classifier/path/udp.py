# SPDX-License-Identifier: BSD-3-Clause
"""Inspect UDP payloads: unwrap STUN and TURN, then try media, DTLS, QUIC and proprietary framings.

The first octet orders the attempts as in RFC 9443, but excludes none of them: many of these apps
violate it. A payload that a standard reader cannot validate as a whole is passed on to the
proprietary readers.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.apps.agora import agora_message
from midcall.classifier.apps.discord import discord_message
from midcall.classifier.apps.facetime import SIP_ON_PORT, facetime_message
from midcall.classifier.apps.facetime import own_port as facetime_port
from midcall.classifier.apps.gamevoice import gamevoice_message
from midcall.classifier.apps.imo import imo_message
from midcall.classifier.apps.line import line_message
from midcall.classifier.apps.meet import CERTIFICATE as MEET_CERTIFICATE
from midcall.classifier.apps.skype import FRAME, classic_data, classic_skype, counts_groups
from midcall.classifier.apps.snapchat import repeats_id
from midcall.classifier.apps.teams import teams_message
from midcall.classifier.apps.telegram import telegram_message
from midcall.classifier.apps.telephony import MEGACO, MGCP, telephony_udp
from midcall.classifier.apps.telephony import MESSAGE as SIP_MESSAGE
from midcall.classifier.apps.viber import STREAM as VIBER_STREAM
from midcall.classifier.apps.viber import viber_message
from midcall.classifier.apps.webex import webex_message
from midcall.classifier.apps.webrtc import DTLS_SRTP, IS_QUIC, NAMED_CERTIFICATE, TURN_USE
from midcall.classifier.apps.wechat import wechat_message
from midcall.classifier.apps.zoom import own_port as zoom_port
from midcall.classifier.apps.zoom import zoom_message
from midcall.classifier.path.endpoint_learning import store_hosts, store_sources, teach
from midcall.classifier.path.quic_evidence import INITIALS, on_chlo, on_initials
from midcall.classifier.path.rtp_evidence import on_media
from midcall.classifier.path.stun_evidence import by_port, on_stun
from midcall.classifier.path.verdict import apply_evidence, is_named, unless_excluded
from midcall.classifier.protocols.certificate import dtls_certificate
from midcall.classifier.protocols.dtls import (
    CLIENT_HELLO_SRTP,
    NOT_DTLS,
    SERVER_HELLO_SRTP,
    read_dtls,
    read_greeting,
)
from midcall.classifier.protocols.gquic import read_chlo
from midcall.classifier.protocols.quic import is_quic
from midcall.classifier.protocols.rtp import looks_like_rtp, read_rtcp, track_rtp
from midcall.classifier.protocols.sdp import learn_sdp
from midcall.classifier.protocols.stun import is_channel_data, is_microsoft_frame, read_stun
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_table import ALLOCATED, QUIC, Numbers, Records
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_SOURCE_PORT,
    SIGN_STUN,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGN_TARGET_PORT,
    SIGN_UP,
)
from midcall.classifier.state.verdicts import CERTAIN, MEET, SETUP, SKYPE, VIBER

#: The most levels of encapsulation (TURN, ChannelData, Microsoft frames) that are unwrapped.
NESTING = 4


@inlined
def inspect_udp(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect a UDP payload, and the packets that TURN encapsulates in it."""
    at, end, size = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], signs[SIGN_PAYLOAD_SIZE]
    outer, relayed = I(0), False
    for _ in range(NESTING):
        if end - at < 1:
            break
        if read_stun(b, at, end, size, 1, signs):
            outer = outer or I(signs[SIGN_STUN])
            on_stun(flow, note, context, meter, b, size, time, signs)
            if signs[SIGN_STUN_DATA] == 0:
                break
            at, stop = signs[SIGN_STUN_DATA], signs[SIGN_STUN_DATA_END]
            end, size, relayed = min(end, stop), stop - at, True
            continue
        if is_channel_data(b, at, end, size) and carries(b, at + 4, end, u16(b, at + 2)):
            size = u16(b, at + 2)
            at, relayed = at + 4, True
            end = min(end, at + size)
            if I(flow["state"]) & ALLOCATED or u8(b, at) >> 6 != 2:
                apply_evidence(flow, meter, TURN_USE, 0, time)
            continue
        if is_microsoft_frame(b, at, end, size):
            apply_evidence(flow, meter, FRAME, 0, time)
            at, size, relayed = at + 12, size - 12, True
            continue
        on_payload(flow, note, context, hellos, meter, b, at, end, size, relayed, time, signs)
        break
    signs[SIGN_STUN] = outer


@kernel
def carries(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether the packet inside ChannelData is RTP, RTCP, STUN or DTLS."""
    if end - at < 8:
        return False
    first_octet = u8(b, at)
    if first_octet >> 6 == 2:
        return read_rtcp(b, at, end, size) > 0 or looks_like_rtp(b, at, end, size)
    if first_octet < 2:
        return end - at >= 20 and u32(b, at + 4) == STUN_COOKIE
    return read_dtls(b, at, end, size) != NOT_DTLS


@inlined
def on_payload(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    size: int,
    relayed: bool,
    time: int,
    signs: Numbers,
) -> None:
    """Inspect a payload that is neither STUN nor a relay's frame."""
    first_octet = u8(b, at)
    if first_octet >> 6 == 2 and on_media(
        flow, meter, note, context, b, at, end, size, relayed, time, signs
    ):
        store_sources(flow, note, context, meter, time)
        teach(flow, context, meter, b, time, signs)
        return
    if 20 <= first_octet <= 25:
        dtls = read_dtls(b, at, end, size)
        if dtls != NOT_DTLS:
            srtp = read_greeting(note, hellos, meter, b, at, end, signs)
            if srtp or dtls in (CLIENT_HELLO_SRTP, SERVER_HELLO_SRTP):
                apply_evidence(flow, meter, DTLS_SRTP, 0, time)
                by_port(flow, meter, time, signs)
            if not is_named(flow):
                on_dtls(flow, meter, b, at, end, time, signs)
            return
    if is_quic(b, at, end):
        if read_chlo(b, at, end, signs):
            on_chlo(flow, meter, time, signs)
        flow["state"] = I(flow["state"]) | QUIC
        if note["greets"] < INITIALS:
            on_initials(flow, note, hellos, meter, b, at, end, time, signs)
        apply_evidence(flow, meter, IS_QUIC, 0, time)
        return
    if first_octet >> 6 == 1 and repeats_id(note, b, at, end):
        flow["state"] = I(flow["state"]) | QUIC
    source_port, target_port = signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT]
    evidence = unless_excluded(flow, telephony_udp(b, at, end, size, source_port, target_port))
    argument = u16(b, at) if end - at >= 4 else I(0)
    if evidence == SIP_MESSAGE:
        if facetime_port(source_port) and facetime_port(target_port):
            evidence, argument = SIP_ON_PORT, min(source_port, target_port)
        else:
            learn_sdp(b, at, end, (evidence >> 8) & 0xFF, time, context, meter)
            store_hosts(context, meter, b, at, end, size, time, signs)
    if evidence in (MGCP, MEGACO):
        learn_sdp(b, at, end, (evidence >> 8) & 0xFF, time, context, meter)
    if evidence == 0:
        evidence = on_proprietary(flow, note, hellos, meter, b, at, end, size, time, signs)
    if (evidence >> 8) & 0xFF == VIBER and end - at >= 4:
        argument = u8(b, at + 2) | (u8(b, at + 3) << 8)
    if apply_evidence(flow, meter, evidence, argument, time):
        teach(flow, context, meter, b, time, signs)


@kernel
def on_dtls(
    flow: Any, meter: Numbers, b: Octets, at: int, end: int, time: int, signs: Numbers
) -> None:
    """Identify the app of a DTLS flow by its server's certificate, or by a port of one app."""
    rule = dtls_certificate(b, at, end, signs)
    if rule >> 8 == MEET:
        apply_evidence(flow, meter, MEET_CERTIFICATE, 0, time)
    elif rule:
        apply_evidence(flow, meter, pack(rule >> 8, NAMED_CERTIFICATE, CERTAIN, SETUP), 0, time)
    elif zoom_port(I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT])):
        by_port(flow, meter, time, signs)


@kernel
def on_proprietary(
    flow: Any,
    note: Any,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> int:
    """Return the evidence of the first proprietary framing that matches, 0 for none."""
    up = I(signs[SIGN_UP])
    source_port, target_port = I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT])
    evidence = unless_excluded(flow, discord_message(b, at, end, size))
    if evidence == 0:
        evidence = unless_excluded(flow, line_message(note, b, at, end, size, up))
    if evidence == 0:
        evidence = unless_excluded(flow, on_viber(flow, note, b, at, end, size, time, signs))
    if evidence == 0:
        evidence = unless_excluded(flow, telegram_message(note, b, at, end, size, up))
    if evidence == 0:
        evidence = unless_excluded(
            flow, zoom_message(note, b, at, end, size, zoom_port(source_port, target_port), up)
        )
    if evidence == 0:
        evidence = unless_excluded(flow, teams_message(b, at, end, size))
        evidence = evidence or unless_excluded(flow, agora_message(b, at, end, size))
    if evidence == 0:
        evidence = unless_excluded(
            flow, webex_message(note, b, at, end, size, up, source_port, target_port)
        )
        evidence = evidence or unless_excluded(flow, imo_message(note, b, at, end, size))
        evidence = evidence or unless_excluded(flow, wechat_message(note, b, at, end, size, up))
    if evidence == 0:
        evidence = unless_excluded(flow, facetime_message(note, b, at, end, size, up))
        evidence = evidence or gamevoice_message(note, b, at, end, size)
    if evidence == 0:
        passed = time - I(note["first_time"])
        evidence = classic_skype(note, b, at, end, up, passed, I(flow["app"]) == SKYPE)
        if evidence == 0 and counts_groups(note):
            evidence = unless_excluded(flow, classic_data(note, hellos, meter, b, at, end))
    return evidence


@kernel
def on_viber(
    flow: Any, note: Any, b: Octets, at: int, end: int, size: int, time: int, signs: Numbers
) -> int:
    """Return the evidence of a Viber message, or of RTP behind its session word."""
    evidence = viber_message(note, b, at, end, size)
    if evidence or end - at < 14 or u8(b, at + 1) & 0x80:
        return evidence
    if not looks_like_rtp(b, at + 2, end, size - 2) or u32(b, at + 10) == 0:
        return 0
    track = track_rtp(note, b, at + 2, end, time, signs)
    if track < 0:
        return 0
    needed = 1 if flow["app"] == VIBER else 3
    return VIBER_STREAM if note["rtp_run"][track] >= needed else 0
