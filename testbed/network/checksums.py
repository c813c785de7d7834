# SPDX-License-Identifier: BSD-3-Clause
"""Internet checksums adapted to a change (RFC 1624); a wrong one stays wrong by the same amount."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]


def word_sum(data: bytes) -> int:
    """Return the sum of the big-endian 16-bit words of some bytes, folded to 16 bits (RFC 1071).

    As 65536 leaves 1 when divided by 65535, so do the words of a long number their sum.
    """
    whole = int.from_bytes(data, "big") << 8 * (len(data) & 1)
    return whole and (whole - 1) % 0xFFFF + 1


def folded(total: int) -> int:
    """Return a sum of 16-bit words folded to 16 bits (RFC 1071); 0xFFFF over correct data."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def sums(octets: Octets) -> Numbers:
    """Return per row the sum of its big-endian 16-bit words."""
    wide = octets.astype(np.int64)
    return np.asarray((wide[:, ::2] << 8).sum(axis=1) + wide[:, 1::2].sum(axis=1))


def adapt(packet: bytearray, at: int, change: int) -> None:
    """Adapt the checksum at `at` to a changed sum (RFC 1624 equation 3)."""
    spot = np.frombuffer(packet, np.uint8).copy()
    adapt_all(spot, np.array([at]), np.array([change]))
    packet[at : at + 2] = spot[at : at + 2].tobytes()


def adapt_all(data: Octets, at: Numbers, change: Numbers) -> None:
    """Adapt checksums to changed sums (RFC 1624 equation 3); 0 is written as FFFF, for UDP."""
    moved = change != 0
    at, change = at[moved], change[moved]
    old = data[at].astype(np.int64) << 8 | data[at + 1]
    total = (~old & 0xFFFF) + change % 0xFFFF
    total = (total & 0xFFFF) + (total >> 16)
    new = 0xFFFF - np.where(total == 0xFFFF, 0, total)
    data[at], data[at + 1] = new >> 8, new & 0xFF
