# SPDX-License-Identifier: BSD-3-Clause
"""Addressing: no address of a capture reaches the lab, and nothing else about it changes."""

from __future__ import annotations

import struct
import zlib
from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.packets.headers import layers
from midcall.captures.packets.numbers import STUN_COOKIE, UDP
from midcall.captures.packets.pcap import packets_of, read
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import load as load_catalogue
from midcall.errors import TestbedError
from midcall.testbed.assess.call_verdict import judge
from midcall.testbed.network.checksums import folded, word_sum
from midcall.testbed.policy.loader import load
from midcall.testbed.replay.addressing import (
    NO_ADDRESS,
    Addresses,
    assigned,
    captured,
    mapped,
    on_lab,
    rewrite,
)
from midcall.testbed.replay.packet_index import index_packets
from midcall.testbed.replay.payload_addresses import Payloads
from midcall.testbed.replay.simulator import simulate
from tests.conftest import of_each_group

FOURS = st.binary(min_size=4, max_size=4)
SIXES = st.binary(min_size=16, max_size=16)
LAB4, LAB6 = ip_network("198.18.0.0/15"), ip_network("fd00::/8")


def packed(text: str) -> bytes:
    """Return an address as bytes."""
    return ip_address(text).packed


def images_of(packets: Any) -> Addresses:
    """Return the images of a capture's addresses."""
    return assigned([captured(index_packets(packets))])[0]


