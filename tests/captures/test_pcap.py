# SPDX-License-Identifier: BSD-3-Clause
"""Reading and writing captures: every format, every cut, exact sentences, and two slow oracles."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader, RawPcapReader

from midcall.captures.packets.pcap import (
    BATCH,
    BUFFER,
    LONGEST,
    CaptureFile,
    Packets,
    batches,
    packets_of,
    read,
    read_with_notices,
)
from midcall.captures.packets.scan import IN_A_ROW, INTERFACES
from midcall.captures.packets.writer import write_pcap, write_pcapng
from midcall.errors import CaptureError

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
FRAMES = [bytes(range(60)), b"x", b"", bytes(255 - i for i in range(200))]
TIMES = [SECOND + 1_000, 2 * SECOND + 999_999_000, 3 * SECOND, 4_000_000_000 * SECOND + 7_000]

Record = tuple[int, bytes, int]  # time in ns, captured bytes, length on the wire
RECORDS: list[Record] = [
    (time, frame, len(frame) + extra)
    for time, frame, extra in zip(TIMES, FRAMES, (0, 10, 1500, 0), strict=True)
]


def pcap(records: list[Record], order: str = "<", unit: int = 1000, link: int = 1) -> bytes:
    """Return a pcap file; order: "<" or ">"; unit: ns per tick, 1000 or 1."""
    magic = 0xA1B2C3D4 if unit == 1000 else 0xA1B23C4D
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for time, frame, wire in records:
        seconds, rest = divmod(time, SECOND)
        parts.append(struct.pack(order + "IIII", seconds, rest // unit, len(frame), wire) + frame)
    return b"".join(parts)


class Ng:
    """A pcapng file under construction, written from the draft and not from the reader."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.parts: list[bytes] = []

    def pack(self, layout: str, *values: int) -> bytes:
        """Return values in this section's byte order."""
        return struct.pack(self.order + layout, *values)

    def block(self, kind: int, body: bytes) -> Ng:
        """Add a block."""
        body += bytes(-len(body) % 4)
        size = self.pack("I", len(body) + 12)
        self.parts.append(self.pack("I", kind) + size + body + size)
        return self

    def section(self) -> Ng:
        """Add a Section Header Block of unknown length."""
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, 1, 0, -1))

    def interface(self, link: int = 1, snaplen: int = 0, options: bytes = b"") -> Ng:
        """Add an Interface Description Block."""
        return self.block(1, self.pack("HHI", link, 0, snaplen) + options)

    def option(self, code: int, value: bytes) -> bytes:
        """Return an option."""
        return self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)

    def enhanced(self, interface: int, ticks: int, frame: bytes, wire: int | None = None) -> Ng:
        """Add an Enhanced Packet Block."""
        full = len(frame) if wire is None else wire
        head = self.pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), full)
        return self.block(6, head + frame)

    def old(self, interface: int, ticks: int, frame: bytes) -> Ng:
        """Add an (obsolete) Packet Block, which counts drops."""
        high, low, size = ticks >> 32, ticks & 0xFFFFFFFF, len(frame)
        return self.block(2, self.pack("HHIIII", interface, 77, high, low, size, size) + frame)

    def simple(self, frame: bytes, wire: int) -> Ng:
        """Add a Simple Packet Block."""
        return self.block(3, self.pack("I", wire) + frame)

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


def frames(packets: Packets) -> list[bytes]:
    return [packets.frame(i) for i in range(packets.total)]


def put(folder: Path, content: bytes, name: str = "it.pcap") -> Path:
    """Write a file that no mapping of an earlier one shares."""
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def error_text(path: Path) -> str:
    """Return the sentence with which reading a file is refused."""
    with pytest.raises(CaptureError) as caught:
        read(path)
    return str(caught.value)


