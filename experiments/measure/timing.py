# SPDX-License-Identifier: BSD-3-Clause
"""Wall-clock timing of the offline path: throughput and latency, never mixed with virtual time.

The load is a mix of all captures of the run, interleaved by time in one file. Throughput is that of
`midcall classify`: the file is read (from the page cache) and every packet goes through a new
engine per pass, so that flows are new again. Latency is the engine's alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets, batches, read
from midcall.captures.packets.writer import write_pcapng
from midcall.experiments.measure.intervals import quantile
from midcall.experiments.results.tables import LatencyRow, ThroughputRow

#: Packets per timed batch of the latency measurement.
SMALL = 64
PERCENTILES = (50.0, 99.0, 99.9)

LATENCY_METHOD = (
    f"time.perf_counter_ns around Engine.feed of {SMALL} packets at a time, divided by {SMALL}; "
    "the call from Python (about 3 us a batch) is included; percentiles are over batches; "
    "packets are in memory; one process, one core"
)
THROUGHPUT_METHOD = (
    "the run's captures, interleaved by time in one file, read from the page cache and classified "
    "by a fresh engine, again and again until the wanted number of packets is through; start-up is "
    "outside, reading is inside; bytes are frame bytes on the wire; one process, one core"
)


class Summary(TypedDict):
    """The blocks `throughput` and `latency` of summary.json."""

    throughput: dict[str, dict[str, object]]
    latency: dict[str, dict[str, object]]


class Measured(NamedTuple):
    """Rows of throughput.parquet and latency.parquet, and their blocks of summary.json."""

    throughput: list[ThroughputRow]
    latency: list[LatencyRow]
    summary: Summary


def mix(parts: Sequence[Packets]) -> Packets:
    """Return the captures as one, interleaved: each starts at 0 on one clock."""
    starts = np.cumsum([0, *(len(part.data) for part in parts)])[:-1]
    columns = [np.concatenate([part[i] for part in parts]) for i in range(1, 6)]
    offsets = [part.offset + start for part, start in zip(parts, starts, strict=True)]
    columns[0] = np.concatenate(offsets).astype(np.int64)
    columns[3] = np.concatenate([part.time - part.time.min() for part in parts])
    order = np.argsort(columns[3], kind="stable")
    data = np.concatenate([part.data for part in parts])
    return Packets(data, *(column[order] for column in columns))


def one_pass(load: Packets, deadline: float) -> list[tuple[int, int]]:
    """Feed the load to a new engine; return (packets, ns) of every small batch."""
    from midcall.classifier.engine import Engine

    engine = Engine()
    timed = []
    for start in range(0, load.total, SMALL):
        batch = load.take(slice(start, start + SMALL))
        begin = time.perf_counter_ns()
        engine.feed(batch)
        timed.append((batch.total, time.perf_counter_ns() - begin))
        if time.monotonic() > deadline:
            break
    return timed


def read_through(path: Path, deadline: float) -> tuple[int, int, int]:
    """Classify a file with a new engine; return packets, wire bytes and ns."""
    from midcall.classifier.engine import Engine

    engine, count, size = Engine(), 0, 0
    begin = time.perf_counter_ns()
    for batch in batches(path):
        engine.feed(batch)
        count += batch.total
        size += int(batch.wire.sum())
        if time.monotonic() > deadline:
            break
    return count, size, time.perf_counter_ns() - begin


def measure(parts: Sequence[Packets], packets: int, seconds: float, name: str) -> Measured:
    """Measure throughput (half of the time allowed) and latency (the other half).

    name: of the load, in the tables. Without packets every figure is None.
    """
    full = [part for part in parts if part.total]
    if not full:
        return Measured([], [], _summary(None, [], 0))
    with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
        path = Path(folder) / "mix.pcapng"
        write_pcapng(path, mix(full))
        read_through(path, time.monotonic() + seconds)  # compiles, touches pages
        row = _throughput(path, packets, seconds / 2, name)
        spent = _latency(read(path), packets, seconds / 2)
    latency: list[LatencyRow] = [
        {
            "path": "offline",
            "percentile": q,
            "ns_per_packet": quantile(spent.tolist(), q / 100),
            "batch": SMALL,
            "n": len(spent),
        }
        for q in PERCENTILES
    ]
    return Measured([row], latency, _summary(row, latency, len(spent)))


def _throughput(path: Path, packets: int, seconds: float, name: str) -> ThroughputRow:
    deadline = time.monotonic() + seconds
    through, size, spent = 0, 0, 0
    while through < packets and time.monotonic() < deadline:
        count, wire, ns = read_through(path, deadline)
        through, size, spent = through + count, size + wire, spent + ns
    took = spent / 1e9
    return {
        "path": "offline",
        "file": name,
        "packets": through,
        "bytes": size,
        "seconds": took,
        "packets_per_s": through / took,
        "bytes_per_s": size / took,
    }


def _latency(load: Packets, packets: int, seconds: float) -> NDArray[np.float64]:
    """Return ns per packet of every whole small batch."""
    deadline = time.monotonic() + seconds
    spent: list[float] = []
    while len(spent) * SMALL < packets and time.monotonic() < deadline:
        timed = one_pass(load, deadline)
        whole = [ns / n for n, ns in timed if n == SMALL]
        spent += whole
        if not whole:
            break
    return np.array(spent, np.float64)


def _summary(row: ThroughputRow | None, latency: Sequence[LatencyRow], n: int) -> Summary:
    figures = {entry["percentile"]: entry["ns_per_packet"] for entry in latency}
    names = {50.0: "p50", 99.0: "p99", 99.9: "p999"}
    return {
        "throughput": {
            "offline": {
                "packets_per_s": row and row["packets_per_s"],
                "bytes_per_s": row and row["bytes_per_s"],
                "packets": row["packets"] if row else 0,
                "seconds": row and row["seconds"],
                "load": row and row["file"],
                "method": THROUGHPUT_METHOD,
            }
        },
        "latency": {
            "offline": {
                "ns_per_packet": {names[q]: figures.get(q) for q in PERCENTILES},
                "batch": SMALL,
                "n": n,
                "method": LATENCY_METHOD,
            }
        },
    }
