# SPDX-License-Identifier: BSD-3-Clause
"""Wire: packets of a test in the order they pass, and what the engine says of their flows."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import IP4, IP6
from midcall.captures.packets.pcap import Packets, packets_of, read
from midcall.classifier.engine import Engine, step
from midcall.classifier.state.evidence import sentence
from midcall.classifier.state.flow_scratch import NOTE, clear
from midcall.classifier.state.flow_table import CLAIM_KEYS, Records
from midcall.classifier.state.packet_fields import (
    SIGN_ALPN,
    SIGN_HELLO_PRINT,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
    SIGNS,
)
from midcall.classifier.state.verdicts import APPS, NOT_CALL, ROLES, VERDICTS

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "captures" / "samples"
EPOCH = 1_450_000_000_000_000_000
MS = 1_000_000

#: Claims of an engine that lets each evidence say the most that its rule allows.
MOST = np.zeros(2 * CLAIM_KEYS, np.int64)
#: Subscriber and far end, of address ranges that belong to nobody (RFC 2544, RFC 5180).
NEAR, FAR = "198.18.0.1", "198.19.0.1"
NEAR6, FAR6 = "2001:2::1", "2001:2::99"
Ports = tuple[int, int]


def ip(proto: int, body: bytes, source: str, target: str, **ip4: int) -> bytes:
    """Return an IP packet, version by the address; ip4: fragment word, identification."""
    here, there = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    if len(here) == 16:
        return struct.pack(">IHBB", 6 << 28, len(body), proto, 64) + here + there + body
    words = (0x4500, 20 + len(body), ip4.get("ident", 1), ip4.get("word", 0), 64 << 8 | proto, 0)
    return struct.pack(">6H", *words) + here + there + body


def ether(packet: bytes) -> bytes:
    """Return an IP packet in an Ethernet frame."""
    kind = IP6 if packet[0] >> 4 == 6 else IP4
    return b"\2\0\0\0\0\1\2\0\0\0\0\2" + struct.pack(">H", kind) + packet


def udp_packet(
    payload: bytes, ports: Ports = (40000, 7000), hosts: tuple[str, str] = (NEAR, FAR)
) -> bytes:
    """Return an IP packet with a UDP datagram."""
    body = struct.pack(">4H", *ports, 8 + len(payload), 0) + payload
    return ip(17, body, *hosts)


def tcp_packet(
    payload: bytes,
    ports: Ports = (40000, 7000),
    hosts: tuple[str, str] = (NEAR, FAR),
    flags: int = 0x18,
    sequence: int = 1,
) -> bytes:
    """Return an IP packet with a TCP segment."""
    body = (
        struct.pack(">HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, 1, 0x50, flags, 4096, 0, 0)
        + payload
    )
    return ip(6, body, *hosts)


class FlowVerdict(NamedTuple):
    """The verdict of a flow, as text."""

    verdict: str
    app: str
    role: str
    evidence: str


def verdict_of(flow: Any) -> FlowVerdict:
    """Return the verdict of one record, as text."""
    waited = 0 if flow["verdict"] == NOT_CALL else int(flow["verdict_packets"])
    return FlowVerdict(
        VERDICTS[flow["verdict"]],
        APPS[flow["app"]],
        ROLES[flow["role"]],
        sentence(int(flow["evidence"]), int(flow["argument"]), waited),
    )


class NameRead(NamedTuple):
    """A host name, and a hello's fingerprint, read from one packet."""

    record: int
    kind: int
    name: str
    place: int
    print: int
    alpn: bytes


def names_read(packets: Packets, engine: Engine | None = None) -> list[NameRead]:
    """Return the names and fingerprints read from packets that hold any."""
    one, found = engine or Engine(claims=MOST), []
    one.reserve(packets.total)
    signs = one.signs
    for i in range(packets.total):
        at = int(packets.offset[i])
        end = at + int(packets.captured[i])
        row = (int(packets.wire[i]), int(packets.time[i]), int(packets.link[i]), i)
        if step(one.tables, packets.data, at, end, *row, signs) < 0:
            continue
        kind, mark = int(signs[SIGN_NAME_KIND]), int(signs[SIGN_HELLO_PRINT])
        if kind or mark:
            size = int(signs[SIGN_TEXT_LENGTH]) if kind else 0
            text = bytes(signs[SIGN_TEXT : SIGN_TEXT + size].tolist()).decode("latin-1")
            alpn = int(signs[SIGN_ALPN]).to_bytes(8, "big").lstrip(b"\0")
            found.append(NameRead(i, kind, text, int(signs[SIGN_NAME_AT]), mark, alpn))
    return found


