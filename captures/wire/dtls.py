# SPDX-License-Identifier: BSD-3-Clause
"""DTLS handshakes that agree on SRTP keys (RFC 6347, RFC 5764)."""

from __future__ import annotations

import struct

from midcall.captures.wire.seeded import SeededRandom
from midcall.captures.wire.tls import extension, hello_body, sized

DTLS10, DTLS12 = 0xFEFF, 0xFEFD
USE_SRTP = 14


def record(kind: int, number: int, body: bytes, epoch: int = 0, version: int = DTLS12) -> bytes:
    """Return one record."""
    return struct.pack(">BHHHIH", kind, version, epoch, 0, number, len(body)) + body


def handshake(kind: int, sequence: int, body: bytes) -> bytes:
    """Return one unfragmented handshake message."""
    size = len(body).to_bytes(3, "big")
    return bytes([kind]) + size + struct.pack(">H", sequence) + b"\0\0\0" + size + body


def client_hello(dice: SeededRandom, srtp: bool = True) -> bytes:
    """Return a ClientHello; srtp: offer use_srtp with two profiles (RFC 5764 section 4.1)."""
    extensions = extension(23, b"") + extension(10, sized(bytes.fromhex("001d00170018")))
    extensions += extension(11, b"\1\0") + extension(13, sized(bytes.fromhex("040308040401")))
    if srtp:
        extensions += extension(USE_SRTP, sized(bytes.fromhex("00010002")) + b"\0")
    suites = bytes.fromhex("c02bc02fc00ac014")
    body = hello_body(dice.octets(32), suites, extensions, version=DTLS12, cookie=b"")
    return record(22, 0, handshake(1, 0, body), version=DTLS10)


def der(tag: int, body: bytes) -> bytes:
    """Return an ASN.1 value in DER."""
    size = len(body)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + body


def certificate(dice: SeededRandom) -> bytes:
    """Return a Certificate message's body: one self-signed certificate, its signature random."""
    algorithm = der(0x30, bytes.fromhex("06082a8648ce3d040302"))  # ecdsa-with-SHA256
    curve = der(0x30, bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107"))  # prime256v1
    name = der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550403") + der(0x0C, b"WebRTC"))))
    dates = der(0x30, der(0x17, b"200101000000Z") + der(0x17, b"300101000000Z"))
    point = der(0x30, curve + der(0x03, b"\0\4" + dice.octets(64)))
    serial = der(0x02, b"\1" + dice.octets(7))
    signed = der(0x30, serial + algorithm + name + dates + name + point)
    numbers = der(0x02, b"\1" + dice.octets(31)) + der(0x02, b"\1" + dice.octets(31))
    whole = der(0x30, signed + algorithm + der(0x03, b"\0" + der(0x30, numbers)))
    return sized(sized(whole, 3), 3)


def signature(dice: SeededRandom) -> bytes:
    """Return ecdsa_secp256r1_sha256 and a signature that verifies nothing."""
    return b"\4\3" + sized(dice.octets(71))


def server_flight(dice: SeededRandom, srtp: bool = True) -> bytes:
    """Return ServerHello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone."""
    extensions = extension(0xFF01, b"\0")
    if srtp:
        extensions += extension(USE_SRTP, sized(bytes.fromhex("0001")) + b"\0")
    hello = b"\xfe\xfd" + dice.octets(32) + b"\0\xc0\x2b\0" + sized(extensions)
    exchange = b"\3\0\x1d" + sized(dice.octets(32), 1) + signature(dice)
    request = b"\2\1\x40" + sized(bytes.fromhex("04030804")) + b"\0\0"
    parts = [(2, hello), (11, certificate(dice)), (12, exchange), (13, request), (14, b"")]
    return b"".join(
        record(22, number, handshake(kind, number, body))
        for number, (kind, body) in enumerate(parts)
    )


def client_flight(dice: SeededRandom) -> bytes:
    """Return Certificate, ClientKeyExchange, CertificateVerify, ChangeCipherSpec, Finished."""
    key = sized(dice.octets(32), 1)
    parts = [(11, certificate(dice)), (16, key), (15, signature(dice))]
    out = b"".join(
        record(22, number, handshake(kind, number, body))
        for number, (kind, body) in enumerate(parts, 1)
    )
    return out + record(20, 4, b"\1") + record(22, 0, dice.octets(40), epoch=1)


def server_finish(dice: SeededRandom) -> bytes:
    """Return NewSessionTicket, ChangeCipherSpec and Finished."""
    ticket = record(22, 5, handshake(4, 5, b"\0\0\x1c\x20" + sized(dice.octets(184))))
    return ticket + record(20, 6, b"\1") + record(22, 0, dice.octets(40), epoch=1)
