# SPDX-License-Identifier: BSD-3-Clause
"""The generators: every message reads back as what it claims to be, and nothing is left to luck."""

from __future__ import annotations

import hashlib
import hmac
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import dpkt
import pytest
from scapy.layers.inet import IP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.layers.l2 import CookedLinux, Ether
from scapy.packet import Packet, Raw

from midcall.captures.packets.pcap import Packets
from midcall.captures.synthetic import facetime, samples, tunnels, viber, voice
from midcall.captures.synthetic.encapsulate import ENVELOPES, ENVELOPES_OF_IPV6, Envelope, envelope
from midcall.captures.synthetic.scene import MSS, Scene, Truth
from midcall.captures.wire import dns, dtls, rtp, sip, stun, tls
from midcall.captures.wire.host import Host, phone, server
from midcall.captures.wire.seeded import MS, SECOND, SeededRandom

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Truth("none", "other", "a test")


# ---- dice


def test_dice_of_the_same_names_fall_the_same() -> None:
    first, second = SeededRandom("midcall", "a"), SeededRandom("midcall", "a")
    assert first.octets(100) == second.octets(60) + second.octets(40)


def test_dice_of_a_part_do_not_disturb_the_whole() -> None:
    alone, shared = SeededRandom("a"), SeededRandom("a")
    shared.child("part").octets(1000)
    assert alone.octets(32) == shared.octets(32)
    assert alone.child("b").octets(8) != alone.child("c").octets(8)


def test_dice_are_pinned_so_that_another_python_makes_the_same_samples() -> None:
    assert (
        SeededRandom("midcall").octets(8).hex()
        == hashlib.sha256(hashlib.sha256(b"midcall").digest() + bytes(8)).hexdigest()[:16]
    )


def test_a_number_is_never_out_of_its_bounds() -> None:
    dice = SeededRandom("bounds")
    thrown = {dice.number(3, 7) for _ in range(300)}
    assert thrown == {3, 4, 5, 6, 7}


# ---- messages


def attributes(message: bytes) -> list[tuple[int, bytes]]:
    """Return the padded attributes of a STUN message; they must tile it."""
    pairs, at = [], 20
    while at < len(message):
        kind, size = struct.unpack_from(">HH", message, at)
        pairs.append((kind, message[at + 4 : at + 4 + size]))
        at += 4 + size + -size % 4
    assert at == len(message)
    return pairs


def test_a_stun_message_carries_a_true_integrity_and_fingerprint() -> None:
    transaction, key = bytes(range(12)), b"secret"
    message = stun.message(stun.BINDING, transaction, [(stun.USERNAME, b"abcde")], key, True)
    kind, size, magic = struct.unpack_from(">HHI", message)
    assert (kind, size, magic) == (1, len(message) - 20, 0x2112A442)
    codes = [code for code, _ in attributes(message)]
    assert codes == [stun.USERNAME, stun.MESSAGE_INTEGRITY, stun.FINGERPRINT]
    signed = message[:2] + struct.pack(">H", size - 8) + message[4:-32]
    assert attributes(message)[1][1] == hmac.new(key, signed, hashlib.sha1).digest()
    assert attributes(message)[2][1] == struct.pack(">I", zlib.crc32(message[:-8]) ^ 0x5354554E)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8:1234:5678:11:2233:4455:6677"])
def test_an_xor_address_is_that_of_rfc_5769(address: str) -> None:
    transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    value = stun.xor_address(stun.XOR_MAPPED, Host(address), 32853, transaction)[1]
    expected = {
        "192.0.2.1": "0001a147e112a643",
        "2001:db8:1234:5678:11:2233:4455:6677": "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
    }
    assert value.hex() == expected[address]


def test_rtp_counts_up_and_has_the_size_asked_for() -> None:
    stream = rtp.Stream(SeededRandom("rtp"), 111, 960, 0xBEDE, lambda number: bytes(4))
    first, second = (dpkt.rtp.RTP(stream.packet(90)) for _ in range(2))
    assert (first.version, first.pt, first.x) == (2, 111, 1)
    assert (second.seq - first.seq, second.ts - first.ts, second.ssrc) == (1, 960, first.ssrc)
    assert len(bytes(first)) == 90


