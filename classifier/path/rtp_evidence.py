# SPDX-License-Identifier: BSD-3-Clause
"""Classify RTP and RTCP: an app-specific stream, media of a known call, or unattributed."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u32
from midcall.classifier.apps.discord import discord_rtp
from midcall.classifier.apps.facetime import OPENING as FACETIME_OPENING
from midcall.classifier.apps.facetime import facetime_rtp
from midcall.classifier.apps.kakaotalk import kakaotalk_rtp
from midcall.classifier.apps.line import line_rtp
from midcall.classifier.apps.meta import MESSENGER_STREAM
from midcall.classifier.apps.signal import signal_rtcp, signal_rtp
from midcall.classifier.apps.skype import family_rtp
from midcall.classifier.apps.snapchat import REPORTS as SNAPCHAT_REPORTS
from midcall.classifier.apps.snapchat import STREAM as SNAPCHAT_STREAM
from midcall.classifier.apps.webrtc import (
    ANNOUNCED,
    BROADCAST,
    MEDIA_OF_CALL,
    NAMED_SOURCE,
    RELAYED_MEDIA,
    RTCP_COMPOUND,
    RTCP_STREAM,
    RTP_STREAM,
    SAME_HOST,
)
from midcall.classifier.apps.whatsapp import whatsapp_probe, whatsapp_rtp
from midcall.classifier.path.verdict import apply_evidence, is_named, unless_excluded
from midcall.classifier.protocols.rtp import (
    clock_rate,
    fills,
    is_report,
    looks_like_rtp,
    read_rtcp,
    ticks_per_packet,
    track_rtp,
)
from midcall.classifier.state.endpoint_table import HOST_HINT, TYPE_HINT, app_of_source, host_app
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.flow_table import QUIC, Numbers, Records
from midcall.classifier.state.packet_fields import (
    SIGN_RTP_PROFILE,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_VERSION,
)
from midcall.classifier.state.verdicts import CERTAIN, CONTROL, MEDIA, META, RTC, SETUP, SIGNAL

#: The largest payload type whose meaning RFC 3551 fixes.
STATIC = 34
#: Payload types of MPEG audio, video and transport streams (RFC 3551, section 6).
MPEG = (14, 32, 33)


@kernel
def best_run(note: Any) -> int:
    """Return the longest run, in packets, of a note's RTP tracks."""
    best = I(0)
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255:
            best = max(best, I(note["rtp_run"][track]))
    return best


@kernel
def on_media(
    flow: Any,
    meter: Numbers,
    note: Any,
    context: Records,
    b: Octets,
    at: int,
    end: int,
    size: int,
    relayed: bool,
    time: int,
    signs: Numbers,
) -> bool:
    """Inspect RTP or RTCP; returns whether the payload certainly is one of them."""
    source = read_rtcp(b, at, end, size)
    if source:
        apply_evidence(flow, meter, whatsapp_probe(b, at, end), 0, time)
        if note["rtcp"]:
            apply_evidence(flow, meter, signal_rtcp(b, at, end, size, source - 1), source - 1, time)
        if not is_named(flow):
            by_source(flow, meter, context, source - 1, CONTROL, time)
            if fills(b, at, end, size) and not I(flow["state"]) & QUIC:
                apply_evidence(flow, meter, RTCP_COMPOUND, 0, time)
        return on_rtcp(flow, meter, note, b, at, source - 1, time)
    if not looks_like_rtp(b, at, end, size):
        return False
    track = track_rtp(note, b, at, end, time, signs)
    if track < 0:
        if signs[SIGN_RTP_PROFILE] - 1 == 0xDEBE:
            apply_evidence(flow, meter, whatsapp_rtp(u8(b, at + 1) & 0x7F, 0xDEBE, 1), 0, time)
        return False
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    evidence = app_of_rtp(flow, note, track, signs)
    argument = kind
    if evidence == 0:
        source_port, target_port = I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT])
        opened = I(flow["evidence"]) == FACETIME_OPENING & 0xFFFF
        profile = I(signs[SIGN_RTP_PROFILE]) - 1
        evidence = unless_excluded(
            flow, facetime_rtp(kind, profile, run, source_port, target_port, opened)
        )
        argument = min(source_port, target_port) if evidence else kind
    if evidence == 0 and not is_named(flow):
        source = I(note["rtp_ssrc"][track])
        evidence = unless_excluded(flow, nameless_rtp(note, track, time, signs))
        argument = source if (evidence >> 8) & 0xFF == SIGNAL else kind
        if evidence == 0 and run >= 1 and by_source(flow, meter, context, source, MEDIA, time):
            return True
    if evidence and apply_evidence(flow, meter, evidence, argument, time):
        return True
    if run >= 3 and not is_named(flow) and note["stun"] == 0:
        by_host(flow, meter, context, b, kind, time, signs)
    on_stream(flow, meter, note, b, at, run, kind, relayed, time, signs)
    return run >= 1


