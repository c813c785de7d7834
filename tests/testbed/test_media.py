# SPDX-License-Identifier: BSD-3-Clause
"""What counts as call media, and readers that never look past a payload's end."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from midcall.classifier.state.packet_fields import SIGN_TEXT, SIGN_TEXT_LENGTH, SIGNS
from midcall.classifier.state.verdicts import MESSENGER, OTHER_RTC, VIBER, WHATSAPP
from midcall.testbed.middlebox.match import spell
from midcall.testbed.middlebox.media import media_at, stun_at
from midcall.testbed.middlebox.rule_table import NAME_ROOM
from midcall.testbed.replay.dns_answers import addresses
from midcall.testbed.replay.sip_dialogue import final_invite, transaction

COOKIE = bytes.fromhex("2112a442")
RTP = bytes.fromhex("8078000100000001deadbeef") + bytes(range(40))
RTCP = bytes.fromhex("80c8000600000001") + bytes(20)
BINDING = bytes.fromhex("00010000") + COOKIE + bytes(12)
DTLS = bytes.fromhex("16fefd0000000000000000000400000000")
ZRTP = bytes.fromhex("10000001") + b"ZRTP" + bytes(12)


def channel(inner: bytes) -> bytes:
    return struct.pack(">HH", 0x4001, len(inner)) + inner


def indication(inner: bytes, kind: int = 0x0017) -> bytes:
    peer = bytes.fromhex("001200080001ffff00000000")
    padded = inner + bytes(-len(inner) % 4)
    body = peer + struct.pack(">HH", 0x0013, len(inner)) + padded
    return struct.pack(">HH", kind, len(body)) + COOKIE + bytes(12) + body


def viber(session: int, inner: bytes) -> bytes:
    return struct.pack("<H", session) + inner


# payload, app -> whether it is media
TABLE = [
    (RTP, WHATSAPP, True),
    (RTCP, WHATSAPP, False),
    (BINDING, WHATSAPP, False),
    (bytes.fromhex("0801") + BINDING[2:], WHATSAPP, False),
    (b"\0\x14" + BINDING, OTHER_RTC, False),  # framed as over TCP, RFC 4571
    (DTLS, OTHER_RTC, False),
    (ZRTP, OTHER_RTC, False),
    (b"", OTHER_RTC, False),
    (b"\x07proprietary", OTHER_RTC, True),
    (channel(RTP), MESSENGER, True),
    (channel(RTCP), MESSENGER, False),
    (channel(BINDING), MESSENGER, False),
    (indication(RTP), OTHER_RTC, True),
    (indication(RTP, 0x0016), OTHER_RTC, True),
    (indication(BINDING), OTHER_RTC, False),
    (indication(RTP, 0x0001), OTHER_RTC, False),
    (bytes.fromhex("ff10") + bytes(10) + RTP, OTHER_RTC, True),
    (bytes.fromhex("ff10") + bytes(10) + BINDING, OTHER_RTC, False),
    (viber(0x40CE, RTP), VIBER, True),
    (viber(0xC0CE, RTP), VIBER, False),
    (viber(0xC0CE, b"\x01\0\x05\0"), VIBER, False),
]


@pytest.mark.parametrize(("payload", "app", "expected"), TABLE)
def test_a_payload_is_media_or_not(payload: bytes, app: int, expected: bool) -> None:
    data = np.frombuffer(payload + b"\0", np.uint8).copy()
    assert bool(media_at(data, 0, len(payload), app)) is expected


@pytest.mark.parametrize(("payload", "app"), [row[:2] for row in TABLE])
def test_every_cut_of_a_payload_is_read_alike_whatever_stands_behind_it(
    payload: bytes, app: int
) -> None:
    for size in range(len(payload) + 1):
        kinds = set()
        for before, behind in ((b"", b""), (b"", b"\0" * 40), (b"\xff" * 7, b"\x21" * 40)):
            data = np.frombuffer(before + payload[:size] + behind, np.uint8).copy()
            at, end = len(before), len(before) + size
            kinds.add((bool(media_at(data, at, end, app)), int(stun_at(data, at, end))))
        assert len(kinds) == 1


@pytest.mark.parametrize("spelt", [b"", b"a.bc.example", b"x" * 253])
def test_a_host_name_is_what_the_classifier_spelt(spelt: bytes) -> None:
    signs, name = np.zeros(SIGNS, np.int64), np.zeros(NAME_ROOM, np.uint8)
    signs[SIGN_TEXT : SIGN_TEXT + 256] = 35
    signs[SIGN_TEXT : SIGN_TEXT + len(spelt)] = list(spelt)
    signs[SIGN_TEXT_LENGTH] = len(spelt)
    assert name[: spell(signs, name)].tobytes() == spelt


def test_a_dns_answer_tells_its_addresses(make: Any) -> None:
    answer = make.answer(1, "a.example", make.PEER)
    assert addresses(answer) == [bytes([198, 51, 100, 9])]
    assert addresses(make.question(1, "a.example")) == []
    assert [addresses(answer[:size]) for size in range(len(answer))] == [[]] * len(answer)
    six = answer[:-16] + b"\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + bytes(range(16))
    assert addresses(six) == [bytes(range(16))]


def test_a_sip_message_tells_its_transaction() -> None:
    ask = b"INVITE sip:b SIP/2.0\r\nCall-ID: x@a\r\nCSeq: 7 INVITE\r\n\r\n"
    okay = b"SIP/2.0 200 OK\r\ni: x@a\r\nCSEQ: 7 INVITE\r\n\r\n"
    ring = okay.replace(b"200 OK", b"180 Ringing")
    ack = ask.replace(b"INVITE sip", b"ACK sip").replace(b"7 INVITE", b"7 ACK")
    assert transaction(ask) == (False, (b"x@a", b"7 INVITE"))
    assert transaction(okay) == (True, (b"x@a", b"7 INVITE"))
    assert transaction(ack) == (True, final_invite(okay))
    assert final_invite(ring) is None
    assert transaction(b"GET / HTTP/1.1\r\nCall-ID: x\r\nCSeq: 1 GET\r\n\r\n") is None
    assert transaction(b"SIP/2.0 200 OK\r\n\r\n") is None
    for size in range(len(okay)):
        transaction(okay[:size])
