# SPDX-License-Identifier: BSD-3-Clause
"""Sharing: no original survives in any layer, lengths and checksums stay right.

Frames are crafted with Scapy and decoded with it again, so that neither the mapper's readers nor
the checker's decide.
"""

from __future__ import annotations

import datetime
import ipaddress
import string
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from midcall.captures.own.leaks import check
from midcall.captures.own.pseudonyms import Pseudonyms
from midcall.captures.own.sharing import shared
from midcall.captures.packets.headers import flows
from midcall.captures.packets.pcap import Packets, packets_of, read
from midcall.errors import CaptureError

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
A, B, C = "192.168.7.23", "203.0.113.77", "41.250.12.7"
A6, B6 = "2001:db8:77::a1b2:c3d4", "2001:db8:99::17"
MAC_A, MAC_B = "00:1b:21:3c:4d:5e", "00:1b:21:aa:bb:cc"
LINK = Ether(src=MAC_A, dst=MAC_B)
COOKIE = b"\x21\x12\xa4\x42"
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def v4(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def udp(body: bytes, sport: int = 40001, dport: int = 40002) -> Packet:
    return LINK / IP(src=A, dst=B) / UDP(sport=sport, dport=dport) / Raw(body)


def packets(*frames: Packet) -> Packets:
    return packets_of([bytes(frame) for frame in frames],
                      [START + i * SECOND for i in range(len(frames))])  # fmt: skip


def copy(*frames: Packet) -> list[Packet]:
    """Return frames after sharing, decoded again: as long, and with right checksums."""
    before = packets(*frames)
    after = shared(before, key=b"key").packets
    assert after.captured.tolist() == before.captured.tolist()
    assert check(before, after).found == []
    decoded = [Ether(after.frame(i)) for i in range(after.total)]
    for one in decoded:
        assert checksums_hold(one)
    return decoded


def checksums_hold(packet: Packet) -> bool:
    """Return whether building the packet again gives the checksums it carries."""
    if IP in packet and (packet[IP].frag or packet[IP].flags.MF):
        return True
    rebuilt = packet.copy()
    for layer in (IP, TCP, UDP, ICMP):
        at = 1
        while (found := rebuilt.getlayer(layer, at)) is not None:
            if layer is not IP or found.name == "IP":
                del found.chksum
            at += 1
    return bytes(rebuilt) == bytes(packet)


def absent(frames: list[Packet], *secrets: bytes) -> None:
    whole = b"".join(bytes(frame) for frame in frames).lower()
    for secret in secrets:
        assert secret.lower() not in whole, secret


# ---- STUN and TURN


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def stun(*attributes: bytes, transaction: bytes = b"0123456789ab", finger: bool = False) -> bytes:
    body = b"".join(attributes)
    head = struct.pack(">HH", 0x0101, len(body) + (8 if finger else 0)) + COOKIE + transaction
    message = head + body
    if finger:
        message += struct.pack(">HHI", 0x8028, 4, zlib.crc32(message) ^ 0x5354554E)
    return message


def plain(text: str, port: int = 4000) -> bytes:
    packed = ipaddress.ip_address(text).packed
    return struct.pack(">BBH", 0, 1 if len(packed) == 4 else 2, port) + packed


def xored(text: str, transaction: bytes = b"0123456789ab") -> bytes:
    packed = ipaddress.ip_address(text).packed
    mask = COOKIE + transaction
    hidden = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
    return struct.pack(">BBH", 0, 1 if len(packed) == 4 else 2, 4000 ^ 0x2112) + hidden


BINDING = stun(
    attribute(0x0001, plain(C)), attribute(0x0020, xored(C)), attribute(0x0020, xored(A6)),
    attribute(0x0006, b"aliceufrag:bobsufrag"), attribute(0x0014, b"private-realm.example"),
    attribute(0x0015, b"nonce0123456789"), attribute(0x4000, bytes(range(200, 240))),
    finger=True,
)  # fmt: skip


def test_a_stun_message_tells_nothing_and_its_fingerprint_is_right() -> None:
    (frame,) = copy(udp(BINDING))
    body = bytes(frame[UDP].payload)
    absent([frame], v4(C), v4(A6), b"aliceufrag", b"bobsufrag", b"private-realm", b"nonce0123456789",  # noqa: E501
           bytes(range(200, 240)), bytes(a ^ b for a, b in zip(v4(C), COOKIE, strict=True)))  # fmt: skip  # noqa: E501
    assert int.from_bytes(body[-4:], "big") == zlib.crc32(body[:-8]) ^ 0x5354554E
    plain_image = body[28:32]
    assert bytes(a ^ b for a, b in zip(body[40:44], COOKIE, strict=True)) == plain_image


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: stun(attribute(0x0013, inner)),
        lambda inner: struct.pack(">HH", 0x4001, len(inner)) + inner,
        lambda inner: b"\xff\x10" + struct.pack(">H", len(inner) + 8) + bytes(8) + inner,
        lambda inner: stun(attribute(0x0013, stun(attribute(0x0013, inner)))),
    ],
    ids=["Data indication", "ChannelData", "Microsoft's frame", "Data in Data"],
)
def test_a_stun_message_within_another_one_too(wrap: Callable[[bytes], bytes]) -> None:
    (frame,) = copy(udp(wrap(BINDING)))
    absent([frame], v4(C), v4(A6), b"aliceufrag", b"private-realm")


