# SPDX-License-Identifier: BSD-3-Clause
"""WhatsApp: SRTP with profiles of its own, and its chat.

Facts. Set-up is in classifier.apps.meta. Media: SRTP payload type 120 for voice at 16 kHz, 97, 102
and 103 for video; clients from 2019 on mark their header extension with the profile 0xDEBE, and in
voice of video calls also 0x746F; never 0xBEDE.
Chat: TCP 5222 or 443, first octets "WA" and a version, later "ED".

Shown by whatsapp_login_call (2015), wa_voice and wa_video (2019); not tripped by discord (payload
type 120 too, at 48 kHz).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import (
    CERTAIN,
    MEDIA,
    MESSAGING,
    NOT_CALL,
    SETUP,
    UNSURE,
    WHATSAPP,
)

PROFILE = evidence(WHATSAPP, 5, CERTAIN, MEDIA, "RTP header extension profile 0xDEBE")
VOICE_PROFILE = evidence(
    WHATSAPP, 10, CERTAIN, MEDIA, "RTP payload type 120 with header extension profile 0x746F"
)
CHAT_WA = evidence(
    WHATSAPP,
    7,
    NOT_CALL,
    MESSAGING,
    'chat stream that starts with "WA"',
    shows=((0, 4, '"WA" and a version'),),
)
CHAT_ED = evidence(
    WHATSAPP,
    8,
    NOT_CALL,
    MESSAGING,
    'chat stream that starts with "ED"',
    shows=((0, 4, '"ED" and a version'),),
)
RELAY_PROBE = evidence(WHATSAPP, 9, UNSURE, SETUP, "RTCP type 199 of source 0 that probes a relay")

VOICE_TYPE = 120


@kernel
def whatsapp_rtp(kind: int, profile: int, run: int) -> int:
    """Return the evidence in an RTP stream; profile: of its header extension, -1: none."""
    if profile == 0xDEBE and run >= 1:
        return PROFILE
    if kind == VOICE_TYPE and profile == 0x746F and run >= 1:
        return VOICE_PROFILE
    return 0


@kernel
def whatsapp_tcp(b: Octets, at: int, end: int, first: bool) -> int:
    """Return the evidence in a TCP stream's first payload."""
    if not first or end - at < 4:
        return 0
    if u16(b, at) == 0x5741 and u8(b, at + 2) <= 9 and u8(b, at + 3) <= 9:
        return CHAT_WA
    if u24(b, at) == 0x454400 and u8(b, at + 3) <= 1:
        return CHAT_ED
    return 0


@kernel
def whatsapp_probe(b: Octets, at: int, end: int) -> int:
    """Return the evidence in the path probes that precede media on a relay."""
    if end - at >= 20 and u16(b, at) == 0x80C7 and u16(b, at + 2) <= 5 and u32(b, at + 16) == 0:
        return RELAY_PROBE
    return 0
