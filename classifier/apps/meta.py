# SPDX-License-Identifier: BSD-3-Clause
"""Meta's calls: STUN that WhatsApp and Messenger share, and what separates the two.

Facts. Types 0x0800-0x0802 and attributes 0x4000-0x4007 are Meta's (RFC 8489 leaves those types
unassigned): both apps send them (ntop/nDPI#2797). Counted in captures of 2015-2023:

- 0x0003 or 0x0800 that begins with attribute 0x4000: of 152 octets (a value of 102 octets, then
  MESSAGE-INTEGRITY) in Messenger alone; of 126 (the value alone, 0x4001 in a second call of 2015)
  and with a value of 150 octets in WhatsApp alone;
- 0x0801 with attributes from 0x4003 on, 0x0802 with 0x4002 and 0x4003, and types 0x0804 and 0x0805
  in WhatsApp alone; so is the answer to a request that is not signed, 44 octets with 0x4002;
  0x0801 and 0x0802 without attributes, and signed answers with 0x4002, in both;
- the check between peers: of WhatsApp, a Binding of 44 octets that holds MESSAGE-INTEGRITY and
  nothing else, no USERNAME; of Messenger, plain ICE with attribute 0xDABA;
- the relay with realm turner.facebook is Messenger's (classifier.apps.realms): its challenge has
  104 octets (ERROR-CODE of 16, NONCE of 40, REALM of 15), the request that answers it 136
  (REQUESTED-TRANSPORT, USERNAME of 16, REALM, NONCE, MESSAGE-INTEGRITY). The two lengths show it
  where the snaplen cuts the realm.
- RTP of a flow of Meta's with header extension 0xBEDE is Messenger's; WhatsApp's extensions have
  profiles of its own (midcall.classifier.apps.whatsapp).

Shown by whatsapp_login_call (2015), wa_voice and wa_video (2019), WhatsApp of 2023 (two
repositories) and 37 captures of Messenger of 2023 (four repositories).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u16, u32
from midcall.classifier.protocols.stun import CHALLENGE, DABA, INTEGRITY, META_ATTRIBUTE
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, MEDIA, MESSENGER, META, SETUP, WHATSAPP

ATTRIBUTE = evidence(META, 1, CERTAIN, SETUP, "STUN attribute of 0x4000-0x4007")
METHOD = evidence(META, 2, CERTAIN, SETUP, "STUN type {x}")

WHATSAPP_ALONE = evidence(
    WHATSAPP,
    1,
    CERTAIN,
    SETUP,
    "STUN attribute {x} of 102 octets and nothing else",
    maker=ATTRIBUTE,
)
WHATSAPP_LONG = evidence(
    WHATSAPP, 2, CERTAIN, SETUP, "STUN attribute {x} of 150 octets first", maker=ATTRIBUTE
)
WHATSAPP_METHOD = evidence(
    WHATSAPP, 3, CERTAIN, SETUP, "STUN type {x}, seen in WhatsApp alone", maker=METHOD
)
WHATSAPP_ANSWER = evidence(
    WHATSAPP,
    12,
    CERTAIN,
    SETUP,
    "STUN answer of 44 octets with 0x4002, not signed",
    maker=ATTRIBUTE,
)
WHATSAPP_REPORT = evidence(
    WHATSAPP, 11, CERTAIN, SETUP, "STUN type 0x0801 or 0x0802 with attribute 0x4003", maker=METHOD
)
PEER_CHECK = evidence(
    WHATSAPP, 4, CERTAIN, SETUP, "STUN Binding of 44 octets with MESSAGE-INTEGRITY alone"
)

MESSENGER_SIGNED = evidence(
    MESSENGER,
    4,
    CERTAIN,
    SETUP,
    "STUN attribute {x} of 102 octets, then MESSAGE-INTEGRITY",
    maker=ATTRIBUTE,
)
MESSENGER_CHECK = evidence(MESSENGER, 5, CERTAIN, SETUP, "ICE check with attribute 0xDABA")
MESSENGER_LENGTHS = evidence(
    MESSENGER, 6, CERTAIN, SETUP, "TURN challenge of 104 octets and its answer of 136"
)
MESSENGER_CHALLENGE = evidence(
    MESSENGER, 7, CERTAIN, SETUP, "TURN challenge of 104 octets with a NONCE of 40"
)
MESSENGER_STREAM = evidence(
    MESSENGER, 8, CERTAIN, MEDIA, "RTP with header extension 0xBEDE in a flow of Meta's"
)


@kernel
def meta_stun(
    b: Octets, at: int, end: int, size: int, kind: int, first: int, traits: int, known: int
) -> int:
    """Return the evidence in a STUN message b[at:end] of `size` octets on the wire.

    kind: its type; first: its first attribute; traits: of midcall.classifier.protocols.stun;
    known: the traits of the flow's messages so far.
    """
    if 0x4000 <= first <= 0x4001 and end - at >= 24 and kind in (0x0003, 0x0800):
        length = u16(b, at + 22)
        if length == 102 and size == 126:
            return WHATSAPP_ALONE
        if length == 102 and size == 152:
            return MESSENGER_SIGNED
        if length == 150:
            return WHATSAPP_LONG
    if kind in (0x0804, 0x0805):
        return WHATSAPP_METHOD
    if (kind == 0x0801 and first == 0x4003) or (kind == 0x0802 and first == 0x4002 and size > 36):
        return WHATSAPP_REPORT
    if kind == 0x0103 and size == 44 and traits & META_ATTRIBUTE:
        return WHATSAPP_ANSWER
    if 0x0800 <= kind <= 0x0803:
        return METHOD
    if traits & META_ATTRIBUTE:
        return ATTRIBUTE
    if traits & DABA and kind in (0x0001, 0x0101):
        return MESSENGER_CHECK
    lone = size == 44 and first == 0x0008 and traits == INTEGRITY
    if lone and kind in (0x0001, 0x0101):
        return PEER_CHECK
    return turn_lengths(b, at, end, size, kind, first, known)


@kernel
def turn_lengths(b: Octets, at: int, end: int, size: int, kind: int, first: int, known: int) -> int:
    """Return the evidence in the lengths of turner.facebook's challenge and of its answer."""
    if kind == 0x0113 and is_challenge(b, at, end, size) and end - at >= 44:
        return MESSENGER_CHALLENGE if u16(b, at + 40) == 0x0015 and u16(b, at + 42) == 40 else 0
    if kind == 0x0003 and size == 136 and first in (0x0019, -1) and known & CHALLENGE:
        return MESSENGER_LENGTHS
    return 0


@kernel
def is_challenge(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether an Allocate's error answer is as long as turner.facebook's: 104 octets.

    What the snaplen left of its ERROR-CODE must fit.
    """
    if size != 104 or (end - at >= 24 and u32(b, at + 20) != 0x00090010):
        return False
    return end - at < 28 or u16(b, at + 26) == 0x0401
