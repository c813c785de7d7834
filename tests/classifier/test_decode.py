# SPDX-License-Identifier: BSD-3-Clause
"""Decoding: the inner packet is the same in every envelope, and damage is counted, not guessed."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from midcall.captures.packets.pcap import packets_of, read
from midcall.captures.synthetic.encapsulate import (
    ENVELOPES,
    ENVELOPES_OF_IPV6,
    Envelope,
    envelope,
    ether,
    gtp,
    outer4,
)
from midcall.classifier.engine import Engine
from midcall.classifier.export import addresses
from midcall.classifier.path.decode import (
    DECODED,
    FRAGMENTS,
    LINKS,
    MALFORMED,
    MAX_DEPTH,
    NOT_IP,
    OUTCOMES,
    TOO_DEEP,
    UNKNOWN_LINK,
    decode,
)
from midcall.classifier.state.packet_fields import (
    SIGN_FRAGMENT,
    SIGN_IP_AT,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_TUNNELS,
    SIGN_VERSION,
)
from tests.classifier import wire
from tests.classifier.wire import (
    FAR,
    FAR6,
    NEAR,
    NEAR6,
    blank_signs,
    octets,
    tcp_packet,
    udp_packet,
)

PAYLOAD = b"telemetry " * 5


class Inner(NamedTuple):
    """What decoding found: the innermost packet."""

    outcome: int
    version: int = 0
    proto: int = 0
    source: bytes = b""
    target: bytes = b""
    ports: tuple[int, int] = (0, 0)
    payload: bytes = b""
    tunnels: int = 0


def opened(
    frame: bytes, link: int = 1, wire: int | None = None, memory: np.ndarray | None = None
) -> Inner:
    """Return what decoding finds in a frame."""
    signs = blank_signs()
    fragments = np.zeros((FRAGMENTS, 2), np.int64) if memory is None else memory
    size = len(frame) if wire is None else wire
    outcome = int(decode(octets(frame), 0, len(frame), size, link, signs, fragments))
    if outcome != DECODED:
        return Inner(outcome)
    version = int(signs[SIGN_VERSION])
    width = 4 if version == 4 else 16
    here, there = int(signs[SIGN_SOURCE_AT]), int(signs[SIGN_TARGET_AT])
    return Inner(
        outcome,
        version,
        int(signs[SIGN_PROTO]),
        frame[here : here + width],
        frame[there : there + width],
        (int(signs[SIGN_SOURCE_PORT]), int(signs[SIGN_TARGET_PORT])),
        frame[signs[SIGN_PAYLOAD_AT] : signs[SIGN_PAYLOAD_END]],
        int(signs[SIGN_TUNNELS]),
    )


def inner(proto: str, version: int) -> bytes:
    """Return the IP packet that goes into the envelopes."""
    hosts = (NEAR, FAR) if version == 4 else (NEAR6, FAR6)
    make = udp_packet if proto == "udp" else tcp_packet
    return make(PAYLOAD, (40000, 7000), hosts)


def layer(packet: bytes) -> IP | IPv6:
    """Return a packet as the envelopes take it."""
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def bare(decoded: Inner) -> Inner:
    """Return what decoding found, however many tunnels there were."""
    return decoded._replace(tunnels=0)


CASES = [
    (each, proto, version)
    for version in (4, 6)
    for each in [*ENVELOPES, *(ENVELOPES_OF_IPV6 if version == 6 else [])]
    for proto in ("udp", "tcp")
]
TUNNELS = {"gtp-u", "gtp-u-extended", "gtp-u-over-ipv6", "gre", "pptp", "l2tp"}
TUNNELS |= {"ip-in-ip", "ip-in-ipv6", "6in4", "teredo"}


# ---- every envelope


@pytest.mark.parametrize(
    ("how", "proto", "version"), CASES, ids=[f"{e.name}-{p}-ipv{v}" for e, p, v in CASES]
)
def test_an_envelope_holds_the_same_packet_as_the_bare_link(
    how: Envelope, proto: str, version: int
) -> None:
    packet = inner(proto, version)
    plain = opened(packet, 101)
    assert plain.ports == (40000, 7000)
    assert plain.payload == PAYLOAD
    for up in (True, False):
        (frame,) = how.wrap(layer(packet), up)
        assert bare(opened(frame, how.link)) == plain
        assert opened(frame, how.link).tunnels == (1 if how.name in TUNNELS else 0)


@pytest.mark.parametrize("outside", ["gtp-u", "gre", "pptp", "l2tp", "ip-in-ip", "gtp-u-over-ipv6"])
@pytest.mark.parametrize("within", ["gtp-u", "gre", "l2tp", "ip-in-ip", "pptp"])
def test_a_tunnel_in_a_tunnel_is_opened_too(outside: str, within: str) -> None:
    packet = inner("udp", 4)
    (frame,) = envelope(within).wrap(layer(packet), True)
    (nested,) = envelope(outside).wrap(IP(frame[14:]), True)
    decoded = opened(nested)
    assert bare(decoded) == opened(packet, 101)
    assert decoded.tunnels == 2


def stacked(depth: int) -> bytes:
    """Return a packet in so many IP headers."""
    packet: bytes = inner("udp", 4)
    for _ in range(depth):
        packet = wire.ip(4, packet, NEAR, FAR)
    return packet


def test_nesting_is_bounded_and_what_is_deeper_is_counted() -> None:
    assert opened(stacked(MAX_DEPTH - 1), 101).payload == PAYLOAD
    assert opened(stacked(MAX_DEPTH), 101) == Inner(TOO_DEEP)
    engine = Engine()
    engine.feed(packets_of([stacked(MAX_DEPTH)] * 3, [0, 1, 2], 101))
    assert engine.counters["too_deep"] == 3
    assert engine.counters["flows"] == 0


# ---- links and headers that no envelope has


def kind_of(packet: bytes) -> bytes:
    """Return the EtherType of an IP packet."""
    return b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"


LINKED: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "raw IP, 12": (12, lambda p: p),
    "raw IP, 14": (14, lambda p: p),
    "IPv4 or IPv6 by its number": (228, lambda p: p),
    "BSD loopback": (0, lambda p: b"\2\0\0\0" + p),
    "OpenBSD loopback": (108, lambda p: b"\0\0\0\2" + p),
    "PPP": (9, lambda p: (b"\0\x21" if p[0] >> 4 == 4 else b"\0\x57") + p),
    "PPP with address and control": (
        50,
        lambda p: b"\xff\x03" + (b"\0\x21" if p[0] >> 4 == 4 else b"\0\x57") + p,
    ),
    "PPP, protocol in one octet": (9, lambda p: (b"\x21" if p[0] >> 4 == 4 else b"\x57") + p),
    "PPPoE": (
        51,
        lambda p: (
            struct.pack(">BBHH", 0x11, 0, 1, len(p) + 2)
            + (b"\0\x21" if p[0] >> 4 == 4 else b"\0\x57")
            + p
        ),
    ),
    "Linux cooked": (113, lambda p: bytes(14) + kind_of(p) + p),
    "Linux cooked, version 2": (276, lambda p: kind_of(p) + bytes(18) + p),
    "Ethernet with LLC and SNAP": (
        1,
        lambda p: (
            bytes(12) + struct.pack(">H", len(p) + 8) + b"\xaa\xaa\x03\0\0\0" + kind_of(p) + p
        ),
    ),
    "QinQ of the old kind": (
        1,
        lambda p: bytes(12) + b"\x91\0\0\1\x81\0\0\2" + kind_of(p) + p,
    ),
    "802.11 data": (
        105,
        lambda p: b"\x08\x01" + bytes(22) + b"\xaa\xaa\x03\0\0\0" + kind_of(p) + p,
    ),
    "802.11 QoS data": (
        105,
        lambda p: b"\x88\x01" + bytes(24) + b"\xaa\xaa\x03\0\0\0" + kind_of(p) + p,
    ),
    "802.11 with four addresses": (
        105,
        lambda p: b"\x08\x03" + bytes(28) + b"\xaa\xaa\x03\0\0\0" + kind_of(p) + p,
    ),
    "radiotap": (
        127,
        lambda p: (
            b"\0\0\x0c\0"
            + bytes(8)
            + b"\x08\x01"
            + bytes(22)
            + b"\xaa\xaa\x03\0\0\0"
            + kind_of(p)
            + p
        ),
    ),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", LINKED)
def test_a_link_header_is_taken_off(name: str, version: int) -> None:
    link, wrap = LINKED[name]
    assert link in LINKS
    packet = inner("udp", version)
    assert opened(wrap(packet), link) == opened(packet, 101)


def vxlan(packet: bytes) -> bytes:
    """Return a packet in an Ethernet frame in VXLAN."""
    body = bytes.fromhex("0800000000002a00") + wire.ether(packet)
    return udp_packet(body, (51000, 4789))


def transparent_gre(packet: bytes) -> bytes:
    """Return a packet in an Ethernet frame in GRE with a key."""
    return wire.ip(47, b"\x20\0\x65\x58\0\0\0\1" + wire.ether(packet), NEAR, FAR)


def teredo_with_origin(packet: bytes) -> bytes:
    """Return a packet behind Teredo's authentication and origin indication (RFC 4380, 5.1.1)."""
    indication = b"\0\1\0\0" + bytes(9) + b"\0\0" + bytes(6)
    return udp_packet(indication + packet, (3544, 51000))