def test_rtcp_index_counts_reports() -> None:
    stream = rtp.Stream(SeededRandom("rtcp"), 111, 960)
    indices = [struct.unpack(">I", stream.report()[-14:-10])[0] for _ in range(3)]
    assert indices == [0x80000001, 0x80000002, 0x80000003]


def test_a_talker_never_overtakes_himself() -> None:
    talker = voice.Talker(20, (80, 120), (40, 50), 4, 6000)
    times = [frame.time for frame in voice.talk(SeededRandom("talk"), talker, 0, 10.0)]
    assert times == sorted(times)
    assert times[-1] < 10 * SECOND


def test_silence_of_a_talker_is_thinner_than_speech() -> None:
    talker = voice.Talker(20, (80, 120), (40, 50), 4)
    frames = list(voice.talk(SeededRandom("talk"), talker, 0, 20.0))
    assert 20 * 50 * 0.4 < len(frames) < 20 * 50
    assert sum(frame.skipped for frame in frames) > 50


def test_a_tls_hello_names_the_server() -> None:
    hello = tls.client_hello(SeededRandom("tls"), "www.example.org")
    parsed = dpkt.ssl.TLSHandshake(dpkt.ssl.TLSRecord(hello).data).data
    names = [body for kind, body in parsed.extensions if kind == 0]
    assert names == [b"\0\x12\0\0\x0fwww.example.org"]


def test_records_of_a_server_hello_tile_it() -> None:
    flight = tls.server_hello(SeededRandom("tls"), 2000)
    records, used = dpkt.ssl.tls_multi_factory(flight)
    assert (used, [record.type for record in records]) == (len(flight), [22, 20, 23])


def test_a_dns_answer_answers_the_question() -> None:
    asked = dpkt.dns.DNS(dns.question(7, "a.example.org"))
    answered = dpkt.dns.DNS(dns.answer(7, "a.example.org", Host("192.0.2.9")))
    assert (asked.qr, answered.qr, asked.id, answered.id) == (0, 1, 7, 7)
    assert asked.qd[0].name == answered.qd[0].name == answered.an[0].name == "a.example.org"
    assert answered.an[0].rdata == Host("192.0.2.9").packed


def test_a_dtls_hello_offers_srtp_only_when_asked() -> None:
    offer = struct.pack(">HH", dtls.USE_SRTP, 7) + bytes.fromhex("00040001000200")
    assert offer in dtls.client_hello(SeededRandom("dtls"))
    assert offer not in dtls.client_hello(SeededRandom("dtls"), srtp=False)


def test_dtls_records_tile_every_flight() -> None:
    for flight in (dtls.server_flight(SeededRandom("d")), dtls.client_flight(SeededRandom("d"))):
        at = 0
        while at < len(flight):
            kind, version, _, _, _, size = struct.unpack_from(">BHHHIH", flight, at)
            assert (kind in (20, 22), version) == (True, dtls.DTLS12)
            at += 13 + size
        assert at == len(flight)


def test_sip_is_read_back_long_and_compact() -> None:
    headers = sip.dialogue("a@192.0.2.1", "b@192.0.2.2", "abcdefgh", "1", "1 INVITE")
    body = sip.audio("192.0.2.1", 4000, ["18 G729/8000"])
    long = dpkt.sip.Request(sip.request("INVITE", "sip:b@192.0.2.2", headers, body))
    assert (long.method, long.headers["cseq"], long.body) == ("INVITE", "1 INVITE", body)
    short = sip.request("INVITE", "sip:b@192.0.2.2", headers, body, compact=True)
    assert b"\r\ni: abcdefgh\r\n" in short
    assert b"Call-ID" not in short


def test_what_facetime_deflates_inflates_again() -> None:
    assert zlib.decompress(facetime.deflated(b"v=0" * 100)) == b"v=0" * 100


def test_viber_control_sets_the_bit_that_its_voice_clears() -> None:
    control = viber.control(b"\x12\x34", viber.PUNCH, bytes(12))
    assert control[:4] == b"\x12\xb4\x03\x00"
    assert len(control) == 16


