# SPDX-License-Identifier: BSD-3-Clause
"""QUIC long headers, and what the client's Initials say: RFC 8999, 9000, 9001, 9369.

An Initial is readable by anyone on the path: its keys follow from the connection id in its header
and a salt that the RFC publishes. So the packet path decrypts it: header protection removed,
counter mode over the payload (the tag is not checked; plain text that is CRYPTO frames of a
ClientHello proves itself), frames put together by their offset, over datagrams too.
"""

from __future__ import annotations

import numpy as np

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.captures.packets.numbers import QUIC_SALTS
from midcall.classifier.protocols.aes import EXPANDED, encrypt, expand_key
from midcall.classifier.protocols.hello import OVER_QUIC, read_hello
from midcall.classifier.protocols.sha256 import SHA_END, key_mac, label, mac, put_octets
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.hello_buffers import FILLED, NEED, OCTETS, ROOM, put16, put_piece
from midcall.classifier.state.packet_fields import NAME_QUIC_SNI, SIGN_NAME_KIND

# Versions of the keys, rows of QUIC_SALTS: RFC 9001 5.2, RFC 9369 3.3.1, drafts 29-32, 23-28, 22.
V1, V2, DRAFT_29, DRAFT_23, DRAFT_22 = range(5)

#: Connection ids that a client makes for its first Initial are at least that long (RFC 9000, 7.2).
FIRST_ID = 8
#: Octets of a payload that are decrypted at most.
PLAIN = 4096
#: Ranges of an ACK frame that are skipped.
RANGES = 64

# Places of words in the scratch, behind those of SHA-256.
KEY = SHA_END  # 8
SECRET = KEY + 8  # 8
ROUNDS = SECRET + 8  # the packet key's schedule
MASK = ROUNDS + EXPANDED  # the header key's schedule
NONCE = MASK + EXPANDED  # 8, of which 3 count
INPUT = NONCE + 8  # 4, and 4 of output behind


def messages() -> tuple[np.ndarray, np.ndarray]:
    """Return the messages of HKDF-Expand-Label one behind the other, and where each starts.

    0: the client's secret; then key, iv and header key of version 1, and of version 2.
    """
    texts = [label("client in", 32)]
    for word in ("quic", "quicv2"):
        texts += [label(f"{word} key", 16), label(f"{word} iv", 12), label(f"{word} hp", 16)]
    starts = np.cumsum([0] + [len(text) for text in texts])
    return np.frombuffer(b"".join(texts), np.uint8).copy(), starts.astype(np.int64)


SALT = np.frombuffer(bytes.fromhex("".join(QUIC_SALTS)), ">u4").astype(np.int64)
MESSAGES, START = messages()


@kernel
def is_quic(b: Octets, at: int, end: int) -> bool:
    """Return whether a payload starts with a QUIC long header of a known version."""
    if end - at < 7:
        return False
    first, version = u8(b, at), u32(b, at + 1)
    if first & 0x80:
        if version in (1, 0x6B3343CF, 0x709A50C4) or version >> 8 in (0xFF0000, 0xFACEB0):
            return u8(b, at + 5) <= 20
        return is_google(version)
    # gQUIC up to version 43: public flags, 8-octet connection id, version
    if first & 0x89 == 0x09 and end - at >= 13:
        return is_google(u32(b, at + 9))
    return False


@kernel
def is_google(version: int) -> bool:
    """Return whether a version is Google's: Q or T, then three digits."""
    if version >> 24 not in (0x51, 0x54):
        return False
    for shift in (16, 8, 0):
        if not 0x30 <= (version >> shift) & 0xFF <= 0x39:
            return False
    return True


# ---- opening a client's Initial


@kernel
def salt_of(version: int) -> int:
    """Return the number of the salt of a version's Initials, -1 if they cannot be decrypted."""
    if version == 1 or version in (0xFF000021, 0xFF000022):
        return V1
    if version == 0x6B3343CF:
        return V2
    if 0xFF00001D <= version <= 0xFF000020:
        return DRAFT_29
    if 0xFF000017 <= version <= 0xFF00001C or version == 0xFACEB002:
        return DRAFT_23
    if version in (0xFF000016, 0xFACEB001):
        return DRAFT_22
    return -1