@kernel
def app_of_rtp(flow: Any, note: Any, track: int, signs: Numbers) -> int:
    """Return the evidence of an app whose streams identify it without any other packet."""
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    profile = I(signs[SIGN_RTP_PROFILE]) - 1
    evidence = whatsapp_rtp(kind, profile, run)
    evidence = unless_excluded(flow, evidence)
    if evidence == 0:
        evidence = unless_excluded(flow, line_rtp(profile, run))
    if evidence == 0 and profile == 0xBEDE and run >= 1 and flow["app"] == META:
        evidence = unless_excluded(flow, MESSENGER_STREAM)
    return evidence


@kernel
def nameless_rtp(note: Any, track: int, time: int, signs: Numbers) -> int:
    """Return the evidence of an app in a stream whose flow was not identified by set-up."""
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    profile, clock = I(signs[SIGN_RTP_PROFILE]) - 1, clock_rate(note, track, time)
    source = I(note["rtp_ssrc"][track])
    passed = (I(note["rtp_stamp"][track]) - I(note["rtp_first_stamp"][track])) & 0xFFFFFFFF
    evidence = signal_rtp(kind, source, run, I(note["stun"]))
    evidence = evidence or discord_rtp(kind, profile, run, source, passed)
    evidence = evidence or family_rtp(kind, profile, clock, run)
    return evidence or kakaotalk_rtp(kind, profile, clock, ticks_per_packet(note, track), run)


@kernel
def by_source(
    flow: Any, meter: Numbers, context: Records, source: int, role: int, time: int
) -> bool:
    """Identify a flow by an SSRC seen in an app's call; returns whether its record changed."""
    app = app_of_source(context, source, time)
    if app == 0:
        return False
    return apply_evidence(flow, meter, pack(app, NAMED_SOURCE, CERTAIN, role), source, time)


@kernel
def by_host(
    flow: Any, meter: Numbers, context: Records, b: Octets, kind: int, time: int, signs: Numbers
) -> None:
    """Identify a stream by what SIP announced at its host: its payload type, else only a call.

    Not called for a stream that ICE set up: browsers do not announce their types in SIP.
    """
    app = host_app(context, b, TYPE_HINT + kind, time, signs)
    if app:
        apply_evidence(flow, meter, pack(app, ANNOUNCED, CERTAIN, MEDIA), kind, time)
    elif kind <= STATIC:
        app = host_app(context, b, HOST_HINT, time, signs)
        if app:
            apply_evidence(flow, meter, pack(app, SAME_HOST, CERTAIN, MEDIA), kind, time)


@kernel
def on_stream(
    flow: Any,
    meter: Numbers,
    note: Any,
    b: Octets,
    at: int,
    run: int,
    kind: int,
    relayed: bool,
    time: int,
    signs: Numbers,
) -> None:
    """Classify an RTP stream without a mark of an app by its run and its flow's set-up."""
    if flow["verdict"] == CERTAIN:
        if run >= 1 and flow["role"] in (SETUP, CONTROL):
            apply_evidence(
                flow, meter, pack(I(flow["app"]), MEDIA_OF_CALL, CERTAIN, MEDIA), kind, time
            )
        return
    if u32(b, at + 8) == 0:
        return
    if run >= 1 and (kind in MPEG or is_group(b, signs)):
        apply_evidence(flow, meter, BROADCAST, kind, time)
        return
    common_type = kind >= 96 or kind <= 34 or note["stun"] > 0
    if run >= (3 if common_type else 8):
        evidence = SNAPCHAT_STREAM if I(flow["state"]) & QUIC else RTP_STREAM
        apply_evidence(flow, meter, evidence, kind, time)
    elif relayed and run >= 1:
        apply_evidence(flow, meter, RELAYED_MEDIA, kind, time)


@kernel
def is_group(b: Octets, signs: Numbers) -> bool:
    """Return whether a packet goes to a multicast group (RFC 5771, RFC 4291)."""
    at = signs[SIGN_TARGET_AT]
    if signs[SIGN_VERSION] == 4:
        return u8(b, at) >> 4 == 14
    return u8(b, at) == 255


@kernel
def on_rtcp(
    flow: Any, meter: Numbers, note: Any, b: Octets, at: int, source: int, time: int
) -> bool:
    """Classify an RTCP packet; returns whether it certainly is one."""
    note["rtcp"] = min(I(note["rtcp"]) + 1, 65535)
    same_source = source != 0 and I(note["rtcp_ssrc"]) == source
    if same_source and is_report(b, at):
        note["rtcp_same"] = min(I(note["rtcp_same"]) + 1, 255)
    note["rtcp_ssrc"] = source
    quic = I(flow["state"]) & QUIC != 0
    if flow["verdict"] == CERTAIN and not (quic and flow["app"] == RTC):
        if flow["role"] == SETUP and is_report(b, at):
            apply_evidence(
                flow, meter, pack(I(flow["app"]), MEDIA_OF_CALL, CERTAIN, CONTROL), 0, time
            )
        return True
    if note["rtcp_same"] >= 2:
        apply_evidence(flow, meter, SNAPCHAT_REPORTS if quic else RTCP_STREAM, 0, time)
    return same_source