def pseudowire(packet: bytes) -> bytes:
    """Return an Ethernet frame behind a control word in MPLS (RFC 4448)."""
    label = struct.pack(">I", 16 << 12 | 1 << 8 | 64)
    return bytes(12) + b"\x88\x47" + label + bytes(4) + wire.ether(packet)


def gtp_with_two_extensions(packet: bytes) -> bytes:
    """Return GTP-U with a sequence number and two extension headers."""
    rest = bytes([0, 1, 0, 0x85, 1, 0x10, 0, 0x85, 2, *bytes(6), 0])
    body = struct.pack(">BBHI", 0x36, 0xFF, len(rest) + len(packet), 7) + rest + packet
    return udp_packet(body, (2152, 2152))


RARE: dict[str, tuple[int, Callable[[bytes], bytes], int]] = {
    "VXLAN": (101, vxlan, 4),
    "Ethernet in GRE": (101, transparent_gre, 4),
    "Teredo with authentication and origin": (101, teredo_with_origin, 6),
    "pseudowire": (1, pseudowire, 4),
    "GTP-U with two extensions": (101, gtp_with_two_extensions, 4),
}


@pytest.mark.parametrize("name", RARE)
def test_a_rare_tunnel_is_opened(name: str) -> None:
    link, wrap, version = RARE[name]
    packet = inner("tcp", version)
    assert bare(opened(wrap(packet), link)) == opened(packet, 101)


