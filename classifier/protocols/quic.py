# SPDX-License-Identifier: BSD-3-Clause
"""QUIC long headers: RFC 8999, 9000, 9369, and Google's older versions."""

from __future__ import annotations

from captures.compiled import kernel
from captures.octets import Octets, u8, u32


@kernel
def is_quic(b: Octets, at: int, end: int) -> bool:
    """Tell whether a payload starts with a QUIC long header of a known version."""
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
    """Tell whether a version is Google's: Q or T, then three digits."""
    if version >> 24 not in (0x51, 0x54):
        return False
    for shift in (16, 8, 0):
        if not 0x30 <= (version >> shift) & 0xFF <= 0x39:
            return False
    return True
