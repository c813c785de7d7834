# SPDX-License-Identifier: BSD-3-Clause
"""Differentiated Services code points (RFC 2474): reading and writing that of an IP header."""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.testbed.middlebox.inject import checksum, summed
from midcall.testbed.network.access import put16


@kernel
def dscp_of(b: Octets, ip: int, version: int) -> int:
    """Return the code point of the IP header at `ip` (RFC 2474 section 3)."""
    return u8(b, ip + 1) >> 2 if version == 4 else (u16(b, ip) >> 6) & 0x3F


@kernel
def write_dscp(b: Octets, ip: int, version: int, dscp: int) -> None:
    """Write a code point into the IP header at `ip`; ECN stays, the header's checksum is right."""
    if version != 4:
        put16(b, ip, (u16(b, ip) & 0xF03F) | dscp << 6)
        return
    b[ip + 1] = dscp << 2 | u8(b, ip + 1) & 3
    put16(b, ip + 10, 0)
    put16(b, ip + 10, checksum(summed(b, ip, ip + 4 * (u8(b, ip) & 15))))
