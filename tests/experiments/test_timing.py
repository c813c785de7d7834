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
    result = timing.measure([read(SAMPLES / name) for name in NAMES], 5000, 2.0, "three")
    row = result.throughput[0]
    assert row["packets"] >= 5000
    assert row["packets_per_s"] == row["packets"] / row["seconds"]
    assert row["bytes_per_s"] == row["bytes"] / row["seconds"]
    assert [entry["percentile"] for entry in result.latency] == [50.0, 99.0, 99.9]
    spent = result.summary["latency"]["offline"]["ns_per_packet"]
    assert 0 < spent["p50"] <= spent["p99"] <= spent["p999"]
    assert result.summary["latency"]["offline"]["n"] == result.latency[0]["n"] > 10


def test_time_is_bounded_whatever_is_wanted() -> None:
    parts = [read(SAMPLES / NAMES[0])]
    timing.measure(parts, 100, 1.0, "warm up")
    begin = time.monotonic()
    timing.measure(parts, 10**9, 0.2, "one")
    assert time.monotonic() - begin < 10


def test_no_packets_give_no_figures() -> None:
    result = timing.measure([], 1000, 1.0, "nothing")
    assert result.throughput == []
    assert result.latency == []
    assert result.summary["throughput"]["offline"]["packets_per_s"] is None
    assert result.summary["latency"]["offline"]["ns_per_packet"]["p50"] is None
