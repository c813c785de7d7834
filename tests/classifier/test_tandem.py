# SPDX-License-Identifier: BSD-3-Clause
"""Two cores in tandem say what one says: every flow, every counter, every table, to the bit."""

from __future__ import annotations

import gzip
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import (
    BATCH,
    BUFFER,
    CaptureFile,
    Packets,
    packets_of,
    read,
)
from midcall.captures.packets.writer import write_pcap, write_pcapng
from midcall.classifier import parallel
from midcall.classifier.engine import Engine
from midcall.classifier.parallel import through
from midcall.classifier.state.flow_table import METER_FLOWS, METER_NOTES
from midcall.errors import CaptureError
from midcall.experiments.accuracy.perturb import COLUMNS, disturb
from midcall.testbed.replay.packet_index import index_packets
from tests.classifier.wire import FAR, NEAR, ether, ip
from tests.golden import available

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
SAMPLE_FILES = sorted(SAMPLES.glob("*.pcap*"))
#: Datagrams between a fragment and the rest of its own: within the memory of fragments.
APART = 90
BIG = SAMPLES / "sample-viber-audio.pcap"


def fed(path: Path, cores: int, **options: int) -> tuple[Engine, CaptureFile]:
    """Return an engine that was fed a file, and the file."""
    engine, capture = Engine(**options), CaptureFile(path)  # type: ignore[arg-type]
    through(engine, capture, cores)
    assert capture.packets == engine.records
    return engine, capture


def used(engine: Engine) -> dict[str, Any]:
    """Return what stands in each table, without the room around it.

    The room grows by batches, whose size is not the same on one core and on two.
    """
    tables = engine.tables
    arrays = tables._asdict()
    arrays["flows"] = tables.flows[: tables.meter[METER_FLOWS]]
    arrays["notes"] = tables.notes[: tables.meter[METER_NOTES]]
    arrays["slots"] = np.sort(tables.slots[tables.slots != 0])
    del arrays["spill"]  # empty after each batch
    return arrays


def assert_same_tables(one: Engine, two: Engine) -> None:
    """Compare all that two engines hold."""
    arrays = used(two)
    for name, table in used(one).items():
        assert np.array_equal(table, arrays[name]), name


def assert_same(path: Path, **options: int) -> Engine:
    """Feed a file on one core and on two, and compare everything that an engine holds."""
    (one, read_by_one), (two, read_by_two) = fed(path, 1, **options), fed(path, 2, **options)
    assert np.array_equal(one.flows(), two.flows()), path
    assert one.counters == two.counters
    assert_same_tables(one, two)
    assert read_by_one.notices == read_by_two.notices
    assert read_by_one.captured_bytes == read_by_two.captured_bytes
    assert read_by_one.links == read_by_two.links
    return two


def mixed(folder: Path, copies: int = 1) -> Path:
    """Write the samples as one file, several times over: many flows, many batches."""
    from midcall.experiments.measure.timing import mix

    path = folder / "mix.pcapng"
    write_pcapng(path, mix([read(one) for one in SAMPLE_FILES * copies]))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("path", SAMPLE_FILES, ids=lambda path: path.stem)
def test_every_sample_has_the_same_verdicts(path: Path) -> None:
    assert len(assert_same(path).flows())


def test_a_file_of_many_batches_and_a_table_that_grows(tmp_path: Path) -> None:
    path = mixed(tmp_path, 16)
    engine = assert_same(path, room=64)
    assert sum(1 for _ in CaptureFile(path).batches(retained=1)) > 8
    assert len(engine.tables.flows) > 64


def test_tables_that_have_room_are_not_replaced() -> None:
    engine = Engine()
    engine.reserve(BATCH)  # else whoever waits for a turn would take others for those it knows
    before = engine.tables
    engine.reserve(BATCH)
    assert engine.tables is before
    engine.reserve(1 << 16)
    assert engine.tables is not before


def test_a_table_at_its_bound_evicts_the_same_flows(tmp_path: Path) -> None:
    path = mixed(tmp_path, 4)
    for bound in (64, 150):
        assert assert_same(path, max_flows=bound).counters["evicted"]


