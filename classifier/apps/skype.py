# SPDX-License-Identifier: BSD-3-Clause
"""Skype, and the stack that it shares with Teams.

Facts. (a) Classic peer-to-peer, to about 2017: UDP from one port to many peers; octets 0-1 an id,
octet 2 is 0x02 in requests, and its low nibble 5 or 7 in the reply, which repeats the id; data has
low nibble 0xD (published by libprotoident and Tstat; Bonfiglio et al., SIGCOMM 2007). Presence
looks the same as a call's set-up and is not a call. A call between peers is recognised from any
point on by its first eight octets: a chi-square test per 4-bit group over 100 packets finds the low
half of octet 2 fixed, its high half mixed (three random bits), all others random (Bonfiglio's test
in Tstat's form). Calls to telephones, whose first four octets are fixed, are not recognised so: too
much innocent traffic looks like them. (b) From 2017: ICE with Microsoft's attributes
(0x8054 candidate identifier, 0x8070 implementation version, ... [MS-ICE2], [MS-TURN]) and SRTP
payload type 104 with one-octet header extensions. (c) 2023 on: plain WebRTC. Skype and Teams share
(b) and (c): the app reported is "microsoft" unless host names of the same client tell them apart.

Shown by skype-conference-call (2017), teams (2020); of (a) only presence, in skype and
skype_no_unknown (2015): no public capture holds a classic call.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.protocols.stun import MICROSOFT_ATTRIBUTE
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_scratch import may_replace_candidate
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

#: Consecutive data packets from which a flow's groups are counted; packets that are counted.
RUN, SAMPLE = 12, 100
#: 4-bit groups that are counted, and the values of one.
GROUPS, VALUES = 16, 16
HALF_MIXED, HALF_FIXED = 4, 5
#: Chi-square, 15 degrees of freedom: a random group is below RANDOM; one with three random bits is
#: within MIXED.
RANDOM, MIXED = 150, (75, 300)

#: The fewest data packets, and packets per second, of a classic peer's call.
CALL_PACKETS, CALL_RATE = 60, 10


@kernel
def family_stun(traits: int, teams: bool) -> int:
    """Return the evidence in a STUN message; `teams`: an endpoint looked up Teams' host names."""
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
def classic_skype(
    note: Any, b: Octets, at: int, end: int, up: int, passed: int, agreed: bool
) -> int:
    """Compare classic Skype's ids; returns evidence once both directions used the same one.

    passed: ns since the flow's first payload; agreed: both directions used one id before.
    """
    if end - at < 11:
        return 0
    function = u8(b, at + 2)
    available = may_replace_candidate(note, SKYPE) or note["candidate"] == SNAPCHAT
    if function == 0x02 and available:
        note["word"] = u16(b, at) | 0x10000 | (up << 17)
        note["candidate"] = SKYPE
        return 0
    if not agreed and available:
        follow_data(note, function & 0x0F == 0x0D)
    if note["candidate"] != SKYPE:
        return 0
    request = I(note["word"])
    if function & 0x0F in (5, 7) and request == u16(b, at) | 0x10000 | ((1 - up) << 17):
        note["hits"] = 0
        return PRESENCE
    if agreed and function & 0x0F == 0x0D:
        note["hits"] = min(I(note["hits"]) + 1, 255)
        if note["hits"] >= CALL_PACKETS and passed < CALL_PACKETS * 1_000_000_000 // CALL_RATE:
            return CLASSIC_CALL
    return 0


@kernel
def follow_data(note: Any, data: bool) -> None:
    """Count consecutive data packets of a flow whose directions have not used the same id (yet)."""
    if data:
        if note["candidate"] != SKYPE:
            note["candidate"], note["word"], note["hits"] = SKYPE, 0, 0
        note["hits"] = min(I(note["hits"]) + 1, 255)
    elif note["candidate"] == SKYPE:
        note["hits"] = 0


@kernel
def counts_groups(note: Any) -> bool:
    """Return whether a flow had enough consecutive data packets that its groups are counted."""
    return bool(note["candidate"] == SKYPE and note["hits"] >= RUN)


@kernel
def classic_data(note: Any, hellos: Octets, meter: Numbers, b: Octets, at: int, end: int) -> int:
    """Count a data packet's 4-bit groups in a row of the pool; returns evidence after SAMPLE."""
    if end - at < GROUPS // 2:
        return 0
    row_number = row_of(hellos, note, SKYPE_ROW)
    if row_number == 0:
        row_number = take_row(hellos, meter, note, SKYPE_ROW, 0, 0)
        for offset in range(OCTETS, OCTETS + 2 * GROUPS * VALUES):
            hellos[row_number][offset] = 0
    row = hellos[row_number]
    for group in range(GROUPS):
        octet = u8(b, at + group // 2)
        value = octet & 15 if group & 1 else octet >> 4
        offset = OCTETS + 2 * (group * VALUES + value)
        put16(row, offset, u16(row, offset) + 1)
    number = u16(row, NEED) + 1
    put16(row, NEED, number)
    if number < SAMPLE:
        return 0
    sign = SPREAD if is_spread(row, number) else 0
    drop_row(hellos, note)
    return sign


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
    """Return whether the groups of `number` packets are distributed like classic Skype's."""
    for group in range(GROUPS):
        statistic = chi_square(row, group, number)
        if group == HALF_MIXED:
            if not MIXED[0] <= statistic <= MIXED[1]:
                return False
        elif (statistic < RANDOM) == (group == HALF_FIXED):
            return False
    return True
