# SPDX-License-Identifier: BSD-3-Clause
"""A call that nobody described: the same flows, gates and verdict whether they are named or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midcall.captures.packets.pcap import packets_of, read
from midcall.captures.packets.writer import write_pcap
from midcall.captures.truth.calls import Call, calls
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.paths import samples
from midcall.experiments.measure import inferred_call
from midcall.experiments.spec.corpus import Item
from midcall.experiments.tools.replay import Order, play

ME, PEER, RELAY, WEB = ("10.0.0.1", 5000), ("10.0.0.2", 6000), ("10.0.0.3", 3478), "10.0.0.4"


def row(frame: int, packets: int, far: tuple[str, int], **more: Any) -> dict[str, Any]:
    ends = {"src_ip": ME[0], "src_port": ME[1], "dst_ip": far[0], "dst_port": far[1]}
    said = {"verdict": "not-call", "app": "none", "role": "other"}
    return {"frame": frame, "packets": packets, "proto": "udp", **ends, **said, **more}


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


NOTHING = packets_of([], [])


def item(call: Call, added: bool = True) -> Item:
    capture = load(local=False).named("sample-dns").model_copy(update={"added": added})
    return Item(capture, Path("x"), [call], [])


def test_the_busiest_udp_flow_is_the_media_and_its_socket_the_set_up() -> None:
    rows = [
        row(1, 8, RELAY),
        row(2, 400, PEER),
        row(3, 9000, (WEB, 443), proto="tcp", src_port=5000),
        row(4, 900, (WEB, 443), src_port=7000),
        row(5, 30, ("10.0.0.9", 53), src_port=7001),
    ]
    call = inferred_call.with_flows(item(bare()), rows, NOTHING).calls[0]
    assert call.media == [2]
    assert call.setup == [1]
    assert call.inferred
    assert call.note == inferred_call.BUSIEST


def test_what_the_classifier_is_certain_of_goes_before_the_busiest() -> None:
    sure = {"verdict": "certain", "app": "whatsapp"}
    rows = [
        row(1, 8, RELAY, role="setup", **sure),
        row(2, 30, PEER, role="media", **sure),
        row(3, 400, (WEB, 9000), src_port=7000),
    ]
    found = inferred_call.inferred_call(rows, NOTHING, "c", "whatsapp")
    assert found is not None
    assert (found.media, found.setup, found.note) == ([2], [1], inferred_call.CLASSIFIED)
    unnamed = inferred_call.inferred_call(rows, NOTHING, "c")
    assert unnamed is not None
    assert unnamed.app == "whatsapp"
    named = inferred_call.inferred_call(rows, NOTHING, "c", "whatsapp", [2])
    assert named == found


def test_a_web_port_or_tcp_is_the_media_where_there_is_nothing_else() -> None:
    web, tcp = row(1, 30, (WEB, 443)), row(2, 90, (WEB, 443), proto="tcp")
    assert inferred_call.busiest([web, tcp]) is web
    assert inferred_call.busiest([tcp]) is tcp
    assert inferred_call.busiest([row(1, 19, PEER)]) is None
    assert inferred_call.busiest([row(1, 99, PEER, proto="icmp")]) is None


def test_calls_of_the_catalogue_stay_as_they_are_and_so_does_a_call_without_a_busy_flow() -> None:
    rows = [row(2, 400, PEER)]
    described = item(bare(media=[7]), added=False)
    assert inferred_call.with_flows(described, rows, NOTHING) is described
    assert inferred_call.with_flows(item(bare()), [], NOTHING).calls == [bare()]


@pytest.mark.parametrize("hypothesis", ["signature", "stun", "ports", "media-only"])
@pytest.mark.parametrize(
    ("name", "app"),
    [("sample-whatsapp-audio", "whatsapp"), ("sample-viber-audio", "viber"),
     ("sample-messenger-audio", "messenger")],
)  # fmt: skip
def test_naming_the_media_flow_changes_no_verdict(
    tmp_path: Path, name: str, app: str, hypothesis: str
) -> None:
    """D16: the same packets, with and without --flow."""
    known = load(local=False).named(name)
    mine = tmp_path / "mine.pcap"
    whole = read(samples().folder / known.file)
    write_pcap(mine, whole.take(slice(0, whole.total - 1)))  # of no catalogue
    media = calls(known.sha256)[0].media
    result = []
    for flows in ([], [str(frame) for frame in media]):
        order = Order(str(mine), f"maroc-telecom/{hypothesis}", app=app, flows=flows)
        played = play(order)
        assert played.inferred
        (verdict,) = played.verdicts.values()
        result.append((verdict.verdict, verdict.blocked, verdict.usable, verdict.reason))
    assert result[0] == result[1]