def with_extensions(*chain: tuple[int, bytes]) -> bytes:
    """Return an IPv6 UDP packet with extension headers (number, header without its first octet)."""
    body = inner("udp", 6)[40:]
    following = 17
    for number, header in reversed(chain):
        body, following = bytes([following]) + header + body, number
    return wire.ip(following, body, NEAR6, FAR6)


@pytest.mark.parametrize(
    "chain",
    [
        [(0, b"\0" + bytes(6))],
        [(60, b"\1" + bytes(14))],
        [(43, b"\0" + bytes(6)), (60, b"\0" + bytes(6))],
        [(44, b"\0\0\0" + b"\0\0\0\7")],
        [(51, b"\4" + bytes(22))],
        [(0, b"\0" + bytes(6)), (43, b"\0" + bytes(6)), (60, b"\0" + bytes(6)), (135, bytes(7))],
    ],
    ids=["hop by hop", "options", "routing", "atomic fragment", "AH", "four"],
)
def test_ipv6_extension_headers_are_walked(chain: list[tuple[int, bytes]]) -> None:
    decoded = opened(with_extensions(*chain), 101)
    assert (decoded.proto, decoded.ports, decoded.payload) == (17, (40000, 7000), PAYLOAD)


def test_the_ip_header_ends_the_payload_not_the_frame() -> None:
    packet = udp_packet(b"abcd")
    assert opened(wire.ether(packet) + bytes(14)).payload == b"abcd"


