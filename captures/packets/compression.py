# SPDX-License-Identifier: BSD-3-Clause
"""Compressed captures: gzip, Zstandard, xz and bzip2, recognised by their first octets.

A stream is unpacked step by step, so a capture is never in memory as a whole. Sources of the magic
numbers: RFC 1952 (gzip), RFC 8878 (Zstandard), the .xz file format 1.2.1, bzip2's manual.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable
from typing import NoReturn, Protocol

Stream = io.BufferedIOBase | io.RawIOBase

#: Octets that are enough to recognise every format.
MAGIC_SIZE = 6
#: The most octets that one step unpacks.
STEP = 1 << 21
#: Octets of a Zstandard stream that one step reads. They unpack to 64 MiB at most: a block takes 4
#: octets at least and holds 128 KiB at most.
ZSTD_STEP = 1 << 11


class DamagedStream(Exception):
    """Compressed data that cannot be unpacked; the text says why."""


class Unpacker(Protocol):
    """A reader of unpacked octets."""

    def readinto(self, room: memoryview, /) -> int | None:
        """Unpack one step into a buffer; returns the number of octets, 0 at the end.

        Raises EOFError where the stream is cut, and DamagedStream.
        """

    def close(self) -> None:
        """Close the packed stream."""


class Steps:
    """Unpacks a stream by a reader whose `read1` returns what is left before it fails at a cut."""

    def __init__(self, file: gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File, under: Stream) -> None:
        self._file, self._under = file, under

    def readinto(self, room: memoryview, /) -> int:
        """Unpack one step into a buffer, see Unpacker."""
        try:
            part = self._file.read1(min(len(room), STEP))
        except (zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
            raise DamagedStream(str(error)) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise DamagedStream(str(error)) from None  # of bz2, which has no error class
        room[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close both streams."""
        self._file.close()
        self._under.close()


class Zstandard:
    """Unpacks frames of Zstandard, one after the other; skippable frames are passed over."""

    def __init__(self, under: Stream) -> None:
        import zstandard  # where it is needed: most captures are not packed with it

        self._under = under
        self._new = zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._frame = self._new()
        self._inside = False  # whether a frame has begun
        self._rest = memoryview(b"")
        self._packed = b""

    def readinto(self, room: memoryview, /) -> int:
        """Unpack one step into a buffer, see Unpacker."""
        while not self._rest:
            if not self._packed:
                self._packed = self._under.read(ZSTD_STEP) or b""
            if not self._packed:
                if self._inside:
                    self._inside = False
                    raise EOFError
                return 0
            self._rest = memoryview(self._unpacked())
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _unpacked(self) -> bytes:
        """Unpack the octets that were read, up to the end of a frame."""
        try:
            part: bytes = self._frame.decompress(self._packed)
        except self._error as error:
            raise DamagedStream(str(error)) from None
        self._packed, self._inside = b"", True
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame, self._inside = self._new(), False
        return part

    def close(self) -> None:
        """Close the packed stream."""
        self._under.close()


def gunzip(under: Stream) -> Unpacker:
    """Return the unpacked octets of a gzip stream."""
    return Steps(gzip.GzipFile(fileobj=under), under)


def unxz(under: Stream) -> Unpacker:
    """Return the unpacked octets of an xz stream."""
    return Steps(lzma.LZMAFile(under), under)  # type: ignore[arg-type]


def bunzip2(under: Stream) -> Unpacker:
    """Return the unpacked octets of a bzip2 stream."""
    return Steps(bz2.BZ2File(under), under)


#: Each format: its name, its first octets, the usual suffix, what unpacks it.
FORMATS: tuple[tuple[str, bytes, str, Callable[[Stream], Unpacker]], ...] = (
    ("gzip", b"\x1f\x8b", ".gz", gunzip),
    ("zstd", b"\x28\xb5\x2f\xfd", ".zst", Zstandard),
    ("xz", b"\xfd7zXZ\0", ".xz", unxz),
    ("bzip2", b"BZh", ".bz2", bunzip2),
)
SUFFIXES = tuple(suffix for _, _, suffix, _ in FORMATS)


def recognise(magic: bytes) -> tuple[str, Callable[[Stream], Unpacker]] | None:
    """Return the format of a stream by its first octets, and its unpacker; None: not packed."""
    for name, begin, _, unpacker in FORMATS:
        if magic.startswith(begin):
            return name, unpacker
    if magic[1:4] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5:  # skippable frame, of pzstd
        return "zstd", Zstandard
    return None


def without_suffix(name: str) -> str:
    """Return a file's name without the suffix of its compression."""
    bare, suffix = os.path.splitext(name)
    return bare if suffix.lower() in SUFFIXES else name


class Again(io.RawIOBase):
    """A stream that cannot seek, whose first octets were read already."""

    def __init__(self, head: bytes, under: Stream) -> None:
        self._head, self._under = head, under

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, room: memoryview, /) -> int | None:  # type: ignore[override]
        """Read into a buffer; returns the number of octets."""
        if not self._head:
            return self._under.readinto(room)
        count = min(len(room), len(self._head))
        room[:count], self._head = self._head[:count], self._head[count:]
        return count

    def seek(self, where: int, whence: int = 0) -> NoReturn:
        """Refuse."""
        raise io.UnsupportedOperation("seek")

    def close(self) -> None:
        """Close the stream."""
        self._under.close()
        super().close()


def begin_of(stream: Stream) -> bytes:
    """Read the first MAGIC_SIZE octets of a stream, fewer where it has fewer."""
    head = b""
    while len(head) < MAGIC_SIZE:
        part = stream.read(MAGIC_SIZE - len(head))
        if not part:
            break
        head += part
    return head