# ---- flows


def test_a_tcp_flow_reassembles_to_what_was_sent() -> None:
    scene = Scene("tcp", 0)
    flow = scene.tcp(phone(1), 40000, server(1), 443, PLAIN)
    at = flow.open(0)
    ask, reply = SeededRandom("ask").octets(3 * MSS + 5), SeededRandom("reply").octets(MSS)
    flow.up(at, ask)
    flow.down(at + 80 * MS, reply)
    flow.close(at + SECOND)
    packets = scene.develop().packets
    sent: dict[int, dict[int, bytes]] = {40000: {}, 443: {}}
    starts = {}
    for number in range(packets.total):
        segment = dpkt.ethernet.Ethernet(packets.frame(number)).data.data
        if segment.flags & dpkt.tcp.TH_SYN:
            starts[segment.sport] = segment.seq + 1
        elif segment.data:
            sent[segment.sport][segment.seq - starts[segment.sport]] = segment.data
    for port, whole in ((40000, ask), (443, reply)):
        assert b"".join(part for _, part in sorted(sent[port].items())) == whole
    assert max(sent[40000]) == 3 * MSS


def test_frame_numbers_of_labels_and_pairs_follow_time_not_the_order_of_calls() -> None:
    scene = Scene("order", 0)
    late = scene.udp(phone(1), 1000, server(1), 2000, PLAIN)
    early = scene.udp(phone(1), 1001, server(1), 2000, PLAIN)
    sent = late.up(5 * MS, b"late")
    early.up(MS, b"early")
    crafted = scene.develop()
    assert [label.frame for label in crafted.labels] == [1, 2]
    assert sent.frame == 2
    assert list(crafted.packets.time) == [MS, 5 * MS]


# ---- envelopes


def opened(frame: bytes, how: Envelope) -> Packet:
    """Return the innermost IP packet of a frame."""
    layer = {1: Ether, 101: IP, 113: CookedLinux}[how.link](frame)
    inner = None
    while layer:
        inner = layer if isinstance(layer, IP | IPv6) else inner
        if how.name == "teredo" and isinstance(layer, UDP) and inner.version == 4:
            assert 3544 in (layer.sport, layer.dport)
            layer = IPv6(bytes(layer.payload))  # scapy knows Teredo by no name
        else:
            layer = layer.payload
    assert inner is not None
    return inner


FOUR = IP(src="198.18.0.1", dst="198.19.0.1", id=7) / UDP(sport=1, dport=2) / Raw(b"hello")
SIX = IPv6(src="2001:2::1", dst="2001:2::2") / UDP(sport=1, dport=2) / Raw(b"hello")
CASES = [*((how, FOUR) for how in ENVELOPES), *((how, SIX) for how in ENVELOPES_OF_IPV6)]


@pytest.mark.parametrize(("how", "layer"), CASES, ids=[how.name for how, _ in CASES])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_what_goes_into_an_envelope_comes_out_unchanged(
    how: Envelope, layer: Packet, up: bool
) -> None:
    (frame,) = how.wrap(layer, up)
    assert bytes(opened(frame, how)) == bytes(layer)


def test_both_directions_of_a_tunnel_have_mirrored_ends() -> None:
    up, down = (IP(envelope("gtp-u").wrap(FOUR, way)[0][14:]) for way in (True, False))
    assert (up.src, up.dst) == (down.dst, down.src)
    assert up[UDP].payload.teid != down[UDP].payload.teid


@pytest.mark.parametrize("size", [1300, 2600])
def test_fragments_join_to_the_packet_they_were(size: int) -> None:
    four = IP(src="198.18.0.1", dst="198.19.0.1", id=7) / UDP(sport=1, dport=2) / Raw(bytes(size))
    parts = [IP(frame[14:]) for frame in envelope("fragments").wrap(four, True)]
    assert len(parts) > 2
    (joined,) = defragment(parts)
    assert bytes(joined[UDP].payload) == bytes(size)
    six = IPv6(src="2001:2::1", dst="2001:2::2") / UDP(sport=1, dport=2) / Raw(bytes(size))
    frames = envelope("fragments").wrap(six, True)
    assert all(IPv6ExtHdrFragment in Ether(frame) for frame in frames)
    whole = defragment6([IPv6(frame[14:]) for frame in frames])
    assert bytes(whole[UDP].payload) == bytes(size)


