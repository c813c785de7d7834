# SPDX-License-Identifier: BSD-3-Clause
"""RTP and RTCP judged: an app's own stream, its call's media, or a stream of nobody's."""

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
from midcall.classifier.path.verdict import conclude, heard, is_named
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
    """Return the longest run of a note's RTP tracks."""
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
    """Read RTP or RTCP; returns whether the payload surely is one of them."""
    source = read_rtcp(b, at, end, size)
    if source:
        conclude(flow, meter, whatsapp_probe(b, at, end), 0, time)
        if note["rtcp"]:
            conclude(flow, meter, signal_rtcp(b, at, end, size, source - 1), source - 1, time)
        if not is_named(flow):
            by_source(flow, meter, context, source - 1, CONTROL, time)
            if fills(b, at, end, size) and not I(flow["state"]) & QUIC:
                conclude(flow, meter, RTCP_COMPOUND, 0, time)
        return on_rtcp(flow, meter, note, b, at, source - 1, time)
    if not looks_like_rtp(b, at, end, size):
        return False
    track = track_rtp(note, b, at, end, time, signs)
    if track < 0:
        if signs[SIGN_RTP_PROFILE] - 1 == 0xDEBE:
            conclude(flow, meter, whatsapp_rtp(u8(b, at + 1) & 0x7F, 0xDEBE, 1), 0, time)
        return False
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    found = app_of_rtp(flow, note, track, signs)
    argument = kind
    if found == 0:
        here, there = I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT])
        opened = I(flow["evidence"]) == FACETIME_OPENING & 0xFFFF
        profile = I(signs[SIGN_RTP_PROFILE]) - 1
        found = heard(flow, facetime_rtp(kind, profile, run, here, there, opened))
        argument = min(here, there) if found else kind
    if found == 0 and not is_named(flow):
        source = I(note["rtp_ssrc"][track])
        found = heard(flow, nameless_rtp(note, track, time, signs))
        argument = source if (found >> 8) & 0xFF == SIGNAL else kind
        if found == 0 and run >= 1 and by_source(flow, meter, context, source, MEDIA, time):
            return True
    if found and conclude(flow, meter, found, argument, time):
        return True
    if run >= 3 and not is_named(flow) and note["stun"] == 0:
        by_host(flow, meter, context, b, kind, time, signs)
    on_stream(flow, meter, note, b, at, run, kind, relayed, time, signs)
    return run >= 1


@kernel
def app_of_rtp(flow: Any, note: Any, track: int, signs: Numbers) -> int:
    """Return the evidence of an app whose streams show it whatever else the flow holds."""
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    profile = I(signs[SIGN_RTP_PROFILE]) - 1
    found = whatsapp_rtp(kind, profile, run)
    found = heard(flow, found)
    if found == 0:
        found = heard(flow, line_rtp(profile, run))
    if found == 0 and profile == 0xBEDE and run >= 1 and flow["app"] == META:
        found = heard(flow, MESSENGER_STREAM)
    return found


@kernel
def nameless_rtp(note: Any, track: int, time: int, signs: Numbers) -> int:
    """Return the evidence of an app in a stream of a flow that no set-up named."""
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    profile, clock = I(signs[SIGN_RTP_PROFILE]) - 1, clock_rate(note, track, time)
    source = I(note["rtp_ssrc"][track])
    passed = (I(note["rtp_stamp"][track]) - I(note["rtp_first_stamp"][track])) & 0xFFFFFFFF
    found = signal_rtp(kind, source, run, I(note["stun"]))
    found = found or discord_rtp(kind, profile, run, source, passed)
    found = found or family_rtp(kind, profile, clock, run)
    return found or kakaotalk_rtp(kind, profile, clock, ticks_per_packet(note, track), run)


@kernel
def by_source(
    flow: Any, meter: Numbers, context: Records, source: int, role: int, time: int
) -> bool:
    """Name a flow by a media source that was seen in an app's call; returns whether it was."""
    app = app_of_source(context, source, time)
    if app == 0:
        return False
    return conclude(flow, meter, pack(app, NAMED_SOURCE, CERTAIN, role), source, time)


@kernel
def by_host(
    flow: Any, meter: Numbers, context: Records, b: Octets, kind: int, time: int, signs: Numbers
) -> None:
    """Name a stream by what SIP announced at its host: its type, or where that is cut, a call.

    A stream that ICE set up is never named so: browsers do not tell SIP their types.
    """
    app = host_app(context, b, TYPE_HINT + kind, time, signs)
    if app:
        conclude(flow, meter, pack(app, ANNOUNCED, CERTAIN, MEDIA), kind, time)
    elif kind <= STATIC:
        app = host_app(context, b, HOST_HINT, time, signs)
        if app:
            conclude(flow, meter, pack(app, SAME_HOST, CERTAIN, MEDIA), kind, time)


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
    """Judge an RTP stream that has no app's mark by its run and its flow's set-up."""
    if flow["verdict"] == CERTAIN:
        if run >= 1 and flow["role"] in (SETUP, CONTROL):
            conclude(flow, meter, pack(I(flow["app"]), MEDIA_OF_CALL, CERTAIN, MEDIA), kind, time)
        return
    if u32(b, at + 8) == 0:
        return
    if run >= 1 and (kind in MPEG or is_group(b, signs)):
        conclude(flow, meter, BROADCAST, kind, time)
        return
    usual = kind >= 96 or kind <= 34 or note["stun"] > 0
    if run >= (3 if usual else 8):
        found = SNAPCHAT_STREAM if I(flow["state"]) & QUIC else RTP_STREAM
        conclude(flow, meter, found, kind, time)
    elif relayed and run >= 1:
        conclude(flow, meter, RELAYED_MEDIA, kind, time)


@kernel
def is_group(b: Octets, signs: Numbers) -> bool:
    """Tell whether a packet goes to a multicast group (RFC 5771, RFC 4291)."""
    at = signs[SIGN_TARGET_AT]
    if signs[SIGN_VERSION] == 4:
        return u8(b, at) >> 4 == 14
    return u8(b, at) == 255


@kernel
def on_rtcp(
    flow: Any, meter: Numbers, note: Any, b: Octets, at: int, source: int, time: int
) -> bool:
    """Judge an RTCP packet; returns whether it surely is one."""
    note["rtcp"] = min(I(note["rtcp"]) + 1, 65535)
    same = source != 0 and I(note["rtcp_ssrc"]) == source
    if same and is_report(b, at):
        note["rtcp_same"] = min(I(note["rtcp_same"]) + 1, 255)
    note["rtcp_ssrc"] = source
    quic = I(flow["state"]) & QUIC != 0
    if flow["verdict"] == CERTAIN and not (quic and flow["app"] == RTC):
        if flow["role"] == SETUP and is_report(b, at):
            conclude(flow, meter, pack(I(flow["app"]), MEDIA_OF_CALL, CERTAIN, CONTROL), 0, time)
        return True
    if note["rtcp_same"] >= 2:
        conclude(flow, meter, SNAPCHAT_REPORTS if quic else RTCP_STREAM, 0, time)
    return same
