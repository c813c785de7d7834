# SPDX-License-Identifier: BSD-3-Clause
"""SHA-256, HMAC and HKDF-Expand-Label: the standards' examples, and Python's own library."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest

from midcall.classifier.protocols import quic
from midcall.classifier.protocols.sha256 import (
    BLOCK,
    ROUND,
    START,
    STATE,
    begin,
    compress,
    key_mac,
    label,
    mac,
    put_octets,
)
from tests.classifier.wire import blank_signs, noise, octets


def words(octets_: bytes) -> np.ndarray:
    """Return big-endian words."""
    return np.frombuffer(octets_, ">u4").astype(np.int64)


def digest(message: bytes) -> str:
    """Return SHA-256 by the kernel, its padding done here."""
    s = blank_signs()
    begin(s)
    size = len(message)
    padded = message + b"\x80" + bytes((55 - size) % 64) + (8 * size).to_bytes(8, "big")
    for at in range(0, len(padded), 64):
        s[BLOCK : BLOCK + 16] = words(padded[at : at + 64])
        compress(s)
    return s[STATE : STATE + 8].astype(">u4").tobytes().hex()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ],
)
def test_the_examples_of_fips_180_hold(message: bytes, expected: str) -> None:
    assert digest(message) == expected


def test_digests_of_any_length_are_those_of_the_library() -> None:
    for size in (1, 55, 56, 63, 64, 65, 127, 200):
        message = noise(size, size)
        assert digest(message) == hashlib.sha256(message).hexdigest()


def test_the_constants_are_those_that_fips_180_prints() -> None:
    assert (int(START[0]), int(START[7])) == (0x6A09E667, 0x5BE0CD19)
    assert (int(ROUND[0]), int(ROUND[63])) == (0x428A2F98, 0xC67178F2)


def keyed(key: bytes, message: bytes) -> str:
    """Return HMAC by the kernel."""
    s, place = blank_signs(), quic.KEY
    s[place : place + len(key) // 4] = words(key)
    key_mac(s, place, len(key) // 4)
    put_octets(s, octets(message + b"#"), 0, len(message))
    mac(s, len(message), quic.SECRET)
    return s[quic.SECRET : quic.SECRET + 8].astype(">u4").tobytes().hex()


def test_the_examples_of_rfc_4231_hold() -> None:
    assert keyed(b"\x0b" * 20, b"Hi There") == (
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    )
    assert keyed(b"Jefe", b"what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


@pytest.mark.parametrize("size", [0, 1, 8, 20, 31, 32, 54, 55])
def test_macs_are_those_of_the_library(size: int) -> None:
    key, message = noise(32, 5), noise(size, size + 1) if size else b""
    assert keyed(key, message) == hmac.digest(key, message, "sha256").hex()


def test_a_label_stands_as_rfc_9001_prints_it() -> None:
    assert label("client in", 32).hex() == "00200f746c73313320636c69656e7420696e0001"
    assert label("quic key", 16).hex() == "00100e746c7331332071756963206b65790001"