def test_the_tour_of_tunnels_has_one_flow_per_envelope() -> None:
    crafted = tunnels.tour("tour", 0)
    assert len(crafted.labels) == len(ENVELOPES) + len(ENVELOPES_OF_IPV6) + 3
    assert sum(label.packets for label in crafted.labels) == crafted.packets.total
    assert {int(link) for link in crafted.packets.link} == {1, 101, 113}


# ---- truth


def digest(packets: Packets) -> str:
    """Return a sum over frames and times."""
    parts = (
        packets.frame(i) + int(packets.time[i]).to_bytes(8, "big") for i in range(packets.total)
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_recipe_makes_the_same_capture_in_another_process_and_hash_seed() -> None:
    recipe = next(one for one in samples.RECIPES if one.name == "sample-viber-chat")
    code = (
        "import hashlib\n"
        "from midcall.captures.synthetic.samples import RECIPES\n"
        "p = next(r for r in RECIPES if r.name == 'sample-viber-chat').craft().packets\n"
        "b = b''.join(p.frame(i) + int(p.time[i]).to_bytes(8, 'big') for i in range(p.total))\n"
        "print(hashlib.sha256(b).hexdigest())\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT), "PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == digest(recipe.craft().packets)


def test_a_captures_name_is_its_seed() -> None:
    recipe = next(one for one in samples.RECIPES if one.name == "sample-dns")
    other = recipe._replace(name="another name")
    assert digest(recipe.craft().packets) != digest(other.craft().packets)


def test_whatsapp_asks_every_relay_twice_with_attribute_4000_first() -> None:
    recipe = next(one for one in samples.RECIPES if one.name == "sample-whatsapp-audio")
    packets = recipe.craft().packets
    asked: dict[bytes, list[bytes]] = {}
    for number in range(packets.total):
        segment = dpkt.ethernet.Ethernet(packets.frame(number)).data
        payload = bytes(segment.data.data)
        if payload[:2] == b"\0\3":
            asked.setdefault(segment.dst, []).append(payload)
    assert [len(each) for each in asked.values()] == [2] * 8
    assert all(first == second for first, second in asked.values())
    assert {first[20:24].hex() for first, _ in asked.values()} == {"40000066"}
    assert {len(first) for first, _ in asked.values()} == {126}


def test_unpadded_attributes_of_whatsapps_probes_have_the_lengths_seen() -> None:
    recipe = next(one for one in samples.RECIPES if one.name == "sample-whatsapp-video")
    packets = recipe.craft().packets
    lengths = {}
    for number in range(packets.total):
        payload = bytes(dpkt.ethernet.Ethernet(packets.frame(number)).data.data.data)
        if payload[:2] in (b"\x08\x01", b"\x08\x02"):
            lengths[payload[:2].hex()] = len(payload)
    assert lengths == {"0801": 512, "0802": 45}


def test_the_voice_of_the_classic_skype_leaves_its_function_byte_far_from_random() -> None:
    recipe = next(one for one in samples.RECIPES if one.name == "sample-skype-classic")
    crafted = recipe.craft()
    (call,) = crafted.calls
    ends = dpkt.ethernet.Ethernet(crafted.packets.frame(call.media[0] - 1)).data.data
    groups = [[0] * 16 for _ in range(12)]
    for number in range(crafted.packets.total):
        segment = dpkt.ethernet.Ethernet(crafted.packets.frame(number)).data.data
        if {segment.sport, segment.dport} == {ends.sport, ends.dport} and len(segment.data) > 40:
            for group in range(12):
                octet = segment.data[group // 2]
                groups[group][octet >> 4 if group % 2 == 0 else octet & 15] += 1
    total = sum(groups[0])
    squares = [sum((n - total / 16) ** 2 / (total / 16) for n in group) for group in groups]
    assert total > 100
    assert min(squares[4], squares[5]) >= 150
    assert max(squares[:4] + squares[6:]) < 60