def sum16(data: bytes) -> int:
    """Return the folded sum of 16-bit words, FFFF where a checksum within is right."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(packet: bytes, proto: int, size: int) -> bytes:
    """Return the pseudo header of an IPv4 packet (RFC 768)."""
    return packet[12:20] + struct.pack(">HH", proto, size)


def datagram(payload: bytes, source: str, target: str, ports: tuple[int, int], make: Any) -> bytes:
    """Return an IPv4 datagram with right checksums."""
    head = struct.pack(">HHHH", *ports, 8 + len(payload), 0)
    packet = make.ipv4(source, target, 17, head + payload)
    total = 0xFFFF - sum16(pseudo(packet, 17, 8 + len(payload)) + head + payload)
    return bytes(packet[:26] + struct.pack(">H", total or 0xFFFF) + packet[28:])


def sent(scene: Any, number: int = 0, addresses: Addresses | None = None) -> tuple[bytes, Any]:
    """Return a packet of a scene as the lab sends it, and the whole mapping."""
    index = index_packets(scene.packets)
    made = rewrite(index, addresses) if addresses else mapped(index)
    return made.data[made.ip_at[number] : made.ip_end[number]].tobytes(), made


# ---- images


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.one_of(FOURS, SIXES), max_size=40), min_size=1, max_size=4))
def test_no_two_addresses_have_one_image_and_all_are_the_labs(sets: list[set[bytes]]) -> None:
    made = assigned(sets)
    images = [new for one in made for new in one.images.values()]
    assert len(images) == len(set(images)) == sum(len(one) for one in sets)
    for image in images:
        assert ip_address(image) in (LAB4 if len(image) == 4 else LAB6)
        assert ip_address(image) not in ip_network("198.18.0.0/24")


def test_an_origin_network_is_one_block_of_the_lab() -> None:
    (made,) = assigned([{packed(f"203.0.113.{n}") for n in (1, 2)} | {packed("8.8.4.4")}])
    assert made.image(packed("203.0.113.1"))[:3] == made.image(packed("203.0.113.2"))[:3]
    assert made.image(packed("8.8.4.4"))[:3] != made.image(packed("203.0.113.1"))[:3]
    assert made.image(packed("203.0.113.2"))[3] == 2


def test_many_networks_get_blocks_of_the_size_they_need() -> None:
    many = {bytes([8, n >> 8, n & 255, 9]) for n in range(2000)}
    crowd = {bytes([9, 9, 9, n]) for n in range(200)}
    (made,) = assigned([many | crowd])
    assert len(set(made.images.values())) == 2200
    assert len({made.image(one)[:3] for one in crowd}) == 1


def test_more_addresses_than_the_lab_has_are_refused() -> None:
    every = {bytes([n >> 24, n >> 16 & 255, n >> 8 & 255, n & 255]) for n in range(1 << 17)}
    with pytest.raises(TestbedError, match="131072 captured ones of 512 networks do not fit"):
        assigned([every])


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.one_of(FOURS, SIXES), max_size=30),
    st.lists(st.tuples(st.one_of(FOURS, SIXES), st.integers(0, 128)), min_size=1, max_size=5),
)
def test_a_set_holds_the_images_of_what_it_held_and_nothing_else(
    addresses: set[bytes], nets: list[tuple[bytes, int]]
) -> None:
    from midcall.testbed.policy.language import Match, Rule
    from midcall.testbed.policy.operator import AddressSet, Policy

    words = [str(ip_network((one, min(size, len(one) * 8)), strict=False)) for one, size in nets]
    about = {"name": "own", "addresses": words, "grade": "C", "source": "test"}
    match = Match(addresses=["own", words[0]])
    rule = Rule(name="r", match=match, act="drop", grade="C", source="test")
    policy = Policy((rule,), (AddressSet.model_validate(about),))
    (made,) = assigned([addresses])
    there = on_lab(policy, [made])
    before = [ip_network(word) for word in policy.prefixes(rule)]
    after = [ip_network(word) for word in there.prefixes(there.rules[0])]
    for old, new in made.images.items():
        one, two = ip_address(old), ip_address(new)
        assert any(one in net for net in before) == any(two in net for net in after)


def test_a_set_that_holds_no_captured_address_meets_nobody(policy: Any) -> None:
    rules = policy({"match": {"addresses": ["far"]}, "act": "drop"}, sets={"far": ["9.0.0.0/8"]})
    there = on_lab(rules, assigned([{packed("203.0.113.1")}]))
    assert there.prefixes(there.rules[0]) == [NO_ADDRESS]


def test_what_no_router_forwards_stays(scene: Any, make: Any) -> None:
    scene.udp(0.0, ">", "224.0.0.251", 5353, make.question(1, "a.example"))
    scene.udp(0.1, ">", make.PEER, 9000, b"x" * 20)
    made = images_of(scene.packets)
    assert set(made.images) == {packed(make.CALLER), packed(make.PEER)}


# ---- headers and payloads


def test_headers_and_checksums_follow(scene: Any, make: Any) -> None:
    scene.frame(0.0, datagram(b"z" * 31, make.CALLER, make.PEER, (40000, 9000), make))
    packet, made = sent(scene)
    assert packet[12:16] == made.addresses.image(packed(make.CALLER))
    assert packet[16:20] == made.addresses.image(packed(make.PEER))
    assert sum16(packet[:20]) == 0xFFFF
    assert sum16(pseudo(packet, 17, len(packet) - 20) + packet[20:]) == 0xFFFF


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 0xFFFF), st.sampled_from([6, 17]))
def test_a_checksum_stays_as_right_or_wrong_as_it_was(
    body: bytes, checksum: int, proto: int
) -> None:
    from tests.testbed.conftest import CALLER, PEER, Scene, ipv4

    scene = Scene()
    if proto == 17:
        head = struct.pack(">HHHH", 40000, 9000, 8 + len(body), checksum)
    else:
        head = struct.pack(">HHIIBBHHH", 40000, 9000, 1, 1, 0x50, 0x18, 65535, checksum, 0)
    old = ipv4(CALLER, PEER, proto, head + body)
    scene.frame(0.0, old)
    new, _ = sent(scene)
    before = sum16(pseudo(old, proto, len(old) - 20) + old[20:])
    after = sum16(pseudo(new, proto, len(new) - 20) + new[20:])
    assert after == before or (proto == 17 and checksum == 0 and new[26:28] == b"\0\0")


def xored(kind: int, address: str, port: int) -> bytes:
    """Return an XOR address attribute (RFC 8489 section 14.2)."""
    mask = int.from_bytes(b"\x21\x12\xa4\x42", "big")
    hidden = (int(ip_address(address)) ^ mask).to_bytes(4, "big")
    return struct.pack(">HHBBH", kind, 8, 0, 1, port ^ 0x2112) + hidden


def printed(make: Any, body: bytes) -> bytes:
    """Return a STUN message that ends with a right FINGERPRINT (RFC 8489 section 14.7)."""
    whole = bytearray(make.stun(0x0101, 7, body + bytes(8)))
    crc = zlib.crc32(bytes(whole[:-8])) ^ 0x5354554E
    whole[-8:] = struct.pack(">HHI", 0x8028, 4, crc)
    return bytes(whole)


def fingerprint_holds(message: bytes) -> bool:
    """Tell whether a message's FINGERPRINT is right."""
    crc = zlib.crc32(message[:-8]) ^ 0x5354554E
    return message[-8:] == struct.pack(">HHI", 0x8028, 4, crc)


