# SPDX-License-Identifier: BSD-3-Clause
"""A call whose flows nobody named gets its busiest flow, found without any verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captures.calls import Call
from captures.catalogue import load
from captures.labels import Label
from experiments import busiest
from experiments.corpus import Item

ME, PEER, RELAY, WEB = ("10.0.0.1", 5000), ("10.0.0.2", 6000), ("10.0.0.3", 3478), "10.0.0.4"


def row(frame: int, packets: int, far: tuple[str, int], **more: Any) -> dict[str, Any]:
    ends = {"src_ip": ME[0], "src_port": ME[1], "dst_ip": far[0], "dst_port": far[1]}
    return {"frame": frame, "packets": packets, "proto": "udp", **ends, **more}


def bare(**more: Any) -> Call:
    return Call(
        id="mine-1",
        app="whatsapp",
        kind="audio",
        inferred=True,
        timer_models=["time"],
        timer_source="not documented",
        **more,
    )


def item(call: Call, labels: list[Label] | None = None) -> Item:
    return Item(load(local=False).named("sample-dns"), Path("x"), [call], labels or [])


def test_the_busiest_udp_flow_is_the_media_and_its_socket_the_set_up() -> None:
    rows = [
        row(1, 8, RELAY),
        row(2, 400, PEER),
        row(3, 9000, (WEB, 443), proto="tcp", src_port=5000),
        row(4, 900, (WEB, 443), src_port=7000),
        row(5, 30, ("10.0.0.9", 53), src_port=7001),
    ]
    call = busiest.with_flows(item(bare()), rows).calls[0]
    assert call.media == [2]
    assert call.setup == [1]
    assert call.inferred
    assert call.note == busiest.NOTE


def test_a_web_port_or_tcp_is_the_media_where_there_is_nothing_else() -> None:
    web, tcp = row(1, 30, (WEB, 443)), row(2, 90, (WEB, 443), proto="tcp")
    assert busiest.busiest([web, tcp]) is web
    assert busiest.busiest([tcp]) is tcp
    assert busiest.busiest([row(1, 19, PEER)]) is None
    assert busiest.busiest([row(1, 99, PEER, proto="icmp")]) is None


def test_a_call_with_flows_or_labels_stays_as_it_is() -> None:
    rows = [row(2, 400, PEER)]
    named = item(bare(media=[7]))
    assert busiest.with_flows(named, rows) is named
    labelled = item(bare(), [Label(2, "udp", 400, "whatsapp", "messaging", "", "high")])
    assert busiest.with_flows(labelled, rows) is labelled


def test_a_capture_without_a_busy_flow_keeps_its_bare_call() -> None:
    assert busiest.with_flows(item(bare()), []).calls == [bare()]
