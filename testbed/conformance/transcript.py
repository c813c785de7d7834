# SPDX-License-Identifier: BSD-3-Clause
"""Scenes: small synthetic captures, written packet by packet as a readable transcript.

A line is `SECONDS WAY PROTOCOL HOST:PORT WHAT`, as the caller's tap sees it:

    0.00 > udp relay:3478 stun-binding
    0.04 < udp relay:3478 stun-binding-answer
    1.00 > udp relay:3478 rtp 160 x500 0.02

`>` comes from the subscriber, `<` goes to it; `HOST:PORT/NEAR` sets the subscriber's own port
(40000 by default), `HOST:PORT/bNEAR` that of another subscriber (b, c, d); `xN GAP` repeats a line
N times, GAP seconds apart; `dscp=46` and `ttl=52` set fields of the IP header. All is synthetic:
documentation addresses, names under .example.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.captures.wire import dtls as wire_dtls
from midcall.captures.wire import stun, tls
from midcall.errors import TestbedError
from midcall.testbed.network.ip_packets import UNSUMMED, ip_packet, set_checksums

START = 1_456_000_000_000_000_000

CLIENTS = {"": "192.168.1.10", "b": "192.168.1.11", "c": "192.168.1.12", "d": "192.168.1.13"}
HOSTS = {
    "relay": "203.0.113.7",
    "peer": "198.51.100.9",
    "other": "198.51.100.77",
    "resolver": "203.0.113.53",
}
NEAR = 40000

LINE = re.compile(
    r"(?P<time>[\d.]+) (?P<way>[<>]) (?P<proto>udp|tcp|esp) (?P<host>\w+):(?P<port>\d+)"
    r"(?:/(?P<client>[bcd]?)(?P<near>\d+))? (?P<what>[^\s]+)(?: (?P<about>[\w.*-]+))??"
    r"(?: dscp=(?P<dscp>\d+))?(?: ttl=(?P<ttl>\d+))?"
    r"(?: x(?P<times>\d+) (?P<gap>[\d.]+))?"
)
PROTOS = {"tcp": 6, "udp": 17, "esp": 50}
FLAGS = {"syn": 0x02, "syn-ack": 0x12, "ack": 0x10, "fin": 0x11, "rst": 0x14}

#: A QUIC version 1 Initial (RFC 9001) whose hello asks for a.example, encrypted as in the RFC.
QUIC_HELLO = bytes.fromhex(
    "c300000001088394c8f03e515708000040b4cd3a0c5846b4519b9b7ca31ac0a54f94c48b73c6241718f7"
    "a15b1b16bf79af7f883514a11a62fc775e106b44620827fb13e5e574e9027ad731e3b476a8ddd0825047"
    "714bcb3d2b949c038ebd6e418d7cda3cbe41acb432ee9dfc88506517df4421a0040282e225fa6c185122"
    "3c9cfd105e2354f095ec25c1c69f4bc38b4ac708865e751ef718eafd73947f175c53352952a4c4ad4915"
    "ccd27ff3427312f0432a0c869b0daade7b2746a90a74f4dd34111f0602b2"
)


class Line(NamedTuple):
    """One packet of a scene."""

    time: float
    way: str
    proto: str
    host: str
    port: int
    client: str
    near: int
    what: str
    about: str
    dscp: int = 0
    ttl: int = 64


def scene(text: str) -> Packets:
    """Return a scene as a capture; raises TestbedError for a line with wrong syntax."""
    rows = [row for row in text.splitlines() if row.strip()]
    lines = sorted((line for row in rows for line in read(row)), key=first)
    sequences: dict[tuple[str, int, str, int, str], int] = {}
    frames = [frame(line, number, sequences) for number, line in enumerate(lines)]
    return packets_of(frames, [START + round(line.time * 1e9) for line in lines])


def transcript(text: str) -> list[str]:
    """Return a scene's packets, one line each, in order of time."""
    rows = [row for row in text.splitlines() if row.strip()]
    names = {address: name for name, address in HOSTS.items()}
    return [
        f"{line.time:7.3f} {line.way} {line.proto} {names[line.host]}:{line.port}"
        f"{f'/{line.client}{line.near}' if line.near != NEAR or line.client else ''} "
        f"{line.what} {line.about}".rstrip()
        + marks(line)
        for line in sorted((line for row in rows for line in read(row)), key=first)
    ]


