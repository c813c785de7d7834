# SPDX-License-Identifier: BSD-3-Clause
"""pcap and pcapng files read into `Packets`; knows no protocol.

A file is read through one buffer and only indexed: a compiled scan writes where each packet stands,
so no packet is an object. Formats: pcap (both byte orders, microseconds, nanoseconds, and the
modified header of the Linux 2.2 patches), pcapng (several sections and interfaces; enhanced,
simple and old packet blocks; if_tsresol, if_tsoffset), either one compressed with gzip.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import zlib
from collections.abc import Generator, Iterator
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from captures.errors import CaptureError
from captures.octets import Octets, u32, u32le
from captures.scan import (
    AT,
    BROKEN,
    CUT,
    END,
    INTERFACES,
    MORE,
    STATUS,
    WANTED,
    scan_pcap,
    scan_pcapng,
)  # fmt: skip

Numbers = NDArray[np.int64]

#: Packets per batch: large enough that a call costs nothing, small enough that Ctrl-C is quick.
BATCH = 8192
#: Bytes of a buffer: small enough for a processor's caches, large enough that what a batch costs in
#: Python is little. The first is smaller, so that a second core soon has something to do.
BUFFER, FIRST_BUFFER = 1 << 21, 1 << 19
#: The longest record that is believed in a stream whose length is not known.
LONGEST = 64 << 20

MAGIC = {  # first four bytes: (big endian, nanoseconds per unit, record header length)
    b"\xd4\xc3\xb2\xa1": (False, 1000, 16),
    b"\xa1\xb2\xc3\xd4": (True, 1000, 16),
    b"\x4d\x3c\xb2\xa1": (False, 1, 16),
    b"\xa1\xb2\x3c\x4d": (True, 1, 16),
    b"\x34\xcd\xb2\xa1": (False, 1000, 24),
    b"\xa1\xb2\xcd\x34": (True, 1000, 24),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
GZIP_MAGIC = b"\x1f\x8b"


class Packets(NamedTuple):
    """Packets of one capture: a byte buffer and, per packet, where and when.

    data: uint8[m], shared by all packets; offset, captured, wire: int64[n], in bytes;
    time: int64[n], ns since 1970-01-01; link: int64[n], LINKTYPE number of the packet's interface.
    Packet i is `data[offset[i] : offset[i] + captured[i]]`; `wire` is its length on the wire.
    """

    data: Octets
    offset: Numbers
    captured: Numbers
    wire: Numbers
    time: Numbers
    link: Numbers

    @property
    def total(self) -> int:
        """Return the number of packets."""
        return len(self.offset)

    def frame(self, i: int) -> bytes:
        """Return the captured bytes of packet i."""
        start = int(self.offset[i])
        return self.data[start : start + int(self.captured[i])].tobytes()

    def take(self, which: NDArray[np.int64] | slice) -> Packets:
        """Return the packets at the given positions, over the same bytes."""
        return Packets(self.data, *(column[which] for column in self[1:]))


def packets_of(
    frames: list[bytes], times: list[int], link: int = 1, wire: list[int] | None = None
) -> Packets:
    """Return Packets that hold the given frames (times in ns since the epoch)."""
    sizes = np.array([len(frame) for frame in frames], np.int64)
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[:-1].astype(np.int64)
    data = np.frombuffer(b"".join(frames), np.uint8).copy()
    full = sizes.copy() if wire is None else np.array(wire, np.int64)
    return Packets(
        data, offset, sizes, full, np.array(times, np.int64), np.full(len(frames), link, np.int64)
    )


class CaptureFile:
    """A capture opened for reading, batch by batch.

    The file is read through one buffer of 2 MiB, so that the packets of a batch are still in a
    cache of the processor when they are used; `whole` reads all of it into one buffer instead.
    Where a `stream` is given (one that can seek) it is read, and closed; the path only names it.
    `notices` holds what a person should know of the file (it was cut in the middle); `packets` and
    `captured_bytes` count what was read so far, `links` are its LINKTYPE numbers. Raises
    CaptureError when the file cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike[str], whole: bool = False, stream: Stream | None = None
    ) -> None:
        self.path = os.fspath(path)
        self.notices: list[str] = []
        self.packets = 0
        self.captured_bytes = 0
        self.links: set[int] = set()
        self._stream, self._left = open_stream(self.path) if stream is None else unpacked(stream)
        self._packed = isinstance(self._stream, Gunzip)
        self._kept = whole  # earlier batches stay valid: no buffer is filled twice
        first = self._left if whole and self._left else FIRST_BUFFER
        self._buffer: Octets = np.empty(first, np.uint8)
        self._ring = [self._buffer]  # buffers in turn, the newest last
        self._shown = False  # whether the newest holds packets that a caller has
        self._filled = 0
        self._base = 0  # where the buffer starts in the (unpacked) file
        self._memory = np.zeros(8, np.int64)
        self._interfaces = np.zeros((INTERFACES, 4), np.int64)
        self._fill()
        self._open()

    @property
    def data(self) -> Octets:
        """Return the bytes in the buffer."""
        return self._buffer[: self._filled]

    def _refuse(self, problem: str) -> NoReturn:
        self._stream.close()
        raise CaptureError(f"{self.path}: {problem}")

    def _open(self) -> None:
        head = self.data[:4].tobytes()
        if not head and self._packed:
            self._refuse("the gzip stream holds no bytes")
        if not head:
            self._refuse("the file is empty, expected a pcap or pcapng capture")
        self._header = 0
        if head in MAGIC:
            self._big, self._unit, self._header = MAGIC[head]
            self._open_pcap()
        elif head != PCAPNG_MAGIC:
            self._refuse(
                f"not a capture: it starts with {head.hex(' ')}, "
                "expected the magic number of a pcap or pcapng file"
            )

    def _open_pcap(self) -> None:
        if self._filled < 24:
            self._refuse(f"the file header is cut: it has {self._filled} bytes, expected 24")
        word = u32(self.data, 20) if self._big else u32le(self.data, 20)
        self._link = int(word) & 0xFFFF
        self._memory[AT] = 24

    def _fill(self) -> bool:
        """Read on into the free part of the buffer; returns whether anything came."""
        start = self._filled
        while self._filled < len(self._buffer):
            room = self._buffer.data[self._filled :]
            try:
                count = self._stream.readinto(room)
            except EOFError:
                self.notices.append(
                    f"{self.path}: the gzip stream is cut; what it holds so far is read"
                )
                count = 0
            except (zlib.error, gzip.BadGzipFile) as error:
                self._refuse(f"the gzip stream is damaged: {error}")
            if not count:
                self._stream.close()
                self._stream = io.BytesIO()
                break
            self._filled += count
        return self._filled > start

    def _advance(self) -> bool:
        """Drop what was scanned and read on; returns whether anything came."""
        at = int(self._memory[AT])
        rest = self._filled - at
        wanted = int(self._memory[WANTED]) + self._header
        size = max(BUFFER, rest)
        if wanted > size and wanted <= max(LONGEST, self._left):
            size = wanted + BUFFER
        following = np.empty(size, np.uint8) if self._kept else self._next_buffer(size)
        following[:rest] = self._buffer[at : self._filled]
        self._buffer, self._filled = following, rest
        self._base += at
        self._memory[AT] = 0
        return self._fill()

    def _next_buffer(self, size: int) -> Octets:
        """Return the buffer to fill: the oldest, or the newest where nobody looks into it."""
        free = self._ring.pop(0 if self._shown else -1)
        self._ring.append(free if len(free) >= size else np.empty(size, np.uint8))
        self._shown = False
        return self._ring[-1]

    def _scan(self, columns: list[Numbers]) -> int:
        memory = self._memory
        memory[STATUS] = MORE
        if not self._header:
            return int(scan_pcapng(self.data, memory, self._interfaces, *columns))
        shape = (int(self._big), self._unit, self._header, self._link)
        return int(scan_pcap(self.data, memory, *shape, *columns))

    def batches(self, size: int = BATCH, held: int = 0) -> Generator[Packets]:
        """Yield Packets of at most `size`; the newest and the `held` before it are valid."""
        rooms = [[np.empty(size, np.int64) for _ in range(5)] for _ in range(held + 1)]
        self._ring[:0] = [np.empty(BUFFER, np.uint8) for _ in range(held + 1 - len(self._ring))]
        try:
            while self._memory[STATUS] != BROKEN:
                if self._kept:
                    rooms[0] = [np.empty(size, np.int64) for _ in range(5)]
                room = rooms[0]
                n = self._scan(room)
                if n:
                    self._shown = True
                    rooms.append(rooms.pop(0))
                    packets = Packets(self.data, *(column[:n] for column in room))
                    self._count(packets)
                    yield packets
                if self._memory[STATUS] in (END, CUT) and not self._advance():
                    break
        finally:
            self._stream.close()
        self._say_why()

    def _count(self, packets: Packets) -> None:
        self.packets += packets.total
        self.captured_bytes += int(packets.captured.sum())
        link = packets.link
        if (link == link[0]).all():  # tells it sooner than counting
            self.links.add(int(link[0]))
        else:
            self.links.update(np.flatnonzero(np.bincount(link)).tolist())

    def _say_why(self) -> None:
        status, wanted, at = (int(self._memory[i]) for i in (STATUS, WANTED, AT))
        where = f"{self.path}: record {self.packets + 1} at byte {self._base + at}"
        remain = max(self._filled, self._left - self._base) - at
        if status == CUT:
            held = remain - self._header if remain >= self._header else remain
            self.notices.append(
                f"{where}: header says {wanted} bytes, {held} remain; the file is cut, "
                f"its {self.packets} whole packets are read"
            )
        elif status == BROKEN:
            problem = {
                -1: f"more than {INTERFACES} interfaces",
                -2: "the packet names an interface that was not described",
            }.get(wanted, f"the block has an impossible length of {wanted} bytes")
            self.notices.append(
                f"{where}: {problem}; the file is damaged, "
                f"the {self.packets} packets before it are read"
            )