def test_a_total_length_of_zero_was_left_to_the_network_card() -> None:
    packet = bytearray(tcp_packet(PAYLOAD))
    packet[2:4] = b"\0\0"
    assert opened(bytes(packet), 101).payload == PAYLOAD


def test_a_snaplen_cuts_the_payload_but_not_its_size_on_the_wire() -> None:
    frame = wire.ether(udp_packet(bytes(500)))
    signs = blank_signs()
    memory = np.zeros((FRAGMENTS, 2), np.int64)
    assert decode(octets(frame[:96]), 0, 96, len(frame), 1, signs, memory) == DECODED
    assert signs[SIGN_PAYLOAD_END] - signs[SIGN_PAYLOAD_AT] == 96 - 42
    assert signs[SIGN_PAYLOAD_SIZE] == 500


def test_bytes_of_a_flow_are_those_on_the_wire_whatever_the_snaplen() -> None:
    frame = wire.ether(udp_packet(bytes(500)))
    whole = wire.classify(packets_of([frame], [wire.EPOCH]))
    cut = wire.classify(packets_of([frame[:96]], [wire.EPOCH], wire=[len(frame)]))
    assert whole["bytes_up"].tolist() == cut["bytes_up"].tolist() == [528]


# ---- what looks like a tunnel and is none


NO_TUNNELS = {
    "GTP's port, no GTP-U": udp_packet(bytes(60), (2152, 2152)),
    "GTP-U echo": udp_packet(bytes.fromhex("3201000400000000") + bytes(4), (2152, 2152)),
    "GTP-U around no IP": udp_packet(bytes.fromhex("30ff0014") + bytes(24), (2152, 2152)),
    "L2TP control": udp_packet(bytes.fromhex("c8020014") + bytes(16), (1701, 1701)),
    "Teredo's port, no IPv6": udp_packet(b"\x45" + bytes(60), (3544, 51000)),
    "VXLAN's port, no VXLAN": udp_packet(bytes(60), (51000, 4789)),
    "GRE of something else": wire.ip(47, b"\0\0\x88\xcc" + bytes(20), NEAR, FAR),
    "PPP control in PPTP": wire.ip(
        47, bytes.fromhex("3001880b00080001") + bytes(4) + b"\xff\x03\xc0\x21" + bytes(8), NEAR, FAR
    ),
    "IP in IP around no IP": wire.ip(4, bytes(40), NEAR, FAR),
}


@pytest.mark.parametrize("name", NO_TUNNELS)
def test_a_packet_that_only_looks_like_a_tunnel_is_its_own_flow(name: str) -> None:
    decoded = opened(NO_TUNNELS[name], 101)
    assert decoded.outcome == DECODED
    assert decoded.tunnels == 0
    assert decoded.source == bytes(map(int, NEAR.split(".")))


# ---- fragments


