# SPDX-License-Identifier: BSD-3-Clause
"""Read pcap and pcapng files into `Packets`, without decoding any protocol.

A file is read through one buffer and only indexed: a compiled scan writes the offset of each
packet, so no packet is an object. Formats: pcap (both byte orders, microseconds, nanoseconds, and
the modified header of the Linux 2.2 patches), pcapng (several sections and interfaces; enhanced,
simple and old packet blocks; if_tsresol, if_tsoffset). Either one may be compressed with gzip,
Zstandard, xz or bzip2, and may come from a pipe.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Generator, Iterator
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.reads import Octets, u32, u32le
from midcall.captures.packets import standard_input
from midcall.captures.packets.compression import (
    Again,
    DamagedStream,
    Stream,
    Unpacker,
    begin_of,
    recognise,
)
from midcall.captures.packets.names import printable
from midcall.captures.packets.scan import (
    AT,
    BASE,
    BIG,
    BROKEN,
    CUT,
    FILLED,
    HEADER,
    INTERFACES,
    MEMORY,
    MORE,
    NOW,
    OCTETS,
    PACKETS,
    SHOWN,
    STATUS,
    TYPE,
    TYPES,
    UNIT,
    WANTED,
    next_packets,
    turn_over,
)
from midcall.errors import CaptureError

Numbers = NDArray[np.int64]

#: Packets per batch: enough that the cost of a call is negligible, but few enough for a quick
#: Ctrl-C.
BATCH = 8192
#: Bytes of a buffer: small enough for a core's own cache, large enough that a batch costs little in
#: Python, and a turn between two cores.
BUFFER = 1 << 19
#: The longest record that is accepted in a stream of unknown length, in bytes.
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


class Packets(NamedTuple):
    """Packets of one capture: a byte buffer and, per packet, its position, length and time.

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


class Source(NamedTuple):
    """The state of a capture under reading, in the order of `scan.next_packets`."""

    file: int  # its descriptor, -1: compiled code must not read it
    ring: NDArray[np.uint8]  # uint8[buffers, octets], buffers in turn
    memory: Numbers  # int64[MEMORY] of captures.scan
    interfaces: Numbers  # int64[INTERFACES, 4] of a pcapng file
    types: Octets  # uint8[TYPES], 1 for each LINKTYPE that was seen


def new_columns(size: int) -> list[Numbers]:
    """Return five uninitialised columns, int64[size], as `Packets` has after `data`."""
    return [np.empty(size, np.int64) for _ in range(5)]


