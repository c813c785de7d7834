# SPDX-License-Identifier: BSD-3-Clause
"""Opening and sealing a client's Initials, against another implementation and the RFC's vector."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.own.quic_initial import (
    SALT_V1,
    counter_mode,
    crypto_frames,
    keys_of,
    opened,
    tag,
)


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=12, max_size=12),
       st.binary(max_size=70), st.binary(min_size=1, max_size=200))  # fmt: skip
def test_the_cipher_is_aes_gcm(key: bytes, nonce: bytes, header: bytes, text: bytes) -> None:
    cipher = counter_mode(key, nonce, text)
    assert cipher + tag(key, nonce, header, cipher) == AESGCM(key).encrypt(nonce, text, header)


def test_the_keys_are_those_of_rfc_9001_appendix_a() -> None:
    keys = keys_of(SALT_V1, bytes.fromhex("8394c8f03e515708"))
    assert keys.key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert keys.iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert keys.mask.hex() == "9f50449e04a0e810283a1e9933adedd2"


def initial(plain: bytes, connection: bytes = bytes(range(8))) -> bytes:
    """Return a client's Initial of version 1 that holds `plain`, made with another library."""
    keys = keys_of(SALT_V1, connection)
    length = (0x4000 | len(plain) + 2 + 16).to_bytes(2, "big")
    head = b"\xc1\0\0\0\1" + bytes([len(connection)]) + connection + b"\0" + b"\3tok" + length
    header, number = head + b"\0\5", b"\0\5"
    nonce = (int.from_bytes(keys.iv, "big") ^ 5).to_bytes(12, "big")
    cipher = AESGCM(keys.key).encrypt(nonce, plain, header)
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    sample = (number + cipher)[4:20]
    mask = Cipher(algorithms.AES(keys.mask), modes.ECB()).encryptor().update(sample)
    first = bytes([header[0] ^ mask[0] & 15])
    return (
        first + header[1:-2] + bytes(a ^ b for a, b in zip(number, mask[1:3], strict=True)) + cipher
    )


def test_an_initial_is_opened_and_sealed_again() -> None:
    plain = b"\6\0\5hello" + bytes(40)
    body = initial(plain)
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
    body = initial(b"\6\0\5hello" + bytes(40))
    for at in range(0, len(body), 7):
        assert opened(body[:at], 0, []) is None
    assert opened(body[:-1] + bytes([body[-1] ^ 1]), 0, []) is None
    assert opened(b"\x40" + body[1:], 0, []) is None
