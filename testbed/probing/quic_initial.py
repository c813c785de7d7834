# SPDX-License-Identifier: BSD-3-Clause
"""QUIC Initials of a client that ask for a name, so that their content can be changed."""

from __future__ import annotations

import struct

from midcall.captures.wire.quic import SALT_V1, keys_of, sealed
from midcall.captures.wire.tls import handshake_message
from midcall.testbed.conformance.transcript import hello

IDENTITY = bytes.fromhex("8394c8f03e515708")
#: Octets of the plaintext: with header and tag a datagram of 1200 (RFC 9000, section 14.1).
PLAIN = 1162


def quic_initial(name: str, number: int = 2) -> bytes:
    """Return a QUIC version 1 Initial whose ClientHello asks for a name."""
    message = handshake_message(1, hello(name, 0x0303))
    plain = (b"\6\0" + struct.pack(">H", 0x4000 | len(message)) + message).ljust(PLAIN, b"\0")
    head = bytes([0xC3]) + struct.pack(">IB", 1, len(IDENTITY)) + IDENTITY + b"\0\0"
    head += struct.pack(">H", 0x4000 | (4 + len(plain) + 16))
    counter = struct.pack(">I", number)
    return sealed(keys_of(SALT_V1, IDENTITY), head + counter, counter, plain)
