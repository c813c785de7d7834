# SPDX-License-Identifier: BSD-3-Clause
"""JA4, the readable form of a ClientHello's fingerprint: a_b_c (FoxIO's published format).

a: what carries it, newest version, whether a server name is there, how many suites and extensions,
the first ALPN name's ends; b: the sorted suites; c: the sorted extensions without server name and
ALPN, and the signature algorithms in their order; b and c as 12 digits of SHA-256. GREASE values
count nowhere. The packet path has a number that tells the same hellos apart
(midcall.classifier.protocols.hello); this is for people, and for comparing with other tools' lists.
"""

from __future__ import annotations

import hashlib
import struct

from midcall.errors import ClassifierError

VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}
SERVER_NAME, SIGNATURES, ALPN, SUPPORTED_VERSIONS = 0, 13, 16, 43
NOTHING = "0" * 12


def ja4(hello: bytes, over: str = "t") -> str:
    """Return the JA4 of a ClientHello.

    hello: the message's body, from legacy_version on, without record and handshake headers.
    over: "t" TLS over TCP, "q" QUIC, "d" DTLS. Raises ClassifierError for a hello that is cut.
    """
    if over not in ("t", "q", "d"):
        raise ClassifierError(f'a hello is carried over "t", "q" or "d", not {over!r}')
    reader = Reader(hello)
    version = reader.number(2)
    reader.take(32)
    reader.vector(1)
    if over == "d":
        reader.vector(1)
    suites = numbers(reader.vector(2))
    reader.vector(1)
    extensions = reader.extensions()
    bodies = dict(reversed(extensions))
    if SUPPORTED_VERSIONS in bodies:
        version = newest(numbers(Reader(bodies[SUPPORTED_VERSIONS]).vector(1)), version)
    kinds = [kind for kind, _ in extensions if not is_grease(kind)]
    signatures = numbers(Reader(bodies[SIGNATURES]).vector(2)) if SIGNATURES in bodies else []
    named = "d" if SERVER_NAME in kinds else "i"
    counts = f"{min(len(suites), 99):02}{min(len(kinds), 99):02}"
    first = f"{over}{VERSIONS.get(version, '00')}{named}{counts}{ends(bodies.get(ALPN, b''))}"
    listed = sorted(kind for kind in kinds if kind not in (SERVER_NAME, ALPN))
    return f"{first}_{digits(sorted(suites), [])}_{digits(listed, signatures)}"


class Reader:
    """Bytes that are read from their start."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def take(self, size: int) -> bytes:
        """Return the next octets; raises ClassifierError where they are not there."""
        left = len(self.octets) - self.at
        if left < size:
            raise ClassifierError(
                f"the hello is cut: at octet {self.at} {size} are wanted, {left} are left"
            )
        self.at += size
        return self.octets[self.at - size : self.at]

    def number(self, size: int) -> int:
        """Return a big-endian number of so many octets."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, width: int) -> bytes:
        """Return the octets behind a length of `width` octets."""
        return self.take(self.number(width))

    def extensions(self) -> list[tuple[int, bytes]]:
        """Return the hello's extensions as (type, body), [] where it has none (RFC 5246)."""
        if self.at == len(self.octets):
            return []
        inner, result = Reader(self.vector(2)), []
        while inner.at < len(inner.octets):
            result.append((inner.number(2), inner.vector(2)))
        return result


def is_grease(number: int) -> bool:
    """Return whether a code point is one of those that mean nothing (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def numbers(octets: bytes) -> list[int]:
    """Return 16-bit numbers without GREASE."""
    count = len(octets) // 2
    every = struct.unpack(f">{count}H", octets[: 2 * count])
    return [number for number in every if not is_grease(number)]


def newest(offered: list[int], version: int) -> int:
    """Return the newest of the offered versions; DTLS counts down (RFC 6347, section 4.1)."""
    if not offered:
        return version
    return min(offered) if all(one >> 8 == 0xFE for one in offered) else max(offered)


def ends(alpn: bytes) -> str:
    """Return first and last character of the first ALPN name, of its digits where not ASCII."""
    name = Reader(Reader(alpn).vector(2)).vector(1) if len(alpn) > 3 else b""
    if not name:
        return "00"
    first, last = name[:1], name[-1:]
    if (first + last).isalnum():
        return (first + last).decode()
    return first.hex()[0] + last.hex()[1]


def digits(first: list[int], second: list[int]) -> str:
    """Return 12 hexadecimal digits that stand for a list, and one behind it."""
    if not first:
        return NOTHING
    text = ",".join(f"{number:04x}" for number in first)
    if second:
        text += "_" + ",".join(f"{number:04x}" for number in second)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
