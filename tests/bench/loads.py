# SPDX-License-Identifier: BSD-3-Clause
"""Loads: the files that the bench measures with, and what they are made of.

mix: all real captures interleaved, at most SHORT packets of each flow, so that a flow has about 16
packets on average, as in what crosses an operator's link (web, DNS, chat; calls are few). whole:
the same captures, every flow whole. calls: the captures of calls alone. In all three every round
of the captures has addresses of its own, so that its flows are new. new-flows, colliding and nested
are adversarial and made up: a flow per packet; 500 flows that meet in the index (the attacker
is given its secret key); the deepest nesting that is followed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midcall.captures.packets.headers import layers
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.packets.writer import write_pcap
from midcall.captures.truth.catalogue import Capture
from midcall.classifier.engine import START, Engine, hash_key, power_of_two
from midcall.classifier.path.decode import MAX_DEPTH
from midcall.classifier.state.flow_table import endpoint_hash, flow_hash
from tests.bench.worker import KNOWN

PACKETS = 1_000_000
#: Packets of a flow that the mix takes.
SHORT = 128
WHOLE = 1 << 62
EPOCH = 1_600_000_000
PCAP_HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


class Load(NamedTuple):
    """A file to measure with; `synthetic` where no packet of it was ever captured."""

    path: Path
    made_of: str
    synthetic: bool


class Row(NamedTuple):
    """A packet of a mix: when (ns from the start), its Ethernet frame, size on the wire.

    places: where the low octets of the innermost addresses stand.
    """

    time: int
    frame: bytes
    wire: int
    places: tuple[int, ...]


# ---- mixes of captures


def ethernet(frame: bytes, link: int) -> tuple[bytes, tuple[int, ...]]:
    """Return a frame as it looks on Ethernet, and where its innermost addresses end.

    The end of an address is not its last octet but the one before: a round changes that.
    """
    found = layers(frame, link)
    shift = 0
    if link != 1:
        if not found:
            return b"", ()
        kind = b"\x08\0" if found[0].version == 4 else b"\x86\xdd"
        shift = 14 - found[0].at
        frame = bytes(12) + kind + frame[found[0].at :]
    if not found:
        return frame, ()
    source, target, size = found[-1].addresses
    return frame, (source + size - 2 + shift, target + size - 2 + shift)


def short(packets: Packets, most: int) -> Packets:
    """Return the first `most` packets of every flow of a capture, and what has no flow."""
    numbers = Engine().feed(packets)
    order = np.argsort(numbers, kind="stable")
    begins = np.searchsorted(numbers[order], numbers[order])
    nth = np.empty(packets.total, np.int64)
    nth[order] = np.arange(packets.total) - begins
    return packets.take(np.flatnonzero((nth < most) | (numbers < 0)))


def interleaved(captures: list[Packets]) -> list[Row]:
    """Return the packets of captures by time, each capture starting within half a minute."""
    dice = np.random.default_rng(1)
    rows = []
    for packets in captures:
        start, first = int(dice.integers(30_000_000_000)), int(packets.time.min())
        for i in range(packets.total):
            frame, places = ethernet(packets.frame(i), int(packets.link[i]))
            if frame:
                lost = int(packets.wire[i]) - int(packets.captured[i])
                after = min(int(packets.time[i]) - first, 600_000_000_000)
                rows.append(Row(start + after, frame, len(frame) + lost, places))
    return sorted(rows, key=lambda row: row.time)


def rounds(rows: list[Row], packets: int) -> Iterator[tuple[int, Row]]:
    """Yield (round, row) until there are enough."""
    for number in range(packets):
        yield number // len(rows), rows[number % len(rows)]


def write_mix(path: Path, captures: list[Packets], packets: int) -> None:
    """Write a pcap file of that many packets; every round of the captures has its own addresses."""
    rows = interleaved(captures)
    span = rows[-1].time + 1_000_000_000
    with path.open("wb") as out:
        out.write(PCAP_HEAD)
        for turn, row in rounds(rows, packets):
            frame = bytearray(row.frame)
            if turn:
                for place in row.places:
                    frame[place] ^= turn & 0xFF
            seconds, rest = divmod(row.time + turn * span, 1_000_000_000)
            out.write(record(seconds, rest // 1000, bytes(frame), row.wire))


def record(seconds: int, microseconds: int, frame: bytes, wire: int = 0) -> bytes:
    """Return a pcap record; `wire` 0 stands for the frame's own length."""
    sizes = (len(frame), wire or len(frame))
    return struct.pack("<IIII", EPOCH + seconds, microseconds, *sizes) + frame


# ---- adversarial files


