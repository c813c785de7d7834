# SPDX-License-Identifier: BSD-3-Clause
"""An excerpt keeps a call's first seconds and what it waits for, and numbers frames anew."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import calls
from midcall.captures.truth.labels import Label, labels
from midcall.errors import TestbedError
from midcall.testbed.replay.excerpt import LEAD, excerpt, shortened
from midcall.testbed.replay.packet_index import index_packets
from midcall.testbed.replay.simulator import simulate

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
SECOND = 1_000_000_000


def sample(name: str) -> tuple[Path, str]:
    path = next(SAMPLES.glob(f"{name}.pcap*"))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_frames_calls_and_labels_name_the_same_flows_as_before() -> None:
    path, digest = sample("sample-whatsapp-audio")
    whole, call_list = read(path), calls(digest)
    part = excerpt(whole, call_list, labels(digest), 5)
    assert 0 < part.packets.total < whole.total
    for k, frame in enumerate(part.frames):
        assert part.packets.frame(k) == whole.frame(int(frame) - 1)
    before, after = index_packets(whole), index_packets(part.packets)

    def ends(index: object, frame: int) -> tuple[object, ...]:
        facts, flows = index.facts, index.flows  # type: ignore[attr-defined]
        row = flows[facts["flow"][frame - 1]]
        return (*sorted((row["source"].tobytes(), row["target"].tobytes())), int(row["proto"]))

    for old, new in zip(call_list, part.calls, strict=True):
        assert [ends(before, f) for f in old.media] == [ends(after, f) for f in new.media]
        for gate in new.gates:
            for request, reply in gate.pairs:
                assert [int(part.frames[f - 1]) for f in (request, reply)] in [
                    pair for one in old.gates for pair in one.pairs
                ]
    count = np.bincount(after.facts["flow"][after.facts["flow"] >= 0])
    for label in part.labels:
        assert label.packets == count[after.facts["flow"][label.frame - 1]]


def test_what_precedes_the_call_is_its_signalling_and_names_alone() -> None:
    path, digest = sample("sample-whatsapp-audio")
    whole, call_list = read(path), calls(digest)
    part = excerpt(whole, call_list, [], 5)
    index = index_packets(part.packets)
    begin = min(int(part.packets.time[f - 1]) for f in (*part.calls[0].setup, *part.calls[0].media))
    early = np.flatnonzero(part.packets.time < begin)
    assert len(early)
    signals = {int(index.facts["flow"][f - 1]) for f in part.calls[0].signalling}
    for i in early:
        row = index.flows[index.facts["flow"][i]]
        assert int(index.facts["flow"][i]) in signals or 53 in (
            row["source_port"],
            row["target_port"],
        )
    assert begin - part.packets.time.min() <= LEAD
    assert part.packets.time.max() - begin < 5 * SECOND


def test_a_call_in_an_excerpt_still_connects() -> None:
    path, digest = sample("sample-whatsapp-audio")
    part = excerpt(read(path), calls(digest), [], 5)
    played = simulate(part.packets, part.calls, [], None, "fibre", 7)
    latches = played.script.calls[0].latches
    assert (played.opened[latches] >= 0).any()
    assert played.counters["not_sent"] == 0


def test_a_short_capture_stays_whole_and_one_without_a_call_is_cut_to_its_begin() -> None:
    path, _ = sample("sample-web")
    whole = read(path)
    assert excerpt(whole, [], [], 3600).packets is whole
    part = excerpt(whole, [], [Label(whole.total, "tcp", 1, "none", "other", "", "high")], 1)
    expected = np.flatnonzero(whole.time < whole.time.min() + SECOND) + 1
    assert part.frames.tolist() == expected.tolist()
    assert len(expected) < whole.total


def test_pauses_are_shortened_until_they_fit_and_what_is_quick_stays_quick() -> None:
    begin = 1000 * SECOND
    time = np.array([0, 1000, 500 * SECOND, begin, begin + 5], np.int64)
    moved = shortened(time, begin)
    assert moved[3:].tolist() == [begin, begin + 5]
    assert moved[1] - moved[0] == 1000
    assert (np.diff(moved) >= 0).all()
    many = np.arange(0, 200, dtype=np.int64) * 10 * SECOND
    assert 2000 * SECOND - shortened(many, 2000 * SECOND)[0] <= LEAD


def test_seconds_that_are_none_are_an_error() -> None:
    path, _ = sample("sample-web")
    with pytest.raises(TestbedError, match="seconds: got 0, expected more than 0"):
        excerpt(read(path), [], [], 0)
