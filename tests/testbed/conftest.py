# SPDX-License-Identifier: BSD-3-Clause
"""Scenes: small captures written packet by packet, and what to say of them.

A line of a scene reads like a transcript: `scene.udp(0.020, "<", RELAY, 5000, answer)` is what the
caller's tap saw 20 ms in, coming from a relay.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.captures.packets.pcap import Packets, packets_of
from midcall.captures.truth.calls import Call

CALLER = "192.168.1.10"
RELAY = "203.0.113.7"
PEER = "198.51.100.9"
RESOLVER = "203.0.113.53"
PORT = 40000


def address(text: str) -> bytes:
    """Return the four bytes of an IPv4 address."""
    return bytes(int(part) for part in text.split("."))


def checksum(octets: bytes) -> int:
    """Return the Internet checksum of some octets (RFC 1071)."""
    octets += b"\0" * (len(octets) & 1)
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def ipv4(source: str, target: str, proto: int, body: bytes, flags: int = 0x4000) -> bytes:
    """Return an IPv4 packet."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, flags, 64, proto, 0)
    head += address(source) + address(target)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def stun(kind: int, transaction: int, body: bytes = b"") -> bytes:
    """Return a STUN message (RFC 8489 section 5)."""
    return (
        struct.pack(">HHI", kind, len(body), STUN_COOKIE) + transaction.to_bytes(12, "big") + body
    )


def rtp(sequence: int, ssrc: int, size: int = 60, kind: int = 111) -> bytes:
    """Return an RTP packet (RFC 3550 section 5.1)."""
    head = struct.pack(">BBHII", 0x80, kind, sequence & 0xFFFF, 960 * sequence, ssrc)
    return head + bytes((sequence * 7 + n * 31) & 0xFF for n in range(size))


def labels_of(name: str) -> bytes:
    """Return a host name as DNS labels."""
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def question(number: int, name: str) -> bytes:
    """Return a DNS question for an address."""
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels_of(name) + b"\0\1\0\1"


def answer(number: int, name: str, host: str) -> bytes:
    """Return a DNS answer with one address."""
    head = struct.pack(">HHHHHH", number, 0x8180, 1, 1, 0, 0) + labels_of(name) + b"\0\1\0\1"
    return head + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address(host)


def client_hello(name: str) -> bytes:
    """Return a TLS ClientHello that names a server (RFC 8446, RFC 6066)."""
    host = name.encode()
    entry = struct.pack(">BH", 0, len(host)) + host
    server = struct.pack(">HHH", 0, len(entry) + 2, len(entry)) + entry
    suites = b"\x13\x01\xc0\x2f"
    body = b"\3\3" + bytes(range(32)) + b"\0" + struct.pack(">H", len(suites)) + suites + b"\1\0"
    body += struct.pack(">H", len(server)) + server
    shake = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + struct.pack(">H", len(shake)) + shake


class Scene:
    """A capture in the making; times are seconds, `>` is from the caller, `<` to it."""

    START = 1_456_000_000_000_000_000

    def __init__(self) -> None:
        self.lines: list[tuple[int, bytes]] = []
        self.sequences: dict[tuple[str, int, int, str], int] = {}

    def frame(self, when: float, packet: bytes) -> int:
        """Add an IP packet in Ethernet; returns its frame number."""
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
        head = bytes.fromhex("020000000001020000000002") + struct.pack(">H", kind)
        self.lines.append((self.START + round(when * 1e9), head + packet))
        return len(self.lines)

    def udp(
        self,
        when: float,
        way: str,
        far: str,
        port: int,
        payload: bytes,
        near: int = PORT,
        flags: int = 0x4000,
    ) -> int:
        """Add a datagram between the caller's port `near` and a far end; returns its number."""
        ends = (near, port) if way == ">" else (port, near)
        body = struct.pack(">HHHH", *ends, 8 + len(payload), 0) + payload
        hosts = (CALLER, far) if way == ">" else (far, CALLER)
        return self.frame(when, ipv4(*hosts, 17, body, flags))

    def tcp(
        self, when: float, way: str, far: str, port: int, payload: bytes = b"", flags: int = 0x18,
        near: int = PORT,
    ) -> int:  # fmt: skip
        """Add a segment with running sequence numbers; returns its number."""
        here, there = (far, port, near, way), (far, port, near, "<" if way == ">" else ">")
        sequence = self.sequences.get(here, 1000 if way == ">" else 5000)
        seen = self.sequences.get(there, 0)
        ends = (near, port) if way == ">" else (port, near)
        head = struct.pack(">HHIIBBHHH", *ends, sequence, seen, 0x50, flags, 65535, 0, 0)
        self.sequences[here] = sequence + len(payload) + (1 if flags & 3 else 0)
        hosts = (CALLER, far) if way == ">" else (far, CALLER)
        return self.frame(when, ipv4(*hosts, 6, head + payload))

    def hello(self, when: float, far: str, port: int, near: int = PORT) -> int:
        """Add a TCP handshake; returns the number of its SYN."""
        first = self.tcp(when, ">", far, port, flags=0x02, near=near)
        self.tcp(when + 0.04, "<", far, port, flags=0x12, near=near)
        self.tcp(when + 0.041, ">", far, port, flags=0x10, near=near)
        return first

    def media(
        self, begin: float, seconds: float, far: str, port: int, ways: str = "><", near: int = PORT
    ) -> int:
        """Add 50 RTP packets a second in the given directions; returns the first one's number."""
        first = len(self.lines) + 1
        for n in range(int(seconds * 50)):
            for way in ways:
                ssrc = 0x11111111 if way == ">" else 0x22222222
                lag = 0.0 if way == ">" else 0.003
                self.udp(begin + n * 0.02 + lag, way, far, port, rtp(n, ssrc), near)
        return first

    @property
    def packets(self) -> Packets:
        """Return the capture."""
        order = [frame for _, frame in self.lines]
        return packets_of(order, [time for time, _ in self.lines])


