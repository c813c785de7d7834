# SPDX-License-Identifier: BSD-3-Clause
"""The committed recordings: what their rows say, of nobody, and of what their programs spoke."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from pathlib import Path

import pytest

from midcall.captures.own.privacy import privacy
from midcall.captures.packets.headers import ends, flows, layers
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import Capture, load
from midcall.captures.truth.labels import labels
from midcall.captures.truth.paths import recorded
from midcall.testbed.live.network.subscriber_line import FAR, NEAR
from midcall.testbed.programs.recording import dissected
from midcall.testbed.programs.recording.scenes import scene_set

RECORDED = [one for one in load(local=False).captures if one.recorded]
NAMES = [one.name for one in RECORDED]
CALLS = [one for one in RECORDED if one.role == "call"]
LARGEST, TOGETHER = 260_000, 5_000_000


def file_of(one: Capture) -> Path:
    return recorded().folder / one.file


def packets_of(one: Capture) -> Packets:
    packets, notices = read_with_notices(file_of(one))
    assert notices == []
    return packets


def session_numbers(packets: Packets) -> set[bytes]:
    """Return the numbers that programs drew for their SDP: sessions and media sources."""
    text = packets.data.tobytes()
    sessions = re.findall(rb"\r\no=\S+ (\d+) (\d+)", text)
    return {number for line in sessions for number in line} | set(
        re.findall(rb"\r\na=ssrc:(\d+)", text)
    )


def is_lab(text: bytes) -> bool:
    """Tell whether a text is an address of the lab's."""
    try:
        host = ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    return host in NEAR or host in FAR


def test_the_set_is_what_its_scenes_say() -> None:
    assert sorted(NAMES) == sorted(scene.name for scene in scene_set("samples"))


def test_there_are_many_calls_and_many_bystanders_and_they_are_small() -> None:
    assert len(CALLS) >= 40
    assert len(RECORDED) - len(CALLS) >= 40
    folder = recorded().folder
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < TOGETHER
    assert max(sizes) < LARGEST


def test_every_file_of_the_set_is_of_a_capture() -> None:
    files = {path.name for path in recorded().folder.glob("*.pcapng")}
    assert files == {one.file for one in RECORDED}


@pytest.mark.parametrize("one", RECORDED, ids=NAMES)
def test_a_recording_is_what_its_row_says(one: Capture) -> None:
    content = file_of(one).read_bytes()
    assert hashlib.sha256(content).hexdigest() == one.sha256
    assert (len(content), packets_of(one).total) == (one.bytes, one.packets)
    assert one.licence == "CC0-1.0"
    assert not one.synthetic


@pytest.mark.parametrize("one", RECORDED, ids=NAMES)
def test_every_flow_has_a_label_that_a_socket_vouches_for(one: Capture) -> None:
    rows = labels(one.sha256)
    flow_rows = [(flow.frame, flow.proto, flow.packets) for flow in flows(packets_of(one))]
    assert sorted((row.frame, row.proto, row.packets) for row in rows) == sorted(flow_rows)
    assert all(row.evidence.startswith("recorded: ") for row in rows)
    assert all(row.confidence == "high" for row in rows if row.call)


@pytest.mark.parametrize("one", RECORDED, ids=NAMES)
def test_nothing_of_a_person_is_in_a_recording(one: Capture) -> None:
    packets = packets_of(one)
    for i in range(packets.total):
        for layer in layers(packets.frame(i), 1):
            for address, _ in ends(packets.frame(i), layer):
                host = ipaddress.ip_address(address)
                assert host in NEAR or host in FAR
    personal = privacy(packets)
    assert personal.phones <= session_numbers(packets)
    assert [name for name in personal.names if not (b"example" in name or is_lab(name))] == []
    assert [one for one in personal.mails if not is_lab(one.rpartition(b"@")[2])] == []


@pytest.mark.parametrize("one", CALLS, ids=[one.name for one in CALLS])
def test_a_call_has_media_both_ways_and_something_that_gates_them(one: Capture) -> None:
    packets = packets_of(one)
    (call,) = calls(one.sha256)
    sides = set()
    for flow in (flow for flow in flows(packets) if flow.frame in call.media):
        for i in range(packets.total):
            frame = packets.frame(i)
            source, target = ends(frame, layers(frame, 1)[-1])
            if {source, target} == {flow.source, flow.target}:
                sides.add(ipaddress.ip_address(source[0]) in NEAR)
    assert sides == {True, False}
    assert {gate.flow for gate in call.gates} == set(call.media)
    for pair in (pair for gate in call.gates for pair in gate.pairs):
        senders = [ends(packets.frame(at - 1), layers(packets.frame(at - 1), 1)[-1]) for at in pair]
        assert senders[0][0] == senders[1][1]


@pytest.mark.skipif(bool(dissected.missing()), reason="tshark is not installed")
@pytest.mark.parametrize("one", RECORDED, ids=NAMES)
def test_tshark_reads_in_every_flow_what_its_programs_spoke(one: Capture) -> None:
    assert dissected.differences(file_of(one), labels(one.sha256)) == []


@pytest.mark.skipif(bool(dissected.missing()), reason="tshark is not installed")
def test_a_wrong_label_is_told() -> None:
    one = next(one for one in RECORDED if one.name.startswith("lab-web-http2"))
    row = labels(one.sha256)[0]
    wrong = row._replace(evidence="recorded: unbound, DNS; both sockets by process")
    (sentence,) = dissected.differences(file_of(one), [wrong])
    assert sentence == (
        f"{one.file}: frame 1: none other (recorded: unbound, DNS; both sockets by process): "
        "tshark reads no dns"
    )
