# SPDX-License-Identifier: BSD-3-Clause
"""Telegram calls (libtgvoip): a 16-octet tag, and pings with a run of twelve FF behind it.

Facts. A reflector (ports 520-599, 1400) is addressed by a constant tag of 16 octets that starts
every datagram of both sides; pings hold twelve FF octets at 16-27. Media is random octets, not
RTP. Shown by telegram (2020).
"""

from __future__ import annotations

from typing import Any

from captures.compiled import I, kernel
from captures.octets import Octets, u32
from classifier.evidence import evidence
from classifier.flow import mix
from classifier.verdicts import CERTAIN, MEDIA, SETUP, TELEGRAM

PING = evidence(TELEGRAM, 2, CERTAIN, SETUP, 97, "reflector ping: twelve FF behind a 16-octet tag")
TAGGED = evidence(
    TELEGRAM, 3, CERTAIN, SETUP, 85, "one 16-octet tag starts every packet, both ways"
)
STREAM = evidence(TELEGRAM, 4, CERTAIN, MEDIA, 90, "steady stream behind a reflector tag")

#: Tagged packets that are no pings, from which a reflector carries the call and is not probed only.
STREAM_PACKETS = 24
TAGS = 8
#: The longest ping, and how many different octets a tag has at least (G.711's silence is all FF).
PING_SIZE, TAG_OCTETS = 64, 10


@kernel
def telegram_message(note: Any, b: Octets, at: int, end: int, size: int, up: int) -> int:
    """Follow the tag and the pings of a reflector."""
    if end - at < 32 or size & 3:
        return 0
    if size <= PING_SIZE and u32(b, at + 16) == 0xFFFFFFFF and u32(b, at + 20) == 0xFFFFFFFF:
        if u32(b, at + 24) == 0xFFFFFFFF and distinct(b, at) >= TAG_OCTETS:
            note["pings"] = min(I(note["pings"]) + 1, 255)
            return PING
    tag = mix(mix(mix(u32(b, at), u32(b, at + 4)), u32(b, at + 8)), u32(b, at + 12)) + 1
    if I(note["tag"]) != tag:
        note["tag"], note["tags"], note["sides"] = tag, 0, 0
    note["tags"] = min(I(note["tags"]) + 1, 255)
    note["sides"] = I(note["sides"]) | (1 << up)
    if note["pings"] and note["tags"] >= STREAM_PACKETS:
        return STREAM
    if note["sides"] == 3 and note["tags"] >= TAGS and distinct(b, at) >= TAG_OCTETS:
        return STREAM if note["tags"] >= STREAM_PACKETS else TAGGED
    return 0


@kernel
def distinct(b: Octets, at: int) -> int:
    """Return how many different octets a 16-octet tag holds (a random one has about 15)."""
    count = 0
    for i in range(16):
        fresh = 1
        for j in range(i):
            if b[at + i] == b[at + j]:
                fresh = 0
                break
        count += fresh
    return count