def call_of(**about: Any) -> Call:
    """Return a call; a gate's `pairs` open it."""
    about = {
        "id": "C1",
        "app": "other-rtc",
        "kind": "audio",
        "inferred": False,
        "timer_s": 39.5,
        "timer_source": "RFC 8489",
    } | about
    return Call.model_validate(about)


def webrtc_call(scene: Scene, begin: float = 0.0, seconds: float = 12.0, ways: str = "><") -> Call:
    """Add a call that sets itself up by STUN and talks both ways; returns it."""
    first = scene.udp(begin, ">", RELAY, 3478, stun(0x0001, 7))
    reply = scene.udp(begin + 0.04, "<", RELAY, 3478, stun(0x0101, 7))
    check = scene.udp(begin + 0.05, "<", RELAY, 3478, stun(0x0001, 9))
    renewal = scene.udp(begin + 0.051, ">", RELAY, 3478, stun(0x0101, 9))
    scene.media(begin + 0.2, seconds, RELAY, 3478, ways)
    pairs = [[first, reply], [check, renewal]]
    gate = {"flow": first, "by": [first], "kind": "transaction", "pairs": pairs}
    return call_of(media=[first], gate=[gate])


@pytest.fixture
def scene() -> Scene:
    """Return an empty scene."""
    return Scene()


@pytest.fixture
def make() -> Any:
    """Return the vocabulary of scenes: stun(), rtp(), question(), call_of(), webrtc_call() ..."""

    class Vocabulary:
        stun, rtp, question, answer = (staticmethod(f) for f in (stun, rtp, question, answer))
        client_hello, call_of = staticmethod(client_hello), staticmethod(call_of)
        checksum = staticmethod(checksum)
        webrtc_call, ipv4 = staticmethod(webrtc_call), staticmethod(ipv4)
        CALLER, RELAY, PEER, RESOLVER, PORT = CALLER, RELAY, PEER, RESOLVER, PORT
        Scene = Scene

    return Vocabulary


@pytest.fixture
def policy() -> Callable[..., Any]:
    """Return a maker of policies: each argument is a rule as a TOML table would say it."""
    from midcall.testbed.policy.language import Rule
    from midcall.testbed.policy.operator import AddressSet, Policy

    def made(*rules: dict[str, Any], sets: dict[str, list[str]] | None = None) -> Policy:
        about = {"name": "r", "grade": "C", "source": "a test"}
        named = [
            AddressSet.model_validate({"name": k, "addresses": v, "grade": "C", "source": "test"})
            for k, v in (sets or {}).items()
        ]
        values = [
            Rule.model_validate({**about, "name": f"r{number}", **rule})
            for number, rule in enumerate(rules)
        ]
        return Policy(tuple(values), tuple(named))

    return made


@pytest.fixture
def run() -> Callable[..., Any]:
    """Return a runner: a scene (or packets), calls and a policy -> a simulation."""
    from midcall.testbed.replay.simulator import simulate

    def ran(
        scene: Scene | Packets,
        policy: Any = None,
        *calls: Call,
        access: str = "fibre",
        seed: int = 1,
        model: str = "pairwise",
        addressing: str = "map",
    ) -> Any:
        packets = scene.packets if isinstance(scene, Scene) else scene
        about = {"model": model, "addressing": addressing}
        return simulate(packets, list(calls), [], policy, access, seed, **about)

    return ran


@pytest.fixture
def fates() -> Callable[[Any], str]:
    """Return a teller of fates, a letter a packet: . not sent, d delivered, x, f, B too big, l."""

    def letters(simulation: Any) -> str:
        return "".join(".dxfBl"[int(fate)] for fate in simulation.fates["fate"])

    return letters


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a writer of files in a folder of the test's own."""

    def wrote(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return wrote


def equal(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays hold the same bytes."""
    return one.tobytes() == two.tobytes()
