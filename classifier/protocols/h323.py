# SPDX-License-Identifier: BSD-3-Clause
"""H.323: the addresses at which a party receives media, from H.225 fast start and H.245 channels.

A transport address of aligned PER (H.245, unicastAddress) is four octets of an address and two of
a port. Messages are not decoded: the sender's own address is looked for, as the packet has it, and
what stands behind it is a port.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u16, u32
from midcall.classifier.state.endpoint_table import LEARN_SDP, endpoint_key, learn
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.packet_fields import SIGN_SOURCE_AT, SIGN_VERSION
from midcall.classifier.state.verdicts import MEDIA, OTHER_RTC

TPKT = 0x0300
#: Octets of a message that are searched.
SEARCH = 1500


@kernel
def learn_channels(
    b: Octets, at: int, end: int, time: int, context: Records, meter: Numbers, signs: Numbers
) -> None:
    """Store every port that follows the sender's address, and the next port (RTCP)."""
    if signs[SIGN_VERSION] != 4 or end - at < 16 or u16(b, at) != TPKT:
        return
    lane = u32(b, signs[SIGN_SOURCE_AT])
    for o in range(at + 4, min(end, at + SEARCH) - 6):
        if u32(b, o) != lane:
            continue
        port = u16(b, o + 4)
        if port < 1024 or port == 65535:
            continue
        for extra in range(2):
            key = endpoint_key(lane, 0, 0, 0, port + extra)
            learn(context, meter, key, OTHER_RTC, MEDIA, LEARN_SDP, time)
