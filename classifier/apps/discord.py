# SPDX-License-Identifier: BSD-3-Clause
"""Discord voice: IP discovery of 74 octets, a ping with a magic word, then RTP.

Facts. Discovery 00 01 00 46 (request) and 00 02 00 46 (answer), 74 octets in all; ping 13 37 CA FE
of 8 octets, answered by 18. RTP payload type 120 (as WhatsApp's), at 48 kHz with one-octet header
extensions. The server hands out synchronisation sources in order, so they are small numbers, where
others draw 32 random bits. Shown by discord (2022) and rtp.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, DISCORD, MEDIA, SETUP

DISCOVERY = evidence(
    DISCORD,
    1,
    CERTAIN,
    SETUP,
    "Discord IP discovery of 74 octets",
    spec="Discord's developer documentation",
    shows=((0, 4, "IP discovery"),),
)
PING = evidence(
    DISCORD, 2, CERTAIN, SETUP, "Discord ping 13 37 CA FE", shows=((0, 4, "13 37 CA FE"),)
)

SMALL_SOURCE = evidence(
    DISCORD, 4, CERTAIN, MEDIA, "RTP payload type 120 in frames of 20 ms, 0xBEDE, small source"
)

#: Sources that a server hands out lie here (chance puts one in 256 there).
SOURCES = (0x1000, 0x1000000)
FRAME = 960


@kernel
def discord_message(b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence in a payload."""
    if end - at < 8:
        return 0
    word = u32(b, at)
    if size == 74 and word in (0x00010046, 0x00020046):
        return DISCOVERY
    if word == 0x1337CAFE and size in (8, 18):
        return PING
    return 0


@kernel
def discord_rtp(kind: int, profile: int, run: int, source: int, passed: int) -> int:
    """Return the evidence in an RTP stream; passed: its timestamp minus its first timestamp."""
    if kind != 120 or profile != 0xBEDE or run < 1:
        return 0
    if SOURCES[0] <= source < SOURCES[1] and passed > 0 and passed % FRAME == 0:
        return SMALL_SOURCE
    return 0
