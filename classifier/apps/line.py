# SPDX-License-Identifier: BSD-3-Clause
"""LINE calls: frames whose low eleven bits are their own length, RTP with profile 0x0240.

Facts. Control frames: octets 0-1 are 1101xLLL LLLLLLLL, the length behind the first four octets;
octets 2-3 count up. RTP carries the header extension profile 0x0240. Older clients (published by
nDPI): B6, a type, a 16-bit length, one such frame or several filling the datagram. Shown by line
(2022).
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, LINE, MEDIA, SETUP

FRAMES = evidence(
    LINE,
    1,
    CERTAIN,
    SETUP,
    "two frames 0xD0 with their own length and a count",
    published=("nDPI",),
    shows=(
        (0, 2, "0xD and its own length"),
        (2, 2, "count"),
    ),
)
PROFILE = evidence(LINE, 2, CERTAIN, MEDIA, "RTP header extension profile 0x0240")

OLD_FRAMES = evidence(
    LINE,
    3,
    CERTAIN,
    SETUP,
    "two datagrams filled by frames B6, type, length (published)",
    published=("nDPI",),
    shows=(
        (0, 1, "B6"),
        (2, 2, "length of the frame's rest"),
    ),
)


@kernel
def filled_by_frames(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether frames B6, type and length fill a datagram."""
    o = at
    for _ in range(4):
        if end - o < 4 or u8(b, o) != 0xB6:
            return False
        o += 4 + u16(b, o + 2)
        if o - at == size:
            return True
    return False


@kernel
def line_message(note: Any, b: Octets, at: int, end: int, size: int, up: int) -> int:
    """Return the evidence in a payload: two frames of one direction that count up."""
    if end - at < 8:
        return 0
    if u8(b, at) == 0xB6 and filled_by_frames(b, at, end, size):
        if note["candidate"] == LINE and note["other"] == 0xB6:
            return OLD_FRAMES
        note["candidate"], note["word"], note["other"] = LINE, 0xFFFF0000, 0xB6
        return 0
    if u8(b, at) & 0xF0 != 0xD0 or (u16(b, at) & 0x7FF) + 4 != size:
        return 0
    number = u16(b, at + 2)
    if note["candidate"] == LINE and I(note["word"]) >> 16 == up:
        ahead = (number - I(note["word"])) & 0xFFFF
        if 1 <= ahead <= 64:
            return FRAMES
    note["candidate"], note["word"] = LINE, (up << 16) | number
    return 0


@kernel
def line_rtp(profile: int, run: int) -> int:
    """Return the evidence in an RTP stream."""
    return PROFILE if profile == 0x0240 and run >= 1 else 0