def test_stun_tells_the_image_and_its_fingerprint_holds(scene: Any, make: Any) -> None:
    integrity = struct.pack(">HH", 8, 20) + bytes(20)
    message = printed(make, xored(0x0020, make.CALLER, 40000) + integrity)
    assert fingerprint_holds(message)
    scene.udp(0.0, "<", make.RELAY, 3478, message)
    packet, made = sent(scene)
    body = packet[28:]
    there = int.from_bytes(body[28:32], "big") ^ STUN_COOKIE
    assert there.to_bytes(4, "big") == made.addresses.image(packed(make.CALLER))
    assert fingerprint_holds(body)
    assert (made.broken, made.cut) == (1, 0)


def test_stun_within_turns_data_follows_too(scene: Any, make: Any) -> None:
    inner = printed(make, xored(0x0020, make.CALLER, 40000))
    data = struct.pack(">HH", 0x0013, len(inner)) + inner
    outer = printed(make, xored(0x0012, make.PEER, 5000) + data)
    scene.udp(0.0, "<", make.RELAY, 3478, outer)
    packet, made = sent(scene)
    body = packet[28:]
    nested = body[36 : 36 + len(inner)]
    assert fingerprint_holds(body)
    assert fingerprint_holds(nested)
    relayed = {int.from_bytes(one[28:32], "big") ^ STUN_COOKIE for one in (body, nested)}
    ends = (make.CALLER, make.PEER)
    assert relayed == {int.from_bytes(made.addresses.image(packed(one)), "big") for one in ends}


def test_stun_behind_a_length_in_tcp_follows(scene: Any, make: Any) -> None:
    message = make.stun(0x0101, 7, xored(0x0020, make.CALLER, 40000))
    scene.tcp(0.0, "<", make.RELAY, 3478, struct.pack(">H", len(message)) + message)
    packet, made = sent(scene)
    there = int.from_bytes(packet[42 + 28 : 42 + 32], "big") ^ STUN_COOKIE
    assert there.to_bytes(4, "big") == made.addresses.image(packed(make.CALLER))


def test_stun_of_rfc_3489_follows(make: Any) -> None:
    plain = struct.pack(">HHBBH", 1, 8, 0, 1, 40000) + packed(make.CALLER)
    message = struct.pack(">HH", 0x0101, len(plain)) + bytes(range(16)) + plain
    made = Payloads(lambda _: packed("198.18.1.1")).body(message, UDP, (1, 2), True)
    assert made == message[:-4] + packed("198.18.1.1")


def test_dns_answers_tell_the_image(scene: Any, make: Any) -> None:
    answer = make.answer(1, "a.example", make.PEER)
    scene.udp(0.0, "<", make.RESOLVER, 53, answer, near=5300)
    packet, made = sent(scene)
    assert packet[-4:] == made.addresses.image(packed(make.PEER))


