# SPDX-License-Identifier: BSD-3-Clause
"""Bare flows: flows without any byte specific to an app, only what every WebRTC call sends.

For such a flow (for example SRTP captured from its middle) the correct verdict is "a call" or
"unsure"; any app's name is wrong. The protocol parsers decide whether a flow is bare, not a
fingerprint: each of its first payload packets is RTP, RTCP, STUN with standard attributes only, a
relay's ChannelData, or a DTLS record other than a hello. The values of RTP's own fields (payload
type, SSRC) are not checked: an app that always uses the same values may still be recognisable.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.reads import u8
from midcall.captures.packets.pcap import Packets
from midcall.classifier.explain import dissect
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.state.packet_fields import SIGNS

#: Payload packets of a flow that are read.
READ = 100
#: STUN attributes that are not specific to an app: RFC 8489, 8656, 8445 and 5780; but not
#: USERNAME, REALM, NONCE and SOFTWARE, whose text is the app's own.
STANDARD = frozenset((0x0001, 0x0008, 0x0009, 0x000A, 0x000C, 0x000D, 0x0012, 0x0013, 0x0016,
                      0x0017, 0x0018, 0x0019, 0x001A, 0x001C, 0x001D, 0x001E, 0x0020, 0x0022,
                      0x0024, 0x0025, 0x0026, 0x0027, 0x8000, 0x8003, 0x8023, 0x8027, 0x8028,
                      0x8029, 0x802A, 0x802B, 0x802C))  # fmt: skip
PLAIN = ("rtp", "rtcp", "channel-data", "rfc4571")
WORDS = {"rtp": "RTP", "rtcp": "RTCP", "channel-data": "ChannelData", "rfc4571": "RFC 4571",
         "stun": "STUN", "dtls": "DTLS", "quic": "QUIC", "tls": "TLS", "http": "HTTP",
         "dns": "DNS", "sip": "SIP", "mgcp": "MGCP", "microsoft-frame": "Microsoft's TURN",
         "other": "bytes of no known protocol"}  # fmt: skip
HANDSHAKE, HELLOS = 22, (1, 2)
DTLS_BODY = 13


class Left(NamedTuple):
    """The content of a flow: protocols with counts, and whether it is bare."""

    words: str
    bare: bool


def left(packets: Packets, which: NDArray[np.int64]) -> Left:
    """Return the content of the given packets of one flow, without those that have no payload.

    which: int64[n], positions of the packets; the first READ are read.
    """
    counts: Counter[str] = Counter()
    plain = True
    signs, fragments = np.zeros(SIGNS, np.int64), np.zeros((FRAGMENTS, 2), np.int64)
    for at in which[:READ].tolist():
        begin = int(packets.offset[at])
        stop = begin + int(packets.captured[at])
        wire, link = int(packets.wire[at]), int(packets.link[at])
        signs[:] = 0
        if decode(packets.data, begin, stop, wire, link, signs, fragments) != DECODED:
            continue
        dissected = dissect.walk(packets.data, signs)
        if dissected.pieces:
            counts[WORDS[dissected.pieces[-1].kind]] += 1
            plain = plain and all(is_plain(dissected, piece) for piece in dissected.pieces)
    words = ", ".join(f"{word} {n}" for word, n in counts.most_common())
    return Left(words or "no payload", plain and bool(counts))


def is_plain(packet: dissect.Packet, piece: dissect.Piece) -> bool:
    """Return whether a message is not specific to an app."""
    if piece.kind == "stun":
        attributes = dissect.attributes(packet.octets, piece)
        return all(attribute.kind in STANDARD for attribute in attributes)
    if piece.kind == "dtls":
        b, at = packet.octets, piece.at
        hello = piece.end - at > DTLS_BODY and int(u8(b, at + DTLS_BODY)) in HELLOS
        return not (int(u8(b, at)) == HANDSHAKE and hello)
    return piece.kind in PLAIN