class Gunzip(gzip.GzipFile):
    """A gzip file whose readinto gives what is there before it tells that the stream is cut."""

    def readinto(self, room: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer what one step unpacks; raises EOFError at a cut."""
        part = self.read1(min(len(room), BUFFER))
        room[: len(part)] = part
        return len(part)


Stream = io.BufferedIOBase | io.RawIOBase


def unpacked(stream: Stream) -> tuple[Stream, int]:
    """Return a stream of the unpacked bytes of another, and that their number is not known."""
    magic = stream.read(2)
    stream.seek(0)
    return (Gunzip(fileobj=stream) if magic == GZIP_MAGIC else stream), 0


def open_stream(path: str) -> tuple[Stream, int]:
    """Return a stream of a capture's bytes, unpacked, and the file's length (0: not known)."""
    try:
        stream = open(path, "rb", buffering=0)  # noqa: SIM115  (closed when it is read)
        length = os.fstat(stream.fileno()).st_size if os.path.isfile(path) else 0
        if length < 2:
            return stream, length
        magic = stream.read(2)
        stream.seek(0)
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CaptureError(f"{path}: is a folder, expected a capture file") from None
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from None
    if magic != GZIP_MAGIC:
        return stream, length
    stream.close()
    return Gunzip(path), 0


def batches(path: str | os.PathLike[str], size: int = BATCH) -> Iterator[Packets]:
    """Yield a file's packets in batches; raises CaptureError."""
    return CaptureFile(path).batches(size)


def read_with_notices(path: str | os.PathLike[str]) -> tuple[Packets, list[str]]:
    """Return all packets of a file, and what a person should know of it; raises CaptureError."""
    capture = CaptureFile(path, whole=True)
    parts = list(capture.batches(1 << 16))
    if not parts:
        empty = np.empty(0, np.int64)
        return Packets(capture.data, empty, empty, empty, empty, empty), capture.notices
    return join(parts), capture.notices


def join(parts: list[Packets]) -> Packets:
    """Return packets of several batches as one (their buffers, where they differ, are joined)."""
    if len(parts) == 1:
        return parts[0]
    buffers = [parts[0].data]
    offsets, start = [parts[0].offset], 0
    for before, part in itertools.pairwise(parts):
        if part.data.base is not before.data.base or len(part.data) != len(before.data):
            start += len(buffers[-1])
            buffers.append(part.data)
        offsets.append(part.offset + start)
    data = buffers[0] if len(buffers) == 1 else np.concatenate(buffers)
    rest = [np.concatenate([part[i] for part in parts]) for i in range(2, 6)]
    return Packets(data, np.concatenate(offsets), *rest)


def read(path: str | os.PathLike[str]) -> Packets:
    """Return all packets of a file; raises CaptureError."""
    return read_with_notices(path)[0]
