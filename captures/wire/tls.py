# SPDX-License-Identifier: BSD-3-Clause
"""TLS handshakes (RFC 5246, RFC 8446): hellos with a server name, then encrypted records."""

from __future__ import annotations

import struct

from midcall.captures.wire.seeded import Dice

HANDSHAKE, CHANGE, APPLICATION = 22, 20, 23
SUITES = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014)


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    """Return one record."""
    return struct.pack(">BHH", kind, version, len(body)) + body


def extension(kind: int, body: bytes) -> bytes:
    """Return one hello extension."""
    return struct.pack(">HH", kind, len(body)) + body


def sized(body: bytes, width: int = 2) -> bytes:
    """Return a vector with its length before it."""
    return len(body).to_bytes(width, "big") + body


def client_hello(dice: Dice, name: str, protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """Return a record with a ClientHello; name: the server name, empty for none (RFC 6066)."""
    extensions = b""
    if name:
        extensions += extension(0, sized(b"\0" + sized(name.encode())))
    extensions += extension(23, b"") + extension(0xFF01, b"\0")
    extensions += extension(10, sized(bytes.fromhex("001d00170018")))
    extensions += extension(11, b"\1\0") + extension(35, b"")
    if protocols:
        extensions += extension(16, sized(b"".join(sized(p.encode(), 1) for p in protocols)))
    extensions += extension(13, sized(bytes.fromhex("0403080404010503080505010806060102 01")))
    extensions += extension(43, sized(bytes.fromhex("03040303"), 1))
    extensions += extension(51, sized(b"\0\x1d" + sized(dice.octets(32))))
    suites = sized(b"".join(struct.pack(">H", suite) for suite in SUITES))
    body = b"\3\3" + dice.octets(32) + sized(dice.octets(32), 1) + suites + b"\1\0"
    body += sized(extensions)
    return record(HANDSHAKE, b"\1" + sized(body, 3), 0x0301)


def server_hello(dice: Dice, certificate: int) -> bytes:
    """Return ServerHello, ChangeCipherSpec and an encrypted flight with the certificate."""
    extensions = extension(43, b"\3\4") + extension(51, b"\0\x1d" + sized(dice.octets(32)))
    body = b"\3\3" + dice.octets(32) + sized(dice.octets(32), 1) + b"\x13\1\0" + sized(extensions)
    hello = record(HANDSHAKE, b"\2" + sized(body, 3))
    return hello + record(CHANGE, b"\1") + record(APPLICATION, dice.octets(certificate))


def records(dice: Dice, size: int) -> bytes:
    """Return application records of `size` plaintext bytes in all, at most 4096 each."""
    parts = [min(4096, size - i) for i in range(0, size, 4096)]
    return b"".join(record(APPLICATION, dice.octets(part + 17)) for part in parts)