# ---- pcap


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("unit", [1000, 1])
def test_pcap_of_either_byte_order_and_resolution_reads_alike(
    tmp_path: Path, order: str, unit: int
) -> None:
    packets = read(put(tmp_path, pcap(RECORDS, order, unit, link=113)))
    assert frames(packets) == FRAMES
    assert list(packets.time) == TIMES
    assert list(packets.wire) == [wire for _, _, wire in RECORDS]
    assert set(packets.link.tolist()) == {113}


def test_nanoseconds_are_kept_only_where_the_file_has_them(tmp_path: Path) -> None:
    records = [(SECOND + 123_456_789, b"a", 1)]
    fine = read(put(tmp_path, pcap(records, unit=1), "fine.pcap"))
    coarse = read(put(tmp_path, pcap(records), "coarse.pcap"))
    assert (fine.time[0], coarse.time[0]) == (SECOND + 123_456_789, SECOND + 123_456_000)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_modified_pcap_of_linux_2_2_has_eight_more_bytes_a_record(
    tmp_path: Path, order: str
) -> None:
    content = struct.pack(order + "IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    for frame in (b"one", b"three"):
        content += struct.pack(order + "IIIIIHBB", 5, 6, len(frame), len(frame), 2, 8, 0, 0) + frame
    packets = read(put(tmp_path, content))
    assert frames(packets) == [b"one", b"three"]
    assert packets.time[0] == 5 * SECOND + 6_000


def test_bits_above_the_link_type_are_not_of_it(tmp_path: Path) -> None:
    packets = read(put(tmp_path, pcap(RECORDS, link=0x1400_0000 | 101)))
    assert packets.link[0] == 101


def test_a_capture_of_no_packets_is_read_without_a_word(tmp_path: Path) -> None:
    for name, content in (("a.pcap", pcap([])), ("b.pcapng", bytes(Ng().section()))):
        packets, notices = read_with_notices(put(tmp_path, content, name))
        assert (packets.total, notices) == (0, [])
        assert list(batches(tmp_path / name)) == []


# ---- pcapng


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_packet_blocks_of_either_byte_order_are_read(tmp_path: Path, order: str) -> None:
    file = Ng(order).section().interface(link=1, snaplen=4)
    file.enhanced(0, 1_500_000, b"enhanced", wire=1000).simple(b"simp", wire=999)
    file.old(0, 2_500_000, b"old").block(5, bytes(12)).block(0x80000001, b"mine")
    packets, notices = read_with_notices(put(tmp_path, bytes(file)))
    assert frames(packets) == [b"enhanced", b"simp", b"old"]
    assert list(packets.wire) == [1000, 999, 3]
    assert list(packets.time) == [1_500_000_000, 1_500_000_000, 2_500_000_000]
    assert notices == []


@pytest.mark.parametrize(
    ("resolution", "ticks", "expected"),
    [
        (0, 7, 7 * SECOND),
        (3, 7_001, 7_001_000_000),
        (6, 7_000_001, 7_000_001_000),
        (9, 7_000_000_001, 7_000_000_001),
        (12, 7_000_000_001_999, 7_000_000_001),
        (0x80 | 1, 7, 3_500_000_000),
        (0x80 | 10, 1536, 1_500_000_000),
        (0x80 | 30, (7 << 30) + (1 << 29), 7_500_000_000),
        (0x80 | 32, (7 << 32) + (1 << 30), 7_250_000_000),
        (0x80 | 63, 1, 0),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_if_tsresol_counts_in_powers_of_ten_and_of_two(
    tmp_path: Path, order: str, resolution: int, ticks: int, expected: int
) -> None:
    file = Ng(order).section()
    file.interface(options=file.option(9, bytes([resolution])) + file.option(0, b""))
    packets = read(put(tmp_path, bytes(file.enhanced(0, ticks, b"x"))))
    assert packets.time[0] == expected


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("seconds", [0, 1_400_000_000, -60])
def test_if_tsoffset_moves_time_by_seconds(tmp_path: Path, order: str, seconds: int) -> None:
    file = Ng(order).section()
    comment, offset = file.option(1, b"odd"), file.option(14, file.pack("q", seconds))
    file.interface(options=comment + offset + file.option(0, b""))
    packets = read(put(tmp_path, bytes(file.enhanced(0, 100_000_000, b"x"))))
    assert packets.time[0] == (100 + seconds) * SECOND


def test_an_option_after_the_end_of_options_counts_for_nothing(tmp_path: Path) -> None:
    file = Ng().section()
    file.interface(options=file.option(0, b"") + file.option(9, b"\x09"))
    assert read(put(tmp_path, bytes(file.enhanced(0, 1, b"x")))).time[0] == 1_000


def test_each_interface_has_its_own_link_type_and_clock(tmp_path: Path) -> None:
    file = Ng().section().interface(link=1)
    file.interface(link=101, options=file.option(9, b"\x09"))
    file.enhanced(1, 5, b"raw").enhanced(0, 5, b"ether").old(1, 6, b"raw too")
    packets = read(put(tmp_path, bytes(file)))
    assert list(packets.link) == [101, 1, 101]
    assert list(packets.time) == [5, 5_000, 6]


def test_a_new_section_forgets_interfaces_and_byte_order(tmp_path: Path) -> None:
    first = Ng("<").section().interface(link=1).enhanced(0, 1, b"little")
    second = Ng(">").section().interface(link=113).enhanced(0, 2, b"big")
    packets, notices = read_with_notices(put(tmp_path, bytes(first) + bytes(second)))
    assert frames(packets) == [b"little", b"big"]
    assert (list(packets.link), list(packets.time), notices) == ([1, 113], [1000, 2000], [])


# ---- gzip, pipes, batches


def test_a_gzipped_capture_is_read_through(tmp_path: Path) -> None:
    for name, content in (("a.pcap.gz", pcap(RECORDS)), ("b.gz", bytes(small_ng()))):
        packets, notices = read_with_notices(put(tmp_path, gzip.compress(content), name))
        assert (frames(packets)[:4], notices) == (FRAMES, [])


def test_gzip_members_one_after_the_other_are_one_capture(tmp_path: Path) -> None:
    content = pcap(RECORDS)
    members = b"".join(gzip.compress(part) for part in (content[:30], content[30:99], content[99:]))
    packets, notices = read_with_notices(put(tmp_path, members + bytes(7)))
    assert (frames(packets), notices) == (FRAMES, [])


def test_a_cut_gzip_stream_gives_its_whole_packets_and_says_so(tmp_path: Path) -> None:
    records = [(i * SECOND, os.urandom(400), 400) for i in range(60)]
    whole = gzip.compress(pcap(records), mtime=0)
    path = put(tmp_path, whole[: len(whole) // 2], "cut.pcap.gz")
    packets, notices = read_with_notices(path)
    assert 0 < packets.total < 60
    assert frames(packets) == [frame for _, frame, _ in records[: packets.total]]
    assert notices[0] == f"{path}: the gzip stream is cut; what it holds so far is read"


def test_a_pipe_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(pcap(RECORDS),))
    writer.start()
    packets = read(path)
    writer.join()
    assert frames(packets) == FRAMES


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_batches_hold_the_same_packets_as_the_whole(tmp_path: Path, size: int) -> None:
    for name, content in (("a.pcap", pcap(RECORDS)), ("b.pcapng", bytes(small_ng()))):
        path = put(tmp_path, content, name)
        parts = [(frames(part), part.time.tolist()) for part in batches(path, size)]
        whole = read(path)
        assert [frame for part, _ in parts for frame in part] == frames(whole)
        assert [time for _, times in parts for time in times] == whole.time.tolist()
        assert all(len(part) <= size for part, _ in parts)


def test_more_packets_than_a_batch_are_read_in_several(tmp_path: Path) -> None:
    count = (1 << 16) + BATCH + 1
    path = put(tmp_path, pcap([(i * 1000, b"%d" % i, 9) for i in range(count)]))
    packets = read(path)
    assert (packets.total, packets.frame(count - 1)) == (count, b"%d" % (count - 1))
    capture = CaptureFile(path)
    sizes = [part.total for part in capture.batches()]
    assert max(sizes) == BATCH
    assert sum(sizes) == capture.packets == count
    assert capture.captured_bytes == int(packets.captured.sum())


def test_records_longer_than_any_buffer_are_read_in_batches(tmp_path: Path) -> None:
    records = [(i, bytes([i]) * size, size) for i, size in enumerate((9, 3 << 20, 5, 1 << 20, 7))]
    path = put(tmp_path, pcap(records))
    frames_read = [(len(frame), frame[0]) for part in batches(path) for frame in frames(part)]
    assert frames_read == [(len(frame), frame[0]) for _, frame, _ in records]
    packed = put(tmp_path, gzip.compress(path.read_bytes(), 1), "long.pcap.gz")
    assert frames(read(packed)) == [frame for _, frame, _ in records]


@pytest.mark.parametrize("retained", [0, 3])
def test_a_length_that_is_not_believed_ends_a_file_behind_a_long_record(
    tmp_path: Path, retained: int
) -> None:
    long = b"x" * (3 * BUFFER)
    content = pcap([(0, b"first", 5), (1, long, len(long))])
    content += struct.pack("<IIII", 2, 0, LONGEST + 1, LONGEST + 1) + bytes(5 * BUFFER)
    path = put(tmp_path, gzip.compress(content, 1))
    capture = CaptureFile(path)
    frames_read = [frame for part in capture.batches(retained=retained) for frame in frames(part)]
    assert frames_read == [b"first", long]
    assert "the file is cut" in capture.notices[0]


@pytest.mark.parametrize("retained", [0, 3])
def test_what_remains_of_a_file_behind_a_length_that_is_not_believed_is_told(
    tmp_path: Path, retained: int
) -> None:
    path = tmp_path / "cut.pcap"
    rest = 3 * BUFFER
    record = struct.pack("<IIII", 2, 0, 0x7FFFFFFF, 0x7FFFFFFF)
    path.write_bytes(pcap([(0, b"first", 5)]) + record + bytes(rest))
    capture = CaptureFile(path)
    assert sum(part.total for part in capture.batches(retained=retained)) == 1
    assert f"header says 2147483647 bytes, {rest} remain" in capture.notices[0]


def test_a_record_that_ends_where_a_buffer_ends_is_not_overwritten(tmp_path: Path) -> None:
    records = [(i, bytes([65 + i]) * (BUFFER - 16), BUFFER) for i in range(3)]
    first = (0, bytes(BUFFER - 16 - 24), BUFFER)
    content = pcap([first, *records, (9, b"last", 4)])
    for name, stored in (("a.pcap", content), ("b.gz", gzip.compress(content, 1))):
        packets = read(put(tmp_path, stored, name))
        assert [packets.frame(i)[:4] for i in range(packets.total)] == [
            bytes(4), b"AAAA", b"BBBB", b"CCCC", b"last",
        ]  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_the_packets_that_are_held_stay_where_buffers_hold_none(
    tmp_path: Path, packed: bool
) -> None:
    ng = Ng().section().interface().enhanced(0, 1, b"first")
    for _ in range(20):
        ng.block(0xBAD, bytes(BUFFER // 4))
    content = bytes(ng.enhanced(0, 2, b"last"))
    path = put(tmp_path, gzip.compress(content, 1) if packed else content)
    seen: list[tuple[Packets, list[bytes]]] = []
    for part in CaptureFile(path).batches(retained=1):
        seen.append((part, frames(part)))
        for retained, before in seen[-2:]:
            assert frames(retained) == before
    assert [before for _, before in seen] == [[b"first"], [b"last"]]


def test_reading_that_fails_half_way_is_an_error(tmp_path: Path) -> None:
    capture = CaptureFile(put(tmp_path, pcap([(0, bytes(BUFFER // 2), 9)] * 9)))
    parts = capture.batches()
    assert next(parts).total
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, capture.source.file)  # a folder can be closed, and not read
    os.close(folder)
    with pytest.raises(IsADirectoryError):
        list(parts)


def test_a_long_stretch_without_packets_is_read_through(tmp_path: Path) -> None:
    ng = Ng().section().interface().enhanced(0, 1, b"first")
    content = bytes(ng) + bytes(Ng().block(0xBAD, bytes(BUFFER // 2))) * (2 * IN_A_ROW + 9)
    path = put(tmp_path, content + bytes(Ng().enhanced(0, 2, b"last")))
    assert frames(read(path)) == [b"first", b"last"]
    frames_read = [frame for part in CaptureFile(path).batches() for frame in frames(part)]
    assert frames_read == [b"first", b"last"]


# ---- writers


def mixed() -> Packets:
    """Return packets of two link types with odd nanoseconds."""
    one = packets_of(FRAMES, [time + 321 for time in TIMES], 1, [w for _, _, w in RECORDS])
    return one._replace(link=np.array([1, 101, 1, 101], np.int64))


def test_pcapng_keeps_everything_there_and_back(tmp_path: Path) -> None:
    write_pcapng(tmp_path / "it", mixed())
    back, notices = read_with_notices(tmp_path / "it")
    assert (frames(back), notices) == (FRAMES, [])
    for column in ("captured", "wire", "time", "link"):
        assert np.array_equal(getattr(back, column), getattr(mixed(), column)), column


def test_a_file_tells_the_link_types_of_what_was_read(tmp_path: Path) -> None:
    write_pcapng(tmp_path / "two", mixed())
    write_pcap(tmp_path / "one", mixed()._replace(link=np.full(4, 113, np.int64)))
    for name, links in (("two", {1, 101}), ("one", {113})):
        capture = CaptureFile(tmp_path / name)
        assert sum(part.total for part in capture.batches()) == 4
        assert capture.links == links


@pytest.mark.parametrize(("fine", "tick"), [(True, 1), (False, 1000)])
def test_pcap_keeps_all_but_what_is_below_its_tick(tmp_path: Path, fine: bool, tick: int) -> None:
    packets = mixed()._replace(link=np.full(4, 113, np.int64))
    write_pcap(tmp_path / "it", packets, nanoseconds=fine)
    back = read(tmp_path / "it")
    assert frames(back) == FRAMES
    assert np.array_equal(back.time, packets.time // tick * tick)
    assert np.array_equal(back.wire, packets.wire)
    assert set(back.link.tolist()) == {113}


def test_what_was_taken_from_a_capture_can_be_written(tmp_path: Path) -> None:
    odd = read(put(tmp_path, pcap(RECORDS))).take(np.array([3, 1]))
    write_pcap(tmp_path / "odd", odd)
    assert frames(read(tmp_path / "odd")) == [FRAMES[3], FRAMES[1]]


def test_nothing_is_written_as_a_capture_of_nothing(tmp_path: Path) -> None:
    write_pcap(tmp_path / "a", packets_of([], []))
    write_pcapng(tmp_path / "b", packets_of([], []))
    assert (read(tmp_path / "a").total, read(tmp_path / "b").total) == (0, 0)


def test_pcap_refuses_two_link_types_and_names_the_mend(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        write_pcap(tmp_path / "two.pcap", mixed())
    assert str(caught.value) == (
        f"{tmp_path}/two.pcap: a pcap file holds one link type, got [1, 101]; write a pcapng file"
    )
    assert not (tmp_path / "two.pcap").exists()


@given(
    st.lists(
        st.tuples(st.integers(0, 0xFFFFFFFF * SECOND), st.binary(max_size=70), st.integers(0, 99)),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=60)
def test_any_packets_survive_both_formats(records: list[Record]) -> None:
    packets = packets_of(
        [frame for _, frame, _ in records],
        [time for time, _, _ in records],
        wire=[len(frame) + extra for _, frame, extra in records],
    )
    with tempfile.TemporaryDirectory() as folder:
        write_pcapng(f"{folder}/ng", packets)
        write_pcap(f"{folder}/ns", packets, nanoseconds=True)
        for name in ("ng", "ns"):
            back, notices = read_with_notices(f"{folder}/{name}")
            assert notices == []
            assert frames(back) == frames(packets)
            assert np.array_equal(back.time, packets.time)
            assert np.array_equal(back.wire, packets.wire)


# ---- oracles: two slow readers that share nothing with ours


def test_dpkt_reads_what_is_written(tmp_path: Path) -> None:
    packets = packets_of(FRAMES, TIMES, 1)
    for fine in (True, False):
        write_pcap(tmp_path / "it.pcap", packets, nanoseconds=fine)
        with (tmp_path / "it.pcap").open("rb") as handle:
            reader = dpkt.pcap.Reader(handle)
            assert reader.datalink() == 1
            frames_read = list(reader)
        assert [frame for _, frame in frames_read] == FRAMES
        assert [round(float(time), 5) for time, _ in frames_read] == [
            round(t / 1e9, 5) for t in TIMES
        ]
    write_pcapng(tmp_path / "it.pcapng", packets)
    with (tmp_path / "it.pcapng").open("rb") as handle:
        assert [frame for _, frame in dpkt.pcapng.Reader(handle)] == FRAMES


def test_scapy_reads_what_is_written(tmp_path: Path) -> None:
    packets = mixed()
    write_pcapng(tmp_path / "it.pcapng", packets)
    with RawPcapNgReader(str(tmp_path / "it.pcapng")) as reader:
        frames_read = list(reader)
    assert [frame for frame, _ in frames_read] == FRAMES
    assert [about.linktype for _, about in frames_read] == packets.link.tolist()
    assert [about.wirelen for _, about in frames_read] == packets.wire.tolist()
    ticks = [
        (about.tshigh << 32 | about.tslow) * (SECOND // about.tsresol) for _, about in frames_read
    ]
    assert ticks == packets.time.tolist()
    write_pcap(tmp_path / "it.pcap", packets._replace(link=np.full(4, 1)), nanoseconds=True)
    with RawPcapReader(str(tmp_path / "it.pcap")) as plain:
        frames_read = list(plain)
    assert [frame for frame, _ in frames_read] == FRAMES
    assert [about.sec * SECOND + about.usec for _, about in frames_read] == packets.time.tolist()


def test_we_read_what_dpkt_writes(tmp_path: Path) -> None:
    with (tmp_path / "it.pcap").open("wb") as handle:
        writer = dpkt.pcap.Writer(handle, nano=True)
        for frame in FRAMES:
            writer.writepkt(frame, ts=12.5)
    assert frames(read(tmp_path / "it.pcap")) == FRAMES
    assert set(read(tmp_path / "it.pcap").time.tolist()) == {12_500_000_000}


@pytest.mark.corpus
def test_real_captures_read_as_dpkt_reads_them(corpus: Path) -> None:
    paths = sorted(path for path in corpus.rglob("*.pcap*") if path.stat().st_size < 200_000)[::4]
    assert paths
    for path in paths:
        packets = read(path)
        with path.open("rb") as handle:
            frames_read = [frame for _, frame in dpkt.pcap.UniversalReader(handle)]
        assert frames(packets) == frames_read, path.name


# ---- sentences


def test_what_cannot_be_read_is_refused_in_one_exact_sentence(tmp_path: Path) -> None:
    path = tmp_path / "it.pcap"
    assert error_text(path) == f"{path}: no such file"
    assert error_text(tmp_path) == f"{tmp_path}: is a folder, expected a capture file"
    put(tmp_path, b"")
    assert error_text(path) == f"{path}: the file is empty, expected a pcap or pcapng capture"
    put(tmp_path, b"PK\3\4 and more")
    assert error_text(path) == (
        f"{path}: not a capture: it starts with 50 4b 03 04, "
        "expected the magic number of a pcap or pcapng file"
    )
    put(tmp_path, pcap([])[:23])
    assert error_text(path) == f"{path}: the file header is cut: it has 23 bytes, expected 24"
    put(tmp_path, gzip.compress(b""))
    assert error_text(path) == f"{path}: the gzip stream holds no bytes"
    put(tmp_path, gzip.compress(pcap(RECORDS))[:10] + b"\xff" * 40)
    assert error_text(path).startswith(f"{path}: the gzip stream is damaged: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, pcap(RECORDS))
    path.chmod(0)
    assert error_text(path) == f"{path}: cannot be read: Permission denied"


def notice(path: Path) -> str:
    """Return the one thing a person should know of a file."""
    (only,) = read_with_notices(path)[1]
    return only


def test_a_cut_record_says_what_its_header_promised(tmp_path: Path) -> None:
    path = put(tmp_path, pcap(RECORDS)[:-1])
    assert notice(path) == (
        f"{path}: record 4 at byte 133: header says 200 bytes, 199 remain; "
        "the file is cut, its 3 whole packets are read"
    )
    put(tmp_path, pcap([(0, b"0123456789", 10)])[:-5])
    assert notice(path) == (
        f"{path}: record 1 at byte 24: header says 10 bytes, 5 remain; "
        "the file is cut, its 0 whole packets are read"
    )
    put(tmp_path, pcap([(0, bytes(16), 16)])[:-1])
    assert notice(path) == (
        f"{path}: record 1 at byte 24: header says 16 bytes, 15 remain; "
        "the file is cut, its 0 whole packets are read"
    )
    put(tmp_path, pcap(RECORDS[:1]) + bytes(15))
    assert notice(path) == (
        f"{path}: record 2 at byte 100: header says 16 bytes, 15 remain; "
        "the file is cut, its 1 whole packets are read"
    )


def test_a_damaged_pcapng_keeps_the_packets_before_the_damage(tmp_path: Path) -> None:
    good = bytes(Ng().section().interface().enhanced(0, 1, b"good"))
    at = len(good)
    cases = [
        (struct.pack("<III", 6, 14, 0), "the block has an impossible length of 14 bytes"),
        (struct.pack("<III", 6, 8, 0), "the block has an impossible length of 8 bytes"),
        (bytes(Ng().enhanced(1, 1, b"x")), "the packet names an interface that was not described"),
        (
            bytes(Ng().block(6, struct.pack("<IIIII", 0, 0, 1, 99, 99) + b"four")),
            "the block has an impossible length of 99 bytes",
        ),
    ]
    for number, (bad, why) in enumerate(cases):
        path = put(tmp_path, good + bad, f"{number}.pcapng")
        assert frames(read(path)) == [b"good"]
        assert notice(path) == (
            f"{path}: record 2 at byte {at}: {why}; "
            "the file is damaged, the 1 packets before it are read"
        )


def test_too_many_interfaces_stop_the_reading(tmp_path: Path) -> None:
    file = Ng().section()
    for _ in range(INTERFACES + 1):
        file.interface()
    path = put(tmp_path, bytes(file))
    assert f"more than {INTERFACES} interfaces" in notice(path)


# ---- truncation and noise


def small_ng() -> Ng:
    """Return a pcapng file with every kind of packet block and an option."""
    file = Ng().section()
    file.interface(snaplen=65535, options=file.option(9, b"\x09") + file.option(0, b""))
    for time, frame, wire in RECORDS:
        file.enhanced(0, time, frame, wire)
    return file.simple(b"simple", 6).old(0, 5, b"old")


def whole_packets(parts: list[bytes], kept: int, packet: list[bool]) -> int:
    """Return how many packets stand whole in the first `kept` bytes of joined parts."""
    ends = np.cumsum([len(part) for part in parts])
    return sum(is_packet and end <= kept for end, is_packet in zip(ends, packet, strict=True))


def cuts() -> Iterator[tuple[str, list[bytes], list[bool], int]]:
    """Yield per format its parts, which of them are packets, and the shortest readable length."""
    yield "a.pcap", [pcap([]), *(pcap([one])[24:] for one in RECORDS)], [False, *[True] * 4], 24
    yield "b.pcapng", small_ng().parts, [False, False, *[True] * 6], 4


@pytest.mark.parametrize(("name", "parts", "packet", "least"), list(cuts()), ids=["pcap", "pcapng"])
def test_a_file_cut_at_any_byte_gives_its_whole_packets_and_a_notice(
    tmp_path: Path, name: str, parts: list[bytes], packet: list[bool], least: int
) -> None:
    content = b"".join(parts)
    ends = {int(end) for end in np.cumsum([len(part) for part in parts])}
    everything = frames(read(put(tmp_path, content, name)))
    for kept in range(len(content)):
        path = put(tmp_path, content[:kept], name)
        if kept < least:
            assert error_text(path).startswith(f"{path}: ")
            continue
        packets, notices = read_with_notices(path)
        expected = whole_packets(parts, kept, packet)
        assert frames(packets) == everything[:expected], kept
        assert len(notices) == (kept not in ends), kept
        for frames_read in notices:
            assert frames_read.startswith(f"{path}: record {expected + 1} at byte ")
            assert f"its {expected} whole packets are read" in frames_read


def readable(content: bytes) -> None:
    """Read bytes as a file: packets that lie inside them, or CaptureError, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), content)
        try:
            packets, notices = read_with_notices(path)
        except CaptureError as error:
            packets, notices = packets_of([], []), [str(error)]
        assert all(frames_read.startswith(f"{path}: ") for frames_read in notices)
        size = len(packets.data)
        assert (packets.captured >= 0).all()
        assert (packets.wire >= 0).all()
        assert (packets.offset >= 0).all()
        assert (packets.offset + packets.captured <= size).all()


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_refused_or_read(noise: bytes) -> None:
    readable(noise)


HEADS = st.sampled_from(
    [pcap([]), pcap([], ">"), pcap([], unit=1), b"\x0a\x0d\x0d\x0a", bytes(Ng().section())]
    + [bytes(Ng(order).section().interface()) for order in "<>"]
    + [bytes.fromhex("34cdb2a1") + bytes(20), b"\x1f\x8b"]
)


@given(HEADS, st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_noise_behind_a_sound_head_is_refused_or_read(head: bytes, noise: bytes) -> None:
    readable(head + noise)


@given(
    st.sampled_from([pcap(RECORDS), pcap(RECORDS, ">", 1), bytes(small_ng())]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=250)
def test_a_sound_file_with_some_bytes_changed_is_refused_or_read(
    content: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(content)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    readable(bytes(damaged[: max(cut % (2 * len(damaged)), 1)]))


def test_plain_python_reads_extreme_clocks_as_compiled_code_does(tmp_path: Path) -> None:
    paths = []
    for resolution in (0, 6, 9, 20, 127, 0x80, 0x80 | 31, 0x80 | 62, 0xFF):
        for seconds in (0, -(1 << 63), (1 << 63) - 1, 9_000_000_000):
            file = Ng().section()
            options = file.option(9, bytes([resolution])) + file.option(
                14, struct.pack("<q", seconds)
            )
            file.interface(options=options)
            for ticks in (0, 1, (1 << 64) - 1, 1 << 63, 1_700_000_000_000_000):
                file.enhanced(0, ticks, b"x")
            paths.append(put(tmp_path, bytes(file), f"{resolution}{seconds}.pcapng"))
    code = (
        "import sys; from midcall.captures.packets.pcap import read\n"
        "for path in sys.argv[1:]: print(read(path).time.tolist())"
    )
    frames_read = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, paths)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert frames_read.stderr == ""
    assert frames_read.stdout.splitlines() == [str(read(path).time.tolist()) for path in paths]