def fragmented(proto: int, body: bytes, ident: int = 77) -> list[bytes]:
    """Return an IPv4 packet in three fragments."""
    parts = [body[:64], body[64:128], body[128:]]
    return [
        wire.ip(proto, part, NEAR, FAR, ident=ident, word=8 * i | (0x2000 if i < 2 else 0))
        for i, part in enumerate(parts)
    ]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_fragments_are_packets_of_their_flow(proto: str, version: int) -> None:
    hosts = (NEAR, FAR) if version == 4 else (NEAR6, FAR6)
    make = udp_packet if proto == "udp" else tcp_packet
    frames = envelope("fragments").wrap(layer(make(bytes(3000), (40000, 7000), hosts)), True)
    flows = wire.classify(packets_of(frames, [wire.EPOCH] * len(frames)))
    assert len(frames) >= 3
    assert [(f["source_port"], f["target_port"], f["packets_up"]) for f in flows] == [
        (40000, 7000, len(frames))
    ]


def test_a_later_fragment_carries_no_payload_to_be_read() -> None:
    memory = np.zeros((FRAGMENTS, 2), np.int64)
    first, second, _ = fragmented(17, udp_packet(bytes(200))[20:])
    assert opened(first, 101, memory=memory).ports == (40000, 7000)
    later = opened(second, 101, memory=memory)
    assert (later.ports, later.payload) == ((40000, 7000), b"")


def test_a_fragment_whose_first_was_never_seen_has_no_ports() -> None:
    _, second, _ = fragmented(17, udp_packet(bytes(200))[20:])
    decoded = opened(second, 101)
    assert (decoded.outcome, decoded.ports) == (DECODED, (0, 0))


def test_fragments_of_another_datagram_get_no_ports() -> None:
    memory = np.zeros((FRAGMENTS, 2), np.int64)
    opened(fragmented(17, udp_packet(bytes(200))[20:], 77)[0], 101, memory=memory)
    other = fragmented(17, udp_packet(bytes(200))[20:], 78)[1]
    assert opened(other, 101, memory=memory).ports == (0, 0)


def test_fragments_of_a_ping_are_one_flow_without_ports() -> None:
    echo = b"\x08\0\x12\x34\0\1\0\1" + bytes(192)
    flows = wire.classify(packets_of(fragmented(1, echo), [wire.EPOCH] * 3, 101))
    assert [(f["source_port"], f["target_port"], f["packets_up"]) for f in flows] == [(0, 0, 3)]


# ---- damage


