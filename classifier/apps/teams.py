# SPDX-License-Identifier: BSD-3-Clause
"""Teams: call signalling over UDP that acknowledges with a GUID.

Facts. To the call controller on UDP 3478, not STUN: data starts 06 or 07, each acknowledged by 03
and a GUID in 36 characters, 37 octets in all. Everything else it shares with Skype
(midcall.classifier.apps.skype). Shown by teams (2020).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, SETUP, TEAMS

GUID = evidence(TEAMS, 2, CERTAIN, SETUP, "Teams signalling: 03 and a GUID in characters")
TURN_COOKIE = evidence(
    TEAMS, 3, CERTAIN, SETUP, "Microsoft TURN cookie 72C64BC6", spec="[MS-TURN] 2.2.2.1"
)


@kernel
def teams_message(b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence in a payload."""
    if size != 37 or end - at < 37 or u8(b, at) != 3:
        return 0
    for i in range(36):
        octet = I(b[at + 1 + i])
        if i in (8, 13, 18, 23):
            if octet != 45:
                return 0
        elif not (48 <= octet <= 57 or 97 <= octet <= 102):
            return 0
    return GUID