@pytest.mark.slow
@pytest.mark.corpus
def test_the_corpus_has_the_same_verdicts(corpus: Path) -> None:
    for _, path in available(corpus):
        assert_same(path)


@pytest.mark.slow
@pytest.mark.corpus
def test_disturbed_copies_have_the_same_verdicts(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "disturbed.pcapng"
    for capture, source in available(corpus)[::9]:
        index = index_packets(read(source))
        for column in COLUMNS:
            if column.packets:
                write_pcapng(path, disturb(column, index, 1, capture.sha256).packets)
                assert_same(path)


def test_fragments_get_the_ports_of_a_first_one_in_an_earlier_batch(tmp_path: Path) -> None:
    frames: list[bytes] = []
    for number in range(3 * BATCH):
        first = struct.pack(">4H", 1024 + number % 50_000, 7000, 24, 0) + bytes(8)
        hosts, ident = (NEAR, FAR), number & 0xFFFF
        frames.append(ether(ip(17, first, *hosts, ident=ident, word=0x2000)))
        if number >= APART:  # the rest of an earlier one, at times of another batch
            earlier = (number - APART) & 0xFFFF
            frames.append(ether(ip(17, bytes(8), *hosts, ident=earlier, word=2)))
    path = tmp_path / "fragments.pcap"
    write_pcap(path, packets_of(frames, list(range(len(frames)))))
    engine = assert_same(path)
    flows = engine.flows()
    assert sum(1 for _ in CaptureFile(path).batches(retained=1)) > 5
    assert (flows["packets_up"] == 2).sum() > BATCH


def test_an_engine_goes_on_with_the_next_file(tmp_path: Path) -> None:
    engines = Engine(), Engine()
    for path in SAMPLE_FILES[:6]:
        for cores, engine in enumerate(engines, 1):
            through(engine, CaptureFile(path), cores)
    assert np.array_equal(engines[0].flows(), engines[1].flows())
    assert_same_tables(*engines)


def test_a_damaged_file_is_the_same_error(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(BIG.read_bytes(), mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "damaged.pcap.gz"
    path.write_bytes(packed)
    errors = []
    for cores in (1, 2):
        with pytest.raises(CaptureError, match="damaged") as caught:
            through(Engine(), CaptureFile(path), cores)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_a_cut_file_is_read_as_far_and_told_alike(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(BIG.read_bytes()[:-7])
    assert_same(path)
    assert "is cut" in fed(path, 2)[1].notices[0]


def large(folder: Path) -> Path:
    """Write a file whose third packet is larger than a buffer."""
    frames = read(BIG)
    frame = frames.frame(2) + bytes(BUFFER)
    sizes = frames.captured.copy()
    sizes[2] = len(frame)
    data = b"".join(frame if i == 2 else frames.frame(i) for i in range(frames.total))
    offset = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    path = folder / "large.pcapng"
    wire = np.maximum(frames.wire, sizes)
    octets = np.frombuffer(data, np.uint8)
    write_pcapng(path, Packets(octets, offset, sizes, wire, frames.time, frames.link))
    return path


def test_a_packet_larger_than_a_buffer_is_taken_alike(tmp_path: Path) -> None:
    assert assert_same(large(tmp_path)).records == read(BIG).total


def test_who_stops_early_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> int:
        raise KeyboardInterrupt

    before = threading.active_count()
    monkeypatch.setattr(parallel, "decide_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        through(Engine(), CaptureFile(mixed(tmp_path, 12)), 2)
    assert threading.active_count() == before


def test_who_stops_while_a_pipe_says_nothing_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*given: object) -> int:
        raise KeyboardInterrupt

    content = BIG.read_bytes()
    content += content[24:] * (2 * BUFFER // len(content))
    end, source = os.pipe()
    writer = threading.Thread(target=os.write, args=(source, content), daemon=True)
    writer.start()
    capture = CaptureFile(f"/dev/fd/{end}")
    os.close(end)
    monkeypatch.setattr(parallel, "decide_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        through(Engine(), capture, 2)
    os.close(source)
