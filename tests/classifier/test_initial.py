# SPDX-License-Identifier: BSD-3-Clause
"""QUIC Initials are opened in the packet path: the RFCs' examples, and a library's Initials."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from midcall.captures.packets.pcap import packets_of
from midcall.captures.wire import tls
from midcall.captures.wire.quic import keys_of, salt_of
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.engine import Engine
from midcall.classifier.protocols.quic import KEY, MASK, NONCE, ROUNDS, V1, V2, make_keys
from midcall.classifier.state.flow_table import METER_INITIALS
from midcall.classifier.state.packet_fields import NAME_QUIC_SNI
from tests.classifier.initial import DRAFT_29, EXAMPLE, ID, PRINTED, crypto, initial
from tests.classifier.initial import V1 as VERSION_1
from tests.classifier.initial import V2 as VERSION_2
from tests.classifier.wire import (
    EPOCH,
    NameRead,
    Wire,
    blank_signs,
    ether,
    names_read,
    noise,
    octets,
    udp_packet,
)

PORTS = (50000, 443)
DICE = SeededRandom("midcall", "initial")


def hello(name: str, padding: int = 0) -> bytes:
    """Return a ClientHello message without a record, an extension of that size in it."""
    message = bytearray(tls.client_hello(DICE, name, ("h3",))[5:])
    if padding:
        more = tls.extension(21, bytes(padding))
        at = message.index(tls.extension(23, b"") + b"\xff\x01")
        size = int.from_bytes(message[1:4], "big") + len(more)
        # the length of all extensions stands before the first of them
        start = message.index(b"\1\0", 39 + message[38]) + 2
        total = int.from_bytes(message[start : start + 2], "big") + len(more)
        message[start : start + 2] = total.to_bytes(2, "big")
        message[at:at] = more
        message[1:4] = size.to_bytes(3, "big")
    return bytes(message)


def passed(*datagrams: bytes, ups: tuple[bool, ...] = ()) -> Wire:
    """Return datagrams of one connection on a wire, upwards unless `ups` differs."""
    wire = Wire()
    for i, datagram in enumerate(datagrams):
        wire.udp(datagram, up=ups[i] if ups else True, ports=PORTS)
    return wire


def names(wire: Wire) -> list[tuple[int, str]]:
    """Return (record, name) of the packets that tell a QUIC name."""
    names = names_read(wire.packets)
    assert all(one.kind in (0, NAME_QUIC_SNI) for one in names)
    return [(one.record, one.name) for one in names if one.kind]


@pytest.mark.parametrize(("salt", "version"), [(V1, VERSION_1), (V2, VERSION_2)])
def test_keys_are_those_of_the_rfcs_and_of_the_library(salt: int, version: int) -> None:
    s = blank_signs()
    make_keys(octets(ID), 0, 8, salt, s)
    got = [s[at : at + n].astype(">u4").tobytes() for at, n in ((ROUNDS, 4), (NONCE, 3), (MASK, 4))]
    assert tuple(got) == keys_of(salt_of(version), ID)
    printed = {
        V1: "1f369613dd76d5467730efcbe3b1a22d",
        V2: "8b1a0bc121284290a29e0971b5cd045d",
    }
    assert got[0].hex() == printed[salt]
    assert KEY < ROUNDS < MASK < NONCE


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_the_packets_that_the_rfcs_print_tell_their_name(version: int) -> None:
    packet = initial(EXAMPLE, version=version)
    first, last = PRINTED[version]
    assert packet.hex().startswith(first)
    assert packet.hex().endswith(last)
    (one,) = names_read(passed(packet).packets)
    assert (one.kind, one.name, one.place, one.alpn) == (NAME_QUIC_SNI, "example.com", 0, b"alpn")
    assert one.print > 0


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2, DRAFT_29])
@pytest.mark.parametrize("size", [8, 11, 18, 20])
def test_names_are_read_under_any_version_and_length_of_id(version: int, size: int) -> None:
    packet = initial(crypto(0, hello("a.example")), noise(size, size), version=version)
    assert names(passed(packet)) == [(0, "a.example")]


def test_tokens_and_large_packet_numbers_are_no_obstacle() -> None:
    frames = crypto(0, hello("b.example"))
    for token, number in ((noise(70), 0), (b"", 0x7FFFFFFF), (noise(300), 77)):
        assert names(passed(initial(frames, number=number, token=token))) == [(0, "b.example")]


def test_frames_may_come_in_any_order_and_between_others() -> None:
    message = hello("scattered.example.org", 200)
    cuts = [0, 40, 90, 91, 230, len(message)]
    pieces = [crypto(a, message[a:b]) for a, b in itertools.pairwise(cuts)]
    ack = bytes.fromhex("02404005020100030104") + bytes.fromhex("0305010000010203")
    mixed = (
        ack + pieces[3] + bytes(7) + pieces[0] + b"\1\1" + pieces[4] + pieces[2] + b"\0" + pieces[1]
    )
    assert names(passed(initial(mixed))) == [(0, "scattered.example.org")]


def test_a_hello_over_two_datagrams_is_put_together_in_either_order() -> None:
    message = hello("large.example.org", 1500)
    assert len(message) > 1700
    for cut in (300, 900, 1100):
        one, two = crypto(0, message[:cut]), crypto(cut, message[cut:])
        wide = {"size": 1600}
        first, second = initial(one, number=0, **wide), initial(two, number=1, **wide)
        at = message.index(b"large.example.org") + len(b"large.example.org")
        whole_at = 0 if at <= cut else 1
        assert names(passed(first, second)) == [(whole_at, "large.example.org")]
        assert names(passed(second, first)) == [(1, "large.example.org")]
        prints = {one.print for one in names_read(passed(first, second).packets)} - {0}
        assert len(prints) == 1


def test_a_second_datagram_under_the_servers_id_is_opened_with_the_first_ones_keys() -> None:
    message = hello("late.example", 1500)
    cut = message.index(b"late.example") + 3
    first = initial(crypto(0, message[:cut]), number=0)
    second = initial(crypto(cut, message[cut:]), noise(8, 3), number=1, size=1700, made_by=ID)
    server = initial(noise(40), noise(8, 9), made_by=ID)
    assert names(passed(first, server, second, ups=(True, False, True))) == [(2, "late.example")]


def test_initials_that_share_a_datagram_are_opened_too() -> None:
    message = hello("coalesced.example")
    one = initial(crypto(0, message[:60]), number=0, size=200)
    two = initial(crypto(60, message[60:]), number=1, size=700)
    assert names(passed(one + two)) == [(0, "coalesced.example")]


def test_a_name_decides_what_a_quic_connection_is() -> None:
    cases = {
        "web.whatsapp.com": ("not-call", "whatsapp", "messaging", "QUIC server name of this app"),
        "www.example.org": ("not-call", "none", "other", "QUIC, no name of an app with calls"),
        "": ("not-call", "none", "other", "QUIC, no name of an app with calls"),
    }
    for name, expected in cases.items():
        wire = passed(initial(crypto(0, hello(name))))
        for i in range(4):
            wire.udp(b"\x43" + noise(900, i), up=False, ports=PORTS)
        assert wire.verdicts()[0] == expected, name


def test_a_name_in_the_second_datagram_replaces_what_was_said_of_the_first() -> None:
    message = hello("web.whatsapp.com", 1500)
    cut = message.index(b"web.whatsapp.com") + 4
    one = initial(crypto(0, message[:cut]), number=0)
    two = initial(crypto(cut, message[cut:]), number=1, size=1700)
    assert passed(one).verdicts()[0] == ("not-call", "none", "other", "QUIC")
    assert passed(one, two).verdicts()[0].app == "whatsapp"


def test_an_initial_that_cannot_be_opened_says_nothing() -> None:
    frames = crypto(0, hello("a.example"))
    right = initial(frames)
    changed = [
        initial(frames, made_by=noise(8, 1)),
        initial(frames, made_by=noise(8, 2)),
        right[:30] + bytes([right[30] ^ 1]) + right[31:],
        initial(noise(800, 4)),
        initial(crypto(0, b"\2" + hello("a.example")[1:])),
        initial(crypto(0, hello("a.example")), ID[:7]),
    ]
    for packet in changed:
        assert names_read(passed(packet).packets) == []
        assert passed(packet).verdicts()[0].evidence == "QUIC"


def test_only_a_flows_first_initials_are_opened() -> None:
    engine = Engine()
    wire = passed(*(initial(noise(800, i), noise(8, i)) for i in range(40)))
    engine.feed(wire.packets)
    assert engine.tables.meter[METER_INITIALS] == 8
    again = Engine()
    packet = initial(crypto(0, hello("a.example")))
    again.feed(passed(*[packet] * 20).packets)
    assert again.tables.meter[METER_INITIALS] == 1


def test_an_initial_cut_by_the_snaplen_tells_what_is_left_of_it() -> None:
    packet = initial(crypto(0, hello("short.example")))
    frame = ether(udp_packet(packet, PORTS))
    names: list[list[NameRead]] = []
    for keep in (96, 160, 260, len(frame)):
        packets = packets_of([frame[:keep]], [EPOCH])
        packets = packets._replace(wire=np.array([len(frame)], np.int64))
        names.append(names_read(packets))
    assert [one.name for one in names[-1]] == ["short.example"]
    assert names[0] == []
    assert all(one.name == "short.example" for some in names for one in some)
