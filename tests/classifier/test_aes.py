# SPDX-License-Identifier: BSD-3-Clause
"""AES-128: the standard's examples."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.classifier.protocols.aes import BOX, encrypt, expand_key
from midcall.classifier.protocols.quic import INPUT, KEY, ROUNDS
from tests.classifier.wire import blank_signs


def words(text: str) -> np.ndarray:
    """Return big-endian words of hexadecimal digits."""
    return np.frombuffer(bytes.fromhex(text), ">u4").astype(np.int64)


def expanded(key: str) -> np.ndarray:
    """Return a scratch with the schedule of a key."""
    s = blank_signs()
    s[KEY : KEY + 4] = words(key)
    expand_key(s, KEY, ROUNDS)
    return s


@pytest.mark.parametrize(
    ("key", "plain", "cipher"),
    [
        (  # FIPS 197, appendix C.1
            "000102030405060708090a0b0c0d0e0f",
            "00112233445566778899aabbccddeeff",
            "69c4e0d86a7b0430d8cdb78070b4c55a",
        ),
        (  # FIPS 197, appendix B
            "2b7e151628aed2a6abf7158809cf4f3c",
            "3243f6a8885a308d313198a2e0370734",
            "3925841d02dc09fbdc118597196a0b32",
        ),
        (  # NIST SP 800-38A, F.1.1
            "2b7e151628aed2a6abf7158809cf4f3c",
            "6bc1bee22e409f96e93d7e117393172a",
            "3ad77bb40d7a3660a89ecaf32466ef97",
        ),
    ],
)
def test_the_examples_of_the_standards_hold(key: str, plain: str, cipher: str) -> None:
    s = expanded(key)
    s[INPUT : INPUT + 4] = words(plain)
    encrypt(s, ROUNDS, INPUT)
    assert s[INPUT + 4 : INPUT + 8].astype(">u4").tobytes().hex() == cipher


def test_the_key_schedule_is_the_one_that_fips_197_prints() -> None:
    s = expanded("2b7e151628aed2a6abf7158809cf4f3c")
    assert [int(word) for word in s[ROUNDS + 4 : ROUNDS + 8]] == [
        0xA0FAFE17,
        0x88542CB1,
        0x23A33939,
        0x2A6C7605,
    ]
    assert int(s[ROUNDS + 43]) == 0xB6630CA6


def test_the_substitution_is_a_permutation_with_the_known_ends() -> None:
    assert sorted(BOX.tolist()) == list(range(256))
    assert (int(BOX[0]), int(BOX[0x53]), int(BOX[255])) == (0x63, 0xED, 0x16)
