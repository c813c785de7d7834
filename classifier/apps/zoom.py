# SPDX-License-Identifier: BSD-3-Clause
"""Zoom: its own framing around RTP, and its own NAT probe.

Facts. Octets and types are hexadecimal; sizes, ports and offsets are decimal, offsets count from 0.

Between client and media server (SFU), UDP 8801-8810:

- Hello: 01 00 02 or 01 00 03. Its answer is 02 00 01, 02 00 02 or 02 00 03, and repeats the hello's
  octets from offset 3 on.
- Keep-alive: 03 (18 octets) and 04 (13 octets); later clients: 81 octets.
- SFU frame: 05, a 16-bit count, four octets that stay the same, 00 or 04 by direction, then at
  offset 8 the media type: 0F (audio, RTP at offset 27), 10 (video, RTP at 32), 0D (screen, RTP at
  35) (published: Michel et al., IMC 2022).

Peer to peer:

- The same frames without the first eight octets, so the media type comes first. A screen has media
  type 1E, and RTP at offset 20.
- Hello: 1F 02 01; it holds an address and an identifier, each after its 32-bit length (nDPI).

NAT probe: like STUN, type 0001, 44 octets, attribute 0101 with digits. Its answer has type 0002 and
attribute 0103. In the web client, the ICE user name is two GUIDs in capitals.

Shown by zoom (2019, two captures), stun_zoom (2022).
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.classifier.protocols.rtp import looks_like_rtp
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_scratch import may_replace_candidate
from midcall.classifier.state.flow_table import mix
from midcall.classifier.state.verdicts import CERTAIN, MEDIA, SETUP, ZOOM

PROBE = evidence(
    ZOOM,
    1,
    CERTAIN,
    SETUP,
    "Zoom NAT probe: attribute 0101 of digits or 0103",
    shows=(
        (0, 4, "type and length"),
        (20, 4, "attribute and length"),
    ),
)
HELLO = evidence(
    ZOOM,
    2,
    CERTAIN,
    SETUP,
    "Zoom hello 01 00 02, or its answer 02 00 01",
    shows=((0, 3, "hello or its answer"),),
)
MEDIA_FRAME = evidence(
    ZOOM, 3, CERTAIN, MEDIA, "RTP inside a Zoom frame", published=("Michel et al., IMC 2022",)
)
FRAMES = evidence(
    ZOOM, 4, CERTAIN, SETUP, "Zoom frames on its port", published=("Michel et al., IMC 2022",)
)
GUIDS = evidence(ZOOM, 6, CERTAIN, SETUP, "ICE user name of two GUIDs in capitals")
ECHO = evidence(
    ZOOM,
    7,
    CERTAIN,
    SETUP,
    "Zoom keep-alive 03, its echo 04 or the next 03",
    shows=((0, 4, "keep-alive"),),
)
PEER = evidence(
    ZOOM,
    5,
    CERTAIN,
    SETUP,
    "Zoom peer-to-peer frames 1F 02 01",
    published=("nDPI",),
    shows=((0, 3, "1F 02 01"),),
)

#: A session is proved once FOLLOWERS frames each followed the frame before (see follows_frame).
FOLLOWERS = 3

PORT = evidence(ZOOM, 9, CERTAIN, SETUP, "ICE, TURN or DTLS with Zoom's port {n}")

PEER_HELLO = evidence(
    ZOOM,
    11,
    CERTAIN,
    SETUP,
    "Zoom peer's hello: 1F 02 01, address and identifier fill it",
    published=("nDPI",),
    shows=(
        (0, 3, "1F 02 01"),
        (24, 4, "length of an address"),
    ),
)
COUNTED = evidence(
    ZOOM,
    12,
    CERTAIN,
    SETUP,
    "Zoom frames 05 that count up in one session, on any port",
    shows=(
        (0, 1, "frame 05"),
        (1, 2, "count"),
        (3, 4, "session"),
    ),
)
PEER_MEDIA = evidence(
    ZOOM,
    10,
    CERTAIN,
    MEDIA,
    "RTP inside Zoom's peer-to-peer frames",
    published=("Michel et al., IMC 2022",),
    shows=((0, 1, "media type"),),
)


@kernel
def own_port(source_port: int, target_port: int) -> int:
    """Return which of a flow's two ports is a Zoom media port, 0 if none is.

    The other port must be at least 1024. So a client whose own port happens to be 8801 to 8810 does
    not count if it connects to a well-known port.
    """
    if 8801 <= target_port <= 8810 and source_port >= 1024:
        return target_port
    return source_port if 8801 <= source_port <= 8810 and target_port >= 1024 else 0


@kernel
def is_probe(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether this is Zoom's NAT probe or its answer."""
    if end - at < 32:
        return False
    if size == 44 and u32(b, at) == 0x00010018 and u32(b, at + 20) == 0x01010014:
        return u32(b, at + 24) == 0x31323334
    return size == 32 and u32(b, at) == 0x0002000C and u32(b, at + 20) == 0x01030008


