# SPDX-License-Identifier: BSD-3-Clause
"""Anonymising: prefixes preserved, private kept private, checksums as right as before."""

from __future__ import annotations

import ipaddress
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from midcall.captures.own.anonymise import Anonymiser, anonymised
from midcall.captures.packets.headers import flows, layers
from midcall.captures.packets.pcap import packets_of, read

MAP = Anonymiser(b"key")
A, B = "203.0.113.7", "198.51.100.9"


def v4(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def mapped(text: str) -> str:
    return str(ipaddress.ip_address(MAP.address(v4(text))))


def common(one: bytes, two: bytes) -> int:
    """Return how many leading bits two addresses share."""
    width = len(one) * 8
    return width - (int.from_bytes(one, "big") ^ int.from_bytes(two, "big")).bit_length()


def through(packet: Packet) -> Packet:
    """Return a frame after anonymising, decoded again."""
    frame = bytes(packet)
    new = MAP.frame(frame, 1)
    assert len(new) == len(frame)
    return Ether(new)


def checksums_hold(packet: Packet) -> bool:
    """Return whether building the packet anew gives the checksums it carries."""
    anew = packet.copy()
    for layer in (IP, TCP, UDP):
        if layer in anew:
            del anew[layer].chksum
    return bytes(anew) == bytes(packet)


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
def test_two_ipv4_addresses_share_as_long_a_prefix_as_before(one: bytes, two: bytes) -> None:
    assert common(MAP.address(one), MAP.address(two)) == common(one, two)


@given(
    st.binary(min_size=16, max_size=16), st.integers(0, 128), st.binary(min_size=16, max_size=16)
)
def test_two_ipv6_addresses_share_as_long_a_prefix_as_before(
    one: bytes, shared: int, other: bytes
) -> None:
    mask = (1 << 128) - (1 << (128 - shared))
    mixed = int.from_bytes(one, "big") & mask | int.from_bytes(other, "big") & ~mask
    two = (mixed % (1 << 128)).to_bytes(16, "big")
    for address in (one, two):
        if address[:12] in (bytes(10) + b"\xff\xff", bytes.fromhex("0064ff9b") + bytes(8)):
            return
    assert common(MAP.address(one), MAP.address(two)) == common(one, two)


@pytest.mark.parametrize(
    "network",
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
     "fc00::/7", "fe80::/10"],
)  # fmt: skip
def test_a_private_address_stays_within_its_prefix(network: str) -> None:
    net = ipaddress.ip_network(network)
    moved = 0
    for offset in (1, 0x1234, 0xFFFE):
        address = net.network_address + offset
        new = ipaddress.ip_address(MAP.address(address.packed))
        assert new in net
        moved += new != address
    assert moved