def marks(line: Line) -> str:
    """Return the fields of a line's IP header that are not the usual ones, as a scene has them."""
    dscp = f" dscp={line.dscp}" if line.dscp else ""
    return dscp + (f" ttl={line.ttl}" if line.ttl != 64 else "")


def first(line: Line) -> float:
    """Return the time of a line, s."""
    return line.time


def read(row: str) -> list[Line]:
    """Return the packets of one line of a transcript."""
    fields = LINE.fullmatch(" ".join(row.split()))
    if fields is None or fields["host"] not in HOSTS:
        raise TestbedError(
            f"scene: got {row.strip()!r}, expected e.g. 0.04 < udp relay:3478 stun-binding-answer"
        )
    times, gap = int(fields["times"] or 1), float(fields["gap"] or 0)
    return [
        Line(
            float(fields["time"]) + gap * n,
            fields["way"],
            fields["proto"],
            HOSTS[fields["host"]],
            int(fields["port"]),
            fields["client"] or "",
            int(fields["near"] or NEAR),
            fields["what"],
            fields["about"] or "",
            int(fields["dscp"] or 0),
            int(fields["ttl"] or 64),
        )
        for n in range(times)
    ]


# ---- frames


def frame(line: Line, number: int, sequences: dict[tuple[str, int, str, int, str], int]) -> bytes:
    """Return a line as an Ethernet frame; `sequences` keeps the numbers of TCP."""
    up = line.way == ">"
    client, remote = address(CLIENTS[line.client]), address(line.host)
    ports = (line.near, line.port) if up else (line.port, line.near)
    if line.proto == "tcp":
        body = segment(line, number, ports, sequences)
    else:
        body = payload_of(line, number)
        if line.proto == "udp":
            body = struct.pack(">HHHH", *ports, 8 + len(body), UNSUMMED) + body
    packet = ip_packet(
        *((client, remote) if up else (remote, client)), PROTOS[line.proto], body, number
    )
    if line.dscp or line.ttl != 64:
        header = bytearray(packet)
        header[1], header[8] = line.dscp << 2, line.ttl
        set_checksums(header, len(header))
        packet = bytes(header)
    return bytes.fromhex("0200000000020200000000010800") + packet


def segment(
    line: Line,
    number: int,
    ports: tuple[int, int],
    sequences: dict[tuple[str, int, str, int, str], int],
) -> bytes:
    """Return a TCP segment with running numbers."""
    flags = FLAGS.get(line.what, 0x18)
    payload = b"" if line.what in FLAGS else payload_of(line, number)
    own_direction = (line.client, line.near, line.host, line.port, line.way)
    other_direction = (*own_direction[:4], "<" if line.way == ">" else ">")
    sequence = sequences.get(own_direction, 1000 if line.way == ">" else 5000)
    acknowledged = sequences.get(other_direction, 0)
    sequences[own_direction] = sequence + len(payload) + (1 if flags & 3 else 0)
    return (
        struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, flags, 65535, 0, 0)
        + payload
    )


def address(text: str) -> bytes:
    """Return the four octets of an IPv4 address."""
    return bytes(int(part) for part in text.split("."))


# ---- payloads


