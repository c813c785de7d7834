# SPDX-License-Identifier: BSD-3-Clause
"""The regression count: crafted and copied innocent flows, written, met again, counted."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.synthetic import background
from midcall.captures.truth.catalogue import load
from midcall.classifier.engine import Engine
from midcall.experiments.accuracy import innocent_batches, regression
from midcall.experiments.spec.corpus import Item
from midcall.testbed.replay.packet_index import index_packets

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
#: Crafted kinds of which the classifier is known to take some for a call, and why that is.
KNOWN = {
    "television in RTP": "it is RTP, and the classifier calls every RTP stream a call",
    "a counter and random octets": "a counter that passes Viber's message types at their lengths",
    "Source engine": "numbers that look like Zoom's frames, on one of Zoom's ten ports",
}


def innocent(name: str) -> Item:
    """Return an innocent sample as if it were a real capture."""
    one = load(local=False).named(name)
    real = one.model_copy(update={"synthetic": False, "role": "innocent"})
    return Item(real, SAMPLES / one.file, [], [])


def packets(item: Item) -> Packets:
    """Return the packets of a capture."""
    return read(item.path)


ITEMS = [innocent("sample-dns"), innocent("sample-games"), innocent("sample-tunnels")]


@pytest.mark.parametrize("kind", background.MAKERS)
def test_a_crafted_flow_is_seeded_and_has_something_to_say(kind: str) -> None:
    one, same, other = (background.MAKERS[kind](Random(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert one.messages[0][0]
    assert all(0 < len(payload) <= 1452 for _, payload in one.messages)
    assert 0 < one.port < 65536


@pytest.mark.slow
def test_every_crafted_flow_is_met_as_one_flow_with_its_bytes() -> None:
    count = 2 * len(background.MAKERS)
    batch = innocent_batches.crafted(0, count, 7)
    held = index_packets(batch.packets)
    assert len(held.flows) == count
    assert (held.facts["flow"] >= 0).all()
    assert (held.facts["end"] - held.facts["at"] == held.facts["size"]).all()
    made = [background.MAKERS[name] for name in batch.names]
    assert len(made) == len(set(made))
    kinds = {(int(flow), int(kind)) for flow, kind in zip(held.facts["flow"], batch.kind,
                                                          strict=True)}  # fmt: skip
    assert len(kinds) == count
    assert (np.diff(batch.packets.time) >= 0).all()


def test_batches_follow_each_other_without_a_gap_or_a_client_twice() -> None:
    parts = [innocent_batches.crafted(first, 20, 7) for first in (0, 20)]
    clients = [set(index_packets(part.packets).flows["source"][:, 0].tolist()) for part in parts]
    assert not clients[0] & clients[1]
    again = innocent_batches.crafted(20, 20, 7)
    assert (again.packets.data == parts[1].packets.data).all()


def test_a_copy_keeps_payloads_and_changes_addresses_ports_and_times() -> None:
    original = innocent_batches.Original(ITEMS, packets)
    first, second = original.copy(0, 7), original.copy(1, 7)
    held, one, two = (index_packets(p) for p in (original.packets, first.packets, second.packets))
    assert len(one.flows) == len(two.flows) == len(held.flows)
    assert (one.facts["size"] == held.facts["size"]).all()
    full = np.flatnonzero(held.facts["end"] > held.facts["at"])
    for at in full[:50].tolist():
        where = slice(int(held.facts["at"][at]), int(held.facts["end"][at]))
        assert (first.packets.data[where] == original.packets.data[where]).all()
    ours, theirs = ({tuple(row) for row in some.flows["source"].tolist()} for some in (one, two))
    assert not ours & {tuple(row) for row in held.flows["source"].tolist()}
    assert ours != theirs
    assert (np.diff(first.packets.time) >= 0).all()
    assert first.packets.time[0] != second.packets.time[0]
    stay = two.flows["target_port"][held.flows["target_port"] < 1024]
    assert (stay == held.flows["target_port"][held.flows["target_port"] < 1024]).all()
    assert (original.copy(1, 7).packets.data == second.packets.data).all()


def test_a_long_flow_is_copied_by_its_first_packets() -> None:
    original = innocent_batches.Original(ITEMS, packets)
    flow = index_packets(original.packets).facts["flow"]
    assert np.bincount(flow[flow >= 0]).max() == innocent_batches.KEPT


def test_half_are_crafted_and_half_are_copies_and_the_sum_is_told() -> None:
    heard: list[int] = []
    held = innocent_batches.Original(ITEMS, packets)
    found = regression.run(held, 300, 7, progress=heard.append)
    assert found["flows"] >= 300
    assert found["crafted"] == 150
    assert found["flows"] == found["crafted"] + found["copied"] == heard[-1]
    assert found["captures"] == 3
    assert sum(line["flows"] for line in found["kinds"]) == found["flows"]
    assert found["note"].startswith("a regression count without any claim of a rate")
    assert regression.run(held, 300, 7) == found
    made = [regression.counted(part) for part in regression.parts(held, 300, 7)]
    assert regression.run(held, 300, 7, made) == found


def test_without_a_real_innocent_capture_all_are_crafted() -> None:
    found = regression.run(innocent_batches.Original([], packets), 120, 7)
    assert (found["flows"], found["crafted"], found["copied"]) == (120, 120, 0)


def test_a_call_among_innocents_is_counted_with_what_it_was_called() -> None:
    call = read(SAMPLES / "sample-whatsapp-audio.pcap")
    kind = np.zeros(call.total, np.int64)
    (line,) = regression.count(
        innocent_batches.Batch(call, kind, ["a call"], innocent_batches.COPIED)
    )
    engine = Engine()
    engine.feed(call)
    assert 0 < line["calls"] <= line["flows"] <= len(engine.flows())
    assert any(words.startswith("whatsapp: ") for words in line["said"])
    assert regression.told_of(line["said"])


def test_of_innocent_flows_only_kinds_that_are_known_to_be_mistaken_are_called_a_call() -> None:
    found = regression.run(innocent_batches.Original(ITEMS, packets), 6_000, 20160105)
    hits = {line["kind"] for line in found["kinds"] if line["calls"]}
    assert hits <= set(KNOWN)


@pytest.mark.corpus
def test_no_copy_of_a_real_innocent_capture_is_called_a_call(corpus: Path) -> None:
    catalogue = load(local=False)
    paths = obtain(catalogue, corpus=corpus).paths
    items = [Item(one, Path(paths[one.sha256]), [], []) for one in catalogue.captures
             if one.sha256 in paths and not one.ours]  # fmt: skip
    original = innocent_batches.Original([item for item in items if item.innocent], packets)
    for turn in range(3):
        lines = regression.count(original.copy(turn, 20160105))
        assert sum(line["calls"] for line in lines) == 0
        assert sum(line["flows"] for line in lines) > 1000
