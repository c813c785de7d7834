# SPDX-License-Identifier: BSD-3-Clause
"""Snapchat calls: RTP and RTCP share one UDP flow with QUIC.

Facts. The flow to a relay on UDP 443 opens with Google QUIC (Q046) and then carries SRTCP receiver
reports and SRTP with one-octet extensions between QUIC's short headers. No other app is known to do
so. Where the opening was not captured, a repeated short header (01 and a connection id of eight
octets) counts as QUIC. Shown by snapchat_call (2020), which ends where media begins.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.flow_table import mix
from midcall.classifier.state.verdicts import CERTAIN, CONTROL, MEDIA, SNAPCHAT

REPORTS = evidence(
    SNAPCHAT, 1, CERTAIN, CONTROL, "RTCP of one source within a QUIC flow", published=("nDPI",)
)
STREAM = evidence(SNAPCHAT, 2, CERTAIN, MEDIA, "RTP stream within a QUIC flow", published=("nDPI",))

#: Short headers of one connection id that count as QUIC.
ALIKE = 2


@kernel
def repeats_id(note: Any, b: Octets, at: int, end: int) -> bool:
    """Return whether a payload is a QUIC short header with an earlier packet's connection id.

    RFC 9000, 17.3, and Google's Q046 and later: the id follows the first octet.
    """
    if end - at < 20 or u8(b, at) & 0xC0 != 0x40 or u32(b, at + 1) == u32(b, at + 5):
        return False
    digest = mix(u32(b, at + 1), u32(b, at + 5))
    if note["candidate"] == SNAPCHAT and I(note["word"]) == digest:
        note["hits"] = min(I(note["hits"]) + 1, 255)
        return bool(note["hits"] >= ALIKE)
    if note["candidate"] == 0:
        note["candidate"], note["word"], note["hits"] = SNAPCHAT, digest, 1
    return False
