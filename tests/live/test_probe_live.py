# SPDX-License-Identifier: BSD-3-Clause
"""The prober's sockets between namespaces: what our box does to them, as in virtual time."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from midcall.captures.packets.numbers import UDP
from midcall.experiments.probe import live
from midcall.experiments.probe.prober import in_lab
from midcall.experiments.proofs.prober import live_agreement
from midcall.experiments.proofs.prober.live_agreement import cases, compared
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Probe, probe_of
from midcall.testbed.probing.sockets import OPENED, Played, Sockets, play
from midcall.testbed.probing.virtual_line import VirtualSockets
from midcall.testbed.replay.payload_addresses import COOKIE

NEAR = bytes([198, 18, 5, 5])
CALL = """
0.00 > tcp peer:8080/40001 syn
0.02 < tcp peer:8080/40001 syn-ack
0.03 > tcp peer:8080/40001 ack
0.05 > tcp peer:8080/40001 tls-hello www.example.org
0.10 < tcp peer:8080/40001 tls 400
0.20 > tcp peer:8080/40001 tls 100
0.25 < tcp peer:8080/40001 tls 100
0.05 > udp relay:3478/40002 stun-binding
0.30 > udp relay:3478/40002 rtp 160 x20 0.02
0.31 < udp relay:3478/40002 rtp 160 x20 0.02
0.10 > udp resolver:5353/40003 question a.example
0.14 < udp resolver:5353/40003 answer a.example
"""
ACTS = [
    {"match": {"name": ["www.example.org"]}, "act": "reset"},
    {"match": {"name": ["www.example.org"]}, "act": "finish", "path": "on"},
    {"match": {"dns": ["a.example"]}, "act": "dns-lie", "answer": "198.18.5.9"},
    {"match": {"stun": True}, "act": "drop"},
    {"match": {"payload": ["rtp"], "direction": "down"}, "act": "drop", "scope": "packet"},
]


def call() -> Probe:
    """Return a short call between the lab's addresses."""
    return tuple(
        one._replace(ends=one.ends._replace(near=NEAR, far=in_lab(one.ends.far)))
        for one in probe_of(scene(CALL))
    )


def ruled(fields: dict[str, Any]) -> Policy:
    return Policy((Rule.model_validate({"name": "r", "grade": "C", "source": "test", **fields}),))


def outcome(sockets: Sockets) -> tuple[Any, ...]:
    """Return what a program sees of the call: packets that arrive per flow, and forged answers.

    Answers to a datagram that the helper did not get are left out: it sends none over real sockets.
    """
    played: Played = play(sockets, call(), 1_000_000_000)
    sent = list(zip(played.plan, played.arrived, strict=True))
    heard = {one.ends for one, time in sent if one.up and time >= 0}
    came = Counter((one.ends.far_port, one.up) for one, time in sent
                   if time >= 0 and one.ends in heard)  # fmt: skip
    events = Counter((one.kind, one.up) for one in played.events if one.kind != OPENED)
    return came, events, [one.payload for one in played.strange]


@pytest.mark.live
@pytest.mark.parametrize("fields", ACTS, ids=lambda one: one["act"])
def test_programs_see_between_namespaces_what_they_see_in_virtual_time(
    fields: dict[str, Any],
) -> None:
    policy = ruled(fields)
    virtual = outcome(VirtualSockets(policy, live.ACCESS, 1, ideal=True))
    free = outcome(VirtualSockets(Policy(()), live.ACCESS, 1, ideal=True))
    assert virtual != free
    with live.live_sockets(policy, 1, 30.0) as sockets:
        assert outcome(sockets) == virtual


@pytest.mark.live
@pytest.mark.slow
def test_a_search_between_namespaces_agrees_with_virtual_time() -> None:
    drawn = next(cases(1, 5))._replace(base=call(), rules=ruled(ACTS[3]).rules)
    row = live_agreement.pair(drawn)
    assert row["virtual_right"]
    assert row["agreement"] != "disagree", row["reason"]


def test_cases_have_effects_no_addresses_and_some_have_no_rule() -> None:
    drawn = list(cases(live_agreement.CLEAN, 3))
    assert [one.kind for one in drawn] == ["one"] * (live_agreement.CLEAN - 1) + ["clean"]
    for one in drawn:
        assert len(one.base) <= live_agreement.PACKETS
        assert one.base[-1].time <= live_agreement.SECONDS * 1e9
        assert all(not rule.match.addresses for rule in one.rules)


def answer(verdict: str, act: str | None = None, way: str = "both", **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "act": {"name": act}, "direction": way, "scope": "flow",
            "alternatives": [], **more}  # fmt: skip


def test_answers_are_compared_by_their_mechanisms() -> None:
    drop, stall = answer("blocked", "drop"), answer("blocked", "stall")
    equal = {"relation": "equal", "act": "stall", "scope": "flow", "direction": "both"}
    assert compared(drop, drop) == ("agree", "")
    assert compared(drop, stall)[0] == "disagree"
    assert compared(drop | {"alternatives": [equal]}, stall) == ("agree", "")
    assert compared(stall, drop | {"alternatives": [equal]}) == ("agree", "")
    assert compared(drop, answer("blocked", "drop", "up")) == ("disagree", "direction: both and up")
    assert compared(answer("clean"), drop) == ("disagree", "verdict: clean and blocked")
    assert compared(answer("clean"), answer("clean")) == ("agree", "")
    for one, other in ((drop, None), (drop, answer("cannot tell")), (answer("cannot tell"), drop)):
        assert compared(one, other)[0] == "cannot tell"


@pytest.mark.live
@pytest.mark.skipif(shutil.which("suricata") is None, reason="suricata is not installed")
def test_suricata_drops_stun_before_the_helper_and_spares_the_rest(tmp_path: Path) -> None:
    rules = tmp_path / "stun.rules"
    rules.write_text(
        'drop udp any any -> any any (msg:"stun"; content:"|21 12 a4 42|"; offset:4; depth:4; '
        "sid:1; rev:1;)\n"
    )
    stun = [one for one in call() if one.ends.proto == UDP and one.payload[4:8] == COOKIE]
    assert stun
    with live.live_sockets(f"suricata: {rules}", 1, 60.0) as sockets:
        played = play(sockets, call(), 1_000_000_000)
    lost = [one for one, time in zip(played.plan, played.arrived, strict=True)
            if time < 0 and played.sent[played.plan.index(one)] >= 0]  # fmt: skip
    assert lost == stun


def test_programs_are_known_by_their_words() -> None:
    assert not live.is_program("maroc-telecom/stun")
    for words in ("suricata: x.rules", "nfqueue", "command: forward {caller_port}"):
        assert live.is_program(words)
