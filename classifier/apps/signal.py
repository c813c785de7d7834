# SPDX-License-Identifier: BSD-3-Clause
"""Signal calls (RingRTC): WebRTC whose synchronisation sources are constants.

Facts (RingRTC's source, published). In calls of two, the caller sends voice with source 1002 and
video with 1003 (repairs 1004), the callee 2002, 2003 and 2004; messages of the call travel as RTP
payload type 101 with source 13 (before: 1001 and 2001). Voice is payload type 102, video 108, 109
and, with repairs, 118-122. The relay's realm is signal.org (classifier.apps.realms). In group calls
messages to the server have type 101 and source 1; the other sources are drawn.

Shown by stun_signal (2021: reports of sources 1003 and 2003).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, CONTROL, MEDIA, SIGNAL

SOURCE = evidence(
    SIGNAL,
    2,
    CERTAIN,
    MEDIA,
    "RTP of source {n}, a constant of Signal's calls",
    published=("RingRTC's source",),
)
REPORT = evidence(
    SIGNAL,
    3,
    CERTAIN,
    CONTROL,
    "secured RTCP of source {n}, a constant of Signal's calls",
    published=("RingRTC's source",),
)

DATA_TYPE, DATA_SOURCE, SERVER_SOURCE = 101, 13, 1
TYPES = (101, 102, 104, 105, 108, 109, 118, 119, 120, 121, 122)
SOURCES = (1001, 1002, 1003, 1004, 2001, 2002, 2003, 2004)
#: The octets of SRTCP's tag behind its index: HMAC-SHA1 (RFC 3711), and none behind with AES-GCM.
TAGS = (0, 10)


@kernel
def signal_rtp(kind: int, source: int, run: int, stun: int) -> int:
    """Return the evidence in an RTP stream; stun: STUN messages seen in its flow."""
    if run < 1:
        return 0
    if source == DATA_SOURCE or (source == SERVER_SOURCE and stun):
        return SOURCE if kind == DATA_TYPE else 0
    return SOURCE if source in SOURCES and kind in TYPES else 0


@kernel
def signal_rtcp(b: Octets, at: int, end: int, size: int, source: int) -> int:
    """Return the evidence in an RTCP packet: it must be secured, its index marked and small."""
    if source not in SOURCES or end - at != size or size < 28 or u8(b, at + 1) > 206:
        return 0
    for tag in TAGS:
        if u32(b, at + size - tag - 4) >> 16 == I(0x8000):
            return REPORT
    return 0
