# SPDX-License-Identifier: BSD-3-Clause
"""Hellos in pieces: TLS over several segments, DTLS fragments, and the pool that keeps them."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from midcall.captures.packets.pcap import read
from midcall.captures.truth.paths import recorded
from midcall.captures.wire import dtls, tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.engine import Engine
from midcall.classifier.state.flow_table import METER_HELLOS_LOST
from midcall.classifier.state.hello_buffers import HELLOS, ROOM
from midcall.classifier.state.packet_fields import NAME_SNI
from tests.classifier.wire import Wire, names_read, noise

DICE = SeededRandom("midcall", "hellos")
NAME = "pieces.example.org"
HELLO = tls.client_hello(DICE, NAME)
START = 0xFFFFFFF0  # sequence numbers wrap within the hello
PORTS = (40000, 443)


def long_hello(name: str, size: int, first: bool = False) -> bytes:
    """Return a hello with an extension of `size` octets before its name (or behind it)."""
    more, given = (
        tls.extension(51, noise(size)),
        tls.extension(0, tls.sized(b"\0" + tls.sized(name.encode()))),
    )
    extensions = given + more if first else more + given
    suites = tls.sized(struct.pack(">3H", 0x1301, 0x1302, 0x1303))
    body = b"\3\3" + noise(32, 3) + tls.sized(b"", 1) + suites + b"\1\0" + tls.sized(extensions)
    return tls.record(22, b"\1" + tls.sized(body, 3), 0x0301)


def opening() -> Wire:
    """Return a wire on which a connection was opened."""
    wire = Wire()
    wire.tcp(b"", flags=2, sequence=START - 1).tcp(b"", False, flags=0x12, sequence=99)
    return wire.tcp(b"", flags=0x10, sequence=START)


def segments(hello: bytes, *cuts: int, order: tuple[int, ...] = ()) -> Wire:
    """Return a wire on which a hello passed in segments cut there, in that order."""
    edges = [0, *cuts, len(hello)]
    pieces = list(itertools.pairwise(edges))
    wire = opening()
    for which in order or range(len(pieces)):
        a, b = pieces[which]
        wire.tcp(hello[a:b], sequence=START + a)
    return wire


def names(wire: Wire) -> list[tuple[int, int, str]]:
    """Return (record, kind, name) of packets that tell a name."""
    return [(one.record, one.kind, one.name) for one in names_read(wire.packets) if one.kind]


def prints(wire: Wire) -> set[int]:
    """Return the fingerprints that packets tell."""
    return {one.print for one in names_read(wire.packets)} - {0}


@pytest.mark.slow
def test_a_hello_cut_at_any_octet_tells_its_name_with_the_packet_that_completes_it() -> None:
    end = HELLO.index(NAME.encode()) + len(NAME)
    whole = prints(segments(HELLO))
    assert len(whole) == 1
    for cut in range(1, len(HELLO)):
        wire = segments(HELLO, cut)
        record = 3 if cut >= end else 4
        assert names(wire) == [(record, NAME_SNI, NAME)], cut
        assert prints(wire) == whole, cut
        assert wire.verdicts()[0].evidence == "TLS, no name of an app with calls", cut


def test_a_name_in_this_packet_has_its_place_and_one_in_pieces_has_none() -> None:
    at = HELLO.index(NAME.encode())
    (one, *_) = names_read(segments(HELLO, at + 40).packets)
    assert one.place > 0
    (two,) = names_read(segments(HELLO, at + 4).packets)
    assert (two.name, two.place) == (NAME, 0)


@pytest.mark.parametrize("size", [1300, 2600, 3700])
def test_a_long_hello_comes_in_three_or_more_segments(size: int) -> None:
    hello = long_hello(NAME, size)
    assert len(hello) <= ROOM
    cuts = range(1200, len(hello), 1200)
    wire = segments(hello, *cuts)
    assert names(wire) == [(3 + len(cuts), NAME_SNI, NAME)]
    assert len(prints(wire)) == 1


def test_of_a_hello_that_is_too_long_the_name_at_its_start_is_read() -> None:
    hello = long_hello(NAME, 6000, first=True)
    wire = segments(hello, 100, 1500, 3000, 4500)
    assert names(wire) == [(3 if hello.index(b"pieces") + len(NAME) <= 100 else 4, 1, NAME)]
    assert prints(wire) == set()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_segments_in_another_order_are_put_together(order: tuple[int, ...]) -> None:
    hello = long_hello("web.whatsapp.com", 700)
    wire = segments(hello, 150, 400, order=order)
    assert names(wire) == [(5, NAME_SNI, "web.whatsapp.com")]
    assert wire.verdicts()[0][:3] == ("not-call", "whatsapp", "messaging")


def test_segments_sent_again_change_nothing() -> None:
    hello = long_hello("web.whatsapp.com", 700)
    wire = segments(hello, 150, 400, order=(0, 0, 1, 0, 1, 2))
    assert names(wire) == [(8, NAME_SNI, "web.whatsapp.com")]
    overlapping = opening()
    for a, b in ((0, 300), (200, 500), (100, len(hello))):
        overlapping.tcp(hello[a:b], sequence=START + a)
    assert names(overlapping) == [(5, NAME_SNI, "web.whatsapp.com")]


def test_a_probe_of_the_connection_between_segments_is_ignored() -> None:
    hello = long_hello("web.whatsapp.com", 700)
    wire = opening().tcp(hello[:300], sequence=START).tcp(b"\0", sequence=START - 1)
    wire.tcp(hello[300:], sequence=START + 300)
    assert wire.verdicts()[0].app == "whatsapp"


def test_a_hello_whose_rest_never_comes_is_tls_without_a_name() -> None:
    hello = long_hello("web.whatsapp.com", 700)
    answered = segments(hello, 300, order=(0,)).tcp(tls.server_hello(DICE, 900), False)
    alone = segments(hello, 300, order=(0,))
    strayed = segments(hello, 300, order=(0,)).tcp(noise(600), sequence=START + 90_000)
    for wire in (answered, alone, strayed):
        assert wire.verdicts()[0].evidence == "TLS, no name of an app with calls"
        assert names(wire) == []


def test_a_second_hello_of_a_connection_tells_no_name() -> None:
    wire = segments(HELLO).tcp(
        tls.client_hello(DICE, "second.example"), sequence=START + len(HELLO)
    )
    assert names(wire) == [(3, NAME_SNI, NAME)]


def test_the_name_decides_the_very_packet_that_completes_it() -> None:
    hello = long_hello("zoomsjczc.zoom.us", 900)
    wire = segments(hello, 500)
    assert wire.verdicts()[0][:3] == ("certain", "zoom", "setup")
    assert wire.flows()[0]["verdict_packets"] == 2


def test_a_snaplen_is_not_waited_for() -> None:
    hello = long_hello("web.whatsapp.com", 700)
    packets = segments(hello, 600).packets
    cut = packets._replace(captured=np.minimum(packets.captured, 96))
    engine = Engine()
    engine.feed(cut)
    assert engine.flows()[0]["payload_packets"] == 2
    assert engine.flows()[0]["verdict_packets"] == 1


def test_a_full_pool_takes_buffers_in_turn_and_counts_them() -> None:
    wire = Wire(step=0.01)
    flows = HELLOS + 40
    hello = long_hello(NAME, 400)
    for i in range(flows):
        wire.tcp(hello[:200], ports=(20000 + i, 443))
    for i in range(flows):
        wire.tcp(hello[200:], ports=(20000 + i, 443), sequence=201)
    engine = Engine()
    names = names_read(wire.packets, engine)
    assert len(names) + engine.tables.meter[METER_HELLOS_LOST] == flows
    assert engine.tables.meter[METER_HELLOS_LOST] == flows - (HELLOS - 1)
    assert {one.name for one in names} == {NAME}
    assert (engine.flows()["verdict"] == 1).all()


def test_buffers_are_given_back() -> None:
    wire = Wire(step=0.01)
    hello = long_hello(NAME, 400)
    for i in range(2 * HELLOS):
        wire.tcp(hello[:200], ports=(20000 + i, 443))
        wire.tcp(hello[200:], ports=(20000 + i, 443), sequence=201)
    engine = Engine()
    assert len(names_read(wire.packets, engine)) == 2 * HELLOS
    assert engine.tables.meter[METER_HELLOS_LOST] == 0


# ---- DTLS


def fragments(srtp: bool, *cuts: int) -> list[bytes]:
    """Return the records of a DTLS ClientHello in fragments."""
    message = dtls.client_hello(DICE, srtp=srtp)[13:]
    head, body = message[:6], message[12:]
    out = []
    for a, b in itertools.pairwise([0, *cuts, len(body)]):
        piece = head + a.to_bytes(3, "big") + (b - a).to_bytes(3, "big") + body[a:b]
        out.append(dtls.record(22, len(out), piece))
    return out


def dtls_wire(datagrams: list[bytes]) -> Wire:
    """Return a wire on which datagrams passed."""
    wire = Wire()
    for datagram in datagrams:
        wire.udp(datagram)
    return wire


@pytest.mark.parametrize("cuts", [(20,), (50,), (80,), (30, 60), (10, 40, 70)])
def test_fragments_of_a_dtls_hello_are_put_together_in_any_order(cuts: tuple[int, ...]) -> None:
    (whole,) = prints(dtls_wire(fragments(True)))
    for datagrams in (fragments(True, *cuts), fragments(True, *cuts)[::-1]):
        wire = dtls_wire(datagrams)
        assert prints(wire) == {whole}
        assert wire.verdicts()[0].evidence.startswith("DTLS hello with use_srtp")
    without = dtls_wire(fragments(False, *cuts))
    assert without.verdicts()[0].verdict == "not-call"
    assert prints(without).isdisjoint({0, whole})


def test_fragments_may_share_a_datagram() -> None:
    wire = dtls_wire([b"".join(fragments(True, 40, 80))])
    assert wire.verdicts()[0].evidence == "DTLS hello with use_srtp, packet 1"


def test_fragments_of_two_messages_are_not_mixed() -> None:
    one, two = fragments(True, 60)
    other = two[:17] + b"\0\1" + two[19:]  # the number of the message
    assert prints(dtls_wire([one, other])) == set()


def test_a_hello_that_names_an_address_and_takes_two_segments_has_its_fingerprint() -> None:
    """mosquitto's client puts its server's address into the name, and sends two segments."""
    packets = read(recorded().folder / "lab-chat-mqtts-4g.pcapng")
    assert {one.print for one in names_read(packets)} - {0} == {0x22F5B6F0CC6144DB}
