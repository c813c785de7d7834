# SPDX-License-Identifier: BSD-3-Clause
"""Wall-clock timing of the offline path: throughput and latency, never mixed with virtual time.

The load is a mix of all captures of the run held in memory: each pass feeds the whole mix to a
fresh engine (so that flows are new again), until enough packets are through or the time is up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.pcap import BATCH, Packets
from experiments.statistics import quantile

#: Packets per timed batch of the latency measurement.
SMALL = 64
PERCENTILES = (50.0, 99.0, 99.9)

LATENCY_METHOD = (
    f"time.perf_counter_ns around Engine.feed of {SMALL} packets at a time, divided by {SMALL}; "
    "the call from Python (about 3 us a batch) is included; percentiles are over batches; "
    "packets are in memory; one process, one core"
)
THROUGHPUT_METHOD = (
    "the run's captures, concatenated in memory, fed in batches of "
    f"{BATCH} packets to a fresh engine per pass until the wanted number of packets is through; "
    "reading files and start-up are outside; bytes are frame bytes on the wire; one core"
)


class Measured(NamedTuple):
    """Rows of throughput.parquet and latency.parquet, and what summary.json says of them."""

    throughput: list[dict[str, Any]]
    latency: list[dict[str, Any]]
    summary: dict[str, Any]


def mix(parts: Sequence[Packets]) -> Packets:
    """Return the captures one after the other as one Packets, the bytes copied once."""
    starts = np.cumsum([0, *(len(part.data) for part in parts)])[:-1]
    columns = [np.concatenate([part[i] for part in parts]) for i in range(1, 6)]
    offsets = [part.offset + start for part, start in zip(parts, starts, strict=True)]
    columns[0] = np.concatenate(offsets).astype(np.int64)
    data = np.concatenate([part.data for part in parts])
    data.flags.writeable = parts[0].data.flags.writeable  # else another type would be compiled
    return Packets(data, *columns)


def one_pass(load: Packets, size: int, deadline: float) -> list[tuple[int, int]]:
    """Feed the load to a fresh engine; return (packets, ns) of every batch until the deadline."""
    from classifier.engine import Engine

    engine = Engine()
    timed = []
    for start in range(0, load.total, size):
        batch = load.take(slice(start, start + size))
        begin = time.perf_counter_ns()
        engine.feed(batch)
        timed.append((batch.total, time.perf_counter_ns() - begin))
        if time.monotonic() > deadline:
            break
    return timed


def measure(parts: Sequence[Packets], packets: int, seconds: float, name: str) -> Measured:
    """Measure throughput (half of the time allowed) and latency (the other half).

    `name` says in the tables what the load was. Without packets every figure is None.
    """
    full = [part for part in parts if part.total]
    if not full:
        return Measured([], [], _summary(None, [], 0))
    load = mix(full)
    one_pass(load.take(slice(0, BATCH)), BATCH, time.monotonic() + seconds)  # compile, touch pages
    row = _throughput(load, packets, seconds / 2, name)
    spent = np.array(_latency(load, packets, seconds / 2))
    latency = [
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


def _throughput(load: Packets, packets: int, seconds: float, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    through, size, spent = 0, 0, 0
    while through < packets and time.monotonic() < deadline:
        timed = one_pass(load, BATCH, deadline)
        held = sum(n for n, _ in timed)
        through += held
        size += int(load.wire[:held].sum())
        spent += sum(ns for _, ns in timed)
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
        timed = one_pass(load, SMALL, deadline)
        whole = [ns / n for n, ns in timed if n == SMALL]
        spent += whole
        if not whole:
            break
    return np.array(spent, np.float64)


def _summary(
    row: dict[str, Any] | None, latency: Sequence[dict[str, Any]], n: int
) -> dict[str, Any]:
    figures = {entry["percentile"]: entry["ns_per_packet"] for entry in latency}
    wide: dict[str, Any] = row or {}
    names = {50.0: "p50", 99.0: "p99", 99.9: "p999"}
    return {
        "throughput": {
            "offline": {
                "packets_per_s": wide.get("packets_per_s"),
                "bytes_per_s": wide.get("bytes_per_s"),
                "packets": wide.get("packets", 0),
                "seconds": wide.get("seconds"),
                "load": wide.get("file"),
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
