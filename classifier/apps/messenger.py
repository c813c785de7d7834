# SPDX-License-Identifier: BSD-3-Clause
"""Messenger: known by its relay's realm; its media is plain WebRTC inside TURN.

Facts. The relay's REALM is turner.facebook (see classifier.apps.realms, where all realms are
compared); relay port 40003 was seen in 2021. ICE and SRTP travel in Send and Data indications and
in ChannelData. Chat is MQTT over TLS (edge-mqtt.facebook.com), not a call. Attribute 0xC057 alone
is of libwebrtc in general and identifies no app. WhatsApp shares Meta's relays and is tested first,
by its own attributes. No public capture holds Messenger's media.

Shown by stun_facebook (2021); not tripped by google_meet (0xC057 too).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import MESSAGING, MESSENGER, NOT_CALL

CHAT = evidence(MESSENGER, 2, NOT_CALL, MESSAGING, "MQTToT connect of Meta's apps", spec="name")


@kernel
def messenger_tcp(b: Octets, at: int, end: int, first: bool) -> int:
    """Return the evidence in a plain MQTT connect with Meta's protocol name "MQTToT"."""
    if not first or end - at < 12 or u8(b, at) != 0x10:
        return 0
    for skip in (2, 3, 4):
        o = at + skip
        if end - o >= 8 and u16(b, o) == 6 and u32(b, o + 2) == 0x4D515454:
            return CHAT if u16(b, o + 6) == 0x6F54 else 0
    return 0
