# SPDX-License-Identifier: BSD-3-Clause
"""QUIC Initials: build and encrypt those of a client, so that their content can be changed.

RFC 9001, section 5; AES-128 in counter mode with the tag of NIST SP 800-38D.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

import numpy as np

from midcall.classifier.protocols.aes import EXPANDED, encrypt, expand_key
from midcall.testbed.conformance.transcript import hello

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
IDENTITY = bytes.fromhex("8394c8f03e515708")
#: Octets of the plaintext: with header and tag a datagram of 1200 (RFC 9000, section 14.1).
PLAIN = 1162
#: The remainder of the field in which tags are computed.
REMAINDER = 0xE1 << 120


def expand_label(secret: bytes, word: str, size: int) -> bytes:
    """Return HKDF-Expand-Label (RFC 8446, section 7.1) of at most 32 octets."""
    label = b"tls13 " + word.encode()
    info = struct.pack(">HB", size, len(label)) + label + b"\0\1"
    return hmac.digest(secret, info, hashlib.sha256)[:size]


def block(key: bytes, plain: bytes) -> bytes:
    """Return one block of AES-128."""
    s = np.zeros(4 + EXPANDED + 8, np.int64)
    s[:4] = struct.unpack(">4I", key)
    expand_key(s, 0, 4)
    at = 4 + EXPANDED
    s[at : at + 4] = struct.unpack(">4I", plain)
    encrypt(s, 4, at)
    return struct.pack(">4I", *(int(word) & 0xFFFFFFFF for word in s[at + 4 : at + 8]))


def tag_of(key: bytes, first: bytes, head: bytes, sealed: bytes) -> bytes:
    """Return the GCM tag over header and ciphertext (SP 800-38D, sections 6.4 and 7.1)."""
    h, y = int.from_bytes(block(key, bytes(16)), "big"), 0
    padded = head + bytes(-len(head) % 16) + sealed + bytes(-len(sealed) % 16)
    padded += struct.pack(">QQ", 8 * len(head), 8 * len(sealed))
    for at in range(0, len(padded), 16):
        y = times(y ^ int.from_bytes(padded[at : at + 16], "big"), h)
    return (y ^ int.from_bytes(block(key, first), "big")).to_bytes(16, "big")


def times(x: int, y: int) -> int:
    """Return a product in the field of 2 ** 128 elements, its bits read from the left."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = (y >> 1) ^ (REMAINDER if y & 1 else 0)
    return z


def quic_initial(name: str, number: int = 2) -> bytes:
    """Return a QUIC version 1 Initial whose ClientHello asks for a name."""
    body = hello(name, 0x0303)
    message = b"\1" + len(body).to_bytes(3, "big") + body
    plain = (b"\6\0" + struct.pack(">H", 0x4000 | len(message)) + message).ljust(PLAIN, b"\0")
    secret = expand_label(hmac.digest(SALT, IDENTITY, hashlib.sha256), "client in", 32)
    key, iv, mask = (
        expand_label(secret, f"quic {word}", size)
        for word, size in (("key", 16), ("iv", 12), ("hp", 16))
    )
    head = bytes([0xC3]) + struct.pack(">IB", 1, len(IDENTITY)) + IDENTITY + b"\0\0"
    head += struct.pack(">HI", 0x4000 | (4 + len(plain) + 16), number)
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    pad = b"".join(
        block(key, nonce + struct.pack(">I", 2 + at)) for at in range(-(-len(plain) // 16))
    )
    sealed = bytes(a ^ b for a, b in zip(plain, pad, strict=False))
    sealed += tag_of(key, nonce + b"\0\0\0\1", head, sealed)
    shown, cover = bytearray(head), block(mask, sealed[:16])
    shown[0] ^= cover[0] & 0x0F
    for place in range(4):
        shown[len(head) - 4 + place] ^= cover[1 + place]
    return bytes(shown) + sealed
