# SPDX-License-Identifier: BSD-3-Clause
"""QUIC Initials of a client: opened, and sealed again with another content of the same length.

Anyone on the path can do this: the keys follow from a connection id and a published salt (RFC 9001
section 5.2, RFC 9369 section 3.3; AES-128-GCM: FIPS 197, NIST SP 800-38D).
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Octets = NDArray[np.uint8]

V2 = 0x6B3343CF
SALT_V1, SALT_V2, SALT_29, SALT_23, SALT_22 = (
    bytes.fromhex(text)
    for text in (
        "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
        "0dede3def700a6db819381be6e269dcbf9bd2ed9",
        "afbfec289993d24c9e9786f19c6111e04390a899",
        "c3eef712c72ebb5a11a7d2432bb46365bef9f502",
        "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",
    )
)


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


# ---- AES-128-GCM


def _double(octet: int) -> int:
    return (octet << 1 ^ (0x11B if octet & 0x80 else 0)) & 0xFF


def _sbox() -> Octets:
    power, log = [1], {1: 0}
    while len(power) < 255:
        value = power[-1] ^ _double(power[-1])
        log[value] = len(power)
        power.append(value)
    table = []
    for octet in range(256):
        inverse = power[-log[octet] % 255] if octet else 0
        turned = [inverse << n | inverse >> (8 - n) for n in range(5)]
        value = 0x63
        for one in turned:
            value ^= one & 0xFF
        table.append(value)
    return np.array(table, np.uint8)


SBOX = _sbox()
DOUBLE = np.array([_double(octet) for octet in range(256)], np.uint8)
SHIFTED = np.array([0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11])


@lru_cache(maxsize=256)
def round_keys(key: bytes) -> tuple[Octets, ...]:
    """Return the eleven round keys of AES-128."""
    words, constant = [list(key[i : i + 4]) for i in range(0, 16, 4)], 1
    for i in range(4, 44):
        word = list(words[-1])
        if i % 4 == 0:
            word = [int(SBOX[octet]) for octet in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _double(constant)
        words.append([a ^ b for a, b in zip(word, words[i - 4], strict=True)])
    flat = [octet for word in words for octet in word]
    return tuple(np.array(flat[i : i + 16], np.uint8) for i in range(0, 176, 16))


def encrypt(key: bytes, blocks: Octets) -> Octets:
    """Return uint8[n, 16] blocks encrypted."""
    keys = round_keys(key)
    state = blocks ^ keys[0]
    for turn in range(1, 11):
        state = SBOX[state][:, SHIFTED]
        if turn < 10:
            columns = state.reshape(-1, 4, 4)
            total = columns[:, :, 0] ^ columns[:, :, 1] ^ columns[:, :, 2] ^ columns[:, :, 3]
            pairs = columns ^ np.roll(columns, -1, axis=2)
            state = (columns ^ total[:, :, None] ^ DOUBLE[pairs]).reshape(-1, 16)
        state = state ^ keys[turn]
    return state


def counter_mode(key: bytes, nonce: bytes, text: bytes) -> bytes:
    """Return a text encrypted or decrypted in GCM's counter mode."""
    count = (len(text) + 15) // 16
    blocks = np.empty((count, 16), np.uint8)
    blocks[:, :12] = np.frombuffer(nonce, np.uint8)
    blocks[:, 12:] = np.arange(2, count + 2).astype(">u4").view(np.uint8).reshape(count, 4)
    stream = encrypt(key, blocks).reshape(-1)[: len(text)]
    return (np.frombuffer(text, np.uint8) ^ stream).tobytes()


def tag(key: bytes, nonce: bytes, header: bytes, cipher: bytes) -> bytes:
    """Return GCM's authentication tag."""
    subkey = int.from_bytes(encrypt(key, np.zeros((1, 16), np.uint8)).tobytes(), "big")
    shifted = [subkey]
    for _ in range(127):
        last = shifted[-1]
        shifted.append(last >> 1 ^ (0xE1 << 120 if last & 1 else 0))
    lengths = (len(header) * 8).to_bytes(8, "big") + (len(cipher) * 8).to_bytes(8, "big")
    padded = header + bytes(-len(header) % 16) + cipher + bytes(-len(cipher) % 16) + lengths
    total = 0
    for at in range(0, len(padded), 16):
        total ^= int.from_bytes(padded[at : at + 16], "big")
        product = 0
        while total:
            high = total.bit_length() - 1
            product ^= shifted[127 - high]
            total ^= 1 << high
        total = product
    first = np.frombuffer(nonce + b"\0\0\0\1", np.uint8).reshape(1, 16).copy()
    mask = int.from_bytes(encrypt(key, first).tobytes(), "big")
    return (total ^ mask).to_bytes(16, "big")


# ---- packets


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
        keys = keys_of(self.salt, self.connection)
        nonce = nonce_of(keys, self.number)
        start, stop = self.token
        header = bytearray(self.header)
        header[start - self.at : stop - self.at] = body[start:stop]
        cipher = counter_mode(keys.key, nonce, plain)
        cipher += tag(keys.key, nonce, bytes(header), cipher)
        place = len(header) - len(self.number)
        sample = (self.number + cipher)[4:20]
        mask = encrypt(keys.mask, np.frombuffer(sample, np.uint8).reshape(1, 16)).tobytes()
        header[0] ^= mask[0] & 0x0F
        for i in range(len(self.number)):
            header[place + i] ^= mask[1 + i]
        return bytes(header) + cipher


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

    connections: connection ids from which the keys may follow, beside its own.
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
    sample = np.frombuffer(body[number_at + 4 : number_at + 20], np.uint8).reshape(1, 16)
    mask = encrypt(keys.mask, sample).tobytes()
    first = body[at] ^ mask[0] & 0x0F
    size = (first & 3) + 1
    masked = zip(body[number_at : number_at + size], mask[1:], strict=False)
    number = bytes(a ^ b for a, b in masked)
    header = bytes([first]) + body[at + 1 : number_at] + number
    cipher, given = body[number_at + size : end - 16], body[end - 16 : end]
    nonce = nonce_of(keys, number)
    if tag(keys.key, nonce, header, cipher) != given:
        return None
    plain = counter_mode(keys.key, nonce, cipher)
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
