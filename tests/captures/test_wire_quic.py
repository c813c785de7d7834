# SPDX-License-Identifier: BSD-3-Clause
"""Opening and sealing a client's Initials, against another implementation and the RFC's vector."""

from __future__ import annotations

import pytest

from midcall.captures.wire.quic import SALT_V1, crypto_frames, keys_of, opened
from tests.classifier.initial import EXAMPLE, PRINTED, V1, V2, initial


def test_the_keys_are_those_of_rfc_9001_appendix_a() -> None:
    keys = keys_of(SALT_V1, bytes.fromhex("8394c8f03e515708"))
    assert keys.key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert keys.iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert keys.mask.hex() == "9f50449e04a0e810283a1e9933adedd2"


@pytest.mark.parametrize("version", [V1, V2])
def test_a_packet_is_protected_as_the_rfcs_print_it(version: int) -> None:
    first, last = PRINTED[version]
    packet = initial(EXAMPLE, version=version)
    assert len(packet) == 1200
    assert (packet[: len(first) // 2].hex(), packet[-16:].hex()) == (first, last)
    again = opened(packet, 0, [])
    assert again is not None
    assert again.plain.rstrip(b"\0") == EXAMPLE


def test_an_initial_is_opened_and_sealed_again() -> None:
    plain = b"\6\0\5hello" + bytes(40)
    body = initial(plain, size=0)
    found = opened(body, 0, [])
    assert found is not None
    assert found.plain == plain
    assert crypto_frames(found.plain) == [(0, 3, 5)]
    assert found.sealed(plain, body) == body
    other = plain.replace(b"hello", b"olleh")
    again = opened(found.sealed(other, body), 0, [])
    assert again is not None
    assert again.plain == other


def test_what_is_no_initial_or_damaged_is_not_opened() -> None:
    body = initial(b"\6\0\5hello" + bytes(40), size=0)
    for at in range(0, len(body), 7):
        assert opened(body[:at], 0, []) is None
    assert opened(body[:-1] + bytes([body[-1] ^ 1]), 0, []) is None
    assert opened(b"\x40" + body[1:], 0, []) is None
