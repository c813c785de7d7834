# SPDX-License-Identifier: BSD-3-Clause
"""Typed readers of packet bytes, with which compiled code turns bytes into numbers.

A bare `b[o] << 8` is 0 in plain Python (uint8 arithmetic) and right when compiled; these readers
widen first, so both modes agree. None checks bounds: the caller has tested `end - o >= n` once,
against the end of the *packet*, which is what no runtime check can see inside a larger buffer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, U, kernel

Octets = NDArray[np.uint8]


@kernel
def u8(b: Octets, o: int) -> int:
    """Return the octet at o."""
    return I(b[U(o)])


@kernel
def u16(b: Octets, o: int) -> int:
    """Return the big-endian 16-bit number at o."""
    return (I(b[U(o)]) << 8) | I(b[U(o + 1)])


@kernel
def u24(b: Octets, o: int) -> int:
    """Return the big-endian 24-bit number at o."""
    return (I(b[U(o)]) << 16) | (I(b[U(o + 1)]) << 8) | I(b[U(o + 2)])


@kernel
def u32(b: Octets, o: int) -> int:
    """Return the big-endian 32-bit number at o."""
    return (I(b[U(o)]) << 24) | (I(b[U(o + 1)]) << 16) | (I(b[U(o + 2)]) << 8) | I(b[U(o + 3)])


@kernel
def u16le(b: Octets, o: int) -> int:
    """Return the little-endian 16-bit number at o."""
    return (I(b[U(o + 1)]) << 8) | I(b[U(o)])


@kernel
def u32le(b: Octets, o: int) -> int:
    """Return the little-endian 32-bit number at o."""
    return (I(b[U(o + 3)]) << 24) | (I(b[U(o + 2)]) << 16) | (I(b[U(o + 1)]) << 8) | I(b[U(o)])


@kernel
def find_octet(b: Octets, o: int, end: int, octet: int) -> int:
    """Return the offset of the first `octet` in b[o:end], `end` if there is none.

    Four octets are tested at a time: subtracting 1 from each octet of a word sets a high bit that
    was clear before only if an octet was 0 (H. S. Warren, Hacker's Delight, 6-1).
    """
    pattern = octet * 0x01010101
    while end - o >= 4:
        word = u32(b, o) ^ pattern
        if (word - 0x01010101) & ~word & 0x80808080:
            break
        o += 4
    while o < end and u8(b, o) != octet:
        o += 1
    return o


@kernel
def starts(b: Octets, at: int, end: int, word: bytes) -> bool:
    """Return whether the payload starts with a word."""
    if end - at < len(word):
        return False
    for i in range(len(word)):
        if I(b[at + i]) != I(word[i]):
            return False
    return True