SIP = (
    "INVITE sip:bob@203.0.113.7 SIP/2.0\r\nUser-Agent: Fon/1.2.3.4\r\n"
    "Content-Length: {length}\r\n\r\n{sdp}"
)


def invite(address: str) -> bytes:
    """Return an INVITE with a session description."""
    sdp = f"v=0\r\nc=IN IP4 {address}\r\nm=audio 40000 RTP/AVP 0\r\n"
    return SIP.format(length=len(sdp), sdp=sdp).encode()


def test_sdp_in_a_datagram_grows_with_its_address(scene: Any, make: Any) -> None:
    packet = datagram(invite("9.9.9.9"), make.CALLER, make.RELAY, (5060, 5060), make)
    scene.frame(0.0, packet)
    new, made = sent(scene)
    image = str(ip_address(made.addresses.image(packed("9.9.9.9")))).encode()
    body = new[28:]
    head, _, sdp = body.partition(b"\r\n\r\n")
    assert b"c=IN IP4 " + image + b"\r\n" in sdp
    assert b"Content-Length: %d\r\n" % len(sdp) in head + b"\r\n"
    assert b"Fon/1.2.3.4" in body
    assert len(new) > len(packet)
    assert int(made.size[0]) == len(new) == struct.unpack_from(">H", new, 2)[0]
    assert struct.unpack_from(">H", new, 24)[0] == len(new) - 20
    assert sum16(new[:20]) == 0xFFFF
    assert sum16(pseudo(new, 17, len(new) - 20) + new[20:]) == 0xFFFF


def test_sdp_in_tcp_keeps_its_length(scene: Any, make: Any) -> None:
    scene.tcp(0.0, ">", make.RELAY, 5060, invite("100.200.100.200"))
    scene.tcp(0.1, ">", make.RELAY, 5060, invite("9.9.9.9"))
    packet, made = sent(scene)
    image = made.addresses.image(packed("100.200.100.200"))
    text = packet.partition(b"c=IN IP4 ")[2].partition(b"\r")[0]
    assert bytes(int(part) for part in text.split(b".")) == image
    assert len(text) == len("100.200.100.200")
    assert made.cut == 1
    assert (made.size == index_packets(scene.packets).facts["ip_size"]).all()


def test_ip_discovery_follows(scene: Any, make: Any) -> None:
    answer = b"\0\2\0\x46" + bytes(4) + make.CALLER.encode().ljust(64, b"\0") + b"\x9c\x40"
    scene.udp(0.0, "<", make.RELAY, 50000, answer)
    packet, made = sent(scene)
    text = packet[28 + 8 : 28 + 72].rstrip(b"\0").decode()
    assert packed(text) == made.addresses.image(packed(make.CALLER))
    assert packet[-2:] == b"\x9c\x40"


def test_a_packet_that_an_icmp_error_quotes_follows(scene: Any, make: Any) -> None:
    quoted = make.ipv4(make.CALLER, make.PEER, 17, bytes(8))
    message = bytearray(b"\3\3" + bytes(6) + quoted)
    message[2:4] = struct.pack(">H", 0xFFFF - sum16(bytes(message)))
    scene.frame(0.0, make.ipv4(make.PEER, make.CALLER, 1, bytes(message)))
    packet, made = sent(scene)
    inner = packet[28:48]
    assert inner[16:20] == made.addresses.image(packed(make.PEER))
    assert sum16(inner) == 0xFFFF
    assert sum16(packet[20:]) == 0xFFFF