@given(st.integers(0, 2**32 - 1))
def test_a_public_address_never_becomes_private(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    new = ipaddress.IPv4Address(MAP.address(address.packed))
    assert new.is_private == address.is_private


@pytest.mark.parametrize("text", ["0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255"])
def test_addresses_that_name_nobody_stay(text: str) -> None:
    assert mapped(text) == text


def test_an_ipv4_address_inside_an_ipv6_one_is_mapped_as_itself() -> None:
    inside = ipaddress.ip_address(f"::ffff:{A}").packed
    assert MAP.address(inside)[12:] == MAP.address(v4(A))


def test_another_key_gives_another_mapping_and_the_same_key_the_same() -> None:
    assert Anonymiser(b"key").address(v4(A)) == MAP.address(v4(A))
    assert Anonymiser(b"other").address(v4(A)) != MAP.address(v4(A))
    assert Anonymiser().address(v4(A)) != Anonymiser().address(v4(A))


@pytest.mark.parametrize(
    "transport", [UDP(sport=5, dport=6) / b"odd", TCP(sport=5, dport=6) / b"data"]
)
def test_addresses_are_replaced_and_checksums_stay_right(transport: Packet) -> None:
    packet = Ether(src="02:00:00:00:00:01", dst="00:1b:21:00:00:02") / IP(src=A, dst=B) / transport
    new = through(packet)
    assert (new[IP].src, new[IP].dst) == (mapped(A), mapped(B))
    assert new[Ether].dst.startswith("02:")
    assert new[Ether].dst != "00:1b:21:00:00:02"
    assert checksums_hold(new)


def test_a_wrong_checksum_stays_wrong_and_an_absent_one_absent() -> None:
    wrong = through(Ether() / IP(src=A, dst=B) / UDP(sport=5, dport=6, chksum=0x1234) / b"data")
    assert not checksums_hold(wrong)
    absent = through(Ether() / IP(src=A, dst=B) / UDP(sport=5, dport=6, chksum=0) / b"data")
    assert absent[UDP].chksum == 0


def test_ipv6_and_vlan_are_replaced_too() -> None:
    one, two = "2001:470:1f0b::5", "2a02:8108::9"
    new = through(Ether() / Dot1Q(vlan=7) / IPv6(src=one, dst=two) / UDP(sport=5, dport=6) / b"hi")
    assert new[IPv6].src == str(ipaddress.ip_address(MAP.address(v4(one))))
    assert new[IPv6].dst != two
    assert checksums_hold(new)


def test_arp_tells_no_address_either() -> None:
    new = through(Ether() / ARP(psrc=A, pdst=B, hwsrc="00:1b:21:00:00:02"))
    assert (new[ARP].psrc, new[ARP].pdst) == (mapped(A), mapped(B))
    assert new[ARP].hwsrc != "00:1b:21:00:00:02"


def test_every_layer_of_a_gtp_tunnel_is_replaced_and_all_checksums_hold() -> None:
    inner = IP(src="10.1.2.3", dst=B) / UDP(sport=7, dport=8) / b"media"
    gtp = struct.pack(">BBHI", 0x30, 0xFF, len(inner), 1)
    packet = Ether() / IP(src=A, dst="203.0.113.200") / UDP(sport=2152, dport=2152)
    new = through(packet / Raw(gtp + bytes(inner)))
    assert checksums_hold(new)
    assert new[IP].src == mapped(A)
    carried = IP(bytes(new[UDP].payload)[8:])
    assert (carried.src, carried.dst) == (mapped("10.1.2.3"), mapped(B))
    assert checksums_hold(carried)


def stun(attributes: bytes, fingerprint: bool) -> bytes:
    size = len(attributes) + (8 if fingerprint else 0)
    message = (
        struct.pack(">HH4s12s", 0x0101, size, b"\x21\x12\xa4\x42", b"transaction!") + attributes
    )
    if fingerprint:
        crc = zlib.crc32(message) ^ 0x5354554E
        message += struct.pack(">HHI", 0x8028, 4, crc)
    return message


def test_stun_attributes_are_mapped_and_the_fingerprint_holds() -> None:
    hidden = bytes(a ^ b for a, b in zip(v4(A), b"\x21\x12\xa4\x42", strict=True))
    attributes = struct.pack(">HHBBH4s", 0x0020, 8, 0, 1, 0x1234, hidden)
    attributes += struct.pack(">HHBBH4s", 0x0001, 8, 0, 1, 5000, v4(B))
    packet = Ether() / IP(src=A, dst=B) / UDP(sport=5, dport=3478) / stun(attributes, True)
    new = through(packet)
    body = bytes(new[UDP].payload)
    plain = bytes(a ^ b for a, b in zip(body[28:32], b"\x21\x12\xa4\x42", strict=True))
    assert plain == MAP.address(v4(A))
    assert body[40:44] == MAP.address(v4(B))
    assert struct.unpack(">I", body[-4:])[0] == zlib.crc32(body[:-8]) ^ 0x5354554E
    assert checksums_hold(new)


def test_dns_answers_are_mapped() -> None:
    answers = [DNSRR(rrname="a.example", type="A", rdata=A)]
    answers.append(DNSRR(rrname="a.example", type="AAAA", rdata="2001:470:1f0b::5"))
    dns = DNS(qr=1, qd=DNSQR(qname="a.example"), an=answers)
    new = through(Ether() / IP(src=A, dst=B) / UDP(sport=53, dport=4000) / dns)
    assert new[DNS].an[0].rdata == mapped(A)
    assert new[DNS].an[1].rdata == mapped("2001:470:1f0b::5")
    assert checksums_hold(new)


def test_dotted_addresses_in_sip_keep_their_length() -> None:
    text = b"INVITE sip:x SIP/2.0\r\nVia: 1.2.3.4\r\nc=IN IP4 203.0.113.7\r\nv: 999.1.1.1\r\n"
    new = through(Ether() / IP(src=A, dst=B) / UDP(sport=5060, dport=5060) / text)
    body = bytes(new[UDP].payload)
    assert len(body) == len(text)
    assert b"203.0.113.7" not in body
    assert b"1.2.3.4\r\nc" not in body
    assert b"999.1.1.1" in body


@given(st.data())
def test_a_frame_cut_anywhere_keeps_its_length(data: st.DataObject) -> None:
    attributes = struct.pack(">HHBBH4s", 0x0001, 8, 0, 1, 5000, v4(B))
    frame = bytes(Ether() / IP(src=A, dst=B) / UDP(sport=5, dport=3478) / stun(attributes, True))
    cut = data.draw(st.integers(0, len(frame)))
    noise = data.draw(st.binary(max_size=60))
    for piece in (frame[:cut], frame[:cut] + noise):
        assert len(MAP.frame(piece, 1)) == len(piece)


@given(st.binary(max_size=120), st.sampled_from([0, 1, 101, 113, 276, 999]))
def test_noise_of_any_link_type_is_survived(noise: bytes, link: int) -> None:
    assert len(MAP.frame(noise, link)) == len(noise)


def test_times_and_wire_lengths_stay_and_two_link_types_are_refused() -> None:
    frame = bytes(Ether() / IP(src=A, dst=B) / UDP(sport=5, dport=6) / b"data")
    packets = packets_of([frame[:40]], [123], 1, [500])
    new = anonymised(packets, b"key")
    assert (int(new.time[0]), int(new.wire[0]), int(new.captured[0])) == (123, 500, 40)
    two = packets_of([frame, frame], [1, 2])
    two.link[1] = 101
    with pytest.raises(ValueError, match=r"one link type is needed, got \[1, 101\]"):
        anonymised(two)


@pytest.mark.corpus
def test_a_real_call_keeps_its_flows_and_shows_no_old_public_address(corpus: Path) -> None:
    (path, *_) = corpus.rglob("wa_voice.pcap")
    old = read(path)
    new = anonymised(old, b"key")
    shape = [(flow.frame, flow.packets, flow.source[1], flow.target[1]) for flow in flows(old)]
    after = [(flow.frame, flow.packets, flow.source[1], flow.target[1]) for flow in flows(new)]
    assert after == shape
    public = {
        end[0]
        for flow in flows(old)
        for end in (flow.source, flow.target)
        if ipaddress.ip_address(end[0]).is_global and not end[0][0] >= 224
    }
    for i in range(new.total):
        for layer in layers(new.frame(i), int(new.link[i])):
            source, target, size = layer.addresses
            frame = new.frame(i)
            assert frame[source : source + size] not in public
            assert frame[target : target + size] not in public
