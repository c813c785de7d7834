# SPDX-License-Identifier: BSD-3-Clause
"""RTSP (RFC 2326): the ports of a camera's or server's RTP, which is a stream and no call.

The answer to SETUP holds them: "Transport: RTP/AVP;client_port=4588-4589;server_port=6256-6257".
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.classifier.protocols.sdp import number
from midcall.classifier.state.endpoint_table import LEARN_SDP, learn, packet_key
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.packet_fields import SIGN_SOURCE_AT, SIGN_TARGET_AT, SIGN_VERSION
from midcall.classifier.state.verdicts import NONE, OTHER

#: "RTSP", "t_po", "rt=".
RTSP, PORT_WORD, EQUALS = 0x52545350, 0x745F706F, 0x72743D
#: Octets of a message that are searched.
SEARCH = 1500


@kernel
def is_rtsp(b: Octets, at: int, end: int) -> bool:
    """Return whether an RTSP message starts here: an answer, or a method and " rtsp:"."""
    if end - at < 12:
        return False
    if u32(b, at) == RTSP and I(b[at + 4]) == 47:
        return True
    o = at
    while o < end - 6 and o - at <= 14 and (65 <= I(b[o]) <= 90 or I(b[o]) == 95):
        o += 1
    return o > at + 2 and I(b[o]) == 32 and u32(b, o + 1) == 0x72747370 and I(b[o + 5]) == 58


@kernel
def learn_transport(
    b: Octets, at: int, end: int, time: int, context: Records, meter: Numbers, signs: Numbers
) -> None:
    """Store the ports of a Transport field at both hosts as those of a stream, not of a call.

    An answer travels from server to client: "client_port" is its target's, "server_port" its
    source's.
    """
    if u32(b, at) != RTSP:
        return
    version = signs[SIGN_VERSION]
    stop = min(end, at + SEARCH) - 12
    for o in range(at + 6, stop):
        # "client_port=" and "server_port=" share their last six letters.
        if u32(b, o) != PORT_WORD or (u32(b, o + 4) >> 8) != EQUALS:
            continue
        client = I(b[o - 5]) == 99
        first, after = number(b, o + 7, end, 0)
        if first < 0:
            continue
        last = first
        if after < end and I(b[after]) == 45:
            last, _ = number(b, after + 1, end, 0)
        address_at = signs[SIGN_TARGET_AT] if client else signs[SIGN_SOURCE_AT]
        for port in (first, max(first, last)):
            key = packet_key(b, address_at, version, port)
            learn(context, meter, key, NONE, OTHER, LEARN_SDP, time)