class CaptureFile:
    """A capture opened for reading, batch by batch.

    The file is read through one buffer of BUFFER bytes, so that the packets of a batch are still in
    the processor's cache when they are used; `whole` reads all of it into one buffer instead.
    A `stream` is read and closed instead of the file; the path then only names it. `name` is how
    messages call the file. `notices` holds warnings for the user (for example, that the file is
    cut); `packets` and `captured_bytes` count what was read so far, `links` are its LINKTYPE
    numbers. Raises CaptureError if the file cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        whole: bool = False,
        stream: Stream | None = None,
        name: str | None = None,
    ) -> None:
        standard = stream is None and os.fspath(path) == standard_input.NAME
        self.path = name or (standard_input.SHOWN if standard else printable(path))
        self.notices: list[str] = []
        self._stream: Stream | Unpacker
        if stream is None:
            stream, self._left = open_file(os.fspath(path), self.path)
        else:
            self._left = 0
        self._raw = stream
        self._stream, self._packing = self._unpacked(stream)
        self._live = isinstance(stream, standard_input.StandardInput)
        self._kept = whole  # earlier batches stay valid: no buffer is filled twice
        plain = isinstance(self._stream, io.FileIO) and self._left > 0 and not whole
        self._file = stream.fileno() if plain else -1
        self._ended = False
        self._memory = np.zeros(MEMORY, np.int64)
        self._interfaces = np.zeros((INTERFACES, 4), np.int64)
        self._types = np.zeros(TYPES, np.uint8)
        self._ring = np.empty((1, self._left if whole and self._left else BUFFER), np.uint8)
        self._fill(len(self._ring[0]))
        if self._ended:  # else `batches` closes it: compiled code may still read it
            self._stream.close()
        self._open()

    @property
    def data(self) -> Octets:
        """Return the bytes in the buffer."""
        return self._ring[self._memory[NOW], : self._memory[FILLED]]

    @property
    def packets(self) -> int:
        """Return the number of packets read so far."""
        return int(self._memory[PACKETS])

    @property
    def captured_bytes(self) -> int:
        """Return the number of captured bytes of these packets."""
        return int(self._memory[OCTETS])

    @property
    def links(self) -> set[int]:
        """Return the LINKTYPE numbers of the packets read so far."""
        return set(np.flatnonzero(self._types).tolist())

    @property
    def source(self) -> Source:
        """Return the state from which compiled code continues to read."""
        return Source(self._file, self._ring, self._memory, self._interfaces, self._types)

    @property
    def _interrupted(self) -> bool:
        """Return whether the user ended the standard input by Ctrl-C."""
        raw = self._raw
        return isinstance(raw, standard_input.StandardInput) and raw.interrupted

    def _refuse(self, problem: str) -> NoReturn:
        self._stream.close()
        raise CaptureError(f"{self.path}: {problem}")

    def _unpacked(self, stream: Stream) -> tuple[Stream | Unpacker, str]:
        """Return the stream of a capture's bytes, and the name of its compression ("": none)."""
        try:
            head = begin_of(stream)
            if stream.seekable():
                stream.seek(0)
            else:
                stream = Again(head, stream)
        except OSError as error:
            stream.close()
            raise CaptureError(f"{self.path}: cannot be read: {error.strerror}") from None
        packing = recognise(head)
        if packing is None:
            return stream, ""
        self._left = 0
        return packing[1](stream), packing[0]

    def _open(self) -> None:
        head = self.data[:4].tobytes()
        if not head and self._packing:
            self._refuse(f"the {self._packing} stream holds no bytes")
        if not head:
            self._refuse("the file is empty, expected a pcap or pcapng capture")
        if head in MAGIC:
            self._memory[BIG], self._memory[UNIT], self._memory[HEADER] = MAGIC[head]
            self._open_pcap()
        elif head != PCAPNG_MAGIC:
            self._refuse(
                f"not a capture: it starts with {head.hex(' ')}, "
                "expected the magic number of a pcap or pcapng file"
                + (f" in the {self._packing} stream" if self._packing else "")
            )

    def _open_pcap(self) -> None:
        if len(self.data) < 24:
            self._refuse(f"the file header is cut: it has {len(self.data)} bytes, expected 24")
        word = u32(self.data, 20) if self._memory[BIG] else u32le(self.data, 20)
        self._memory[TYPE] = int(word) & 0xFFFF
        self._memory[AT] = 24

    def _fill(self, upto: int) -> bool:
        """Read more of the file into the free part of the buffer; returns whether it grew."""
        start = filled = int(self._memory[FILLED])
        row = self._ring[self._memory[NOW]]
        while filled < upto and not self._ended:
            try:
                count = self._stream.readinto(row[filled:upto].data) or 0
            except EOFError:
                self.notices.append(
                    f"{self.path}: the {self._packing} stream is cut; what it holds so far is read"
                )
                count = 0
            except DamagedStream as error:
                self._refuse(f"the {self._packing} stream is damaged: {error}")
            if not count:
                self._ended, self._file = True, -1
                if self._interrupted:
                    self.notices = [f"{self.path}: interrupted; what came before is read"]
                break
            filled += count
            if self._live and filled >= 24:  # what came so far is classified before more is read
                break
        self._memory[FILLED] = filled
        return filled > start

    def _read_on(self) -> bool:
        """Drop the scanned part of the buffer and read more; returns whether it grew."""
        rest = int(self._memory[FILLED] - self._memory[AT])
        wanted = int(self._memory[WANTED] + self._memory[HEADER])
        size = max(BUFFER, rest) if self._kept else len(self._ring[0])
        if wanted > size and wanted <= max(LONGEST, self._left):
            size = wanted + BUFFER
        if self._kept or size > len(self._ring[0]):
            self._new_ring(len(self._ring), size)
        else:
            turn_over(self._ring, self._memory)
        return self._fill(len(self._ring[0]))

    def _new_ring(self, count: int, size: int) -> None:
        """Continue in the first of `count` new buffers; arrays over old buffers stay valid."""
        ring = np.empty((count, size), np.uint8)
        rest = self.data[self._memory[AT] :]
        ring[0, : len(rest)] = rest
        self._memory[BASE] += self._memory[AT]
        self._memory[AT] = self._memory[NOW] = self._memory[SHOWN] = 0
        self._memory[FILLED] = len(rest)
        self._ring = ring

    def batches(self, size: int = BATCH, retained: int = 0) -> Generator[Packets]:
        """Yield Packets of at most `size`; the last and the `retained` ones before it are valid."""
        rooms = [new_columns(size) for _ in range(retained + 1)]
        if retained:
            self._new_ring(retained + 1, len(self._ring[0]))
        try:
            while True:
                if self._kept:
                    rooms[0] = new_columns(size)
                n = next_packets(*self.source, *rooms[0])
                if n:
                    yield Packets(self.data, *(column[:n] for column in rooms[0]))
                    rooms.append(rooms.pop(0))
                elif not self.advance():
                    break
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; what was read stays valid."""
        self._stream.close()

    def advance(self) -> bool:
        """Read on after `next_packets` returned 0; returns whether to call it again."""
        if self._memory[STATUS] == MORE:
            return True
        if self._memory[STATUS] != BROKEN and self._read_on():
            return True
        self.close()
        self._say_why()
        return False

    def _say_why(self) -> None:
        slots = (STATUS, WANTED, AT, HEADER, FILLED, BASE)
        status, wanted, at, header, filled, base = (int(self._memory[slot]) for slot in slots)
        where = f"{self.path}: record {self.packets + 1} at byte {base + at}"
        remain = max(filled, self._left - base) - at
        if status == CUT and not self._interrupted:
            remaining_bytes = remain - header if remain >= header else remain
            self.notices.append(
                f"{where}: header says {wanted} bytes, {remaining_bytes} remain; the file is cut, "
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


def open_file(path: str, name: str) -> tuple[Stream, int]:
    """Return a stream of a file's bytes, and the file's length (0: not known).

    The path `-` is the standard input; name: that of the file in messages.
    """
    if path == standard_input.NAME:
        return standard_input.open_standard_input()
    try:
        stream = open(path, "rb", buffering=0)  # noqa: SIM115  (closed when it is read)
        return stream, os.fstat(stream.fileno()).st_size if os.path.isfile(path) else 0
    except FileNotFoundError:
        raise CaptureError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise CaptureError(f"{name}: is a folder, expected a capture file") from None
    except OSError as error:
        raise CaptureError(f"{name}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name with a NUL character
        raise CaptureError(f"{name}: cannot be read: {error}") from None


def batches(path: str | os.PathLike[str], size: int = BATCH) -> Iterator[Packets]:
    """Yield a file's packets in batches; raises CaptureError."""
    return CaptureFile(path).batches(size)


def read_with_notices(
    path: str | os.PathLike[str], name: str | None = None
) -> tuple[Packets, list[str]]:
    """Return all packets of a file, and its notices (see CaptureFile); raises CaptureError."""
    capture = CaptureFile(path, whole=True, name=name)
    parts = list(capture.batches(1 << 16))
    if not parts:
        empty = np.empty(0, np.int64)
        return Packets(capture.data, empty, empty, empty, empty, empty), capture.notices
    return join(parts), capture.notices


def join(parts: list[Packets]) -> Packets:
    """Return packets of several batches as one; different buffers are concatenated."""
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


def read(path: str | os.PathLike[str], name: str | None = None) -> Packets:
    """Return all packets of a file; raises CaptureError. name: that of the file in messages."""
    return read_with_notices(path, name)[0]
