# SPDX-License-Identifier: BSD-3-Clause
"""Viber: a session word, a little-endian type, and RTP two octets in.

Facts (capture of 2016). UDP to server port 7985, a probe to 7987; octets 0-1 are a session word,
the same both ways; control messages have bit 0x80 set in octet 1 and a little-endian type at 2-3:
0001 hello (01 00 05 00), 000C its answer, 0019 (34 octets) and 001A (20) a probe pair, 0009 (20)
and 000B (34), 001E (550) path probing, 001F (18), 0020 (20 or 550), 0003 and 0004 (12-18) hole
punch and ping. When the bit is clear an RTP header starts at 2. Chat and login: TCP 4244 and 5242,
a little-endian length at 0 equal to the payload's. A type alone fits 0.1 % of innocent flows, so
lengths are checked and, where the pair is weak, a second packet with the same word.

Shown by viber_mobile, the only public call (Viber_session is a reduced copy of it).
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u16le
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, MEDIA, MESSAGING, NOT_CALL, SETUP, VIBER

HELLO = evidence(
    VIBER,
    1,
    CERTAIN,
    SETUP,
    "Viber hello (01 00 05 00) behind a session word",
    shows=((2, 4, "hello 01 00 05 00"),),
)
PAIR = evidence(
    VIBER, 2, CERTAIN, SETUP, "Viber message type {x} of its own length", published=("nDPI",)
)
TWO = evidence(
    VIBER, 3, CERTAIN, SETUP, "two Viber messages of one session word", published=("nDPI",)
)
STREAM = evidence(VIBER, 4, CERTAIN, MEDIA, "RTP behind a two-octet session word")
CHAT = evidence(
    VIBER,
    5,
    NOT_CALL,
    MESSAGING,
    "Viber chat stream: length word {n}",
    shows=((0, 2, "the payload's own length, little-endian"),),
)


@kernel
def message_strength(kind: int, size: int, argument: int) -> int:
    """Return 2 for a type whose length proves it, 1 for one that needs a second, 0 for none."""
    if kind == 0x01:
        return 2 if argument == 0x0500 and size >= 20 else 0
    if (kind == 0x19 and size == 34) or (kind == 0x1A and size == 20):
        return 2
    if kind in (0x1E, 0x20) and size == 550:
        return 2
    if (kind == 0x09 and size == 20) or (kind == 0x0B and size == 34):
        return 1
    if (kind == 0x1F and size == 18) or (kind == 0x20 and size == 20):
        return 1
    if kind in (0x03, 0x04) and 12 <= size <= 18:
        return 1
    if kind == 0x0C and 60 <= size <= 90:
        return 1
    return 0


@kernel
def viber_message(note: Any, b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence in a control message."""
    if end - at < 6 or not u8(b, at + 1) & 0x80 or u16(b, at) == 0xFFFF:
        return 0
    kind = u16le(b, at + 2)
    strength = message_strength(kind, size, u16(b, at + 4))
    if strength == 0:
        return 0
    if strength == 2:
        return HELLO if kind == 1 else PAIR
    word = u16(b, at) & 0xFF7F
    if note["candidate"] == VIBER and I(note["word"]) == word:
        return TWO
    note["candidate"], note["word"] = VIBER, word
    return 0


@kernel
def viber_tcp(b: Octets, at: int, end: int, size: int, port: int) -> int:
    """Return the evidence in a TCP payload: its first word is its own length."""
    if end - at >= 6 and port in (4244, 5242, 5243) and u16le(b, at) == size:
        return CHAT
    return 0