def test_stun_in_a_stream_is_mapped_across_segments() -> None:
    body = struct.pack(">H", len(BINDING)) + BINDING
    start = LINK / IP(src=A, dst=B)
    frames = [
        start / TCP(sport=5000, dport=3478, seq=1000, flags="A") / Raw(body[:30]),
        start / TCP(sport=5000, dport=3478, seq=1030, flags="A") / Raw(body[30:90]),
        start / TCP(sport=5000, dport=3478, seq=1000, flags="A") / Raw(body[:60]),
        start / TCP(sport=5000, dport=3478, seq=1090, flags="A") / Raw(body[90:]),
    ]
    after = copy(*frames)
    absent(after, b"aliceufrag", v4(C), v4(A6))
    whole = b"".join(bytes(after[i][TCP].payload) for i in (0, 1, 3))
    assert b"aliceufrag:bobsufrag" not in whole
    assert b"private-realm" not in whole
    assert v4(C) not in whole
    assert bytes(after[2][TCP].payload) == whole[:60]


# ---- names


def test_dns_names_and_addresses_follow_one_mapping() -> None:
    reverse = ".".join(C.split(".")[::-1]) + ".in-addr.arpa"
    answer = DNS(
        qr=1, qd=DNSQR(qname="alices-nas.example.org"),
        an=[
            DNSRR(rrname="alices-nas.example.org", type="A", rdata=C),
            DNSRR(rrname=reverse, type="PTR", rdata="alices-nas.example.org"),
            DNSRR(rrname="media-cmn1-1.cdn.whatsapp.net", type="A", rdata="31.13.83.51"),
        ],
    )  # fmt: skip
    host = LINK / IP(src=C, dst=A) / UDP(sport=53, dport=5555) / answer
    (frame,) = copy(host)
    absent([frame], b"alices-nas", b"media-cmn1", v4(C), b"\x03250\x0241")
    image = frame[IP].src
    records = frame[DNS]
    assert records.an[0].rdata == image
    assert records.an[1].rrname.decode() == ".".join(image.split(".")[::-1]) + ".in-addr.arpa."
    assert records.an[1].rdata == records.qd[0].qname
    assert records.an[2].rrname.endswith(b".cdn.whatsapp.net.") or records.an[2].rrname.endswith(
        b".whatsapp.net."
    )
    assert records.an[2].rdata.startswith("31.13.")
    assert records.an[2].rdata != "31.13.83.51"


def test_a_multicast_name_keeps_the_type_of_its_service() -> None:
    query = DNS(qr=0, qd=DNSQR(qname="Alices iPhone._airplay._tcp.local", qtype="PTR"))
    (frame,) = copy(LINK / IP(src=A, dst="224.0.0.251") / UDP(sport=5353, dport=5353) / query)
    absent([frame], b"Alices", b"iPhone")
    assert frame[DNS].qd[0].qname.endswith(b"._airplay._tcp.local.")
    assert frame[IP].dst == "224.0.0.251"


