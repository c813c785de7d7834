# SPDX-License-Identifier: BSD-3-Clause
"""Skype, and the stack that it shares with Teams.

Facts. (a) Classic peer-to-peer, to about 2017: UDP from one port to many peers; octets 0-1 an id,
octet 2 is 0x02 in requests, and its low nibble 5 or 7 in the reply, which repeats the id; data has
low nibble 0xD (published by libprotoident and Tstat; Bonfiglio et al., SIGCOMM 2007). Presence
looks the same as a call's set-up and is not a call. Of a call between peers, seen from anywhere on,
the first eight octets tell: a chi-square test per 4-bit group over 100 packets finds the low half
of octet 2 fixed, its high half mixed (three random bits), all others random (Bonfiglio's test in
Tstat's form). Calls to telephones, whose first four octets are fixed, are not told so: too much
innocent traffic is alike. (b) From 2017: ICE with Microsoft's attributes
(0x8054 candidate identifier, 0x8070 implementation version, ... [MS-ICE2], [MS-TURN]) and SRTP
payload type 104 with one-octet header extensions. (c) 2023 on: plain WebRTC. Skype and Teams share
(b) and (c): the app said is "microsoft" unless names of the same client tell which of the two.

Shown by skype-conference-call (2017), teams (2020); (a) only by presence in skype and
skype_no_unknown (2015): no public capture holds a classic call.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.protocols.stun import MICROSOFT_ATTRIBUTE
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_scratch import may_try
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.hello_buffers import (
    NEED,
    OCTETS,
    SKYPE_ROW,
    drop_row,
    put16,
    row_of,
    take_row,
)
from midcall.classifier.state.verdicts import (
    CERTAIN,
    MEDIA,
    MESSAGING,
    MICROSOFT,
    NOT_CALL,
    SETUP,
    SKYPE,
    SNAPCHAT,
    TEAMS,
    UNSURE,
)

ATTRIBUTES = evidence(
    MICROSOFT, 1, CERTAIN, SETUP, "STUN with Microsoft attributes", spec="[MS-TURN], [MS-ICE2]"
)
TEAMS_ATTRIBUTES = evidence(
    TEAMS, 1, CERTAIN, SETUP, "STUN with Microsoft attributes, Teams names of the same client"
)
FRAME = evidence(MICROSOFT, 2, UNSURE, SETUP, "Microsoft multiplexed TURN, FF10")
VOICE = evidence(
    MICROSOFT,
    3,
    UNSURE,
    MEDIA,
    "RTP payload type 104 at 16 kHz, 0xBEDE",
    published=("Schertz, SILK Audio in Lync Mobile Clients, 2014",),
)
PRESENCE = evidence(
    SKYPE,
    4,
    NOT_CALL,
    MESSAGING,
    "classic Skype request and reply of one id: presence",
    published=("libprotoident", "Tstat"),
)
CLASSIC_CALL = evidence(
    SKYPE,
    5,
    CERTAIN,
    MEDIA,
    "classic Skype peer that then carries a steady data stream",
    published=("libprotoident", "Tstat"),
    shows=((2, 1, "function whose low nibble is D"),),
)

SPREAD = evidence(
    SKYPE,
    6,
    CERTAIN,
    MEDIA,
    "classic Skype's data: chi-square of 4-bit groups, 100 packets",
    published=("Bonfiglio et al., SIGCOMM 2007", "Tstat"),
)

#: Data packets in a row from which a flow's groups are counted; packets that are counted.
RUN, SAMPLE = 12, 100
#: 4-bit groups that are counted, and the values of one.
GROUPS, VALUES = 16, 16
HALF_MIXED, HALF_FIXED = 4, 5
#: Chi-square, 15 degrees of freedom: below it a group is random; where three bits of it are.
RANDOM, MIXED = 150, (75, 300)

#: Data packets, and packets per second, from which a classic peer counts as a call.
CALL_PACKETS, CALL_RATE = 60, 10


@kernel
def family_stun(traits: int, teams: bool) -> int:
    """Return the evidence in a STUN message; `teams`: names of Teams were seen at an endpoint."""
    if traits & MICROSOFT_ATTRIBUTE:
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
    free = may_try(note, SKYPE) or note["candidate"] == SNAPCHAT
    if function == 0x02 and free:
        note["word"] = u16(b, at) | 0x10000 | (up << 17)
        note["candidate"] = SKYPE
        return 0
    if not met and free:
        follow_data(note, function & 0x0F == 0x0D)
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


@kernel
def follow_data(note: Any, data: bool) -> None:
    """Count data packets in a row of a flow whose sides did not agree on an id (yet)."""
    if data:
        if note["candidate"] != SKYPE:
            note["candidate"], note["word"], note["hits"] = SKYPE, 0, 0
        note["hits"] = min(I(note["hits"]) + 1, 255)
    elif note["candidate"] == SKYPE:
        note["hits"] = 0


@kernel
def counts_groups(note: Any) -> bool:
    """Tell whether a flow had so many data packets in a row that its groups are counted."""
    return bool(note["candidate"] == SKYPE and note["hits"] >= RUN)


@kernel
def classic_data(note: Any, hellos: Octets, meter: Numbers, b: Octets, at: int, end: int) -> int:
    """Count a data packet's 4-bit groups in a row of the pool; returns evidence after SAMPLE."""
    if end - at < GROUPS // 2:
        return 0
    which = row_of(hellos, note, SKYPE_ROW)
    if which == 0:
        which = take_row(hellos, meter, note, SKYPE_ROW, 0, 0)
        for place in range(OCTETS, OCTETS + 2 * GROUPS * VALUES):
            hellos[which][place] = 0
    row = hellos[which]
    for group in range(GROUPS):
        octet = u8(b, at + group // 2)
        value = octet & 15 if group & 1 else octet >> 4
        place = OCTETS + 2 * (group * VALUES + value)
        put16(row, place, u16(row, place) + 1)
    number = u16(row, NEED) + 1
    put16(row, NEED, number)
    if number < SAMPLE:
        return 0
    found = SPREAD if is_spread(row, number) else 0
    drop_row(hellos, note)
    return found


@kernel
def chi_square(row: Octets, group: int, number: int) -> int:
    """Return a group's chi-square against equal shares of its 16 values."""
    squares = I(0)
    for value in range(VALUES):
        count = u16(row, OCTETS + 2 * (group * VALUES + value))
        squares += count * count
    return VALUES * squares // number - number


@kernel
def is_spread(row: Octets, number: int) -> bool:
    """Tell whether the groups of `number` packets are spread as classic Skype's are."""
    for group in range(GROUPS):
        found = chi_square(row, group, number)
        if group == HALF_MIXED:
            if not MIXED[0] <= found <= MIXED[1]:
                return False
        elif (found < RANDOM) == (group == HALF_FIXED):
            return False
    return True