@kernel
def zoom_message(note: Any, b: Octets, at: int, end: int, size: int, port: int, up: int) -> int:
    """Return the evidence in a payload; port: the flow's Zoom media port (own_port), or 0."""
    if end - at < 10:
        return 0
    first_octet = u8(b, at)
    if first_octet <= 2 and is_probe(b, at, end, size):
        return PROBE
    if port and first_octet == 1 and u24(b, at) in (0x010002, 0x010003) and size > 60:
        return HELLO
    if port and first_octet == 2 and u24(b, at) in (0x020001, 0x020002, 0x020003) and size < 64:
        return HELLO
    if first_octet in (1, 2) and answers(note, b, at, end, size, first_octet, up):
        return HELLO
    if first_octet == 5 and u8(b, at + 7) in (0, 4):
        rtp_offset = rtp_offset_of(u8(b, at + 8))
        if rtp_offset and looks_like_rtp(b, at + rtp_offset + 8, end, size - rtp_offset - 8):
            return count(note, MEDIA_FRAME, 2)
        if follows_frame(note, b, at, up):
            return COUNTED
    if first_octet in (3, 4) and u24(b, at + 1) == 0 and size in (13, 18, 81):
        sign = keep_alive(note, b, at, first_octet, up)
        if sign:
            return sign
    if port and first_octet in (3, 4, 5):
        return count(note, FRAMES, 3)
    if u24(b, at) == 0x1F0201:
        return PEER_HELLO if is_peer_hello(b, at, end, size) else count(note, PEER, 3)
    return peer_media(note, b, at, end, size, first_octet)


@kernel
def rtp_offset_of(kind: int) -> int:
    """Return how many octets after the media type octet RTP begins; 0: a media type without RTP."""
    if kind == 0x0F:
        return 19
    if kind == 0x10:
        return 24
    if kind == 0x0D:
        return 27
    return 20 if kind == 0x1E else 0


@kernel
def answers(note: Any, b: Octets, at: int, end: int, size: int, first: int, up: int) -> bool:
    """Return whether a payload answers the other side's last hello, on any port; store a hello.

    An answer repeats octets 3 to 10 of the hello.
    """
    if end - at < 11 or u8(b, at + 1) != 0 or not 1 <= u8(b, at + 2) <= 3:
        return False
    digest = mix(u32(b, at + 3), u32(b, at + 7))
    if first == 1 and size > 60 and may_replace_candidate(note, ZOOM):
        note["candidate"], note["word"], note["tags"] = ZOOM, digest, 1 + up
        return False
    expected = note["candidate"] == ZOOM and I(note["word"]) == digest and I(note["tags"]) == 2 - up
    return bool(first == 2 and size < 64 and expected)


@kernel
def follows_frame(note: Any, b: Octets, at: int, up: int) -> bool:
    """Return whether FOLLOWERS frames of one session each followed the frame before.

    A frame follows the frame before if the same side sent both, and its count is 1 to 4 higher.
    """
    if not may_replace_candidate(note, ZOOM):
        return False
    number, session = u16(b, at + 1) | (up << 16), u32(b, at + 3)
    step = (number - I(note["word"])) & 0xFFFF
    same_session = note["candidate"] == ZOOM and I(note["other"]) == session
    if same_session and I(note["word"]) >> 16 == up and 1 <= step <= 4 and session:
        note["hits"] = min(I(note["hits"]) + 1, 255)
    elif not same_session:
        note["hits"] = 0
    note["candidate"], note["word"], note["other"] = ZOOM, number, session
    return bool(note["hits"] >= FOLLOWERS)


