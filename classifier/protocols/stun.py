# SPDX-License-Identifier: BSD-3-Clause
"""STUN and TURN messages: RFC 8489, 8656 and 8445, classic RFC 3489, and Microsoft's dialect.

`read_stun` checks a message as a whole (length field against the payload) and notes which
attributes it holds as bits ("traits") and where the addresses, names and nested data stand. The
apps' own files say what those traits mean.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.packet_fields import (
    SIGN_STUN,
    SIGN_STUN_AT,
    SIGN_STUN_COUNT,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGN_STUN_END,
    SIGN_STUN_FIRST,
    SIGN_STUN_MAPPED,
    SIGN_STUN_PEER,
    SIGN_STUN_REALM,
    SIGN_STUN_REALM_LENGTH,
    SIGN_STUN_RELAYED,
    SIGN_STUN_TRAITS,
    SIGN_STUN_USER,
    SIGN_STUN_USER_LENGTH,
)

HEADER = 20
#: Octets of a header that a snaplen must leave: type, length and cookie.
CUT = 8

# Traits: what a message holds.
(
    USERNAME,
    INTEGRITY,
    REALM,
    ICE,  # PRIORITY, USE-CANDIDATE, ICE-CONTROLLED or ICE-CONTROLLING (RFC 8445, 16.1)
    MICROSOFT_ATTRIBUTE,  # attributes of Microsoft's ICE dialect [MS-TURN, MS-ICE2]
    META_ATTRIBUTE,  # 4000-4007
    LIBWEBRTC,  # C057, network cost
    TURN,  # a TURN method or attribute
    CLASSIC,  # RFC 3489: no magic cookie
    GOOGLE_PING,  # C001 and the like: goog-ping negotiation of libwebrtc
    FRAMED,  # over TCP with the 2-byte prefix of RFC 4571
    GOOGLE,  # FF03
    LONG_NONCE,  # a NONCE of 40 octets
    DABA,  # DABA
    APPLE,  # 8007
    CHALLENGE,  # of classifier.apps.meta: a challenge as long as turner.facebook's was seen
) = (1 << i for i in range(16))

NONE, STANDARD, OLD = 0, 1, 2

#: [MS-TURN] 2.2, [MS-ICE2] 2.2, and (24DF, 3802, 8006) further ones in calls of Skype.
MICROSOFT_ATTRIBUTES = (
    0x8054,
    0x8070,
    0x8055,
    0x8095,
    0x8036,
    0x8037,
    0x8050,
    0x8033,
    0x24DF,
    0x3802,
    0x8006,
)
#: The cookie of Microsoft's TURN, value of its attribute 000F [MS-TURN] 2.2.2.1.
MICROSOFT_COOKIE = 0x72C64BC6


@kernel
def trait_of(kind: int) -> int:
    """Return the trait bit of an attribute type, 0 for attributes without one."""
    if kind == 0x0006:
        return USERNAME
    if kind == 0x0008:
        return INTEGRITY
    if kind == 0x0014:
        return REALM
    if kind in (0x0024, 0x0025, 0x8029, 0x802A):
        return ICE
    if 0x4000 <= kind <= 0x4007:
        return META_ATTRIBUTE
    if kind in MICROSOFT_ATTRIBUTES:
        return MICROSOFT_ATTRIBUTE
    if kind == 0xFF03:
        return GOOGLE
    if kind == 0xC057:
        return LIBWEBRTC
    if kind == 0xDABA:
        return DABA
    if kind == 0x8007:
        return APPLE
    if kind in (0x000C, 0x000D, 0x0012, 0x0013, 0x0016, 0x0019, 0x0022):
        return TURN
    return 0


@kernel
def read_attributes(b: Octets, at: int, end: int, padded: int, cut: int, signs: Numbers) -> int:
    """Read attributes b[at:end] and write their fields to signs; returns the offset of the end.

    cut: 1 where the snaplen ended the message. Of an attribute that it cut the type counts, and a
    name's place and full length: readers of the name must check how much of it was captured. Only 8
    octets of a message may be captured, so `at` may lie behind `end`.
    """
    traits = I(signs[SIGN_STUN_TRAITS])
    count = I(0)
    while end - at >= 4:
        kind, length = u16(b, at), u16(b, at + 2)
        value = at + 4
        if end - value < length:
            if cut == 0:
                break
            traits |= trait_of(kind) | (LONG_NONCE if kind == 0x0015 and length == 40 else 0)
            if count == 0:
                signs[SIGN_STUN_FIRST] = kind + 1
            if kind == 0x0006:
                signs[SIGN_STUN_USER], signs[SIGN_STUN_USER_LENGTH] = value, length
            elif kind == 0x0014:
                signs[SIGN_STUN_REALM], signs[SIGN_STUN_REALM_LENGTH] = value, length
            break
        if count == 0:
            signs[SIGN_STUN_FIRST] = kind + 1
        count += 1
        traits |= trait_of(kind)
        if kind == 0x0015 and length == 40:
            traits |= LONG_NONCE
        elif kind == 0x000F and length == 4 and u32(b, value) == MICROSOFT_COOKIE:
            traits |= MICROSOFT_ATTRIBUTE
        # A length that does not fit its family would make later readers read past the address.
        address = (length == 8 and u8(b, value + 1) == 1) or (
            length == 20 and u8(b, value + 1) == 2
        )
        if kind == 0x0020 and address:
            signs[SIGN_STUN_MAPPED] = value
        elif kind == 0x0012 and address:
            signs[SIGN_STUN_PEER] = value
        elif kind == 0x0016 and address:
            signs[SIGN_STUN_RELAYED] = value
        elif kind == 0x0006:
            signs[SIGN_STUN_USER], signs[SIGN_STUN_USER_LENGTH] = value, length
        elif kind == 0x0014:
            signs[SIGN_STUN_REALM], signs[SIGN_STUN_REALM_LENGTH] = value, length
        elif kind == 0x0013:
            signs[SIGN_STUN_DATA], signs[SIGN_STUN_DATA_END] = value, value + length
        at = value + (((length + 3) & ~3) if padded else length)
    if cut and end - at in (2, 3):
        traits |= trait_of(u16(b, at))
        if count == 0:
            signs[SIGN_STUN_FIRST] = u16(b, at) + 1
    signs[SIGN_STUN_TRAITS], signs[SIGN_STUN_COUNT] = traits, count
    return at


@kernel
def clear_stun(signs: Numbers) -> None:
    """Clear the STUN fields of an earlier packet or layer."""
    signs[SIGN_STUN] = signs[SIGN_STUN_FIRST] = signs[SIGN_STUN_TRAITS] = 0
    signs[SIGN_STUN_MAPPED] = signs[SIGN_STUN_PEER] = signs[SIGN_STUN_RELAYED] = 0
    signs[SIGN_STUN_REALM] = signs[SIGN_STUN_DATA] = signs[SIGN_STUN_USER] = 0


@kernel
def read_stun(b: Octets, at: int, end: int, size: int, exact: int, signs: Numbers) -> int:
    """Read the STUN message that starts at `at`; returns NONE, STANDARD or OLD (no cookie).

    size: payload bytes on the wire; `exact` requires that the message fills them, as in UDP. A
    message cut by the snaplen is read as far as it goes.
    """
    clear_stun(signs)
    if end - at < CUT or size < HEADER:
        return NONE
    kind, length = u16(b, at), u16(b, at + 2)
    if kind & 0xC000 or length + HEADER > size or (exact and length + HEADER != size):
        return NONE
    stop = min(end, at + HEADER + length)
    if u32(b, at + 4) == STUN_COOKIE:
        cut = 1 if stop < at + HEADER + length else 0
        reached = read_attributes(b, at + HEADER, stop, 1, cut, signs)
        if reached < stop and cut == 0:  # Microsoft does not pad
            clear_stun(signs)
            read_attributes(b, at + HEADER, stop, 0, 0, signs)
        if kind & 0x3EEF in (0x0003, 0x0004, 0x0006, 0x0007, 0x0008, 0x0009):
            signs[SIGN_STUN_TRAITS] |= TURN
        signs[SIGN_STUN], signs[SIGN_STUN_AT], signs[SIGN_STUN_END] = kind + 1, at, stop
        return STANDARD
    if end - at >= HEADER and read_classic(b, at, stop, kind, length, signs):
        signs[SIGN_STUN], signs[SIGN_STUN_AT], signs[SIGN_STUN_END] = kind + 1, at, stop
        signs[SIGN_STUN_TRAITS] |= CLASSIC
        return OLD
    clear_stun(signs)
    return NONE


@kernel
def read_classic(b: Octets, at: int, stop: int, kind: int, length: int, signs: Numbers) -> bool:
    """Return whether a message without cookie is RFC 3489: known type, attributes tile the body."""
    known = kind in (0x0001, 0x0101, 0x0111, 0x0002, 0x0102, 0x0112, 0x0003, 0x0004, 0x0115, 0x0103)
    if not known or stop != at + HEADER + length or length & 3:
        return False
    if u32(b, at + 4) == 0 or u32(b, at + 12) == 0:  # a transaction id is random
        return False
    o = at + HEADER
    while stop - o >= 4:
        attribute, size = u16(b, o), u16(b, o + 2)
        fine = 1 <= attribute <= 0x15 or 0x8000 <= attribute <= 0x80FF
        if not fine or stop - o - 4 < size:
            return False
        o += 4 + size
    if o != stop:
        return False
    if length == 0:
        return kind == 0x0001
    read_attributes(b, at + HEADER, stop, 0, 0, signs)
    return True


@kernel
def is_channel_data(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether a TURN ChannelData message fills the payload (RFC 8656, section 12.4)."""
    if end - at < 8:
        return False
    channel, length = u16(b, at), u16(b, at + 2)
    return 0x4000 <= channel <= 0x4FFF and length > 0 and 0 <= size - 4 - length <= 3


@kernel
def is_microsoft_frame(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether this is Microsoft's multiplexed TURN: FF10, a length, 8 octets, a packet."""
    if end - at < 14 or u16(b, at) != 0xFF10:
        return False
    length = u16(b, at + 2)
    return length + 4 == size or length + 12 == size or length == size


@kernel
def begins_as(b: Octets, at: int, end: int, word: bytes) -> bool:
    """Return whether the captured part of a cut name, at least 2 octets, is a prefix of a word."""
    captured = min(end - at, len(word))
    if captured < 2:
        return False
    for i in range(captured):
        if I(b[at + i]) != I(word[i]):
            return False
    return True


@kernel
def ends_with(b: Octets, at: int, length: int, word: bytes) -> bool:
    """Return whether b[at:at+length] ends with a lower-case ASCII word, ignoring case."""
    skip = length - len(word)
    if skip < 0:
        return False
    for i in range(len(word)):
        octet = I(b[at + skip + i])
        if 65 <= octet <= 90:
            octet += 32
        if octet != I(word[i]):
            return False
    return True
