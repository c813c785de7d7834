# SPDX-License-Identifier: BSD-3-Clause
"""Google Meet, Duo and Hangouts: WebRTC with Google's media servers.

Facts. Media servers listen on UDP 19302-19309 (published firewall list; 19305 seen in hangout of
2016 and GoogleMeet_04282020); 19302 also answers plain STUN for anyone, so a Binding alone says
nothing: ICE with a user name, DTLS-SRTP or RTP must be seen there. On any port: they answer an ICE
check with its USERNAME first (RFC 8489 asks for none in an answer), in front 16 characters of their
own and a colon; their DTLS certificate, made by themselves, is for "hangouts". STUN attribute
0xFF03 is Duo's (published). The realm is google.com (midcall.classifier.apps.realms).

Shown by hangout (2016), GoogleMeet_04282020, stun (a call of 2022 on port 3478); not tripped by
stun_signal nor stun_facebook, whose answers hold no user name.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.protocols.stun import GOOGLE
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, MEET, SETUP

PORT = evidence(
    MEET,
    2,
    CERTAIN,
    SETUP,
    "WebRTC with Google's media port {n}",
    published=("Google's list for firewalls",),
)

ECHO = evidence(
    MEET, 3, CERTAIN, SETUP, "answer to an ICE check that repeats its user name, 16 characters"
)
DUO = evidence(MEET, 4, CERTAIN, SETUP, "STUN attribute 0xFF03 (published)", published=("nDPI",))
CERTIFICATE = evidence(MEET, 5, CERTAIN, SETUP, 'DTLS certificate for "hangouts"', spec="name")

#: Characters of the server's part of a user name.
SERVER_PART = 16
COLON = 58


@kernel
def meet_stun(
    b: Octets, kind: int, first: int, traits: int, user: int, length: int, end: int
) -> int:
    """Return the evidence in a STUN message captured up to `end`.

    user: offset of the USERNAME's value, 0: none; length: its full length, in octets.
    """
    if traits & GOOGLE:
        return DUO
    if kind != 0x0101 or first != 0x0006 or end - user <= SERVER_PART:
        return 0
    if SERVER_PART + 5 <= length <= 2 * SERVER_PART + 1 and I(b[user + SERVER_PART]) == COLON:
        return ECHO
    return 0


@kernel
def own_port(source_port: int, target_port: int) -> int:
    """Return the one of two ports that is a Google media port, 0 for none.

    The other port must be at least 1024: a client with such a port that connects to a well-known
    port does not count.
    """
    if 19302 <= target_port <= 19309 and source_port >= 1024:
        return target_port
    return source_port if 19302 <= source_port <= 19309 and target_port >= 1024 else 0