BROKEN: dict[str, tuple[bytes, int, int]] = {
    "an empty frame": (b"", 1, MALFORMED),
    "half an Ethernet header": (bytes(10), 1, MALFORMED),
    "an Ethernet header alone": (bytes(12) + b"\x08\0", 1, MALFORMED),
    "a VLAN tag cut": (bytes(12) + b"\x81\0\0", 1, MALFORMED),
    "an MPLS stack without a bottom": (bytes(12) + b"\x88\x47" + bytes(8), 1, MALFORMED),
    "half a cooked header": (bytes(9), 113, MALFORMED),
    "half a loopback header": (bytes(2), 0, MALFORMED),
    "a radiotap header longer than the frame": (b"\0\0\xff\xff" + bytes(40), 127, MALFORMED),
    "an IPv4 header of four words": (b"\x44" + inner("udp", 4)[1:], 101, MALFORMED),
    "an IPv4 header longer than the frame": (b"\x4f" + udp_packet(b"")[1:], 101, MALFORMED),
    "an IPv4 packet shorter than its header": (
        b"\x45\0\0\x10" + inner("udp", 4)[4:],
        101,
        MALFORMED,
    ),
    "an IPv6 header cut": (inner("udp", 6)[:39], 101, MALFORMED),
    "an IPv6 extension cut": (with_extensions((0, b"\0" + bytes(6)))[:44], 101, MALFORMED),
    "an IPv6 extension that ends behind the packet": (
        with_extensions((0, b"\xff" + bytes(6))),
        101,
        MALFORMED,
    ),
    "half a UDP header": (wire.ip(17, bytes(7), NEAR, FAR), 101, MALFORMED),
    "half a TCP header": (wire.ip(6, bytes(13), NEAR, FAR), 101, MALFORMED),
    "a TCP header of four words": (
        wire.ip(6, bytes(12) + b"\x40" + bytes(20), NEAR, FAR),
        101,
        MALFORMED,
    ),
    "half an SCTP header": (wire.ip(132, bytes(11), NEAR, FAR), 101, MALFORMED),
    "an EtherType of IPv4 around something else": (bytes(12) + b"\x08\0" + bytes(30), 1, MALFORMED),
    "ARP": (bytes(12) + b"\x08\x06" + bytes(28), 1, NOT_IP),
    "PPPoE discovery": (bytes(12) + b"\x88\x63" + bytes(28), 1, NOT_IP),
    "PPP link control": (b"\xc0\x21" + bytes(20), 9, NOT_IP),
    "spanning tree": (bytes(12) + b"\0\x26\x42\x42\x03" + bytes(35), 1, NOT_IP),
    "a protected 802.11 frame": (b"\x08\x41" + bytes(60), 105, NOT_IP),
    "a beacon": (b"\x80\0" + bytes(60), 105, NOT_IP),
    "raw octets that are no IP": (bytes(40), 101, NOT_IP),
    "a link type nobody knows": (inner("udp", 4), 147, UNKNOWN_LINK),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damage_is_a_counted_outcome_and_never_a_flow(name: str) -> None:
    frame, link, expected = BROKEN[name]
    assert OUTCOMES[opened(frame, link).outcome] == OUTCOMES[expected]
    engine = Engine()
    numbers = engine.feed(packets_of([frame, frame], [0, 1], link))
    slot = {NOT_IP: "not_ip", MALFORMED: "malformed", UNKNOWN_LINK: "unknown_link"}[expected]
    counted = {key: value for key, value in engine.counters.items() if value}
    assert counted == {"packets": 2, slot: 2}
    assert numbers.tolist() == [-1, -1]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(frame=st.binary(max_size=120), link=st.sampled_from([*LINKS, 147]))
def test_every_packet_is_counted_exactly_once(frame: bytes, link: int) -> None:
    engine = Engine()
    (number,) = engine.feed(packets_of([frame], [0], link))
    counted = engine.counters
    outcomes = [counted[key] for key in ("not_ip", "malformed", "too_deep", "unknown_link")]
    assert sum(outcomes) + (number >= 0) == 1
    assert counted["flows"] == (number >= 0)


# ---- the slow oracle


End = tuple[bytes, int]
MAGIC = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL}


QUOTING = dpkt.icmp.ICMP | dpkt.icmp6.ICMP6


def innermost(packet: dpkt.Packet | bytes) -> dpkt.ip.IP | dpkt.ip6.IP6 | None:
    """Return the innermost IP packet by dpkt, which opens 6in4, GRE and IP in IP by itself.

    What an ICMP error quotes is no packet of its own.
    """
    decoded = None
    while isinstance(packet, dpkt.Packet) and not isinstance(packet, QUOTING):
        if isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
            decoded = packet
        if isinstance(packet, dpkt.udp.UDP) and 2152 in (packet.sport, packet.dport):
            packet = user_packet(bytes(packet.data))
        else:
            packet = packet.data
    return decoded


def user_packet(data: bytes) -> dpkt.Packet | bytes:
    """Return the packet in a GTP-U G-PDU without options, by dpkt."""
    return b"" if len(data) < 28 or data[0] != 0x30 or data[1] != 0xFF else either(data[8:])


def either(data: bytes) -> dpkt.Packet:
    """Return an IP packet by its version, by dpkt."""
    return dpkt.ip6.IP6(data) if data[:1] and data[0] >> 4 == 6 else dpkt.ip.IP(data)


def fragment(decoded: dpkt.ip.IP | dpkt.ip6.IP6) -> tuple[int, bool] | None:
    """Return (identification, whether it is the first) of a fragment, None for a whole packet."""
    if isinstance(decoded, dpkt.ip6.IP6):
        head = decoded.extension_hdrs.get(dpkt.ip.IP_PROTO_FRAGMENT)
        return None if head is None else (head.id, head.frag_off == 0)
    return (decoded.id, decoded.offset == 0) if decoded.mf or decoded.offset else None