class Wire:
    """Frames in the order they pass, `step` ms apart; `up` is from the subscriber's side."""

    def __init__(self, step: float = 20) -> None:
        self.step = step
        self.now = EPOCH
        self.frames: list[bytes] = []
        self.times: list[int] = []

    def put(self, frame: bytes) -> Wire:
        """Let a frame pass."""
        self.frames.append(frame)
        self.times.append(self.now)
        self.now += int(self.step * MS)
        return self

    def wait(self, ms: float) -> Wire:
        """Let time pass."""
        self.now += int(ms * MS)
        return self

    def udp(
        self,
        payload: bytes,
        up: bool = True,
        ports: Ports = (40000, 7000),
        hosts: tuple[str, str] = (NEAR, FAR),
    ) -> Wire:
        """Let a datagram pass."""
        turn = slice(None) if up else slice(None, None, -1)
        return self.put(ether(udp_packet(payload, ports[turn], hosts[turn])))

    def tcp(
        self,
        payload: bytes,
        up: bool = True,
        ports: Ports = (40000, 443),
        hosts: tuple[str, str] = (NEAR, FAR),
        flags: int = 0x18,
        sequence: int = 1,
    ) -> Wire:
        """Let a segment pass."""
        turn = slice(None) if up else slice(None, None, -1)
        return self.put(ether(tcp_packet(payload, ports[turn], hosts[turn], flags, sequence)))

    @property
    def packets(self) -> Packets:
        """Return everything that passed."""
        return packets_of(self.frames, self.times)

    def flows(self, **engine: Any) -> Records:
        """Return the flow records, in order of first frame; each rule says the most that it may."""
        return classify(self.packets, **{"claims": MOST, **engine})

    def verdicts(self, **engine: Any) -> list[FlowVerdict]:
        """Return the verdict of every flow, in order of first frame."""
        return [verdict_of(flow) for flow in self.flows(**engine)]


def classify(packets: Packets, **engine: Any) -> Records:
    """Return FLOW[:] of packets."""
    one = Engine(**engine)
    one.feed(packets)
    return one.flows()


def sample(name: str) -> Packets:
    """Return a committed sample."""
    (path,) = SAMPLES.glob(f"{name}.pcap*")
    return read(path)


def octets(payload: bytes) -> Octets:
    """Return a writable array that ends where the payload ends."""
    return np.frombuffer(payload, np.uint8).copy()


def blank_signs() -> np.ndarray:
    """Return an engine's scratch, empty."""
    return np.zeros(SIGNS, np.int64)


def blank_note() -> Any:
    """Return a note as a new flow has it."""
    notes = np.zeros(1, NOTE)
    clear(notes[0], 0, EPOCH)
    return notes[0]


def rtp(kind: int, sequence: int, stamp: int, ssrc: int = 0x11223344, **more: Any) -> bytes:
    """Return an RTP packet of `size` octets behind its header; profile: with an extension."""
    profile, size = more.get("profile"), more.get("size", 80)
    first = 0x80 if profile is None else 0x90
    head = struct.pack(">BBHII", first, kind, sequence & 0xFFFF, stamp & 0xFFFFFFFF, ssrc)
    if profile is not None:
        head += struct.pack(">HH", profile, 1) + b"\x10\x20\0\0"
    filler = more.get("filler")
    return head + (filler if filler is not None else noise(size, sequence + ssrc))


def noise(size: int, seed: int = 0) -> bytes:
    """Return octets without a pattern, the same for the same seed."""
    return np.random.default_rng(seed).bytes(size)
