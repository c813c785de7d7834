# SPDX-License-Identifier: BSD-3-Clause
"""imo: short control datagrams of fixed shape (published by nDPI; no capture here shows them).

Facts. 10 octets that start 09 02; 11 octets that start 00 09 03; video of 1099 octets that starts
88 49 1A 00. Each is weak alone, so two different datagrams are required. Peers also exchange single
octets.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_scratch import may_replace_candidate
from midcall.classifier.state.flow_table import mix
from midcall.classifier.state.verdicts import CERTAIN, IMO, SETUP

SHAPES = evidence(
    IMO,
    2,
    CERTAIN,
    SETUP,
    "two different datagrams of imo's shapes (published)",
    published=("nDPI",),
    shows=((0, 2, "start of a known shape"),),
)


@kernel
def shape(b: Octets, at: int, size: int) -> int:
    """Return the bit of the shape that a payload has, 0 for none."""
    if size == 10 and u16(b, at) == 0x0902:
        return 1
    if size == 11 and u24(b, at) == 0x000903:
        return 2
    if size == 1099 and u32(b, at) == 0x88491A00:
        return 4
    return 0


@kernel
def imo_message(note: Any, b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence once two different datagrams had a known shape."""
    if size == 1 and end > at:  # a keep-alive of peers: a weak sign
        if note["candidate"] == 0:
            note["candidate"], note["word"] = IMO, u8(b, at)
        return 0
    if end - at < 4:
        return 0
    bit = shape(b, at, size)
    if bit == 0:
        return 0
    content = mix(mix(bit, u32(b, at)), u32(b, at + 4) if end - at >= 8 else I(0))
    if note["candidate"] == IMO and I(note["word"]) != content:
        return SHAPES
    if may_replace_candidate(note, IMO):
        note["candidate"], note["word"] = IMO, content
    return 0
