# SPDX-License-Identifier: BSD-3-Clause
"""AES-128, one block at a time, encryption only (FIPS 197): what counter mode needs.

Words are 32-bit numbers in int64 slots of a scratch `s`. The timing of table look-ups reveals a key
to programs that share the processor's cache; these keys are not secret (RFC 9001, section 5.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, U, kernel
from midcall.classifier.state.flow_table import Numbers

#: Words of an expanded key.
EXPANDED = 44


def double(x: int) -> int:
    """Return x times 2 in the field of AES."""
    return ((x << 1) ^ (0x11B if x & 0x80 else 0)) & 0xFF


def substitution() -> list[int]:
    """Return the S-box: the inverse in the field, then an affine map (FIPS 197, 5.1.1)."""
    power, log, x = [0] * 255, [0] * 256, 1
    for i in range(255):
        power[i], log[x] = x, i
        x ^= double(x)  # times 3, which generates the field
    box = []
    for octet in range(256):
        inverse = power[(255 - log[octet]) % 255] if octet else 0
        turned = inverse * 0x101
        mixed = inverse ^ (turned >> 7) ^ (turned >> 6) ^ (turned >> 5) ^ (turned >> 4)
        box.append((mixed & 0xFF) ^ 0x63)
    return box


def round_table(turn: int) -> NDArray[np.int64]:
    """Return S-box and column mix of one octet as a word, turned right by `turn` octets."""
    words = []
    for s in substitution():
        two = double(s)
        word = two << 24 | s << 16 | s << 8 | (two ^ s)
        words.append((word >> 8 * turn | word << (32 - 8 * turn)) & 0xFFFFFFFF)
    return np.array(words, np.int64)


BOX = np.array(substitution(), np.int64)
T0, T1, T2, T3 = (round_table(turn) for turn in range(4))


@kernel
def expand_key(s: Numbers, key: int, out: int) -> None:
    """Write the 44 words of the key schedule of the 4 words at s[key] to s[out]."""
    for i in range(4):
        s[out + i] = s[key + i]
    constant = I(1)
    for i in range(out + 4, out + EXPANDED, 4):
        x = I(s[i - 1])
        word = I(BOX[(x >> 16) & 255]) << 24 | I(BOX[(x >> 8) & 255]) << 16
        word |= I(BOX[x & 255]) << 8 | I(BOX[x >> 24])
        word ^= constant << 24
        constant = ((constant << 1) ^ ((constant >> 7) * 0x11B)) & 0xFF
        for k in range(4):
            word ^= I(s[i - 4 + k])
            s[i + k] = word


@kernel
def last(a: int, b: int, c: int, d: int, key: int) -> int:
    """Return a word of the last round."""
    word = I(BOX[U(a >> 24)]) << 24 | I(BOX[U((b >> 16) & 255)]) << 16
    return (word | I(BOX[U((c >> 8) & 255)]) << 8 | I(BOX[U(d & 255)])) ^ key


@kernel
def turned(a: int, b: int, c: int, d: int, key: int) -> int:
    """Return a word of every other round."""
    one, two = I(T0[U(a >> 24)]), I(T1[U((b >> 16) & 255)])
    return one ^ two ^ I(T2[U((c >> 8) & 255)]) ^ I(T3[U(d & 255)]) ^ key


@kernel
def encrypt(s: Numbers, keys: int, at: int) -> None:
    """Encrypt the block of 4 words at s[at] under the schedule at s[keys]; it goes to s[at + 4]."""
    a, b = I(s[at] ^ s[keys]), I(s[at + 1] ^ s[keys + 1])
    c, d = I(s[at + 2] ^ s[keys + 2]), I(s[at + 3] ^ s[keys + 3])
    for k in range(keys + 4, keys + 40, 4):
        w, x = turned(a, b, c, d, s[k]), turned(b, c, d, a, s[k + 1])
        y, z = turned(c, d, a, b, s[k + 2]), turned(d, a, b, c, s[k + 3])
        a, b, c, d = w, x, y, z
    s[at + 4] = last(a, b, c, d, s[keys + 40])
    s[at + 5] = last(b, c, d, a, s[keys + 41])
    s[at + 6] = last(c, d, a, b, s[keys + 42])
    s[at + 7] = last(d, a, b, c, s[keys + 43])
