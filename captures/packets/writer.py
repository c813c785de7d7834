# SPDX-License-Identifier: BSD-3-Clause
"""Packets written to pcap and pcapng files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from midcall.captures.packets.pcap import Packets
from midcall.captures.packets.scan import ENHANCED_PACKET, INTERFACE, SECTION
from midcall.errors import CaptureError


def write_pcap(path: str | os.PathLike[str], packets: Packets, nanoseconds: bool = False) -> None:
    """Write a little-endian pcap file; raises CaptureError for more than one link type."""
    links = {int(link) for link in np.unique(packets.link)} or {1}
    if len(links) > 1:
        raise CaptureError(
            f"{os.fspath(path)}: a pcap file holds one link type, got {sorted(links)}; "
            "write a pcapng file"
        )
    unit = 1 if nanoseconds else 1000
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    with Path(path).open("wb") as out:
        out.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262144, links.pop()))
        for i in range(packets.total):
            seconds, rest = divmod(int(packets.time[i]), 1_000_000_000)
            frame = packets.frame(i)
            out.write(struct.pack("<IIII", seconds, rest // unit, len(frame), packets.wire[i]))
            out.write(frame)


def block(kind: int, body: bytes) -> bytes:
    """Return a little-endian pcapng block around a body, padded to four bytes."""
    body += b"\0" * (-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def option(code: int, value: bytes) -> bytes:
    """Return an option of a pcapng block (draft-ietf-opsawg-pcapng section 3.5), padded."""
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def comment(text: str) -> bytes:
    """Return the options of a block that hold a comment."""
    return option(1, text.encode()) + option(0, b"")


class PcapngWriter:
    """Writes packets to a little-endian pcapng stream with ns timestamps, batch by batch.

    There is one interface per link type; `links` are described first, others when they occur.
    """

    def __init__(self, out: BinaryIO, links: Iterable[int] = ()) -> None:
        self._out = out
        self._links: list[int] = []
        out.write(block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for link in links:
            self._describe(link)

    def _describe(self, link: int) -> None:
        resolution = struct.pack("<HHB3xI", 9, 1, 9, 0)
        self._out.write(block(INTERFACE, struct.pack("<HHI", link, 0, 262144) + resolution))
        self._links.append(link)

    def write(self, packets: Packets, comments: Mapping[int, str] | None = None) -> None:
        """Write packets; comments: by the position of their packet."""
        for i in range(packets.total):
            link = int(packets.link[i])
            if link not in self._links:
                self._describe(link)
            stamp = int(packets.time[i]) & 0xFFFFFFFFFFFFFFFF
            frame, port = packets.frame(i), self._links.index(link)
            head = struct.pack(
                "<IIIII", port, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), packets.wire[i]
            )
            text = comments.get(i) if comments else None
            rest = b"" if text is None else b"\0" * (-len(frame) % 4) + comment(text)
            self._out.write(block(ENHANCED_PACKET, head + frame + rest))


def write_pcapng(path: str | os.PathLike[str], packets: Packets) -> None:
    """Write a little-endian pcapng file with ns timestamps, one interface per link type."""
    links = [int(link) for link in np.unique(packets.link)] or [1]
    with Path(path).open("wb") as out:
        PcapngWriter(out, links).write(packets)
