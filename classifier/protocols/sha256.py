# SPDX-License-Identifier: BSD-3-Clause
"""SHA-256 (FIPS 180-4), HMAC (RFC 2104) and HKDF-Expand-Label (RFC 8446) on words of a scratch.

Words are 32-bit numbers in int64 slots of `s`, at the fixed places below; nothing is allocated.
Messages are short: one block, which is all that the keys of a QUIC Initial need.
"""

from __future__ import annotations

import numpy as np

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.packet_fields import SIGN_SCRATCH

STATE = SIGN_SCRATCH  # 8 words
BLOCK = STATE + 8  # 16 words of a message, drawn out to 64
INNER = BLOCK + 64  # the two halves of a keyed HMAC
OUTER = INNER + 8
SHA_END = OUTER + 8

WORD = 0xFFFFFFFF


def root_bits(degree: int, count: int) -> list[int]:
    """Return the first 32 fractional bits of the roots of the first primes (FIPS 180-4, 4.2.2)."""
    primes = [n for n in range(2, 320) if all(n % k for k in range(2, n))][:count]
    bits = []
    for prime in primes:
        wanted, low, high = prime << (32 * degree), 0, prime << 32
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**degree <= wanted else (low, middle)
        bits.append(low & WORD)
    return bits


START = np.array(root_bits(2, 8), np.int64)
ROUND = np.array(root_bits(3, 64), np.int64)


@kernel
def begin(s: Numbers) -> None:
    """Set the state to its start."""
    for i in range(8):
        s[STATE + i] = START[i]


@kernel
def compress(s: Numbers) -> None:
    """Take the 16 words at BLOCK into the state (FIPS 180-4, 6.2.2).

    A word is doubled to 64 bits first: then every rotation is one shift.
    """
    for i in range(BLOCK + 16, BLOCK + 64):
        x, y = I(s[i - 15]), I(s[i - 2])
        xx, yy = x | (x << 32), y | (y << 32)
        one = (((xx >> 7) ^ (xx >> 18)) & WORD) ^ (x >> 3)
        two = (((yy >> 17) ^ (yy >> 19)) & WORD) ^ (y >> 10)
        s[i] = (I(s[i - 16]) + one + I(s[i - 7]) + two) & WORD
    a, b, c, d = I(s[STATE]), I(s[STATE + 1]), I(s[STATE + 2]), I(s[STATE + 3])
    e, f, g, h = I(s[STATE + 4]), I(s[STATE + 5]), I(s[STATE + 6]), I(s[STATE + 7])
    for i in range(64):
        ee, aa = e | (e << 32), a | (a << 32)
        first = h + (((ee >> 6) ^ (ee >> 11) ^ (ee >> 25)) & WORD) + (g ^ (e & (f ^ g)))
        first += I(ROUND[i]) + I(s[BLOCK + i])
        second = (((aa >> 2) ^ (aa >> 13) ^ (aa >> 22)) & WORD) + ((a & b) | (c & (a | b)))
        h, g, f, e = g, f, e, (d + first) & WORD
        d, c, b, a = c, b, a, (first + second) & WORD
    s[STATE] = (I(s[STATE]) + a) & WORD
    s[STATE + 1] = (I(s[STATE + 1]) + b) & WORD
    s[STATE + 2] = (I(s[STATE + 2]) + c) & WORD
    s[STATE + 3] = (I(s[STATE + 3]) + d) & WORD
    s[STATE + 4] = (I(s[STATE + 4]) + e) & WORD
    s[STATE + 5] = (I(s[STATE + 5]) + f) & WORD
    s[STATE + 6] = (I(s[STATE + 6]) + g) & WORD
    s[STATE + 7] = (I(s[STATE + 7]) + h) & WORD


@kernel
def put_octet(s: Numbers, place: int, octet: int) -> None:
    """Put an octet of a message into the (cleared) block."""
    s[BLOCK + (place >> 2)] |= octet << (24 - 8 * (place & 3))


@kernel
def put_octets(s: Numbers, b: Octets, at: int, size: int) -> None:
    """Begin a message with b[at : at + size], at most 55 octets."""
    for i in range(16):
        s[BLOCK + i] = 0
    for i in range(size):
        put_octet(s, i, I(b[at + i]))


@kernel
def key_mac(s: Numbers, key: int, words: int) -> None:
    """Prepare both halves of HMAC for a key of `words` words, at most 16, at s[key]."""
    for half in range(2):
        pad = 0x36363636 if half == 0 else 0x5C5C5C5C
        out = INNER if half == 0 else OUTER
        for i in range(16):
            s[BLOCK + i] = (I(s[key + i]) if i < words else I(0)) ^ pad
        begin(s)
        compress(s)
        for i in range(8):
            s[out + i] = s[STATE + i]


@kernel
def mac(s: Numbers, size: int, out: int) -> None:
    """Write the HMAC of the `size` octets in the block, at most 55, to 8 words at s[out]."""
    put_octet(s, size, 0x80)
    s[BLOCK + 15] = (64 + size) * 8
    for i in range(8):
        s[STATE + i] = s[INNER + i]
    compress(s)
    for i in range(8):
        s[BLOCK + i] = s[STATE + i]
        s[STATE + i] = s[OUTER + i]
        s[BLOCK + 8 + i] = 0
    put_octet(s, 32, 0x80)
    s[BLOCK + 15] = (64 + 32) * 8
    compress(s)
    for i in range(8):
        s[out + i] = s[STATE + i]


def label(text: str, size: int) -> bytes:
    """Return the message of HKDF-Expand-Label for at most 32 octets (RFC 8446, section 7.1).

    Its HMAC under the secret, cut to `size` octets, is the output; the context is empty.
    """
    name = b"tls13 " + text.encode()
    return size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\1"
