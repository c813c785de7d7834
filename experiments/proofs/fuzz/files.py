# SPDX-License-Identifier: BSD-3-Clause
"""Damaged capture files: read whole and in batches, with equal results."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midcall.captures.packets.pcap import CaptureFile, Packets, read_with_notices
from midcall.errors import CaptureError
from midcall.experiments.proofs.fuzz.mutate import Numbers, damage_file, dice_of, draw
from midcall.experiments.proofs.fuzz.path import Finding

#: Packets of an undamaged file, and room for what damage adds to it.
PACKETS, ROOM = 200, 4096
#: Sizes of the batches that a file is read in.
SIZES = (1, 7, 64, 8192)


class Container(NamedTuple):
    """An undamaged capture file, and the offsets at which the heads of its records end."""

    form: str
    content: bytes
    heads: Numbers


class Read(NamedTuple):
    """The result of one damaged file: packets read (0 if it was refused)."""

    packets: int
    refused: bool


def pcap(packets: Packets, order: str, magic: int, more: int = 0) -> Container:
    """Return packets as a pcap file; order: < or >, more: extra octets in a record's head."""
    out = bytearray(struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, packets.link[0]))
    heads = []
    for i in range(packets.total):
        frame, (seconds, rest) = packets.frame(i), divmod(int(packets.time[i]), 10**9)
        out += struct.pack(f"{order}IIII", seconds & 0xFFFFFFFF, rest // 1000, *[len(frame)] * 2)
        heads.append(len(out))
        out += bytes(more) + frame
    return Container("pcap", bytes(out), np.array(heads, np.int64))


def block(order: str, kind: int, body: bytes) -> bytes:
    """Return a pcapng block, padded to four octets."""
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def pcapng(packets: Packets, order: str) -> Container:
    """Return packets as a pcapng file of two sections, with every kind of packet block."""
    out, heads = bytearray(), []
    for i in range(packets.total):
        if i % (PACKETS // 2) == 0:
            link = int(packets.link[i])
            out += block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
            units = struct.pack(f"{order}HHB3xHHqI", 9, 1, 9, 14, 8, -1, 0)
            out += block(order, 1, struct.pack(f"{order}HHI", link, 0, 0) + units)
        frame, stamp = packets.frame(i), int(packets.time[i]) & (1 << 63) - 1
        heads.append(len(out) + 16)
        size = len(frame)
        if i % 8 == 3:
            out += block(order, 3, struct.pack(f"{order}I", size) + frame)
        elif i % 8 == 5:
            head = struct.pack(f"{order}HHIIII", 0, 0, stamp >> 32, stamp & 0xFFFFFFFF, size, size)
            out += block(order, 2, head + frame)
        else:
            head = struct.pack(f"{order}IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, size, size)
            out += block(order, 6, head + frame)
    return Container("pcapng", bytes(out), np.array(heads, np.int64))


FORMS: tuple[Callable[[Packets], Container], ...] = (
    lambda packets: pcap(packets, "<", 0xA1B2C3D4),
    lambda packets: pcap(packets, ">", 0xA1B2C3D4),
    lambda packets: pcap(packets, "<", 0xA1B23C4D),
    lambda packets: pcap(packets, "<", 0xA1B2CD34, more=8),
    lambda packets: pcapng(packets, "<"),
    lambda packets: pcapng(packets, ">"),
)


def containers(pool: Packets, first: int) -> list[Container]:
    """Return PACKETS packets of a pool in every format."""
    some = pool.take((np.arange(PACKETS) + first) % pool.total)
    return [form(some) for form in FORMS]


def damaged(container: Container, *names: object) -> bytes:
    """Return a damaged copy; one in eight is compressed with gzip, before or after the damage."""
    dice = dice_of("file", *names)
    hits = [1, 2, 4, 16, 64][int(draw(dice, 5))]
    packed = int(draw(dice, 16))
    content, heads = container.content, container.heads
    if packed == 0:
        content, heads = gzip.compress(content, 1, mtime=0), np.array([20], np.int64)
    b = np.zeros(len(content) + ROOM, np.uint8)
    b[: len(content)] = np.frombuffer(content, np.uint8)
    size = int(damage_file(b, len(content), heads, hits, dice))
    made = b[:size].tobytes()
    return gzip.compress(made, 1, mtime=0) if packed == 1 else made


def read_twice(path: Path, turn: int) -> Read:
    """Read a file in batches and whole. Raises Finding if the two differ or point outside the
    buffer."""
    batched, refused = read_batches(path, SIZES[turn % len(SIZES)])
    try:
        whole, notices = read_with_notices(path)
        other = (whole.total, digest(whole), notices)
    except CaptureError as error:
        other = (0, "", [str(error)])
    if batched != other:
        raise Finding(f"read in batches it gives {batched}, whole {other}")
    return Read(batched[0], refused)


def read_batches(path: Path, size: int) -> tuple[tuple[int, str, list[str]], bool]:
    """Return (packets, digest, notices) of a file read in batches, and whether it was refused."""
    sums, count = hashlib.sha256(), 0
    try:
        capture = CaptureFile(path)
        for packets in capture.batches(size):
            inside(packets)
            count += packets.total
            update(sums, packets)
    except CaptureError as error:
        return (0, "", [str(error)]), True
    return (count, sums.hexdigest(), capture.notices), False


def inside(packets: Packets) -> None:
    """Raise Finding if a packet does not lie within its buffer."""
    ends = packets.offset + packets.captured
    low = min(int(packets.offset.min()), int(packets.captured.min()))
    if low < 0 or int(ends.max()) > len(packets.data):
        raise Finding("a packet lies outside of the buffer")


def digest(packets: Packets) -> str:
    """Return the sha256 (hex) of all fields and frames of packets."""
    sums = hashlib.sha256()
    update(sums, packets)
    return sums.hexdigest()


def update(sums: hashlib._Hash, packets: Packets) -> None:
    """Add packets one by one, so that the digest does not depend on batches."""
    for i in range(packets.total):
        row = (packets.captured[i], packets.wire[i], packets.time[i], packets.link[i])
        sums.update(b"%d,%d,%d,%d;" % row + packets.frame(i))
