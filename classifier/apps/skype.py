# SPDX-License-Identifier: BSD-3-Clause
"""Skype, and the stack that it shares with Teams.

Facts. (a) Classic peer-to-peer, to about 2017: UDP from one port to many peers; octets 0-1 an id,
octet 2 is 0x02 in requests, and its low nibble 5 or 7 in the reply, which repeats the id; data has
low nibble 0xD (published by libprotoident and Tstat; Bonfiglio et al., SIGCOMM 2007). Presence
looks the same as a call's set-up and is not a call. (b) From 2017: ICE with Microsoft's attributes
(0x8054 candidate identifier, 0x8070 implementation version, ... [MS-ICE2], [MS-TURN]) and SRTP
payload type 104 with one-octet header extensions. (c) 2023 on: plain WebRTC. Skype and Teams share
(b) and (c): the evidence says "skype/teams family" unless names of the same client tell.

Shown by skype-conference-call (2017), teams (2020); (a) only by presence in skype and
skype_no_unknown (2015): no public capture holds a classic call.
"""

from __future__ import annotations

from typing import Any

from captures.compiled import I, kernel
from captures.octets import Octets, u8, u16
from classifier.evidence import evidence
from classifier.protocols.stun import MICROSOFT
from classifier.verdicts import CERTAIN, MEDIA, MESSAGING, NOT_CALL, SETUP, SKYPE, TEAMS, UNSURE

ATTRIBUTES = evidence(
    SKYPE, 1, CERTAIN, SETUP, 95, "STUN with Microsoft attributes (skype/teams family)"
)
TEAMS_ATTRIBUTES = evidence(
    TEAMS, 1, CERTAIN, SETUP, 95, "STUN with Microsoft attributes, Teams names of the same client"
)
FRAME = evidence(
    SKYPE, 2, UNSURE, SETUP, 70, "Microsoft multiplexed TURN, FF10 (skype/teams family)"
)
VOICE = evidence(
    SKYPE, 3, UNSURE, MEDIA, 60, "RTP payload type 104 at 16 kHz, 0xBEDE (skype/teams family)"
)
PRESENCE = evidence(
    SKYPE, 4, NOT_CALL, MESSAGING, 80, "classic Skype request and reply of one id: presence"
)
CLASSIC_CALL = evidence(
    SKYPE, 5, CERTAIN, MEDIA, 80, "classic Skype peer that then carries a steady data stream"
)

#: Data packets, and packets per second, from which a classic peer counts as a call.
CALL_PACKETS, CALL_RATE = 60, 10


@kernel
def family_stun(traits: int, teams: bool) -> int:
    """Return the evidence in a STUN message; `teams`: names of Teams were seen at an endpoint."""
    if traits & MICROSOFT:
        return TEAMS_ATTRIBUTES if teams else ATTRIBUTES
    return 0


@kernel
def family_rtp(kind: int, profile: int, clock: int, run: int) -> int:
    """Return the evidence in an RTP stream of the family's voice."""
    if kind == 104 and profile == 0xBEDE and run >= 3 and 13_000 <= clock <= 19_500:
        return VOICE
    return 0


@kernel
def classic_skype(note: Any, b: Octets, at: int, end: int, up: int, passed: int, met: bool) -> int:
    """Follow classic Skype's ids; returns evidence once both directions agree on one.

    passed: ns since the flow's first payload; met: the two sides agreed before.
    """
    if end - at < 11:
        return 0
    function = u8(b, at + 2)
    if function == 0x02:
        note["word"] = u16(b, at) | 0x10000 | (up << 17)
        note["candidate"] = SKYPE
        return 0
    if note["candidate"] != SKYPE:
        return 0
    asked = I(note["word"])
    if function & 0x0F in (5, 7) and asked == u16(b, at) | 0x10000 | ((1 - up) << 17):
        note["hits"] = 0
        return PRESENCE
    if met and function & 0x0F == 0x0D:
        note["hits"] = min(I(note["hits"]) + 1, 255)
        if note["hits"] >= CALL_PACKETS and passed < CALL_PACKETS * 1_000_000_000 // CALL_RATE:
            return CLASSIC_CALL
    return 0
