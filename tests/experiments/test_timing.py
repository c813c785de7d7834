# SPDX-License-Identifier: BSD-3-Clause
"""Timing: the load is what it says, the time is bounded, and nothing is made up."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from midcall.captures.packets.pcap import read
from midcall.experiments.measure import timing

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
NAMES = ("sample-dns.pcap", "sample-messenger-audio.pcapng", "sample-tunnels.pcapng")


def test_a_mix_holds_every_frame_of_every_capture_interleaved_by_time() -> None:
    parts = [read(SAMPLES / name) for name in NAMES]
    load = timing.mix(parts)
    frames = [(int(part.link[i]), part.frame(i)) for part in parts for i in range(part.total)]
    held = [(int(load.link[i]), load.frame(i)) for i in range(load.total)]
    assert sorted(held) == sorted(frames)
    assert held != frames
    assert load.time[0] == 0
    assert (np.diff(load.time) >= 0).all()


def test_figures_come_from_the_packets_that_went_through() -> None:
    told = timing.measure([read(SAMPLES / name) for name in NAMES], 5000, 2.0, "three")
    row = told.throughput[0]
    assert row["packets"] >= 5000
    assert row["packets_per_s"] == row["packets"] / row["seconds"]
    assert row["bytes_per_s"] == row["bytes"] / row["seconds"]
    assert [entry["percentile"] for entry in told.latency] == [50.0, 99.0, 99.9]
    spent = told.summary["latency"]["offline"]["ns_per_packet"]
    assert 0 < spent["p50"] <= spent["p99"] <= spent["p999"]
    assert told.summary["latency"]["offline"]["n"] == told.latency[0]["n"] > 10


def test_time_is_bounded_whatever_is_wanted() -> None:
    parts = [read(SAMPLES / NAMES[0])]
    timing.measure(parts, 100, 1.0, "warm up")
    begin = time.monotonic()
    timing.measure(parts, 10**9, 0.2, "one")
    assert time.monotonic() - begin < 10


def test_no_packets_give_no_figures() -> None:
    told = timing.measure([], 1000, 1.0, "nothing")
    assert told.throughput == []
    assert told.latency == []
    assert told.summary["throughput"]["offline"]["packets_per_s"] is None
    assert told.summary["latency"]["offline"]["ns_per_packet"]["p50"] is None