@kernel
def varint(b: Octets, o: int, end: int) -> int:
    """Return the variable-length integer at o (RFC 9000, section 16), -1 when it is cut."""
    if end - o < 1:
        return -1
    size = 1 << (u8(b, o) >> 6)
    if end - o < size:
        return -1
    number = u8(b, o) & 0x3F
    for place in range(o + 1, o + size):
        number = (number << 8) | u8(b, place)
    return number


@kernel
def varint_size(b: Octets, o: int) -> int:
    """Return how many octets the variable-length integer at o has."""
    return 1 << (u8(b, o) >> 6)


@kernel
def initial_at(b: Octets, at: int, end: int) -> tuple[int, int, int]:
    """Return (salt, packet number's place, packet's end) of an Initial; salt -1: it is none.

    The packet's end may lie behind `end`: the snaplen cut it.
    """
    if end - at < 7:
        return -1, 0, 0
    salt = salt_of(u32(b, at + 1))
    if salt < 0 or u8(b, at) & 0xF0 != (0xD0 if salt == V2 else 0xC0):
        return -1, 0, 0
    o = at + 5
    for _ in range(2):  # both connection ids
        if end - o < 1 or u8(b, o) > 20:
            return -1, 0, 0
        o += 1 + u8(b, o)
    token = varint(b, o, end)
    if token < 0 or token > end - o:
        return -1, 0, 0
    o += varint_size(b, o) + token
    length = varint(b, o, end)
    if length < 20 or length > 65535:
        return -1, 0, 0
    o += varint_size(b, o)
    if end - o < 20:
        return -1, 0, 0
    return salt, o, o + length


@kernel
def expand(s: Numbers, number: int, out: int) -> None:
    """Write the output of a message of HKDF-Expand-Label to 8 words at s[out]."""
    at = I(START[number])
    size = I(START[number + 1]) - at
    put_octets(s, MESSAGES, at, size)
    mac(s, size, out)


@kernel
def make_keys(b: Octets, at: int, size: int, salt: int, s: Numbers) -> None:
    """Make the client's Initial keys from the connection id b[at : at + size] (RFC 9001, 5.2)."""
    for i in range(5):
        s[KEY + i] = SALT[5 * salt + i]
    key_mac(s, KEY, 5)
    put_octets(s, b, at, size)
    mac(s, size, SECRET)
    key_mac(s, SECRET, 8)
    expand(s, 0, SECRET)
    key_mac(s, SECRET, 8)
    first = 4 if salt == V2 else 1
    expand(s, first, KEY)
    expand_key(s, KEY, ROUNDS)
    expand(s, first + 1, NONCE)
    expand(s, first + 2, KEY)
    expand_key(s, KEY, MASK)


@kernel
def unprotect(b: Octets, at: int, number: int, s: Numbers) -> int:
    """Remove header protection (RFC 9001, 5.4); returns the packet number's size, 0: wrong keys.

    The packet number is mixed into the nonce. Packet numbers of a connection's first packets are
    as they stand: nothing was acknowledged yet.
    """
    for i in range(4):
        s[INPUT + i] = u32(b, number + 4 + 4 * i)
    encrypt(s, MASK, INPUT)
    mask = I(s[INPUT + 4])
    first = u8(b, at) ^ ((mask >> 24) & 0x0F)
    if first & 0x0C:  # reserved bits, always 0
        return 0
    size, value = (first & 3) + 1, I(0)
    for i in range(size):
        octet = (mask >> (16 - 8 * i)) & 0xFF if i < 3 else (I(s[INPUT + 5]) >> 24) & 0xFF
        value = (value << 8) | (u8(b, number + i) ^ octet)
    s[NONCE + 2] ^= value
    return size


