# SPDX-License-Identifier: BSD-3-Clause
"""Google Meet, Duo and Hangouts: plain WebRTC towards Google's media ports.

Facts. Media servers listen on UDP 19302-19309 (published firewall list; 19305 seen in hangout of
2016 and GoogleMeet_04282020); 19302 also answers plain STUN for anyone, so a Binding alone says
nothing: ICE with a user name, DTLS-SRTP or RTP must be seen there. The realm is google.com
(classifier.apps.realms). Away from those ports nothing marks it: "other-rtc" is then right.
"""

from __future__ import annotations

from captures.compiled import kernel
from classifier.evidence import evidence
from classifier.verdicts import CERTAIN, MEET, SETUP

PORT = evidence(MEET, 2, CERTAIN, SETUP, 80, "WebRTC with Google's media port {n}")


@kernel
def own_port(here: int, there: int) -> int:
    """Return the one of two ports that is Google's for media, 0 for none."""
    if 19302 <= there <= 19309:
        return there
    if 19302 <= here <= 19309:
        return here
    return 0
