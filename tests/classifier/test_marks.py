# SPDX-License-Identifier: BSD-3-Clause
"""Marks: every evidence has a place, or says that no single octets carry it."""

from __future__ import annotations

import numpy as np
import pytest

import midcall.classifier.path.dispatch  # noqa: F401  (defines all evidence)
from midcall.captures.packets.pcap import Packets, packets_of
from midcall.captures.wire import tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.apps import meta, realms, telegram, viber, zoom
from midcall.classifier.apps.webrtc import (
    DTLS_SRTP,
    MEDIA_OF_CALL,
    NAMED_QUIC,
    NAMED_SOCKET,
    NAMED_TLS,
    NOTHING_FOUND,
)
from midcall.classifier.engine import Engine
from midcall.classifier.explain.dissect import Packet, attributes, layers, walk
from midcall.classifier.explain.highlights import MARKS, REALMS, Counted, Mark, marks
from midcall.classifier.state.evidence import SENTENCES
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.verdicts import WHATSAPP
from tests.classifier.initial import ID, crypto, initial
from tests.classifier.payloads import HAND_MADE
from tests.classifier.wire import Wire, ether, udp_packet


def stepped(payload: bytes) -> Packet:
    """Return a UDP payload as the path leaves it."""
    frame = ether(udp_packet(payload))
    packets: Packets = packets_of([frame], [1])
    engine = Engine()
    engine.feed(packets)
    return walk(packets.data, engine.signs)


def stun(kind: int, *parts: tuple[int, bytes], pad: int = 4) -> bytes:
    """Return a STUN message with attributes."""
    body = b""
    for name, value in parts:
        body += name.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        body += bytes(-len(value) % pad)
    head = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big")
    return head + bytes.fromhex("2112a442") + bytes(range(12)) + body


def decisive(packet: Packet, evidence: int) -> list[tuple[bytes, str]]:
    """Return the marked octets of an evidence with their captions."""
    found_marks = marks(packet, evidence & 0xFFFF)
    assert isinstance(found_marks, list)
    return [(packet.octets[m.at : m.at + m.length].tobytes(), m.caption) for m in found_marks]


def test_every_evidence_has_a_mark_or_says_that_it_is_counted() -> None:
    missing = [SENTENCES[key] for key in sorted(SENTENCES) if key not in MARKS]
    assert missing == [], "give each of these its place in classifier/explain/highlights.py"


def test_no_mark_is_left_of_an_evidence_that_is_gone() -> None:
    assert [key for key in MARKS if key not in SENTENCES] == []


def test_what_is_counted_says_what() -> None:
    counted = marks(stepped(b"nothing"), NOTHING_FOUND & 0xFFFF)
    assert counted == Counted("payloads without any sign of a call")


def test_an_attribute_is_marked_where_it_stands() -> None:
    packet = stepped(stun(0x0003, (0x0006, b"abc"), (0x4001, bytes(8))))
    assert decisive(packet, meta.ATTRIBUTE) == [(b"\x40\x01", "attribute 0x4001")]


def test_a_nested_message_is_searched_too() -> None:
    inner = stun(0x0001, (0x4000, bytes(4)))
    packet = stepped(stun(0x0016, (0x0013, inner)))
    assert [piece.kind for piece in packet.pieces] == ["stun", "stun"]
    assert decisive(packet, meta.ATTRIBUTE) == [(b"\x40\x00", "attribute 0x4000")]


def test_attributes_without_padding_are_found_like_in_the_packet_path() -> None:
    packet = stepped(stun(0x0001, (0x0006, b"abcde"), (0x8070, bytes(4)), pad=1))
    result = attributes(packet.octets, packet.pieces[0])
    assert [attribute.kind for attribute in result] == [0x0006, 0x8070]


@pytest.mark.parametrize("known", REALMS)
def test_each_known_realm_is_one_of_the_rule_and_only_its_end_is_marked(known: bytes) -> None:
    packet = stepped(stun(0x0113, (0x0014, b"x7." + known.upper())))
    value = np.frombuffer(known, np.uint8).copy()
    result = realms.realm_app(value, 0, len(known))
    assert result
    assert decisive(packet, result) == [(known.upper(), f'realm "{known.decode()}"')]


