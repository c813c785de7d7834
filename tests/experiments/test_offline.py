# SPDX-License-Identifier: BSD-3-Clause
"""The offline part: flows meet their labels by frame, calls are seen by their own flows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from midcall.captures.truth import calls as call_truth
from midcall.captures.truth import labels as label_truth
from midcall.captures.truth import paths
from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.labels import Label
from midcall.experiments.cells import offline
from midcall.experiments.measure import baselines, metrics
from midcall.experiments.spec import spec
from midcall.experiments.spec.corpus import Item, copies, gather


def item(name: str) -> Item:
    """Return a committed sample or recording with its truth."""
    one = load(local=False).named(name)
    calls, labels = call_truth.calls(one.sha256), label_truth.labels(one.sha256)
    home = paths.recorded() if one.recorded else paths.samples()
    return Item(one, home.folder / one.file, calls, labels)


def test_every_label_of_a_sample_meets_one_flow() -> None:
    held = item("sample-whatsapp-audio")
    seen = offline.examine(held)
    assert held.labels
    scored = [row for row in seen.rows if row["outcome"] != "unscored"]
    assert len(scored) == sum(label.scored for label in held.labels)
    truth = {label.frame: (label.app, label.role) for label in held.labels}
    assert {row["frame"]: (row["truth_app"], row["truth_role"]) for row in scored} == truth
    assert seen.notices == []


def test_every_flow_of_an_innocent_capture_is_innocent() -> None:
    rows = offline.examine(item("sample-dns")).rows
    assert rows
    assert {row["outcome"] for row in rows} == {"quiet"}
    assert {metrics.quiet_kind(row) for row in rows} == {"innocent captures"}


def test_a_label_without_a_flow_is_a_row_that_was_missed() -> None:
    held = item("sample-viber-audio")
    ghost = Label(10**6, "udp", 1, "viber", "media", "x", "high")
    rows = offline.examine(held._replace(labels=[*held.labels, ghost])).rows
    ghosts = [row for row in rows if row["frame"] == 10**6]
    assert [row["outcome"] for row in ghosts] == ["missed"]
    assert offline.written_rows(ghosts, reveal=False)[0]["src_ip"] is None


def test_without_flow_labels_any_flow_of_the_capture_shows_the_call() -> None:
    held = item("sample-viber-audio")
    call = Call(
        id="mine-1",
        app="viber",
        kind="audio",
        inferred=True,
        timer_models=["time"],
        timer_source="not documented",
    )
    bare = held._replace(labels=[], calls=[call])
    seen = offline.examine(bare)
    assert seen.recognised == {"mine-1": True}
    assert {row["outcome"] for row in seen.rows} == {"unscored"}
    other = held._replace(labels=[], calls=[call.model_copy(update={"app": "whatsapp"})])
    assert offline.examine(other).recognised == {"mine-1": False}


def test_with_flow_labels_only_the_flows_of_the_call_show_it() -> None:
    held = item("sample-viber-audio")
    frames = {*held.calls[0].media, *held.calls[0].setup}
    assert offline.examine(held).recognised[held.calls[0].id]
    packets = offline.examine(held).packets
    rows, numbers = offline.classify_packets(packets, "x")
    for row in rows:
        if row["frame"] in frames:
            row["verdict"] = "unsure"
    assert not offline.call_recognised(held.calls[0], held.labels, rows, numbers)


def test_masked_rows_keep_all_else() -> None:
    rows = offline.examine(item("sample-dns")).rows
    hidden, shown = (
        offline.written_rows(rows, reveal=False),
        offline.written_rows(rows, reveal=True),
    )
    assert len(hidden) == len(shown) == len(rows)
    for one, other in zip(hidden, shown, strict=True):
        same = {key for key in one if one[key] == other[key]}
        assert one.keys() - same == {"src_ip", "dst_ip"}
        assert "strict_rtp" not in one


@pytest.mark.corpus
def test_the_five_apps_are_seen_and_nobody_is_falsely_accused(corpus: Path) -> None:
    default, _ = spec.load("morocco-2016")
    held = gather(default, corpus)
    rows = [row for one in held.items for row in offline.examine(one).rows]
    real = [row for row in rows if not row["synthetic"]]
    result = metrics.accuracy(real, default.seed, copies(held.items))
    assert result["five"]["n"] == 570
    assert result["five"]["right"] >= 500
    assert result["five_without_copies"]["n"] == 562
    assert result["false_calls"]["five_hits"] == 0
    table = {entry["name"]: entry for entry in baselines.compare(real)}
    assert table["null"]["right"] == 0
    assert table["midcall"]["five_right"] > table["ports"]["five_right"]


def test_the_strict_rtp_rule_wants_three_packets_in_sequence() -> None:
    packets = offline.examine(item("lab-chromium-audio-direct-4g")).packets
    rows, numbers = offline.classify_packets(packets, "x")
    assert baselines.rtp_flows(packets, numbers, len(rows)).any()
    few = packets.take(slice(0, 2))
    assert not baselines.rtp_flows(few, numbers[:2], len(rows)).any()
    dns = offline.examine(item("sample-dns")).packets
    rows, numbers = offline.classify_packets(dns, "x")
    assert not baselines.rtp_flows(dns, numbers, len(rows)).any()


def test_a_packet_without_a_flow_is_left_out_by_the_strict_rtp_rule() -> None:
    packets = offline.examine(item("lab-chromium-audio-direct-4g")).packets
    none = np.full(packets.total, -1, np.int64)
    assert not baselines.rtp_flows(packets, none, 1).any()