@kernel
def reveal(
    b: Octets, start: int, stop: int, shown: int, wanted: int, plain: Octets, s: Numbers
) -> int:
    """Decrypt b[start:stop] into `plain` up to `wanted` octets; returns how many are decrypted.

    GCM counts its blocks from 2 (NIST SP 800-38D, 7.1). shown is a multiple of 16, or all.
    """
    while shown < wanted and start + shown < stop:
        for i in range(3):
            s[INPUT + i] = s[NONCE + i]
        s[INPUT + 3] = 2 + (shown >> 4)
        encrypt(s, ROUNDS, INPUT)
        for i in range(min(16, stop - start - shown)):
            octet = (I(s[INPUT + 4 + (i >> 2)]) >> (24 - 8 * (i & 3))) & 0xFF
            plain[shown + i] = u8(b, start + shown + i) ^ octet
        shown = min(shown + 16, stop - start)
    return shown


@kernel
def read_frames(b: Octets, start: int, stop: int, row: Octets, plain: Octets, s: Numbers) -> bool:
    """Put the CRYPTO frames of a payload b[start:stop] into a row of the pool.

    Returns whether every frame was one that an Initial may have (RFC 9000, section 12.4), up to
    where the hello was whole. No octet behind that is decrypted.
    """
    stop = min(stop, start + PLAIN)
    total, shown, o = stop - start, I(0), I(0)
    while o < total:
        shown = reveal(b, start, stop, shown, o + 32, plain, s)
        kind = u8(plain, o)
        o += 1
        if kind <= 1:  # PADDING, PING
            continue
        if kind in (2, 3):
            o, shown = skip_ack(b, start, stop, shown, o, kind, plain, s)
            if o < 0:
                return False
            continue
        if kind != 6:
            return kind == 0x1C  # CONNECTION_CLOSE: nothing comes behind it
        offset = varint(plain, o, shown)
        if offset < 0:
            return stop - start < o + 16
        o += varint_size(plain, o)
        length = varint(plain, o, shown)
        if length < 0:
            return stop - start < o + 16
        o += varint_size(plain, o)
        if offset + length > 65535:
            return False
        shown = reveal(b, start, stop, shown, o + length, plain, s)
        if offset < ROOM:
            put_piece(row, offset, plain, o, min(shown, o + length))
            if not know_need(row):
                return False
            if 0 < u16(row, NEED) <= u16(row, FILLED):
                return True
        o += length
    return True


@kernel
def skip_ack(
    b: Octets,
    start: int,
    stop: int,
    shown: int,
    o: int,
    kind: int,
    plain: Octets,
    s: Numbers,
) -> tuple[int, int]:
    """Return (where an ACK frame ends, octets shown), -1 for one that is none (RFC 9000, 19.3)."""
    left = I(4)
    count = I(0)
    while count < left:
        shown = reveal(b, start, stop, shown, o + 8, plain, s)
        value = varint(plain, o, shown)
        if value < 0:
            return -1, shown
        o += varint_size(plain, o)
        if count == 2:
            if value > RANGES:
                return -1, shown
            left += 2 * value + (3 if kind == 3 else 0)
        count += 1
    return o, shown


@kernel
def know_need(row: Octets) -> bool:
    """Set a row's NEED once it is known; returns whether this may still be a ClientHello."""
    filled = u16(row, FILLED)
    if filled >= 1 and u8(row, OCTETS) != 1:
        return False
    if filled >= 4:
        put16(row, NEED, min(4 + u24(row, OCTETS + 1), ROOM))
    return not (filled >= 6 and u16(row, OCTETS + 4) != 0x0303)


@kernel
def open_initial(
    b: Octets,
    at: int,
    end: int,
    salt: int,
    number: int,
    stop: int,
    row: Octets,
    plain: Octets,
    s: Numbers,
) -> bool:
    """Decrypt the Initial at b[at:stop] with the keys in the scratch; its hello goes to a row.

    Returns whether it was decrypted, that is, whether the keys were right.
    """
    size = unprotect(b, at, number, s)
    if size == 0:
        return False
    return read_frames(b, number + size, min(end, stop - 16), row, plain, s)


@kernel
def read_row(row: Octets, signs: Numbers) -> None:
    """Read the available part of a hello in a row of the pool."""
    filled = u16(row, FILLED)
    if filled < 6:
        return
    body = OCTETS + 4
    read_hello(row, body, OCTETS + filled, body + u24(row, OCTETS + 1), OVER_QUIC, signs)
    if signs[SIGN_NAME_KIND]:
        signs[SIGN_NAME_KIND] = NAME_QUIC_SNI