def test_every_evidence_of_a_realm_has_a_known_end() -> None:
    found_marks = {
        int(realms.realm_app(np.frombuffer(w, np.uint8).copy(), 0, len(w))) for w in REALMS
    }
    defined = {value for name, value in vars(realms).items() if name.endswith("_REALM")}
    assert found_marks == defined


def test_a_viber_hello_is_marked_behind_its_session_word() -> None:
    packet = stepped(bytes.fromhex("1234 01000500") + bytes(20))
    assert decisive(packet, viber.HELLO) == [(b"\1\0\5\0", "hello 01 00 05 00")]


def test_addresses_user_names_and_tags_are_marked_as_secrets() -> None:
    packet = stepped(bytes(range(40)))
    for key in (WHATSAPP << 8 | NAMED_SOCKET, telegram.TAGGED & 0xFFFF):
        found_marks = marks(packet, key)
        assert isinstance(found_marks, list)
        assert [mark for mark in found_marks if mark.secret]
    name = b"A" * 36 + b":" + b"B" * 36
    found_marks = decisive(stepped(stun(0x0001, (0x0006, name))), zoom.GUIDS)
    assert [octets for octets, _ in found_marks] == [b"\x00\x06\x00\x49", b":"]


def test_marks_end_where_the_capture_ends() -> None:
    packet = stepped(b"\x90\x78")
    for key in MARKS:
        found_marks = marks(packet, key)
        for mark in found_marks if isinstance(found_marks, list) else []:
            assert isinstance(mark, Mark)
            assert 0 <= mark.at < mark.at + mark.length <= len(packet.octets)


def test_every_cut_of_a_message_gives_marks_within_it() -> None:
    whole = stun(0x0003, (0x0006, b"a:b"), (0x0014, b"turner.facebook"), (0x4000, bytes(8)))
    hello = bytes.fromhex("16feff0000000000000000003a010000") + bytes(60)
    for message in (whole, hello, b"INVITE sip:a@b SIP/2.0\r\n", bytes.fromhex("05") + bytes(50)):
        for size in range(1, len(message) + 1):
            packet = stepped(message[:size])
            for key in MARKS:
                found_marks = marks(packet, key)
                for mark in found_marks if isinstance(found_marks, list) else []:
                    assert 0 <= mark.at < mark.at + mark.length <= len(packet.octets)


def test_an_evidence_of_the_media_of_a_call_marks_the_header() -> None:
    rtp = bytes.fromhex("8078 0001 00000010 0a0b0c0d") + bytes(40)
    assert decisive(stepped(rtp), WHATSAPP << 8 | MEDIA_OF_CALL) == [
        (b"\x80\x78", "RTP version 2, payload type 120")
    ]


def test_layers_are_named_from_the_link_to_the_transport() -> None:
    packets = packets_of([ether(udp_packet(b"x"))], [1])
    engine = Engine()
    engine.feed(packets)
    signs: Numbers = engine.signs
    assert layers(packets.data, 1, signs) == ["Ethernet", "IPv4", "UDP"]


def test_an_initials_mark_is_what_its_keys_are_made_of() -> None:
    message = tls.client_hello(SeededRandom("midcall", "marks"), "web.whatsapp.com")[5:]
    found_marks = decisive(stepped(initial(crypto(0, message))), NAMED_QUIC)
    assert found_marks == [
        (b"\0\0\0\1", "QUIC version"),
        (ID, 'makes the keys; opened: a name that ends in "whatsapp.com"'),
    ]


def test_the_segment_that_completes_a_hello_is_marked_as_such() -> None:
    hello = tls.client_hello(SeededRandom("midcall", "marks"), "web.whatsapp.com")
    cut = hello.index(b"whatsapp")
    wire = Wire().tcp(hello[:cut]).tcp(hello[cut:], sequence=1 + cut)
    engine = Engine()
    engine.feed(wire.packets)
    last = wire.packets.take(slice(1, 2))
    assert decisive(walk(last.data, engine.signs), NAMED_TLS)[0][1] in (
        'goes on with a ClientHello, with a name that ends in "whatsapp.com"',
    )


def test_a_fragment_of_a_hello_is_marked_as_such() -> None:
    found_marks = decisive(stepped(HAND_MADE["dtls fragment"]), DTLS_SRTP)
    assert found_marks == [(bytes.fromhex("00000000003c"), "fragment of a hello with use_srtp")]
