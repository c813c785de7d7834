# SPDX-License-Identifier: BSD-3-Clause
"""TCP in a frame: its flags, and where its header begins (RFC 9293)."""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8
from midcall.captures.packets.numbers import TCP

SYN, RST, ACK, FIN = 0x02, 0x04, 0x10, 0x01


@kernel
def find_tcp(b: Octets, at: int, end: int) -> int:
    """Return the offset of the TCP header after an IP header, 0 behind IPv6 extension headers."""
    if end - at >= 20 and u8(b, at) >> 4 == 4:
        return at + 4 * (u8(b, at) & 15)
    if end - at >= 40 and u8(b, at) >> 4 == 6 and u8(b, at + 6) == TCP:
        return at + 40
    return 0
