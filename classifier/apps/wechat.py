# SPDX-License-Identifier: BSD-3-Clause
"""WeChat calls: pairs of datagrams with known first octets and sizes, one from each side.

The facts are published by libprotoident and by a study of chat apps (IWQoS 2015). No capture here
shows them. In a pair of heartbeats, both datagrams start with D1 0A, a length, 0A. A call opens
with one of these pairs:

- A1 08: 92 octets, answered by 75 octets;
- A3: 96 octets from each side;
- D6: 200 octets from each side;
- D5: 89 to 91 octets, answered by 103 to 104 octets.

One half of a pair is weak evidence, so both halves must be seen. Only the first payload of each
side is tested, because later payloads are encrypted. Chat itself uses TCP (wechat.com,
weixin.qq.com) and is not a call.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_scratch import may_replace_candidate
from midcall.classifier.state.verdicts import CERTAIN, SETUP, WECHAT

PAIR = evidence(
    WECHAT,
    1,
    CERTAIN,
    SETUP,
    "WeChat's two openings, one each way (published)",
    published=("libprotoident", "a study of chat apps, IWQoS 2015"),
    shows=((0, 4, "opening, the other half of which came before"),),
)

#: Both halves must be among this many first payloads of the flow.
OPENING = 12


@kernel
def is_first(note: Any, up: int) -> bool:
    """Return whether the latest payload in the note is the first one from its side."""
    before = (1 << max(I(note["seen"]) - 1, 0)) - 1
    return (I(note["ways"]) & before) == (0 if up else before)


@kernel
def half(b: Octets, at: int, size: int) -> int:
    """Return the half of a pair that a payload is, 0 if it is none.

    The first half of pair p is 2 * p, the second is 2 * p + 1. Pairs 1, 3 and 4 (D1, A3, D6) have
    two equal halves, and both are 2 * p.
    """
    first, second = u8(b, at), u8(b, at + 1)
    if first == 0xD1 and second == 0x0A and u8(b, at + 3) == 0x0A:
        return 2 if 0x1D <= u8(b, at + 2) <= 0x2E else 0
    if u16(b, at) == 0xA108:
        return 4 if size == 92 else (5 if size == 75 else 0)
    if first == 0xA3 and size == 96:
        return 6
    if first == 0xD6 and size == 200:
        return 8
    if first == 0xD5 and 89 <= size <= 91:
        return 10
    return 11 if first == 0xD5 and 103 <= size <= 104 else 0


@kernel
def wechat_message(note: Any, b: Octets, at: int, end: int, size: int, up: int) -> int:
    """Return PAIR if the payload completes a pair whose other half came from the other side.

    Else return 0. A payload that is half of a pair is stored in the note as the candidate.
    """
    if end - at < 4 or note["seen"] > OPENING or not is_first(note, up):
        return 0
    pair_half = half(b, at, size)
    if pair_half == 0:
        return 0
    earlier = I(note["word"])
    if note["candidate"] == WECHAT and earlier >> 8 == 2 - up:
        alike = (earlier & 0xFF) == pair_half and pair_half in (2, 6, 8)
        if alike or (earlier & 0xFF) ^ pair_half == 1:
            return PAIR
    if may_replace_candidate(note, WECHAT):
        note["candidate"], note["word"] = WECHAT, pair_half | ((1 + up) << 8)
    return 0
