# SPDX-License-Identifier: BSD-3-Clause
"""What captures come as: compressed, from the standard input, behind PKTAP and PPI headers."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from midcall.captures.own.anonymise import anonymised
from midcall.captures.own.privacy import privacy
from midcall.captures.packets.headers import flows
from midcall.captures.packets.pcap import packets_of, read, read_with_notices
from midcall.captures.packets.writer import write_pcap
from midcall.classifier.engine import Engine
from midcall.classifier.export import columns
from midcall.errors import CaptureError

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "captures" / "samples" / "sample-whatsapp-audio.pcap"
CONTENT = SAMPLE.read_bytes()

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda raw: gzip.compress(raw, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("form", PACK)
def test_a_compressed_capture_is_recognised_by_its_first_octets(tmp_path: Path, form: str) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(PACK[form](CONTENT))
    packets, notices = read_with_notices(path)
    whole = read(SAMPLE)
    assert notices == []
    assert packets.total == whole.total
    assert packets.frame(packets.total - 1) == whole.frame(whole.total - 1)


@pytest.mark.parametrize("form", PACK)
def test_parts_that_were_compressed_apart_are_one_capture(tmp_path: Path, form: str) -> None:
    path = tmp_path / "parts"
    path.write_bytes(PACK[form](CONTENT[:1000]) + PACK[form](CONTENT[1000:]))
    assert read(path).total == read(SAMPLE).total


def test_skippable_frames_of_zstandard_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "skip"
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    path.write_bytes(skippable + PACK["zstd"](CONTENT))
    assert read(path).total == read(SAMPLE).total


@pytest.mark.parametrize("form", PACK)
def test_a_cut_compressed_stream_gives_what_it_holds(tmp_path: Path, form: str) -> None:
    path = tmp_path / "cut"
    frames = np.random.default_rng(1).bytes(600_000)
    records = [CONTENT[:24]]
    for at in range(0, len(frames), 1000):
        records.append(struct.pack("<IIII", 1, 0, 1000, 1000) + frames[at : at + 1000])
    packed = PACK[form](b"".join(records))
    path.write_bytes(packed[: len(packed) * 19 // 20])
    if form == "bzip2":  # its only block is not whole
        with pytest.raises(CaptureError, match="the bzip2 stream holds no bytes"):
            read(path)
        return
    packets, notices = read_with_notices(path)
    assert notices[0] == f"{path}: the {form} stream is cut; what it holds so far is read"
    assert packets.total > 100


@pytest.mark.parametrize("form", PACK)
def test_a_damaged_compressed_stream_is_one_sentence(tmp_path: Path, form: str) -> None:
    path = tmp_path / "damaged"
    packed = bytearray(PACK[form](CONTENT))
    packed[6:40] = b"\xff" * 34
    path.write_bytes(packed)
    with pytest.raises(CaptureError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: the {form} stream is damaged: ")


def test_a_zstandard_stream_that_unpacks_to_much_more_is_read_in_steps(tmp_path: Path) -> None:
    head = CONTENT[:24]
    record = struct.pack("<IIII", 1, 0, 60000, 60000) + bytes(60000)
    path = tmp_path / "large.zst"
    path.write_bytes(PACK["zstd"](head + record * 2000))
    assert path.stat().st_size < 100_000
    assert read(path).total == 2000


# ---- the standard input

PROGRAM = """
import sys
from midcall.captures.packets.pcap import read_with_notices
packets, notices = read_with_notices("-")
print(packets.total, *notices)
"""


def from_input(content: bytes) -> str:
    """Return what a process prints that reads a capture from a pipe."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=content,
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout.decode().strip()


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_the_standard_input_is_a_capture(form: str) -> None:
    content = CONTENT if form == "plain" else PACK[form](CONTENT)
    assert from_input(content) == str(read(SAMPLE).total)


def test_a_cut_standard_input_is_named_in_the_notice() -> None:
    assert from_input(CONTENT[:-5]).split(" ", 1)[1].startswith("standard input: record ")


# ---- link types that state another one


def pktap(frame: bytes, dlt: int = 1, kind: int = 1, size: int = 108) -> bytes:
    """Return a frame behind Apple's pktap_header (bsd/net/pktap.h)."""
    head = struct.pack("<III24sIIIIi20s", size, kind, dlt, b"en0", 2, 2, 14, 0, 42, b"Viber")
    return head.ljust(size, b"\0") + frame


def ppi(frame: bytes, dlt: int = 1) -> bytes:
    """Return a frame behind a PPI header with one field of four octets."""
    return struct.pack("<BBHIHHI", 0, 0, 16, dlt, 2, 4, 0) + frame


@pytest.mark.parametrize(("link", "wrap"), [(258, pktap), (149, pktap), (192, ppi)])
def test_a_frame_behind_pktap_or_ppi_is_classified_as_the_bare_one(
    link: int, wrap: Callable[[bytes], bytes]
) -> None:
    bare = read(SAMPLE)
    frames = [wrap(bare.frame(i)) for i in range(bare.total)]
    wrapped = packets_of(frames, bare.time.tolist(), link)
    tables = []
    for packets in (bare, wrapped):
        engine = Engine()
        engine.feed(packets)
        tables.append({key: col.tolist() for key, col in columns(engine.flows(), "x").items()})
    assert tables[0] == tables[1]
    ends = [(flow.source, flow.target, flow.packets) for flow in flows(bare)]
    assert [(flow.source, flow.target, flow.packets) for flow in flows(wrapped)] == ends
    assert privacy(wrapped).counts() == privacy(bare).counts()


@pytest.mark.parametrize(
    ("frame", "link", "counter"),
    [
        (pktap(b"x" * 60, kind=0), 258, "not_ip"),
        (pktap(b"x" * 60, dlt=147), 258, "unknown_link"),
        (pktap(b"")[:50], 258, "malformed"),
        (b"\xff" * 120, 258, "malformed"),
        (b"\xff" * 120, 149, "unknown_link"),
        (ppi(b"")[:6], 192, "malformed"),
        (pktap(pktap(b"", 258), 258), 258, "unknown_link"),
        (struct.pack("<BBHI", 0, 0, 60000, 1) + bytes(60), 192, "malformed"),
    ],
)
def test_a_damaged_or_unknown_header_is_a_counted_outcome(
    frame: bytes, link: int, counter: str
) -> None:
    engine = Engine()
    engine.feed(packets_of([frame], [1], link))
    assert {key for key, n in engine.counters.items() if n} == {"packets", counter}
    assert flows(packets_of([frame], [1], link)) == []


def test_an_anonymised_pktap_capture_names_no_process_and_no_interface(tmp_path: Path) -> None:
    bare = read(SAMPLE)
    frames = [pktap(bare.frame(i)) for i in range(20)]
    copy = anonymised(packets_of(frames, [1] * 20, 258))
    for i in range(20):
        assert b"Viber" not in copy.frame(i)
        assert b"en0" not in copy.frame(i)
        assert copy.frame(i)[108:114] != bare.frame(i)[:6]
    write_pcap(tmp_path / "copy.pcap", copy)
    assert len(flows(read(tmp_path / "copy.pcap"))) == len(flows(packets_of(frames, [1] * 20, 258)))
