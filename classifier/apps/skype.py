# SPDX-License-Identifier: BSD-3-Clause
"""Skype, and the protocols that it shares with Teams.

Facts.

(a) Classic Skype, to about 2017: peer to peer, UDP from one port to many peers. Octets 0-1 of a
payload are an id. Octet 2 is the function: 0x02 in a request; low nibble 5 or 7 in the reply, which
repeats the id; low nibble 0xD in data (published by libprotoident and Tstat; Bonfiglio et al.,
SIGCOMM 2007). Presence looks the same as the set-up of a call, and is not a call.

The data of a call between peers can be recognised at any point of the flow. The first eight octets
are taken as 16 groups of 4 bits. A chi-square test of each group over 100 packets finds the low
half of octet 2 fixed, its high half mixed (three random bits), and every other group random
(Bonfiglio's test in Tstat's form). In calls to telephones the first four octets are fixed. This
test does not recognise them, because too much innocent traffic looks the same.

(b) From 2017: ICE with Microsoft's attributes (0x8054 candidate identifier, 0x8070 implementation
version, ... [MS-ICE2], [MS-TURN]), and SRTP of payload type 104 with one-octet header extensions.

(c) From 2023: plain WebRTC.

Skype and Teams share (b) and (c). Host names of the same client may tell them apart; otherwise the
app reported is "microsoft".

Shown by skype-conference-call (2017) and teams (2020). Of (a), skype and skype_no_unknown (2015)
show presence only; no public capture holds a classic call.
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

#: A data packet is counted if the last RUN packets were data. The test needs SAMPLE such packets.
RUN, SAMPLE = 12, 100
#: Number of 4-bit groups (the halves of eight octets), and number of values that a group can have.
GROUPS, VALUES = 16, 16
#: The two groups of octet 2: its high half and its low half.
HALF_MIXED, HALF_FIXED = 4, 5
#: Bounds of chi-square with 15 degrees of freedom: a random group is below RANDOM, a fixed group is
#: not; a group with three random bits is within MIXED.
RANDOM, MIXED = 150, (75, 300)

#: Lower bounds for a call of classic Skype: data packets, and data packets per second.
CALL_PACKETS, CALL_RATE = 60, 10


@kernel
def family_stun(traits: int, teams: bool) -> int:
    """Return the evidence in a STUN message; teams: an endpoint looked up a host name of Teams."""
    if traits & MICROSOFT_ATTRIBUTE:
        return TEAMS_ATTRIBUTES if teams else ATTRIBUTES
    return 0


@kernel
def family_rtp(kind: int, profile: int, clock: int, run: int) -> int:
    """Return the evidence in an RTP stream; VOICE: the voice of Skype or Teams.

    kind: payload type; profile: of the header extension; clock: in Hz; run: consecutive packets.
    """
    if kind == 104 and profile == 0xBEDE and run >= 3 and 13_000 <= clock <= 19_500:
        return VOICE
    return 0


@kernel
def classic_skype(
    note: Any, b: Octets, at: int, end: int, up: int, passed: int, agreed: bool
) -> int:
    """Return the evidence in a packet of classic Skype, and store what later packets need.

    PRESENCE: a reply repeats the id of the other direction's request. CLASSIC_CALL: after such a
    reply, CALL_PACKETS data packets came at CALL_RATE or faster. passed: ns since the flow's first
    payload; agreed: an earlier reply in this flow repeated the id of its request.
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
    """Count consecutive data packets of a flow in which no reply has repeated an id yet."""
    if data:
        if note["candidate"] != SKYPE:
            note["candidate"], note["word"], note["hits"] = SKYPE, 0, 0
        note["hits"] = min(I(note["hits"]) + 1, 255)
    elif note["candidate"] == SKYPE:
        note["hits"] = 0


@kernel
def counts_groups(note: Any) -> bool:
    """Return whether RUN consecutive data packets came, so that the flow's groups are counted."""
    return bool(note["candidate"] == SKYPE and note["hits"] >= RUN)


@kernel
def classic_data(note: Any, hellos: Octets, meter: Numbers, b: Octets, at: int, end: int) -> int:
    """Count the 4-bit groups of a data packet; return the evidence after SAMPLE packets.

    The counts are in a row of the pool of hellos (hello_buffers.SKYPE_ROW), from OCTETS on.
    """
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
    number = u16(row, NEED) + 1  # in a row of this kind, NEED is the number of packets counted
    put16(row, NEED, number)
    if number < SAMPLE:
        return 0
    sign = SPREAD if is_spread(row, number) else 0
    drop_row(hellos, note)
    return sign


@kernel
def chi_square(row: Octets, group: int, number: int) -> int:
    """Return the chi-square statistic of a group: its 16 values against equal frequencies."""
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
            return False  # a fixed group that looks random, or another group that does not
    return True