def test_keep_leaves_packets_and_policies_as_they_are(scene: Any, make: Any, policy: Any) -> None:
    scene.udp(0.0, ">", make.PEER, 9000, b"x" * 20)
    index = index_packets(scene.packets)
    made = mapped(index, "keep")
    rules = policy({"match": {"addresses": ["9.0.0.0/8"]}, "act": "drop"})
    assert made.data is index.packets.data
    assert made.policy(rules) is rules
    with pytest.raises(TestbedError, match="addressing: got 'hide', expected one of map, keep"):
        mapped(index, "hide")


def test_packets_cut_anywhere_are_mapped_without_an_error(scene: Any, make: Any) -> None:
    scene.udp(0.0, "<", make.RELAY, 3478, printed(make, xored(0x0020, make.CALLER, 40000)))
    scene.udp(0.1, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5300)
    scene.udp(0.2, ">", make.RELAY, 5060, invite("9.9.9.9"), near=5060)
    scene.tcp(0.3, ">", make.RELAY, 5060, invite("9.9.9.9"))
    frames = [scene.packets.frame(i) for i in range(4)]
    for frame in frames:
        for size in range(14, len(frame), 3):
            index = index_packets(packets_of([frame[:size]], [0], 1, [len(frame)]))
            made = mapped(index)
            assert made.ip_end[0] <= len(made.data)


def test_a_flow_is_mapped_alike_whichever_end_speaks(scene: Any, make: Any, run: Any) -> None:
    make.webrtc_call(scene, seconds=0.2)
    simulation = run(scene, None)
    assert len(simulation.flows) == 1
    assert (simulation.flow == 0).all()


# ---- the corpus


def real(corpus: Path) -> list[tuple[str, Path, Any]]:
    """Return (name, path, calls) of the real captures in a folder."""
    files = {path.name: path for path in corpus.rglob("*.pcap*")}
    return [
        (one.name, files[one.file], calls(one.sha256))
        for one in load_catalogue(local=False).captures
        if not one.synthetic and one.file in files and files[one.file].stat().st_size == one.bytes
    ]


@pytest.mark.slow
@pytest.mark.corpus
def test_no_captured_address_is_left_in_a_header(corpus: Path) -> None:
    for name, path, _ in real(corpus):
        index = index_packets(read(path))
        made = mapped(index)
        for i in np.flatnonzero(index.facts["flow"] >= 0)[::7]:
            packet = made.data[made.ip_at[i] : made.ip_end[i]].tobytes()
            (layer, *_) = layers(packet, 101)
            source, target, size = layer.addresses
            for at in (source, target):
                one = ip_address(packet[at : at + size])
                kept = packet[at : at + size] not in made.addresses.images.values()
                assert not kept or one.is_multicast or one.is_link_local or not one.is_global, name


@pytest.mark.longest
@pytest.mark.corpus
def test_every_verdict_of_the_corpus_is_the_same_before_and_after(corpus: Path) -> None:
    operator = load("maroc-telecom")
    differing = []
    few = {one.name for one in of_each_group(load_catalogue(local=False).captures)}
    for name, path, known in real(corpus):
        if name not in few:
            continue
        packets = read(path)
        kept, lab = (
            simulate(packets, known, [], None, "4g", 1, addressing=mode) for mode in ("keep", "map")
        )
        for key in ("verdict", "app", "role", "evidence"):
            if kept.flows[key].tolist() != lab.flows[key].tolist():
                differing.append((name, key))
        for one in operator.hypotheses:
            policy = operator.policy(one.id, "4g", date(2016, 3, 15))
            before, after = (
                simulate(packets, known, [], policy, "4g", 1, addressing=mode)
                for mode in ("keep", "map")
            )
            differing += [
                (name, one.id, call.id)
                for call in known
                if judge(before, kept, call) != judge(after, lab, call)
            ]
    assert differing == []


@given(data=st.binary(max_size=1500))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_the_sum_of_words_is_that_of_rfc_1071(data: bytes) -> None:
    padded = data + b"\0" * (len(data) & 1)
    words = struct.unpack(f">{len(padded) // 2}H", padded)
    assert word_sum(data) == folded(sum(words))
