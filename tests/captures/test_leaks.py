# SPDX-License-Identifier: BSD-3-Clause
"""The checker finds what a mapping left, in each form, and tells chance from leaks."""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from midcall.captures.own.leaks import check, forms, patterns, values
from midcall.captures.packets.pcap import Packets, packets_of

A, B = "41.250.12.7", "203.0.113.77"
MAC = "00:1b:21:3c:4d:5e"
COOKIE = b"\x21\x12\xa4\x42"
ADDRESS = bytes([41, 250, 12, 7])
SIP = b"MESSAGE sip:alicia.liddell@voip.firm.example SIP/2.0\r\nHost: intranet.firm.example\r\n\r\n"


def frames(*bodies: bytes, source: str = A, mac: str = MAC) -> Packets:
    made = [
        bytes(Ether(src=mac, dst="00:1b:21:aa:bb:cc") / IP(src=source, dst=B)
              / UDP(sport=1111, dport=2222) / Raw(body))
        for body in bodies
    ]  # fmt: skip
    return packets_of(made, [10**18 + i for i in range(len(made))])


def copy_with(planted: bytes) -> Packets:
    """Return packets of other ends that hold some bytes of the original."""
    made = Ether(src="02:00:00:00:00:09", dst="02:00:00:00:00:08")
    made = made / IP(src="52.1.2.3", dst="52.1.2.4") / UDP(sport=1111, dport=2222)
    return packets_of([bytes(made / Raw(planted))], [10**18])


ORIGINAL = frames(SIP, b"\0" * 40)


def xored(text: bytes) -> bytes:
    return bytes(octet ^ COOKIE[i % 4] for i, octet in enumerate(text))


@pytest.mark.parametrize(
    "planted",
    [
        ADDRESS, xored(ADDRESS), ADDRESS[::-1], b"c=IN IP4 41.250.12.7\r\n", b"29fa0c07", b"29FA0C07",  # noqa: E501
        b"\x017\x0212\x03250\x0241\7in-addr\4arpa", bytes.fromhex(MAC.replace(":", "")), MAC.encode(),  # noqa: E501
        b"00-1B-21-3C-4D-5E", bytes.fromhex("021b21fffe3c4d5e"), b"alicia.liddell", b"ALICIA.Liddell",  # noqa: E501
        "alicia".encode("utf-16-le") + "alicia.liddell".encode("utf-16-le"),
        "alicia.liddell".encode("utf-16-be"), b"alicia.liddell".hex().encode(),
        xored(b"alicia.liddell"), b"\x08intranet\4firm\7example\0",
    ],
    ids=lambda planted: planted.hex()[:24],
)  # fmt: skip
def test_each_form_of_an_original_is_found(planted: bytes) -> None:
    found = check(ORIGINAL, copy_with(b"\0\0" + planted + b"\0" * 12)).found
    assert found
    assert all(hit.frame in (0, 1) for hit in found)


def test_an_ipv6_address_hidden_with_a_transaction_id_is_found() -> None:
    address = bytes.fromhex("20010db8007700000000 0000a1b2c3d4".replace(" ", ""))
    transaction = b"0123456789ab"
    hidden = bytes(a ^ b for a, b in zip(address, COOKIE + transaction, strict=True))
    message = b"\1\1\0\x18" + COOKIE + transaction + b"\0\x20\0\x14\0\2\x21\x12" + hidden
    assert address in values(frames(message))["address"]
    broken = b"\xff\xff\0\x19" + message[4:]  # no STUN, but its bytes
    assert check(frames(message), copy_with(broken)).found


def test_a_copy_without_originals_passes() -> None:
    result = check(
        ORIGINAL, copy_with(b"MESSAGE sip:qwertz.zuiop@asdf.ghjk.uiopqwe SIP/2.0\r\n\r\n")
    )
    assert result.found == []
    assert result.searched["address"] == 2
    assert result.patterns > 20


def test_four_bytes_in_random_data_are_reported_apart() -> None:
    noise = random.Random(1).randbytes(200)
    result = check(ORIGINAL, copy_with(noise + ADDRESS + noise[:100]))
    assert result.found == []
    assert [hit.value for hit in result.chance] == [ADDRESS]
    assert 0 < result.expected < 0.001


def test_a_declared_value_may_stay() -> None:
    copy = copy_with(b"\0\0intranet.firm.example\0\0")
    stays = [b"intranet.firm.example"]
    assert check(ORIGINAL, copy).found
    assert check(ORIGINAL, copy, stays).found == []


def test_a_kept_name_is_no_hit_nor_is_a_part_of_it() -> None:
    original = frames(
        b"GET / HTTP/1.1\r\nHost: whispersystems.org\r\nServer: whisper systems\r\n\r\n"
    )
    assert check(original, copy_with(b"\0\0\x0ewhispersystems\3org\0" + bytes(20))).found == []
    assert check(original, copy_with(b"\0\0the whisper of systems\0" + bytes(20))).found


def test_patterns_are_never_shorter_than_four_bytes() -> None:
    made = patterns(values(ORIGINAL))
    assert min(map(len, made)) == 4
    assert all(len(pattern) == 4 or len(pattern) >= 6 for pattern in made)
    assert not list(forms("string", b"bob"))
