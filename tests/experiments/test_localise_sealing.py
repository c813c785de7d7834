# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the localiser's QUIC Initials, against the `cryptography` library."""

from __future__ import annotations

import pytest

from midcall.experiments.localise.packet_fields import read
from midcall.testbed.probing.probe import Ends, Sent
from midcall.testbed.probing.quic_initial import block, quic_initial, tag_of

ENDS = Ends(17, bytes([10, 0, 0, 1]), 40000, bytes([198, 51, 100, 9]), 443)


def test_a_sealed_hello_tells_its_name_to_whoever_opens_it() -> None:
    told = read(Sent(0, True, ENDS, quic_initial("calls.example")))
    assert (told.where, told.name, told.kind) == ("quic", "calls.example", "quic")


def test_blocks_and_tags_are_those_of_the_library() -> None:
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    key, nonce, head, plain = bytes(range(16)), bytes(range(12)), b"head", b"what is sealed here"
    mode = ciphers.modes.ECB()
    encryptor = ciphers.Cipher(ciphers.algorithms.AES(key), mode).encryptor()
    assert block(key, b"0123456789abcdef") == encryptor.update(b"0123456789abcdef")
    whole = aead.AESGCM(key).encrypt(nonce, plain, head)
    assert tag_of(key, nonce + b"\0\0\0\1", head, whole[:-16]) == whole[-16:]
