# SPDX-License-Identifier: BSD-3-Clause
"""Calls: strict descriptions, whose gates are what the packets say they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.headers import End, ends, layers, payload
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import (
    Alternative,
    Call,
    CallFile,
    Gate,
    calls,
    read_calls,
    write_calls,
)
from midcall.captures.truth.catalogue import load
from midcall.errors import CaptureError

SUM = "cd" * 32
CALL = 'id = "c"\napp = "viber"\nkind = "audio"\ninferred = true\ntimer_source = "none"\n'


def written(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "x.toml"
    path.write_text(f'capture = "x"\nsha256 = "{SUM}"\n[[call]]\n{body}')
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(CaptureError) as caught:
        read_calls(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_call_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    gate = Gate(flow=1, by=[1, 2], kind="transaction", needs="all", pairs=[[3, 4]], note="n")
    call = Call(
        id="c", app="viber", kind="video", year=2016, media=[1], setup=[2], control=[5],
        signalling=[6], alternatives=[Alternative(flow=1, path="relay")], gates=[gate],
        inferred=False, timer_s=32.0, timer_source="RFC 3261 section 17", consent_s=30.0,
    )  # fmt: skip
    call_file = CallFile(capture="x", sha256=SUM, calls=[call])
    write_calls(tmp_path / "x.toml", call_file)
    assert read_calls(tmp_path / "x.toml") == call_file


def test_unknown_keys_and_values_get_the_closest_match(tmp_path: Path) -> None:
    gate = '[[call.gate]]\nflow = 1\nby = [1]\nkind = "transacton"\n'
    path = written(tmp_path, CALL + "timer_s = 5.0\nmeda = [1]\nmedia = [1]\n" + gate)
    assert problems_of(path) == [
        "call c: gate 1: kind: got 'transacton', expected one of transaction, request-reply, "
        "time; did you mean transaction?",
        "call c: meda: unknown key; did you mean media?",
    ]


def test_what_does_not_fit_together_is_told_in_one_go(tmp_path: Path) -> None:
    body = CALL + "media = [1, 7]\nsetup = [7]\n[[call.alternative]]\nflow = 9\npath = 'peer'\n"
    body += '[[call.gate]]\nflow = 8\nby = [1]\nkind = "time"\npairs = [[5, 4]]\n'
    assert problems_of(written(tmp_path, body)) == [
        "call c: flows 7 have two roles; give each flow one; gate 8: flows 8 are not of this "
        "call; gate 8: pairs must be [request frame, later reply frame]; alternative 9 is not a "
        "media flow of this call; give timer_s where it is documented, else timer_models, not both"
    ]


def test_a_call_of_no_app_is_refused(tmp_path: Path) -> None:
    body = CALL.replace("viber", "none") + "timer_s = 1.0\n"
    (problem,) = problems_of(written(tmp_path, body))
    assert problem.startswith("call c: app: got 'none', expected one of whatsapp, skype")


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path, CALL + "timer_s = 1.0\n")
    assert read_calls(path).calls[0].timer_s == 1.0
    path.write_text(path.read_text().replace("1.0", "22.0"))
    assert read_calls(path).calls[0].timer_s == 22.0


def test_a_capture_without_calls_has_none() -> None:
    assert calls("0" * 64) == []


def test_every_call_capture_that_is_committed_has_a_described_call() -> None:
    for one in load(local=False).captures:
        assert bool(calls(one.sha256)) == (one.role == "call"), one.name


def packet(packets: Packets, frame: int) -> tuple[tuple[End, End], bytes]:
    """Return both ends and the payload of a frame, counted from 1."""
    data = packets.frame(frame - 1)
    inner = layers(data, int(packets.link[frame - 1]))[-1]
    start, end = payload(data, inner)
    return ends(data, inner), data[start:end]


@pytest.mark.corpus
def test_both_packets_of_every_pair_are_of_a_gating_flow_and_go_opposite_ways(
    corpus: Path, tmp_path: Path
) -> None:
    catalogue = load(local=False)
    paths = obtain(catalogue, corpus=corpus, cache=tmp_path, offline=True).paths
    checked = 0
    for one in catalogue.captures:
        if one.synthetic or one.sha256 not in paths:
            continue
        gates = [gate for call in calls(one.sha256) for gate in call.gates if gate.pairs]
        packets = read(paths[one.sha256]) if gates else None
        if packets is None:
            continue
        for gate in gates:
            carriers = [set(packet(packets, flow)[0]) for flow in gate.by]
            for request, reply in gate.pairs:
                (sides, asked), (back, answered) = packet(packets, request), packet(packets, reply)
                assert set(sides) in carriers, (one.name, gate)
                assert asked
                assert answered
                if one.name != "stun_dtls_rtp_unidir":  # each direction has a 5-tuple of its own
                    assert sides == back[::-1], (one.name, gate)
                if gate.kind == "transaction" and asked[4:8] == b"\x21\x12\xa4\x42":
                    assert asked[4:20] == answered[4:20], (one.name, gate)
                checked += 1
    assert checked > 0