def hello(name: bytes, ticket: bytes = bytes(range(100, 148))) -> bytes:
    """Return a TLS ClientHello with a server name and a session ticket."""
    entry = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    extensions = struct.pack(">HH", 0, len(entry)) + entry
    extensions += struct.pack(">HH", 35, len(ticket)) + ticket
    body = (
        b"\x03\x03" + bytes(32) + b"\x20" + bytes(range(60, 92)) + b"\x00\x02\x13\x01" + b"\x01\x00"
    )
    body += struct.pack(">H", len(extensions)) + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def record(kind: int, body: bytes) -> bytes:
    return struct.pack(">BHH", kind, 0x0303, len(body)) + body


def segments(body: bytes, size: int) -> list[Packet]:
    start = LINK / IP(src=A, dst=B)
    return [
        start / TCP(sport=5000, dport=443, seq=1 + at, flags="A") / Raw(body[at : at + size])
        for at in range(0, len(body), size)
    ]


def test_server_names_and_tickets_are_mapped_also_after_a_retry() -> None:
    first = record(22, hello(b"mail.alices-firm.example"))
    again = record(20, b"\x01") + record(22, hello(b"mail.alices-firm.example"))
    after = copy(*segments(first + again, 70))
    whole = b"".join(bytes(frame[TCP].payload) for frame in after)
    assert b"alices-firm" not in whole
    assert bytes(range(100, 148)) not in whole
    assert bytes(range(60, 92)) not in whole
    assert len(whole) == len(first + again)


def test_a_kept_name_stays_but_not_the_labels_before_it() -> None:
    after = copy(*segments(record(22, hello(b"mmx-ds.cdn.whatsapp.net")), 400))
    assert b".whatsapp.net" in bytes(after[0])
    absent(after, b"mmx-ds")


