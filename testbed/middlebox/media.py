# SPDX-License-Identifier: BSD-3-Clause
"""Call media in a flow: payloads that carry voice or video, not set-up and not control.

Both the middlebox (`drop-media`) and the call verdict use this test. STUN (RFC 8489), DTLS (RFC
6347), ZRTP (RFC 6189) and RTCP (RFC 3550, by RFC 5761's range) are not media; TURN wraps media in
ChannelData and Data indications (RFC 8656), whose content is tested, as is that of Microsoft's
multiplexed TURN (FF10).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.state.verdicts import VIBER

SEND_INDICATION, DATA_INDICATION = 0x0016, 0x0017
DATA_ATTRIBUTE = 0x0013
BINDING_SUCCESS = 0x0101


@kernel
def stun_at(b: Octets, at: int, end: int) -> int:
    """Return the STUN message type + 1 of the payload b[at:end], 0 where it is not STUN.

    RFC 8489 section 5, by the magic cookie; also behind the 2-byte length of RFC 4571. Types that
    the RFC does not allow count too (WhatsApp's 08xx).
    """
    if end - at >= 20 and u32(b, at + 4) == STUN_COOKIE:
        return u16(b, at) + 1
    if end - at >= 22 and u32(b, at + 6) == STUN_COOKIE and u16(b, at) <= end - at - 2:
        return u16(b, at + 2) + 1
    return 0


@kernel
def indication_data(b: Octets, at: int, end: int) -> int:
    """Return the offset of the DATA attribute's value in a TURN indication, 0 for none."""
    place = at + 20
    while end - place >= 4:
        if u16(b, place) == DATA_ATTRIBUTE:
            return place + 4
        place += 4 + ((u16(b, place + 2) + 3) & ~3)
    return 0


@kernel
def renews_consent(b: Octets, at: int, end: int) -> bool:
    """Tell whether a datagram holds a STUN Binding success response, plain or relayed by TURN.

    It renews its receiver's consent to send (RFC 7675 section 5.1).
    """
    kind = stun_at(b, at, end) - 1
    if kind in (SEND_INDICATION, DATA_INDICATION):
        at = indication_data(b, at, end)
        return at > 0 and stun_at(b, at, end) - 1 == BINDING_SUCCESS
    if end - at >= 4 and 0x40 <= u8(b, at) <= 0x4F:
        return stun_at(b, at + 4, end) - 1 == BINDING_SUCCESS
    return kind == BINDING_SUCCESS


@kernel
def plain_media(b: Octets, at: int, end: int) -> bool:
    """Tell whether a payload without TURN around it carries media."""
    if end <= at or stun_at(b, at, end) > 0:
        return False
    first = u8(b, at)
    if end - at >= 13 and 20 <= first <= 25 and u8(b, at + 1) == 0xFE:
        return False  # DTLS
    if end - at >= 12 and first == 0x10 and u32(b, at + 4) == 0x5A525450:
        return False  # ZRTP
    rtcp = end - at >= 8 and 128 <= first <= 191 and 192 <= u8(b, at + 1) <= 223
    return not rtcp


@kernel
def media_at(b: Octets, at: int, end: int, app: int) -> bool:
    """Tell whether the payload b[at:end] of a flow of `app` carries voice or video."""
    if app == VIBER:
        # An RTP header at 2, and bit 80 of byte 1 clear: all else is Viber's own control.
        return end - at >= 14 and u8(b, at + 1) & 0x80 == 0 and u8(b, at + 2) >> 6 == 2
    if end - at >= 4:
        first = u8(b, at)
        if 0x40 <= first <= 0x4F and u16(b, at + 2) <= end - at - 4:
            return plain_media(b, at + 4, end)
        if first == 0xFF and u8(b, at + 1) == 0x10 and end - at > 12:
            return plain_media(b, at + 12, end)
        kind = stun_at(b, at, end) - 1
        if kind in (SEND_INDICATION, DATA_INDICATION) and u32(b, at + 4) == STUN_COOKIE:
            inner = indication_data(b, at, end)
            return inner > 0 and plain_media(b, inner, end)
    return plain_media(b, at, end)
