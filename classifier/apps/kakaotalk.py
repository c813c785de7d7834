# SPDX-License-Identifier: BSD-3-Clause
"""KakaoTalk calls: SRTP of payload type 108 in frames of 60 ms, SRTCP on the port above.

Facts. Voice is RTP payload type 108, its stamps 960 apart at 16 kHz, without header extension; both
parties relay, so the same sources are seen on two flows of one phone. Reports are SRTCP of reduced
size on the next port (81 C8 00 0C: a sender report, published by nDPI, which asks for Kakao's
addresses besides; here the sources of the voice name them). Browsers use type 108 for video, at
90 kHz. Chat is TLS or LOCO over TCP (kakao.com), not a call.

Shown by KakaoTalk_talk (2015), the only public call; not tripped by GoogleMeet_04282020 nor rtp.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, KAKAOTALK, MEDIA

VOICE = evidence(KAKAOTALK, 1, CERTAIN, MEDIA, "RTP payload type 108 in frames of 60 ms at 16 kHz")

VOICE_TYPE = 108
#: Ticks of 60 ms at 16 kHz.
FRAME = 960


@kernel
def kakaotalk_rtp(kind: int, profile: int, clock: int, ticks: int, run: int) -> int:
    """Return the evidence in an RTP stream.

    clock: in Hz, 0: unknown; profile: of its header extension, -1: none; ticks: of the timestamp
    per packet.
    """
    if kind == VOICE_TYPE and profile == -1 and run >= 6 and ticks == FRAME:
        return VOICE if 12_000 <= clock <= 20_500 else 0
    return 0