def certificate() -> tuple[bytes, list[bytes]]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "vpn.alices-firm.example"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Alices Firm"),
    ])  # fmt: skip
    start = datetime.datetime(2024, 3, 17, 11, 22, 33, tzinfo=datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("mail.alices-firm.example"), x509.IPAddress(ipaddress.ip_address(C))]
    )
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(0x1122334455667788)
        .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=90))
        .add_extension(names, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    secrets = [b"alices", b"240317112233", bytes.fromhex("1122334455667788"), point[1:33], v4(C)]
    return made.public_bytes(serialization.Encoding.DER), [*secrets, made.signature[8:24]]


@pytest.mark.parametrize("size", [1400, 100])
def test_a_certificate_says_nothing_about_its_holder(size: int) -> None:
    der, secrets = certificate()
    chain = len(der).to_bytes(3, "big") + der
    body = len(chain).to_bytes(3, "big") + chain
    shake = b"\x0b" + len(body).to_bytes(3, "big") + body
    after = copy(*segments(record(22, shake), size))
    whole = b"".join(bytes(frame[TCP].payload) for frame in after).lower()
    for secret in secrets:
        assert secret.lower() not in whole
    x509.load_der_x509_certificate(whole_certificate(after))


def whole_certificate(frames: list[Packet]) -> bytes:
    whole = b"".join(bytes(frame[TCP].payload) for frame in frames)
    return whole[5 + 4 + 3 + 3 :]


def test_a_hello_of_dtls_in_pieces_is_put_together() -> None:
    der, secrets = certificate()
    chain = len(der).to_bytes(3, "big") + der
    body = len(chain).to_bytes(3, "big") + chain
    frames = []
    for at in range(0, len(body), 90):
        part = body[at : at + 90]
        shake = b"\x0b" + len(body).to_bytes(3, "big") + b"\0\2" + at.to_bytes(3, "big")
        shake += len(part).to_bytes(3, "big") + part
        head = b"\x16\xfe\xfd\0\0" + at.to_bytes(6, "big") + struct.pack(">H", len(shake))
        frames.append(udp(head + shake))
    after = copy(*frames)
    whole = b"".join(bytes(frame[UDP].payload)[25:] for frame in after).lower()
    for secret in secrets:
        assert secret.lower() not in whole


def test_the_hello_in_a_quic_initial_is_mapped() -> None:
    from midcall.captures.wire.quic import SALT_V1, Initial, crypto_frames, opened

    shake = hello(b"mail.alices-firm.example")
    half = len(shake) // 2
    connection = bytes(range(8))
    bodies = []
    for number, (at, part) in enumerate(((0, shake[:half]), (half, shake[half:]))):
        frame = b"\6" + struct.pack(">HH", 0x4000 | at, 0x4000 | len(part)) + part + bytes(900)
        length = struct.pack(">H", 0x4000 | len(frame) + 1 + 16)
        head = b"\xc0\0\0\0\1\x08" + connection + b"\0" + b"\4tokn" + length + bytes([number])
        place = len(head) - len(length) - 1 - 4
        made = Initial(0, 0, connection, SALT_V1, (place, place + 4), head, bytes([number]), frame)
        bodies.append(made.sealed(frame, head))
    after = copy(*(udp(body, 50000, 443) for body in bodies))
    whole = bytearray(len(shake))
    for frame in after:
        found = opened(bytes(frame[UDP].payload), 0, [])
        assert found is not None
        assert found.header[-7:-3] != b"tokn"
        for offset, at, size in crypto_frames(found.plain):
            whole[offset : offset + size] = found.plain[at : at + size]
    assert b"alices-firm" not in whole
    assert whole[:6] == shake[:6]


# ---- texts

INVITE = (
    b"INVITE sip:+212612345678@voip.alices-firm.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.168.7.23:5060;branch=z9hG4bKnashds8abcd\r\n"
    b'From: "Alice Liddell" <sip:1001@voip.alices-firm.example>;tag=1928301774\r\n'
    b"To: <sip:+212612345678@voip.alices-firm.example>\r\n"
    b"Call-ID: a84b4c76e66710@pc33.alices-firm.example\r\n"
    b"CSeq: 314159 INVITE\r\nContact: <sip:1001@192.168.7.23:5060>\r\n"
    b"Content-Type: application/sdp\r\nContent-Length: 190\r\n\r\n"
    b"v=0\r\no=alice 2890844526 2890844527 IN IP4 192.168.7.23\r\ns=-\r\n"
    b"c=IN IP4 192.168.7.23\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=ice-ufrag:F7gIfrag\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\n"
)


def test_a_call_in_text_names_nobody_and_can_still_be_read() -> None:
    (frame,) = copy(udp(INVITE, 5060, 5060))
    body = bytes(frame[UDP].payload)
    absent([frame], b"alice", b"liddell", b"212612345678", b":1001@", b"192.168.7.23", b"nashds8abcd",  # noqa: E501
           b"1928301774", b"a84b4c76e66710", b"2890844526", b"F7gIfrag", b"x9cml")  # fmt: skip
    image = frame[IP].src.encode()
    assert body.count(image) == INVITE.count(A.encode())
    for kept in (b"INVITE sip:+", b" SIP/2.0\r\nVia: SIP/2.0/UDP ", b"branch=z9hG4bK", b"m=audio 49170",  # noqa: E501
                 b"a=rtpmap:0 PCMU/8000", b"Content-Length: 190", b"IN IP4 "):  # fmt: skip
        assert kept in body, kept


def test_a_call_in_text_in_two_fragments() -> None:
    whole = LINK / IP(src=A, dst=B, id=77) / UDP(sport=5060, dport=5060) / Raw(INVITE)
    parts = [Ether(bytes(part)) for part in fragment(Ether(bytes(whole)), 400)]
    assert len(parts) == 2
    after = copy(*parts)
    absent(after, b"alice", b"212612345678", b"192.168.7.23", b"F7gIfrag")
    body = b"".join(bytes(part[IP].payload) for part in after)
    built = IP(src=after[0][IP].src, dst=after[0][IP].dst) / UDP(body)
    result = built[UDP].chksum
    del built[UDP].chksum
    assert IP(bytes(built))[UDP].chksum == result


def test_hosts_and_cookies_of_http() -> None:
    body = (
        b"GET /users/alice HTTP/1.1\r\nHost: intra.alices-firm.example\r\n"
        b"Cookie: session=deadbeef1234; user=alice\r\nUser-Agent: AlicePhone/1.0\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + bytes(range(128, 168))
    )
    after = copy(*segments(body, 60))
    whole = b"".join(bytes(frame[TCP].payload) for frame in after)
    for secret in (b"alice", b"deadbeef", b"intra", bytes(range(128, 168))):
        assert secret not in whole.lower()
    assert whole.startswith(b"GET /")
    assert b"\r\nHost: " in whole
    assert b"\r\nCookie: " in whole


def test_dates_move_with_the_clock() -> None:
    frames = packets(
        *segments(b"HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n", 400)
    )
    moved = shared(frames, shift_days=-3, key=b"key").packets
    assert b"Date: Sat, 11 Nov 2023 22:13:20 GMT" in moved.frame(0)
    assert int(frames.time[0] - moved.time[0]) == 3 * 86400 * SECOND


# ---- other layers


def test_an_icmp_error_and_what_it_quotes() -> None:
    quoted = IP(src=A, dst=C) / UDP(sport=5060, dport=5060) / Raw(INVITE[:200])
    (frame,) = copy(LINK / IP(src=B, dst=A) / ICMP(type=3, code=3) / quoted)
    absent([frame], v4(A), v4(B), v4(C), b"alice", b"2126123")
    inner = frame[ICMP].payload
    assert inner.src == frame[IP].dst


def test_arp_and_dhcp() -> None:
    frames = [
        Ether(src=MAC_A, dst="ff:ff:ff:ff:ff:ff")
        / ARP(hwsrc=MAC_A, psrc=A, hwdst="00:00:00:00:00:00", pdst="192.168.7.1"),
        LINK / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
        / BOOTP(chaddr=bytes.fromhex(MAC_A.replace(":", "")), yiaddr=A)
        / DHCP(options=[("message-type", "request"), ("hostname", b"alices-phone"),
                        ("requested_addr", A), ("client_id", b"\1" + bytes.fromhex(MAC_A.replace(":", ""))),  # noqa: E501
                        ("domain", b"alices-home"), "end"]),
    ]  # fmt: skip
    after = copy(*frames)
    absent(after, v4(A), bytes.fromhex(MAC_A.replace(":", "")), b"alices")
    assert after[0][ARP].psrc == after[1][BOOTP].yiaddr
    assert after[1][IP].dst == "255.255.255.255"
    assert dict(o[:2] for o in after[1][DHCP].options if len(o) > 1)["message-type"] == 3


def test_neighbours_of_ipv6_and_their_groups() -> None:
    solicited = "ff02::1:ffb2:c3d4"
    frame = (
        Ether(src=MAC_A, dst="33:33:ff:b2:c3:d4") / IPv6(src=B6, dst=solicited)
        / ICMPv6ND_NS(tgt=A6) / ICMPv6NDOptSrcLLAddr(lladdr=MAC_A)
    )  # fmt: skip
    (after,) = copy(frame)
    absent([after], v4(A6), v4(B6), bytes.fromhex("b2c3d4"), bytes.fromhex(MAC_A.replace(":", "")))
    assert after.dst.startswith("33:33:ff:")


@pytest.mark.parametrize(
    "outer",
    [
        LINK / IP(src=C, dst=B),
        LINK / Dot1Q(vlan=7) / IP(src=C, dst=B) / GRE(),
        LINK / IPv6(src=A6, dst=B6),
        LINK
        / IP(src=C, dst=B)
        / UDP(sport=1, dport=4789)
        / VXLAN(vni=7)
        / Ether(src=MAC_B, dst=MAC_A),
    ],
    ids=["IP in IP", "GRE", "IP in IPv6", "VXLAN"],
)
def test_what_tunnels_carry(outer: Packet) -> None:
    inner = IP(src=A, dst="198.51.100.200") / UDP(sport=5060, dport=5060) / Raw(INVITE)
    (frame,) = copy(outer / inner)
    absent([frame], v4(A), v4(C), v4("198.51.100.200"), v4(A6), b"alice", b"2126123")


def test_a_name_in_rtcp_and_the_voice_of_plain_rtp() -> None:
    name = b"alice@192.168.7.23"
    item = struct.pack(">IBB", 0x11223344, 1, len(name)) + name
    item += bytes(4 - len(item) % 4)
    report = struct.pack(">BBHIIIIII", 0x80, 200, 6, 0x11223344, 1, 2, 3, 4, 5)
    report += struct.pack(">BBH", 0x81, 202, len(item) // 4) + item
    voice = b"\xd5spoken words in G.711" * 6
    rtp = [udp(struct.pack(">BBHII", 0x80, 8, i, 160 * i, 0x55667788) + voice) for i in range(12)]
    after = copy(udp(report), *rtp)
    absent(after, b"alice", b"192.168.7.23", b"spoken", voice[:12])
    for i, frame in enumerate(after[1:]):
        assert bytes(frame[UDP].payload)[:12] == bytes(rtp[i][UDP].payload)[:12]


def test_an_address_in_a_protocol_that_nobody_knows() -> None:
    body = (
        b"\x11\0\1\x78" + v4(A) + b"\x26\xe3" + v4(A)[::-1] + bytes.fromhex(MAC_A.replace(":", ""))
    )
    body += "alices laptop".encode("utf-16-le") + b"\0\0\1\2"
    (frame,) = copy(udp(body))
    absent([frame], v4(A), v4(A)[::-1], bytes.fromhex(MAC_A.replace(":", "")),
           "alices".encode("utf-16-le"))  # fmt: skip


def test_other_frames_and_trailers_are_emptied() -> None:
    lldp = LINK.copy()
    lldp.type = 0x88CC
    frame = Ether(
        bytes(LINK / IP(src=A, dst=B) / UDP(sport=1, dport=2) / Raw(b"x")) + b"old memory"
    )
    before = packets(lldp / Raw(b"alices-switch"), frame)
    made = shared(before, key=b"key")
    absent([Raw(made.packets.frame(i)) for i in range(2)], b"alices-switch", b"old memory")
    assert made.mapper.emptied == {"EtherType 0x88cc": 1}


@pytest.mark.parametrize("link", [105, 127, 192, 258])
def test_link_layers_of_phones_and_radio(link: int) -> None:
    mac = bytes.fromhex(MAC_A.replace(":", ""))
    packet = bytes(IP(src=A, dst=B) / UDP(sport=5060, dport=5060) / Raw(INVITE))
    ether = bytes(LINK)[:12] + b"\x08\0" + packet
    radio = b"\x08\x01\0\0" + mac * 3 + b"\0\0\xaa\xaa\x03\0\0\0\x08\0" + packet
    frame = {
        105: radio,
        127: b"\0\0\x08\0" + bytes(4) + radio,
        192: struct.pack("<BBHI", 0, 0, 24, 1) + b"place on earth  " + ether,
        258: (struct.pack("<III", 108, 1, 1) + b"en0-of-alice".ljust(96, b"\0")) + ether,
    }[link]
    before = packets_of([frame], [START], link)
    after = shared(before, key=b"key").packets
    assert check(before, after).found == []
    absent([Raw(after.frame(0))], mac, v4(A), b"alice", b"place", b"en0")
    assert len(flows(after)) == 1


def test_a_link_type_that_is_not_understood_is_refused() -> None:
    with pytest.raises(CaptureError, match="link type 147"):
        shared(packets_of([b"\0" * 60], [1], link=147))


# ---- the mapping

octets_of_4 = st.binary(min_size=4, max_size=4)


@settings(deadline=None)
@given(octets_of_4, octets_of_4)
def test_octets_that_two_addresses_share_they_share_afterwards(one: bytes, two: bytes) -> None:
    names = Pseudonyms(b"key", octets=True)
    for address in (one, two):
        image = names.address(address)
        text, new = (str(ipaddress.ip_address(value)) for value in (address, image))
        assert len(text) == len(new)
        assert names.block(image).text == names.block(address).text
    if names.block(one).text == names.block(two).text and names.block(one).length:
        shared_octets = next((i for i in range(4) if one[i] != two[i]), 4)
        assert names.address(one)[:shared_octets] == names.address(two)[:shared_octets]


@settings(deadline=None)
@given(octets_of_4, octets_of_4, st.booleans())
def test_two_addresses_never_have_one_image(one: bytes, two: bytes, octets: bool) -> None:
    names = Pseudonyms(b"key", octets)
    assert (names.address(one) == names.address(two)) == (one == two)


@settings(deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_@. :/;=\"'", max_size=80))
@example("1::")
def test_a_text_keeps_its_length_its_signs_and_its_classes(text: str) -> None:
    names = Pseudonyms(b"key", True)
    old, new = text.encode(), names.text(text.encode())
    assert len(new) == len(old)
    for a, b in zip(old.decode(), new.decode(), strict=True):
        # an address with colons has hexadecimal digits, of which some are letters
        digits = ":" in text and {a, b} <= set(string.hexdigits)
        classes = [(one.isalpha(), one.isdigit(), one.isupper()) for one in (a, b)]
        assert digits or classes[0] == classes[1]
        if not a.isalnum():
            assert a == b
    assert Pseudonyms(b"key", True).text(old) == new


# ---- properties

LABEL = st.text("abcdefghijklmnopqrstuvwxyz", min_size=7, max_size=12)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    user=LABEL, host=LABEL, number=st.integers(10**10, 10**13), source=st.integers(1, 2**32 - 2),
    token=st.binary(min_size=24, max_size=40), size=st.integers(40, 600),
)  # fmt: skip
def test_no_original_survives_in_any_layer(
    user: str, host: str, number: int, source: int, token: bytes, size: int
) -> None:
    address = ipaddress.IPv4Address(source)
    if address.is_multicast or address.is_loopback or source >> 24 in (0, 255):
        return
    if token.isascii() or len(set(token)) < 12:
        token = bytes(range(130, 160))
    name, text = f"{user}.{host}.example", str(address)
    sip = INVITE.replace(b"+212612345678", b"+%d" % number).replace(b"Liddell", user.encode())
    sip = sip.replace(b"voip.alices-firm", f"{user}.{host}".encode()).replace(
        A.encode(), text.encode()
    )
    message = stun(attribute(0x0020, xored(text)), attribute(0x0006, f"{user}:{host}".encode()),
                   attribute(0x4000, token))  # fmt: skip
    query = DNS(qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata=text), qr=1)
    start = LINK / IP(src=text, dst=B)
    frames = [
        start / UDP(sport=5060, dport=5060) / Raw(sip),
        start / UDP(sport=3478, dport=3478) / Raw(stun(attribute(0x0013, message))),
        start / UDP(sport=53, dport=1000) / query,
        *segments(record(22, hello(name.encode())), size),
        LINK / IP(src=B, dst=text) / ICMP(type=11) / IP(src=text, dst=B) / UDP(sport=9, dport=9),
    ]
    before = packets(*frames)
    after = shared(before, key=token).packets
    assert check(before, after).found == []
    whole = b"".join(after.frame(i) for i in range(after.total)).lower()
    secrets = [user.encode(), host.encode(), b"%d" % number, token, address.packed, text.encode()]
    secrets.append(bytes(a ^ b for a, b in zip(address.packed, COOKIE, strict=True)))
    secrets += [user.encode("utf-16-le"), user.encode().hex().encode()]
    for secret in secrets:
        if len(secret) >= 6 or secret.count(0) < 2:
            assert secret.lower() not in whole, secret


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.pcap*")), ids=lambda path: path.stem)
def test_every_sample_is_shared_without_a_hit(path: Path) -> None:
    before = read(path)
    after = shared(before).packets
    assert check(before, after).found == []
    assert after.wire.tolist() == before.wire.tolist()