@kernel
def is_peer_hello(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether a peer's hello ends with an address and an identifier, each after its length.

    The length of the address is at offset 24. Nothing may follow the identifier.
    """
    if end - at < 28:
        return False
    second = 28 + u32(b, at + 24)
    if second + 4 > end - at:
        return False
    return second + 8 + u32(b, at + second) == size


@kernel
def peer_media(note: Any, b: Octets, at: int, end: int, size: int, first: int) -> int:
    """Return the evidence in peer-to-peer frames: a media type, then RTP.

    PEER_MEDIA: three consecutive frames of one RTP source, each sequence number 1 to 64 higher than
    the one before.
    """
    rtp_offset = rtp_offset_of(first)
    if (
        rtp_offset == 0
        or not may_replace_candidate(note, ZOOM)
        or not looks_like_rtp(b, at + rtp_offset, end, size - rtp_offset)
    ):
        return 0
    source, number = u32(b, at + rtp_offset + 8), u16(b, at + rtp_offset + 2)
    follows = 1 <= ((number - (I(note["word"]) & 0xFFFF)) & 0xFFFF) <= 64
    if note["candidate"] == ZOOM and I(note["other"]) == source and follows:
        note["word"] = number
        return count(note, PEER_MEDIA, 2)
    note["candidate"], note["other"], note["word"], note["hits"] = ZOOM, source, number, 0
    return 0


@kernel
def keep_alive(note: Any, b: Octets, at: int, first: int, up: int) -> int:
    """Return the evidence in a keep-alive, on any port.

    Octet 4 of an 03 counts up, octets 5-8 are the sender's clock. An 04 repeats octets 4-8 of the
    other side's 03. ECHO: an 04 repeats this clock, or for the second time the count of an 03 is
    one higher than that of the same side's 03 before.
    """
    number, clock = u8(b, at + 4), u32(b, at + 5)
    if first == 4:
        return ECHO if I(note["other"]) == clock and clock and I(note["tags"]) == 2 - up else 0
    follows = note["candidate"] == ZOOM and I(note["word"]) == (((number - 1) & 0xFF) | (up << 8))
    note["candidate"], note["word"] = ZOOM, number | (up << 8)
    note["other"], note["tags"] = clock, 1 + up
    if not follows:
        return 0
    note["hits"] = min(I(note["hits"]) + 1, 255)
    return ECHO if note["hits"] >= 2 else 0


@kernel
def count(note: Any, sign: int, needed: int) -> int:
    """Count a frame; return `sign` from the frame number `needed` on, 0 before."""
    if note["candidate"] != ZOOM:
        note["candidate"], note["hits"] = ZOOM, 0
    note["hits"] = min(I(note["hits"]) + 1, 255)
    return sign if note["hits"] >= needed else 0


@kernel
def is_guid(b: Octets, at: int, size: int) -> bool:
    """Return whether the `size` characters at `at` (at most 36) begin a GUID in capitals."""
    for i in range(size):
        octet = I(b[at + i])
        if i in (8, 13, 18, 23):
            if octet != 45:  # "-"
                return False
        elif not (48 <= octet <= 57 or 65 <= octet <= 70):
            return False
    return True


@kernel
def zoom_stun(b: Octets, at: int, length: int, end: int) -> int:
    """Return the evidence in the value of a USERNAME attribute; b[at:end] is what was captured.

    GUIDS: the value is 73 characters long, a GUID, ":" and a GUID. If the snaplen cut the value,
    the first 20 characters suffice.
    """
    captured = min(end - at, length)
    if length != 73 or captured < 20 or not is_guid(b, at, min(captured, 36)):
        return 0
    if captured > 36 and I(b[at + 36]) != 58:
        return 0
    return GUIDS if captured <= 37 or is_guid(b, at + 37, captured - 37) else 0
