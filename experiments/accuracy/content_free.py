# SPDX-License-Identifier: BSD-3-Clause
"""Bare flows: those in which no byte of any one app is left, only what every WebRTC call sends.

Such a flow (SRTP that is seen from its middle, say) is right as "a call" or "unsure", and wrong
under any app's name. Whether a flow is bare is read off its packets by the protocols' readers, not
by a fingerprint: each of its first payload packets is RTP, RTCP, STUN with attributes of the
standards alone, a relay's ChannelData, or a DTLS record that is no hello. The values in RTP's own
fields (payload type, SSRC) are not weighed: an app that always takes the same ones may still show.
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
#: STUN attributes that say nothing of an app: RFC 8489, 8656, 8445 and 5780; but not
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
    """What is left in a flow: words with counts, and whether it is bare."""

    words: str
    bare: bool


def left(packets: Packets, which: NDArray[np.int64]) -> Left:
    """Return what the given packets of one flow carry; those without payload do not count."""
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
        seen = dissect.walk(packets.data, signs)
        if seen.pieces:
            counts[WORDS[seen.pieces[-1].kind]] += 1
            plain = plain and all(is_plain(seen, piece) for piece in seen.pieces)
    words = ", ".join(f"{word} {n}" for word, n in counts.most_common())
    return Left(words or "no payload", plain and bool(counts))


def is_plain(packet: dissect.Packet, piece: dissect.Piece) -> bool:
    """Tell whether a message is one that calls of all apps send alike."""
    if piece.kind == "stun":
        held = dissect.attributes(packet.octets, piece)
        return all(attribute.kind in STANDARD for attribute in held)
    if piece.kind == "dtls":
        b, at = packet.octets, piece.at
        hello = piece.end - at > DTLS_BODY and int(u8(b, at + DTLS_BODY)) in HELLOS
        return not (int(u8(b, at)) == HANDSHAKE and hello)
    return piece.kind in PLAIN
