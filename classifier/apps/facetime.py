# SPDX-License-Identifier: BSD-3-Clause
"""FaceTime: Apple's ICE checks, and frames of its own behind QUIC.

Facts. A call of 2023 (iOS 16): peers check with a Binding request that holds 0x8007 (4 octets) and
MESSAGE-INTEGRITY, mostly 0x8008 (16) before them, and no USERNAME; answers hold 0x8023 and 0x8024.
On the relay a QUIC handshake comes first, then datagrams 60 00 and a length, that of the payload
less 4, and from the server DEADBEEFCAFE with a running counter. (0x8007 and 0x8008 occur with
Microsoft's attributes too, in requests with a USERNAME.)
Published, not seen. 2010-2015 (teardowns by Aruba, Dell and webrtcHacks): SIP, STUN and RTP share
one UDP port, 16402 (ranges 16384-16387, 16393-16402), payload type 104. libprotoident: STUN-like
types 0FE0, 0FE1, 0FE4 answered by 0EE0, 0EE1, 0EE4 with a right length field; first packets of 16
octets 00 01 00 02 or 00 00 00 02, answered by 00 01 00 01 or 00 00 00 01. A study of protocol
compliance (2025): the frames above, and DEADBEEFDEAD.

Shown by rtc-measurement-project_caller_iphone_imessage (2023), the one public capture of a call.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.protocols.stun import APPLE, INTEGRITY
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, FACETIME, MEDIA, SETUP, UNSURE

EXCHANGE = evidence(
    FACETIME,
    1,
    CERTAIN,
    SETUP,
    "FaceTime message type {x} with a right length (published)",
    published=("libprotoident",),
    shows=(
        (0, 2, "type"),
        (2, 2, "a right length"),
    ),
)
BEEF = evidence(
    FACETIME,
    2,
    CERTAIN,
    SETUP,
    "starts DEADBEEF CAFE or DEAD (published)",
    published=("a study of protocol compliance, 2025",),
    shows=((0, 6, "DEADBEEF and CAFE or DEAD"),),
)
FRAMES = evidence(
    FACETIME,
    3,
    CERTAIN,
    MEDIA,
    "frames 0x60, type, length (published)",
    published=("a study of protocol compliance, 2025",),
    shows=(
        (0, 1, "0x60"),
        (2, 2, "a right length"),
    ),
)
PORT_AND_TYPE = evidence(
    FACETIME,
    4,
    UNSURE,
    MEDIA,
    "RTP payload type 104 on FaceTime's port {n} (published)",
    published=("Aruba", "Dell", "webrtcHacks"),
)
OPENING = evidence(
    FACETIME,
    5,
    UNSURE,
    SETUP,
    "16-octet opening and its answer, both ways (published)",
    published=("libprotoident",),
    shows=((0, 4, "answer to an opening"),),
)
TOGETHER = evidence(
    FACETIME,
    7,
    CERTAIN,
    MEDIA,
    "FaceTime's opening, then RTP type 104 on its port {n} (published)",
    published=("libprotoident", "Aruba", "Dell", "webrtcHacks"),
)
SIP_ON_PORT = evidence(
    FACETIME,
    6,
    CERTAIN,
    SETUP,
    "SIP on FaceTime's port {n} (published)",
    published=("Aruba", "Dell", "webrtcHacks"),
)


CHECK = evidence(FACETIME, 8, CERTAIN, SETUP, "ICE check with Apple's attributes and no USERNAME")


ANSWER = evidence(
    FACETIME, 9, CERTAIN, SETUP, "answer to an ICE check with attributes 0x8023 and 0x8024"
)


@kernel
def facetime_stun(b: Octets, at: int, end: int, size: int, kind: int, traits: int, n: int) -> int:
    """Return the evidence in a STUN message b[at:end] of n attributes and `size` octets."""
    if kind == 0x0001 and traits & ~INTEGRITY == APPLE:
        long = size == 72 and end - at >= 24 and u32(b, at + 20) == 0x80080010
        short = size == 52 and end - at >= 24 and u32(b, at + 20) == 0x80070004
        return CHECK if long or short else 0
    if kind == 0x0101 and (traits & ~INTEGRITY) == 0 and n >= 3 and end - at >= 44:
        second = at + 24 + u16(b, at + 22)
        own = u16(b, at + 20) == 0x0020 and end - second >= 4 and u32(b, second) == 0x80230004
        return ANSWER if own else 0
    return 0


@kernel
def own_port(port: int) -> bool:
    """Return whether a port is one of FaceTime's."""
    return 16384 <= port <= 16387 or 16393 <= port <= 16402


@kernel
def facetime_message(note: Any, b: Octets, at: int, end: int, size: int, up: int) -> int:
    """Return the evidence in a payload that no standard reader recognised."""
    if end - at < 8:
        return 0
    kind, length = u16(b, at), u16(b, at + 2)
    if kind in (0x0FE0, 0x0FE1, 0x0FE4, 0x0EE0, 0x0EE1, 0x0EE4):
        if length == size or length + 4 == size or length + 20 == size:
            return EXCHANGE
    if u32(b, at) == 0xDEADBEEF and u16(b, at + 4) in (0xCAFE, 0xDEAD):
        return BEEF
    if u8(b, at) == 0x60 and (length == size or length + 4 == size):
        return count_frame(note, up)
    if size == 16 and u32(b, at) in (0x00010002, 0x00000002, 0x00010001, 0x00000001):
        return opening(note, u32(b, at), up)
    return 0


@kernel
def count_frame(note: Any, up: int) -> int:
    """Count a 0x60 frame; returns evidence from the fourth on."""
    if note["candidate"] != FACETIME:
        note["candidate"], note["hits"] = FACETIME, 0
    note["hits"] = min(I(note["hits"]) + 1, 255)
    return FRAMES if note["hits"] >= 4 else 0


@kernel
def opening(note: Any, word: int, up: int) -> int:
    """Store an opening (..02), or return the evidence if its answer (..01) matches it."""
    if word & 3 == 2:
        note["other"] = word | (up << 8)
        return 0
    request = I(note["other"])
    if request and request == ((word & 0x00FF0000) | 2 | ((1 - up) << 8)):
        return OPENING
    return 0


@kernel
def facetime_rtp(
    kind: int, profile: int, run: int, source_port: int, target_port: int, met: bool
) -> int:
    """Return the evidence in an RTP stream between two ports; met: an opening was seen before."""
    if (
        kind == 104
        and profile == -1
        and run >= 3
        and (own_port(source_port) or own_port(target_port))
    ):
        return TOGETHER if met else PORT_AND_TYPE
    return 0
