# SPDX-License-Identifier: BSD-3-Clause
"""Voice servers that players rent: TeamSpeak 3 and Mumble.

Facts (published by nDPI and by the projects). TeamSpeak 3: the first datagrams, either way, start
"TS3INIT1" (UDP 9987). Mumble (UDP 64738): a ping of 12 octets, four zeros and an eight-octet mark,
answered by 24 octets that repeat the mark behind the server's version. Voice itself is encrypted
and shows nothing. Shown by hand-made packets, and by teamspeak3 of nDPI.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_table import mix
from midcall.classifier.state.verdicts import CERTAIN, OTHER_RTC, SETUP

TEAMSPEAK = evidence(OTHER_RTC, 27, CERTAIN, SETUP, 'TeamSpeak 3 opening, "TS3INIT1"', spec="name")
MUMBLE = evidence(
    OTHER_RTC,
    28,
    CERTAIN,
    SETUP,
    "Mumble ping, answered with its mark",
    spec="Mumble's protocol documentation",
    shows=((4, 8, "mark of the ping that is answered"),),
)

#: "TS3INIT1".
TS3I, NIT1 = 0x54533349, 0x4E495431


@kernel
def gamevoice_message(note: Any, b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence in a payload."""
    if end - at < 12:
        return 0
    if size >= 18 and u32(b, at) == TS3I and u32(b, at + 4) == NIT1:
        return TEAMSPEAK
    if size == 12 and u32(b, at) == 0 and u32(b, at + 4) | u32(b, at + 8):
        note["candidate"], note["word"] = OTHER_RTC, mix(u32(b, at + 4), u32(b, at + 8))
        return 0
    if size == 24 and note["candidate"] == OTHER_RTC and u32(b, at):
        return MUMBLE if I(note["word"]) == mix(u32(b, at + 4), u32(b, at + 8)) else 0
    return 0
