# SPDX-License-Identifier: BSD-3-Clause
"""QUIC Initials of a client: opened, and sealed again with another content of the same length.

Anyone on the path can do this: the keys follow from a connection id and a published salt (RFC 9001
section 5.2, RFC 9369 section 3.3). The ciphers are those of the library `cryptography`; the packet
path has its own, compiled.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from midcall.captures.packets.numbers import QUIC_SALTS

V2 = 0x6B3343CF
SALT_V1, SALT_V2, SALT_29, SALT_23, SALT_22 = map(bytes.fromhex, QUIC_SALTS)


def salt_of(version: int) -> bytes:
    """Return the salt of a version, b"" for an unknown one."""
    if version in (1, 0xFF000021, 0xFF000022):
        return SALT_V1
    if version == V2:
        return SALT_V2
    if 0xFF00001D <= version <= 0xFF000020:
        return SALT_29
    if 0xFF000017 <= version <= 0xFF00001C or version == 0xFACEB002:
        return SALT_23
    return SALT_22 if version in (0xFF000016, 0xFACEB001) else b""


class Keys(NamedTuple):
    """The client's Initial keys of a connection."""

    key: bytes
    iv: bytes
    mask: bytes


def label(secret: bytes, text: bytes, size: int) -> bytes:
    """Return HKDF-Expand-Label of up to 32 bytes (RFC 8446 section 7.1)."""
    full = b"tls13 " + text
    about = size.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0\1"
    return hmac.new(secret, about, hashlib.sha256).digest()[:size]


@lru_cache(maxsize=4096)
def keys_of(salt: bytes, connection: bytes) -> Keys:
    """Return the keys that follow from the connection id of a client's first Initial."""
    secret = label(hmac.new(salt, connection, hashlib.sha256).digest(), b"client in", 32)
    word = b"quicv2 " if salt == SALT_V2 else b"quic "
    return Keys(
        label(secret, word + b"key", 16), label(secret, word + b"iv", 12),
        label(secret, word + b"hp", 16),
    )  # fmt: skip


def sealed(keys: Keys, header: bytes, number: bytes, plain: bytes) -> bytes:
    """Return a protected packet (RFC 9001, sections 5.3 and 5.4).

    header: with the packet number, unprotected; number: 1 to 4 bytes, its end.
    """
    cipher = AESGCM(keys.key).encrypt(nonce_of(keys, number), plain, header)
    mask = mask_of(keys, (number + cipher)[4:20])
    place = len(header) - len(number)
    shown = bytearray(header)
    shown[0] ^= mask[0] & 0x0F
    for i in range(len(number)):
        shown[place + i] ^= mask[1 + i]
    return bytes(shown) + cipher


def mask_of(keys: Keys, sample: bytes) -> bytes:
    """Return the mask of header protection for a sample of 16 bytes (RFC 9001, section 5.4.3)."""
    return Cipher(algorithms.AES(keys.mask), modes.ECB()).encryptor().update(sample)


class Initial(NamedTuple):
    """A client's Initial body[at:end] that was opened."""

    at: int
    end: int
    connection: bytes
    salt: bytes
    token: tuple[int, int]
    header: bytes  # without header protection
    number: bytes  # the packet number
    plain: bytes

    def sealed(self, plain: bytes, body: bytes) -> bytes:
        """Return the packet with another content of the same length, its token as in `body`."""
        start, stop = self.token
        header = bytearray(self.header)
        header[start - self.at : stop - self.at] = body[start:stop]
        keys = keys_of(self.salt, self.connection)
        return sealed(keys, bytes(header), self.number, plain)


def nonce_of(keys: Keys, number: bytes) -> bytes:
    """Return the nonce of a packet."""
    value = int.from_bytes(keys.iv, "big") ^ int.from_bytes(number, "big")
    return value.to_bytes(12, "big")


def varint(body: bytes, at: int) -> tuple[int, int]:
    """Return (value, place behind it) of a variable-length integer; value -1: it is cut."""
    if at >= len(body):
        return -1, at
    size = 1 << (body[at] >> 6)
    if at + size > len(body):
        return -1, at
    whole = int.from_bytes(body[at : at + size], "big")
    return whole & (1 << 8 * size - 2) - 1, at + size


def opened(body: bytes, at: int, connections: list[bytes]) -> Initial | None:
    """Return the Initial at body[at:] of a known version, None if none of the keys fits.

    connections: connection ids from which the keys may follow, besides its own.
    """
    if len(body) - at < 48 or body[at] & 0xC0 != 0xC0:
        return None
    version = int.from_bytes(body[at + 1 : at + 5], "big")
    salt = salt_of(version)
    if not salt or body[at] & 0x30 != (0x10 if version == V2 else 0x00):
        return None
    place = at + 5
    own = body[place + 1 : place + 1 + body[place]]
    place += 1 + body[place]
    if place >= len(body):
        return None
    place += 1 + body[place]
    token, start = varint(body, place)
    if token < 0:
        return None
    length, number_at = varint(body, start + token)
    end = number_at + length
    if length < 20 or end > len(body):
        return None
    for connection in (own, *connections):
        found = tried(body, at, number_at, end, salt, connection, (start, start + token))
        if found is not None:
            return found
    return None


def tried(
    body: bytes,
    at: int,
    number_at: int,
    end: int,
    salt: bytes,
    connection: bytes,
    token: tuple[int, int],
) -> Initial | None:
    """Return an Initial opened with the keys of a connection id, None if its tag does not hold."""
    keys = keys_of(salt, connection)
    mask = mask_of(keys, body[number_at + 4 : number_at + 20])
    first = body[at] ^ mask[0] & 0x0F
    size = (first & 3) + 1
    masked = zip(body[number_at : number_at + size], mask[1:], strict=False)
    number = bytes(a ^ b for a, b in masked)
    header = bytes([first]) + body[at + 1 : number_at] + number
    try:
        plain = AESGCM(keys.key).decrypt(
            nonce_of(keys, number), body[number_at + size : end], header
        )
    except InvalidTag:
        return None
    return Initial(at, end, connection, salt, token, header, number, plain)


def crypto_frames(plain: bytes) -> list[tuple[int, int, int]]:
    """Return (offset in the stream, place, length) of each CRYPTO frame of a content."""
    found, at = [], 0
    while at < len(plain):
        kind, at = plain[at], at + 1
        if kind <= 1:
            continue
        if kind in (2, 3):
            at = behind_ack(plain, at, kind)
            continue
        if kind != 6:
            break
        offset, at = varint(plain, at)
        length, at = varint(plain, at)
        if offset < 0 or length < 0:
            break
        found.append((offset, at, min(length, len(plain) - at)))
        at += length
    return found


def behind_ack(plain: bytes, at: int, kind: int) -> int:
    """Return the place behind an ACK frame."""
    _, at = varint(plain, at)
    _, at = varint(plain, at)
    ranges, at = varint(plain, at)
    for _ in range(min(1 + 2 * max(ranges, 0) + (3 if kind == 3 else 0), len(plain))):
        _, at = varint(plain, at)
    return at
