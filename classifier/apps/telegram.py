# SPDX-License-Identifier: BSD-3-Clause
"""Telegram calls: a 16-octet tag, and pings with a run of twelve FF behind it.

Facts. TURN servers listen on UDP 1400. A reflector (ports 520-599) is addressed by a fixed tag of
16 octets that starts every datagram of both sides; pings hold twelve FF octets at 16-27. In
libtgvoip media is random octets, not RTP. In tgcalls (2021 on, published source) the tag's last 4
octets name the receiver, then come 4 of the sender, a 32-bit size at 20, and at 24 a packet of
WebRTC, padded to 4 octets.
Shown by telegram (2020), tgcalls by hand-made packets.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.protocols.dtls import NOT_DTLS, read_dtls
from midcall.classifier.protocols.rtp import looks_like_rtp
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_table import mix
from midcall.classifier.state.verdicts import CERTAIN, MEDIA, SETUP, TELEGRAM

PING = evidence(
    TELEGRAM,
    2,
    CERTAIN,
    SETUP,
    "reflector ping: twelve FF behind a 16-octet tag",
    published=("nDPI",),
    shows=((16, 12, "twelve FF behind the tag"),),
)
TAGGED = evidence(
    TELEGRAM,
    3,
    CERTAIN,
    SETUP,
    "one 16-octet tag starts every packet, both ways",
    published=("libtgvoip's source",),
)
STREAM = evidence(
    TELEGRAM,
    4,
    CERTAIN,
    MEDIA,
    "steady stream behind a reflector tag",
    published=("libtgvoip's source",),
)
REFLECTED = evidence(
    TELEGRAM,
    5,
    CERTAIN,
    SETUP,
    "reflector's frame: tag, size, and a STUN or DTLS message",
    published=("tgcalls' source",),
    shows=(
        (20, 4, "size of the packet behind"),
        (24, 2, "its type"),
    ),
)
REFLECTED_MEDIA = evidence(
    TELEGRAM,
    6,
    CERTAIN,
    MEDIA,
    "reflector's frames of one tag, with RTP inside",
    published=("tgcalls' source",),
    shows=(
        (20, 4, "size of the packet behind"),
        (24, 2, "RTP"),
    ),
)
PORT = evidence(
    TELEGRAM,
    7,
    CERTAIN,
    SETUP,
    "STUN or TURN with Telegram's port 1400",
    published=("users' reports from Russia, August 2025",),
)

#: Where Telegram's own TURN servers listen.
OWN_PORT = 1400
#: Octets before the packet that a reflector forwards.
FRAME = 24
#: Tagged packets other than pings that show that a reflector carries the call and is not only
#: probed.
STREAM_PACKETS = 24
TAGS = 8
#: The longest ping, and how many different octets a tag has at least (G.711's silence is all FF).
PING_SIZE, TAG_OCTETS = 64, 10


@kernel
def telegram_message(note: Any, b: Octets, at: int, end: int, size: int, up: int) -> int:
    """Return the evidence in a reflector's packet: its pings, frames, or repeated tag."""
    if end - at < 32 or size & 3:
        return 0
    if size <= PING_SIZE and u32(b, at + 16) == 0xFFFFFFFF and u32(b, at + 20) == 0xFFFFFFFF:
        if u32(b, at + 24) == 0xFFFFFFFF and distinct(b, at) >= TAG_OCTETS:
            note["pings"] = min(I(note["pings"]) + 1, 255)
            return PING
    sign = reflected(note, b, at, end, size)
    if sign:
        return sign
    tag = mix(mix(mix(u32(b, at), u32(b, at + 4)), u32(b, at + 8)), u32(b, at + 12)) + 1
    if I(note["tag"]) != tag:
        note["tag"], note["tags"], note["sides"] = tag, 0, 0
    note["tags"] = min(I(note["tags"]) + 1, 255)
    note["sides"] = I(note["sides"]) | (1 << up)
    if note["pings"] and note["tags"] >= STREAM_PACKETS:
        return STREAM
    if note["sides"] == 3 and note["tags"] >= TAGS and is_sealed(b, at, size):
        return STREAM if note["tags"] >= STREAM_PACKETS else TAGGED
    return 0


@kernel
def is_sealed(b: Octets, at: int, size: int) -> bool:
    """Return whether 16 octets of a tag and 16 of a message key look random, as Telegram's do.

    Other protocols also start every datagram the same: text ('{"jsonrpc":"2.0"',
    '<?xml version="1'), a session id before an unencrypted header, and IKE, whose two cookies are
    followed by a version and, at 24, by the message's size (RFC 7296, section 3.1).
    """
    if distinct(b, at) < TAG_OCTETS or distinct(b, at + 16) < TAG_OCTETS:
        return False
    if u8(b, at + 17) in (0x10, 0x20) and u32(b, at + 24) == size:
        return False
    for i in range(16, 32, 2):  # counters and sizes have zeros
        if u16(b, at + i) == 0:
            return False
    for i in range(16):
        if not 0x20 <= u8(b, at + i) < 0x7F:
            return True
    return False


@kernel
def reflected(note: Any, b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence in a tgcalls frame: a valid size at 20, then STUN, DTLS or RTP.

    RTP counts from the second frame of one tag on.
    """
    inner = u32(b, at + 20)
    if end - at < FRAME + 12 or not 0 <= size - FRAME - inner <= 3:
        return 0
    o = at + FRAME
    if u8(b, o) < 2 and u32(b, o + 4) == STUN_COOKIE and u16(b, o + 2) + 20 == inner:
        return REFLECTED
    if read_dtls(b, o, end, inner) != NOT_DTLS:
        return REFLECTED
    if not looks_like_rtp(b, o, end, inner):
        return 0
    tag = mix(mix(u32(b, at), u32(b, at + 4)), u32(b, at + 8))
    if note["candidate"] == TELEGRAM and I(note["word"]) == tag:
        return REFLECTED_MEDIA
    note["candidate"], note["word"] = TELEGRAM, tag
    return 0


@kernel
def distinct(b: Octets, at: int) -> int:
    """Return how many different octets a 16-octet tag holds (a random one has about 15)."""
    count = 0
    for i in range(16):
        is_new = 1
        for j in range(i):
            if b[at + i] == b[at + j]:
                is_new = 0
                break
        count += is_new
    return count
