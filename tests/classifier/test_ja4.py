# SPDX-License-Identifier: BSD-3-Clause
"""JA4: the published example, and each part of a hello that changes it (or does not)."""

from __future__ import annotations

import struct

import pytest

from midcall.captures.wire.tls import extension, sized
from midcall.classifier.protocols.hello import OVER_DTLS, OVER_QUIC, OVER_TCP, WHOLE, read_hello
from midcall.classifier.protocols.ja4 import ja4
from midcall.classifier.state.packet_fields import SIGN_HELLO_PRINT
from midcall.errors import ClassifierError
from tests.classifier.wire import blank_signs, noise, octets

#: The hello of the format's description: its suites and extensions in an order of their own.
SUITES = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8)
SUITES += (0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035)
SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
KINDS = (0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D)
KINDS += (0x0005, 0x0023, 0x0012, 0x002B, 0xFF01, 0x000B, 0x000A, 0x0015)
EXAMPLE = "t13d1516h2_8daaf6152771_e5627efa2ab1"
OVER = {"t": OVER_TCP, "q": OVER_QUIC, "d": OVER_DTLS}


def listed(numbers: tuple[int, ...]) -> bytes:
    """Return 16-bit numbers behind their length."""
    return sized(struct.pack(f">{len(numbers)}H", *numbers))


def body(
    suites: tuple[int, ...] = SUITES,
    kinds: tuple[int, ...] = KINDS,
    signatures: tuple[int, ...] = SIGNATURES,
    versions: tuple[int, ...] = (0x0304, 0x0303),
    alpn: tuple[bytes, ...] = (b"h2", b"http/1.1"),
    legacy: int = 0x0303,
    cookie: bytes | None = None,
) -> bytes:
    """Return a hello's body."""
    bodies = {
        0: sized(b"\0" + sized(b"a.example")),
        13: listed(signatures),
        16: sized(b"".join(sized(name, 1) for name in alpn)),
        43: sized(struct.pack(f">{len(versions)}H", *versions), 1),
    }
    extensions = b"".join(extension(kind, bodies.get(kind, b"")) for kind in kinds)
    head = struct.pack(">H", legacy) + noise(32) + sized(noise(32, 1), 1)
    if cookie is not None:
        head += sized(cookie, 1)
    return head + listed(suites) + b"\1\0" + sized(extensions)


def fingerprint(hello: bytes, over: str) -> int:
    """Return the number that the packet path makes of a hello."""
    signs = blank_signs()
    end = len(hello)
    assert read_hello(octets(hello), 0, end, end, OVER[over], signs) & WHOLE
    return int(signs[SIGN_HELLO_PRINT])


def test_the_published_example_is_what_it_is() -> None:
    assert ja4(body()) == EXAMPLE


CASES: dict[str, tuple[str, bytes, str]] = {
    "the example": ("t", body(), EXAMPLE),
    "over QUIC": ("q", body(), "q" + EXAMPLE[1:]),
    "no server name": ("t", body(kinds=KINDS[:1] + KINDS[2:]), "t13i1515h2" + EXAMPLE[10:]),
    "TLS 1.2": ("t", body(versions=(0x0303, 0x0302)), "t12d1516h2" + EXAMPLE[10:]),
    "http/1.1 first": ("t", body(alpn=(b"http/1.1",)), "t13d1516h1" + EXAMPLE[10:]),
    "one letter": ("t", body(alpn=(b"h",)), "t13d1516hh" + EXAMPLE[10:]),
    "not ASCII": ("t", body(alpn=(b"\xab\x12\xcd",)), "t13d1516ad" + EXAMPLE[10:]),
    "no ALPN": ("t", body(alpn=()), "t13d151600" + EXAMPLE[10:]),
}


@pytest.mark.parametrize("case", CASES)
def test_each_part_is_spelt(case: str) -> None:
    over, hello, expected = CASES[case]
    assert ja4(hello, over) == expected


def test_order_and_grease_change_nothing_but_signatures_keep_their_order() -> None:
    grease = body(
        suites=(0x3A3A, *SUITES[::-1]),
        kinds=(0x1A1A, *KINDS[::-1], 0xFAFA),
        versions=(0x5A5A, 0x0304, 0x0303),
    )
    assert ja4(grease) == EXAMPLE
    assert fingerprint(grease, "t") == fingerprint(body(), "t")
    turned = body(signatures=SIGNATURES[::-1])
    assert ja4(turned) != EXAMPLE
    assert ja4(turned)[:23] == EXAMPLE[:23]
    assert fingerprint(turned, "t") != fingerprint(body(), "t")


def test_the_packet_paths_number_tells_the_same_hellos_apart() -> None:
    hellos = [(over, hello) for over, hello, _ in CASES.values()]
    hellos += [("t", body(suites=SUITES[:n])) for n in range(1, 15)]
    hellos += [("t", body(kinds=KINDS[:n])) for n in range(1, 16)]
    hellos += [("t", body(suites=SUITES[:n] + SUITES[n + 1 :])) for n in range(15)]
    hellos += [("t", body(legacy=0x0301, kinds=())), ("t", body(legacy=0x0302, kinds=()))]
    spelt = {ja4(hello, over) for over, hello in hellos}
    numbers = {fingerprint(hello, over) for over, hello in hellos}
    pairs = {(ja4(hello, over), fingerprint(hello, over)) for over, hello in hellos}
    assert len(spelt) == len(numbers) == len(pairs) > 40
    assert all(0 < number < 1 << 62 for number in numbers)


def test_dtls_counts_its_versions_down_and_has_a_cookie() -> None:
    hello = body(legacy=0xFEFD, versions=(0xFEFD, 0xFEFC), cookie=noise(20))
    assert ja4(hello, "d").startswith("dd3d1516h2_")
    older = body(legacy=0xFEFF, kinds=(10, 14), cookie=b"")
    assert ja4(older, "d").startswith("dd1i150200_8daaf6152771_")
    assert fingerprint(hello, "d") != fingerprint(older, "d")


def test_a_hello_without_extensions_or_suites_has_zeros() -> None:
    bare = b"\3\1" + noise(32) + b"\0" + listed(SUITES) + b"\1\0"
    assert ja4(bare) == "t10i150000_8daaf6152771_000000000000"
    assert ja4(body(suites=(), kinds=())) == "t12i000000_000000000000_000000000000"


@pytest.mark.parametrize("keep", [0, 1, 20, 34, 60, 75, 120])
def test_a_cut_hello_is_an_error_that_says_where(keep: int) -> None:
    with pytest.raises(ClassifierError, match=r"^the hello is cut: at octet \d+ \d+ are wanted"):
        ja4(body()[:keep])


def test_what_carries_a_hello_is_one_of_three() -> None:
    with pytest.raises(ClassifierError) as caught:
        ja4(body(), "x")
    assert str(caught.value) == 'a hello is carried over "t", "q" or "d", not \'x\''
