# SPDX-License-Identifier: BSD-3-Clause
"""TLS handshakes (RFC 5246, RFC 8446): hellos with a server name, then encrypted records."""

from __future__ import annotations

import struct

from midcall.captures.wire.seeded import SeededRandom

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


def server_name(name: bytes) -> bytes:
    """Return the extension that names the server (RFC 6066, section 3)."""
    return extension(0, sized(b"\0" + sized(name)))


def hello_body(
    random: bytes,
    suites: bytes,
    extensions: bytes,
    session: bytes = b"",
    version: int = 0x0303,
    cookie: bytes | None = None,
) -> bytes:
    """Return the body of a ClientHello (RFC 8446, section 4.1.2).

    random: 32 octets; suites, extensions: without their lengths; cookie: of DTLS (RFC 6347, 4.2.1),
    None for TLS.
    """
    head = struct.pack(">H", version) + random + sized(session, 1)
    if cookie is not None:
        head += sized(cookie, 1)
    return head + sized(suites) + b"\1\0" + sized(extensions)


def server_hello_body(random: bytes, session: bytes, extensions: bytes) -> bytes:
    """Return the body of a ServerHello with the suite TLS_AES_128_GCM_SHA256."""
    return b"\3\3" + random + sized(session, 1) + b"\x13\1\0" + sized(extensions)


def handshake_message(kind: int, body: bytes) -> bytes:
    """Return a handshake message; kind: 1 ClientHello, 2 ServerHello."""
    return bytes([kind]) + sized(body, 3)


def client_hello(
    dice: SeededRandom, name: str, protocols: tuple[str, ...] = ("h2", "http/1.1")
) -> bytes:
    """Return a record with a ClientHello; name: the server name, empty for none (RFC 6066)."""
    extensions = b""
    if name:
        extensions += server_name(name.encode())
    extensions += extension(23, b"") + extension(0xFF01, b"\0")
    extensions += extension(10, sized(bytes.fromhex("001d00170018")))
    extensions += extension(11, b"\1\0") + extension(35, b"")
    if protocols:
        extensions += extension(16, sized(b"".join(sized(p.encode(), 1) for p in protocols)))
    extensions += extension(13, sized(bytes.fromhex("0403080404010503080505010806060102 01")))
    extensions += extension(43, sized(bytes.fromhex("03040303"), 1))
    extensions += extension(51, sized(b"\0\x1d" + sized(dice.octets(32))))
    suites = b"".join(struct.pack(">H", suite) for suite in SUITES)
    body = hello_body(dice.octets(32), suites, extensions, dice.octets(32))
    return record(HANDSHAKE, handshake_message(1, body), 0x0301)


def server_hello(dice: SeededRandom, certificate: int) -> bytes:
    """Return ServerHello, ChangeCipherSpec and an encrypted flight with the certificate."""
    extensions = extension(43, b"\3\4") + extension(51, b"\0\x1d" + sized(dice.octets(32)))
    body = server_hello_body(dice.octets(32), dice.octets(32), extensions)
    hello = record(HANDSHAKE, handshake_message(2, body))
    return hello + record(CHANGE, b"\1") + record(APPLICATION, dice.octets(certificate))


def records(dice: SeededRandom, size: int) -> bytes:
    """Return application records of `size` plaintext bytes in all, at most 4096 each."""
    parts = [min(4096, size - i) for i in range(0, size, 4096)]
    return b"".join(record(APPLICATION, dice.octets(part + 17)) for part in parts)