def datagram(number: int, port: int = 40000) -> bytes:
    """Return an IPv4 datagram of 32 random-looking bytes whose addresses spell a number."""
    source, target = 0xC6120000 | number >> 8 & 0xFFFF, 0xC6130000 | number & 0xFF
    body = (number * 0x9E3779B97F4A7C15 & (1 << 256) - 1).to_bytes(32, "little")
    udp = struct.pack(">HHHH", port, 41000 + (number >> 24), 8 + len(body), 0) + body
    head = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
    return head + udp


FRAME = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0"


def new_flows(packets: int) -> Iterator[bytes]:
    """Yield frames that each begin a flow."""
    for number in range(packets):
        yield FRAME + datagram(number)


def hash_of(datagram_: bytes, key: int) -> int:
    """Return the hash of a datagram's flow."""
    source, target, here, there = struct.unpack(">IIHH", datagram_[12:24])
    ends = (
        int(endpoint_hash(address, 0, 0, 0, 4, port, key))
        for address, port in ((source, here), (target, there))
    )
    return int(flow_hash(*ends, 17, key))


def colliding(packets: int) -> Iterator[bytes]:
    """Yield frames of 500 flows whose places in the index are 16 neighbours."""
    key = hash_key(KNOWN)
    mask = 2 * power_of_two(START) - 1
    made = []
    for number in range(1 << 30):
        one = datagram(number)
        if hash_of(one, key) & mask & ~0xF == 0:
            made.append(FRAME + one)
        if len(made) == min(packets, 500):
            break
    for number in range(packets):
        yield made[number % len(made)]


def nested(packets: int) -> Iterator[bytes]:
    """Yield frames of one flow under as many IP headers as the path follows."""
    frame = datagram(1)
    for _ in range(MAX_DEPTH - 2):
        size = 20 + len(frame)
        ends = (0xC6120001, 0xC6130001)
        frame = struct.pack(">BBHHHBBHII", 0x45, 0, size, 0, 0, 64, 4, 0, *ends) + frame
    for _ in range(packets):
        yield FRAME + frame


def write_frames(path: Path, frames: Iterator[bytes]) -> None:
    """Write frames as a pcap file, a microsecond apart."""
    with path.open("wb") as out:
        out.write(PCAP_HEAD)
        for number, frame in enumerate(frames):
            out.write(record(*divmod(number, 1_000_000), frame))


ADVERSARIAL: dict[str, tuple[str, Callable[[int], Iterator[bytes]]]] = {
    "new-flows": ("a flow per packet", new_flows),
    "colliding": ("500 flows that share 16 places of the index, the key being known", colliding),
    "nested": (f"one flow under {MAX_DEPTH - 2} IP headers", nested),
}


# ---- all of them

MIXES = {
    "mix": (SHORT, False, f"at most {SHORT} packets of a flow"),
    "whole": (WHOLE, False, "every flow whole"),
    "calls": (WHOLE, True, "captures of calls, every flow whole"),
}
NAMES = (*MIXES, *ADVERSARIAL)


def gather(folder: Path, packets: int, samples_only: bool, names: tuple[str, ...]) -> list[Load]:
    """Make the named files of the captures that this machine has."""
    from tests.conftest import corpus_folder
    from tests.golden import available

    found = available(None if samples_only else corpus_folder())
    real = [pair for pair in found if not pair[0].ours and not samples_only]
    kind = "real captures" if real else "samples (synthetic)"
    pairs = real or [pair for pair in found if pair[0].synthetic]
    loads = [mixed(folder, name, pairs, packets, kind) for name in names if name in MIXES]
    return loads + [made_up(folder, name, packets) for name in names if name in ADVERSARIAL]


def mixed(
    folder: Path, name: str, pairs: list[tuple[Capture, Path]], packets: int, kind: str
) -> Load:
    """Write one mix."""
    most, calls_only, how = MIXES[name]
    chosen = [path for one, path in pairs if one.role == "call" or not calls_only]
    parts = [one for one in map(read, chosen) if one.total]
    path = folder / f"{name}.pcap"
    write_mix(path, [short(one, most) for one in parts] if most < WHOLE else parts, packets)
    return Load(path, f"{len(parts)} {kind}, interleaved, {how}", not kind.startswith("real"))


def made_up(folder: Path, name: str, packets: int) -> Load:
    """Write one adversarial file."""
    how, frames = ADVERSARIAL[name]
    path = folder / f"{name}.pcap"
    write_frames(path, frames(packets))
    return Load(path, how, True)


def first_part(path: Path, packets: int, folder: Path) -> Path:
    """Return a file of the first packets of another; that itself where it has no more."""
    part = folder / f"{path.stem}-first-{packets}.pcap"
    if not part.exists():
        whole = read(path)
        if whole.total <= packets:
            return path
        write_pcap(part, whole.take(np.arange(packets)))
    return part