def oracle(path: Path) -> Counter[tuple[int, frozenset[End]]]:
    """Return packets by bidirectional 5-tuple, by dpkt.

    A fragment that is not the first has the ports of the first one with the same addresses,
    protocol and identification (RFC 791 section 3.2, RFC 8200 section 4.5).
    """
    counts: Counter[tuple[int, frozenset[End]]] = Counter()
    firsts: dict[tuple[bytes, bytes, int, int], list[End]] = {}
    packets = read(path)
    for i in range(packets.total):
        frame, link = packets.frame(i), int(packets.link[i])
        try:
            top = MAGIC[link](frame) if link in MAGIC else either(frame[4 if link == 0 else 0 :])
            decoded = innermost(top)
        except (dpkt.UnpackError, ValueError):
            continue
        if decoded is None:
            continue
        proto = decoded.p
        ends = [(decoded.src, 0), (decoded.dst, 0)]
        if isinstance(decoded.data, dpkt.udp.UDP | dpkt.tcp.TCP | dpkt.sctp.SCTP):
            ends = [(decoded.src, decoded.data.sport), (decoded.dst, decoded.data.dport)]
        piece = fragment(decoded)
        if piece is not None:
            datagram = decoded.src, decoded.dst, proto, piece[0]
            if piece[1]:
                firsts[datagram] = ends
            ends = firsts.get(datagram, ends)
        counts[proto, frozenset(ends)] += 1
    return counts


def packed(lanes: np.ndarray, version: int) -> bytes:
    """Return an address of a record as it stands in a packet."""
    return lanes.astype(">u4").tobytes()[: 4 if version == 4 else 16]


def ours(path: Path) -> Counter[tuple[int, frozenset[End]]]:
    """Return packets by bidirectional 5-tuple, by the engine."""
    counts: Counter[tuple[int, frozenset[End]]] = Counter()
    for flow in wire.classify(read(path)):
        version = int(flow["version"])
        here = (packed(flow["source"], version), int(flow["source_port"]))
        there = (packed(flow["target"], version), int(flow["target_port"]))
        total = int(flow["packets_up"]) + int(flow["packets_down"])
        counts[int(flow["proto"]), frozenset((here, there))] += total
    return counts


@pytest.mark.slow
@pytest.mark.corpus
def test_flows_and_packets_of_real_captures_are_those_of_a_slow_oracle(corpus: Path) -> None:
    files = sorted(path for path in corpus.rglob("*.pcap*") if path.is_file())
    assert files
    for path in files:
        slow, fast = oracle(path), ours(path)
        differing = {
            (proto, *sorted(port for _, port in ends)): (slow[proto, ends], fast[proto, ends])
            for proto, ends in slow.keys() | fast.keys()
            if slow[proto, ends] != fast[proto, ends]
        }
        assert differing == {}, f"{path.name}: (protocol, ports): (oracle, engine)"


def test_addresses_are_written_as_the_standard_library_writes_them() -> None:
    flows = wire.Wire().udp(b"x").udp(b"x", hosts=(NEAR6, FAR6)).flows()
    assert addresses(flows["source"], flows["version"]).tolist() == [NEAR, NEAR6]
    assert addresses(flows["target"], flows["version"]).tolist() == [FAR, FAR6]


def test_the_offsets_of_the_innermost_header_are_given() -> None:
    packet = inner("udp", 4)
    frame = bytes(ether(outer4(True) / gtp(True, layer(packet), True), True))
    signs = blank_signs()
    decode(octets(frame), 0, len(frame), len(frame), 1, signs, np.zeros((FRAGMENTS, 2), np.int64))
    at = int(signs[SIGN_IP_AT])
    assert frame[at:] == packet
    assert (signs[SIGN_SOURCE_AT], signs[SIGN_FRAGMENT]) == (at + 12, 0)