def payload_of(line: Line, number: int) -> bytes:
    """Return the payload of a transcript line; raises TestbedError for an unknown keyword."""
    word, about = line.what, line.about
    size = int(about) if about.isdigit() else 0
    if word.startswith("stun-"):
        return stun_message(word.removeprefix("stun-"), about)
    makers: dict[str, Callable[[], bytes]] = {
        "rtp": lambda: rtp(number, line.way, size or 60),
        "rtcp": lambda: b"\x80\xc8\0\6" + struct.pack(">I", 7) + bytes(20),
        "channel": lambda: struct.pack(">HH", 0x4001, size or 72) + rtp(number, line.way, 60),
        "dtls-hello": lambda: dtls(22, hello("", 0xFEFD)),
        "dtls": lambda: dtls(23, noise(size or 40, number)),
        "tls-hello": lambda: record(22, hello(about, 0x0303)),
        "tls": lambda: record(23, noise(size or 40, number)),
        "quic-hello": lambda: QUIC_HELLO,
        "question": lambda: question(about),
        "answer": lambda: answer(about),
        "http": f"GET / HTTP/1.1\r\nHost: {about}\r\n\r\n".encode,
        "page": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "sip": lambda: INVITE,
        "zeros": lambda: bytes(size or 100),
        "noise": lambda: noise(size or 100, number),
    }
    if word not in makers:
        raise TestbedError(f"scene: got {word!r}, expected one of stun-..., {', '.join(makers)}")
    return makers[word]()


INVITE = b"INVITE sip:b@peer.example SIP/2.0\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\r\n"
STUN = {
    "binding": 0x0001,
    "allocate": 0x0003,
    "refresh": 0x0004,
    "send": 0x0016,
    "channel-bind": 0x0009,
}


#: Octets of attribute 0x4000 in WhatsApp's Allocate.
WHATSAPP_VALUE = 102


def stun_message(word: str, about: str) -> bytes:
    """Return a STUN message (RFC 8489); `about` is an attribute's type in hexadecimal.

    Its value has 4 octets, that of 4000 the 102 that WhatsApp sends.
    """
    kind = STUN[word.removesuffix("-answer")] | (0x0100 if word.endswith("-answer") else 0)
    size = WHATSAPP_VALUE if about == "4000" else 4
    body = struct.pack(">HH", int(about, 16), size) + bytes(size) if about else b""
    transaction = word.removesuffix("-answer").ljust(12, "-").encode()[:12]
    return stun.header(kind, len(body), transaction) + body


def rtp(number: int, way: str, size: int) -> bytes:
    """Return an RTP packet (RFC 3550 section 5.1)."""
    source = 0x11111111 if way == ">" else 0x22222222
    head = struct.pack(">BBHII", 0x80, 111, number & 0xFFFF, 960 * number & 0xFFFFFFFF, source)
    return head + noise(size, number)


def noise(size: int, seed: int) -> bytes:
    """Return pseudo-random octets, the same for the same seed."""
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


def hello(
    name: str, version: int, suites: bytes = bytes.fromhex("1301c02bc02f"), more: bytes = b""
) -> bytes:
    """Return a ClientHello's body (RFC 8446, RFC 6347), with a server name where one is given.

    version: 0x0303 of TLS, 0xFEFD of DTLS; more: further extensions.
    """
    extensions = bytes.fromhex("000a00040002001d")
    if name:
        extensions += tls.server_name(name.encode())
    cookie = b"" if version >> 8 == 0xFE else None
    random = bytes(range(32))
    return tls.hello_body(random, suites, extensions + more, version=version, cookie=cookie)


def record(kind: int, body: bytes) -> bytes:
    """Return a TLS record; a hello gets its handshake header."""
    return tls.record(kind, tls.handshake_message(1, body) if kind == 22 else body, 0x0301)


def dtls(kind: int, body: bytes) -> bytes:
    """Return a DTLS record; a hello gets its handshake header, whole in one fragment."""
    return wire_dtls.record(kind, 1, wire_dtls.handshake(1, 0, body) if kind == 22 else body)


def labels(name: str) -> bytes:
    """Return a host name as DNS labels."""
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def question(name: str) -> bytes:
    """Return a DNS question for an IPv4 address (RFC 1035)."""
    return struct.pack(">HHHHHH", 77, 0x0100, 1, 0, 0, 0) + labels(name) + b"\0\1\0\1"


def answer(name: str) -> bytes:
    """Return the DNS answer with the peer's address."""
    head = struct.pack(">HHHHHH", 77, 0x8180, 1, 1, 0, 0) + labels(name) + b"\0\1\0\1"
    return head + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address(HOSTS["peer"])
