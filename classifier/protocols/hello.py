# SPDX-License-Identifier: BSD-3-Clause
"""The ClientHello of TLS, DTLS and QUIC: server name, ALPN, use_srtp, and a fingerprint.

RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301, RFC 5764. The fingerprint tells apart what
JA4 tells apart (FoxIO's published format; classifier.protocols.ja4 spells it): protocol, newest
version, whether a server name is there, the suites and extensions whatever their order and without
GREASE (RFC 8701), the signature algorithms in their order, and the first ALPN name's ends. A sum
over items does not depend on their order, so nothing is sorted here.

Of an encrypted ClientHello, only the outer name is read.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.classifier.state.flow_table import Numbers, mix
from midcall.classifier.state.hostnames import plain_name
from midcall.classifier.state.packet_fields import (
    NAME_SNI,
    SIGN_ALPN,
    SIGN_HELLO_PRINT,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
)

#: What carries a hello.
OVER_TCP, OVER_QUIC, OVER_DTLS = 0, 1, 2
# What read_hello returns, bits.
WHOLE, WITH_SRTP = 1, 2

SERVER_NAME, SIGNATURES, USE_SRTP, ALPN, VERSIONS = 0, 13, 14, 16, 43
#: Keys of the two halves of the fingerprint.
KEYS = (0x2545F491, 0x1B873593)
SUITE, EXTENSION = 0x10000, 0x20000


@kernel
def is_grease(number: int) -> bool:
    """Return whether a code point is one of those that mean nothing (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


@kernel
def is_newer(version: int, than: int) -> bool:
    """Return whether a version is newer; DTLS counts down (RFC 6347, section 4.1)."""
    if version >> 8 == 0xFE and than >> 8 == 0xFE:
        return version < than
    return version > than


@kernel
def newest(b: Octets, o: int, stop: int, version: int) -> int:
    """Return the newest version of a supported_versions extension, `version` where it is empty."""
    best = I(0)
    for place in range(o + 1, min(stop, o + 1 + u8(b, o)) - 1, 2):
        offered = u16(b, place)
        if not is_grease(offered) and (best == 0 or is_newer(offered, best)):
            best = offered
    return best or version


@kernel
def read_server_name(b: Octets, o: int, length: int, signs: Numbers) -> None:
    """Put the host name of a server_name extension into signs (RFC 6066, section 3)."""
    if length < 5:
        return
    name = u16(b, o + 3)
    if u8(b, o + 2) == 0 and 0 < name <= length - 5:
        signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = o + 5, name
        signs[SIGN_NAME_KIND] = NAME_SNI
        plain_name(b, o + 5, name, 0, signs)


@kernel
def read_alpn(b: Octets, o: int, length: int, signs: Numbers) -> int:
    """Put the first protocol name into signs; returns its first and last octet."""
    if length < 4 or u8(b, o + 2) == 0 or u8(b, o + 2) > length - 3:
        return 0
    size, word = u8(b, o + 2), I(0)
    for place in range(o + 3, o + 3 + min(size, 7)):
        word = (word << 8) | u8(b, place)
    signs[SIGN_ALPN] = word
    return (u8(b, o + 3) << 8) | u8(b, o + 2 + size)


@kernel
def after_suites(b: Octets, o: int, stop: int, over: int) -> int:
    """Return where a hello's suites begin (their length), -1 when it is cut before them."""
    o += 34
    if stop - o < 1:
        return -1
    o += 1 + u8(b, o)
    if over == OVER_DTLS:
        if stop - o < 1:
            return -1
        o += 1 + u8(b, o)
    return o if stop - o >= 2 else -1


@kernel
def read_hello(b: Octets, o: int, stop: int, end: int, over: int, signs: Numbers) -> int:
    """Read the body of a ClientHello from its legacy_version at o on; returns bits, see above.

    stop: end of the available octets; end: end of the hello. The fingerprint needs a complete
    hello; name and ALPN are read as far as they are available.
    """
    signs[SIGN_ALPN] = 0
    properties = WHOLE if end <= stop else 0
    stop = min(stop, end)
    if stop - o < 2:
        return 0
    version = u16(b, o)
    o = after_suites(b, o, stop, over)
    if o < 0:
        return 0
    size = u16(b, o)
    o += 2
    if stop - o < size + 1:
        return 0
    one, two, suites = I(0), I(0), I(0)
    for place in range(o, o + size - 1, 2):
        suite = u16(b, place)
        if not is_grease(suite):
            suites += 1
            one += mix(mix(KEYS[0], suite | SUITE), SUITE)
            two += mix(mix(KEYS[1], suite | SUITE), SUITE)
    o += size
    o += 1 + u8(b, o) + 2
    extensions, named, ends, signature = I(0), I(0), I(0), I(0)
    while stop - o >= 4:
        kind, length = u16(b, o), u16(b, o + 2)
        o += 4
        if not is_grease(kind):
            extensions += 1
            if kind not in (SERVER_NAME, ALPN):
                one += mix(mix(KEYS[0], kind | EXTENSION), EXTENSION)
                two += mix(mix(KEYS[1], kind | EXTENSION), EXTENSION)
        if kind == USE_SRTP:
            properties |= WITH_SRTP
        if kind == SERVER_NAME:
            named = 1
        if stop - o < length:
            break
        if kind == SERVER_NAME:
            read_server_name(b, o, length, signs)
        elif kind == ALPN:
            ends = read_alpn(b, o, length, signs)
        elif kind == VERSIONS and length >= 3:
            version = newest(b, o, o + length, version)
        elif kind == SIGNATURES and length >= 2:
            for place in range(o + 2, o + min(length, 2 + u16(b, o)) - 1, 2):
                if not is_grease(u16(b, place)):
                    signature = mix(signature + 1, u16(b, place))
        o += length
    if properties & WHOLE:
        counts = min(suites, 99) << 16 | min(extensions, 99) << 8 | over << 1 | named
        one, two = one & 0xFFFFFFFF, two & 0xFFFFFFFF
        for word in (version << 16 | ends, counts, signature):
            one, two = mix(one, word), mix(two, word)
        signs[SIGN_HELLO_PRINT] = ((one & 0x3FFFFFFF) << 32) | two | 1
    return properties
