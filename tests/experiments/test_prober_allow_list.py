# SPDX-License-Identifier: BSD-3-Clause
"""The prober: what a rule lets pass that it would strike, and how soon probes show that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from midcall.experiments.probe import run
from midcall.experiments.probe.allow_list import (
    DNS,
    destinations_of,
    ends_of_kinds,
    other_kinds,
)
from midcall.experiments.probe.asking import edges
from midcall.experiments.probe.beliefs import OVERFIT, Beliefs, Seen, hypothesis
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.fit import strikes_of_limit
from midcall.experiments.probe.found import AllowList, Found, Result
from midcall.experiments.probe.identify import Identifier
from midcall.experiments.probe.lasting import chance_of
from midcall.experiments.probe.line_oracle import DROP, INJECT, PARTIAL, Effect
from midcall.experiments.probe.plays import COPIES, LEAST_PLAYS, Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.rates import is_no_queue
from midcall.experiments.probe.refine import likely_ends, within
from midcall.experiments.probe.tails import STREAM_APART, Tail
from midcall.experiments.proofs.prober.score import as_well
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Probe, Sent, in_order
from midcall.testbed.probing.sockets import DATA, Event
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import (
    FAR,
    FLOW,
    LINE,
    STREAM,
    call,
    line_of,
    outcome_of,
    rule_of,
)

MS = 1_000_000
NOISE = Noise(loss=0.005, jitter_ms=3)


def media(count: int, *fars: bytes) -> Probe:
    """Return datagrams both ways of flows to some far addresses, 20 ms apart."""
    return in_order(
        Sent(at * 20 * MS + 2 * MS * up, up, FLOW._replace(far=far, near_port=40_000 + number),
             bytes([0x80, 96]) + at.to_bytes(2) + bytes([number, up]) + bytes(150))
        for number, far in enumerate(fars) for at in range(count) for up in (True, False)
    )  # fmt: skip


def tail_of(rule: dict[str, Any], unit: Probe, sought: Effect, **best: Any) -> Tail:
    """Return what makes units for a rule on a line without one."""
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    return Tail(prober, LINE, sought, hypothesis(rule, **best),
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), unit)  # fmt: skip


# -- what passes


@pytest.mark.parametrize("scope", ["packet", "flow"])
def test_what_a_rule_spares_is_named_with_the_scope_that_it_shows(scope: str) -> None:
    rules = (rule_of({"payload": ["stun", "dns"], "protocol": "udp"}, "pass", scope="packet"),
             rule_of({"protocol": "udp"}, "drop", scope=scope))  # fmt: skip
    named = run.against(Policy(rules), call(), "4g", 3, NOISE).answer
    assert (named["act"]["name"], named["direction"]) == ("drop", "both")
    assert named["scope"] == scope
    scopes = {one["scope"] for one in named["alternatives"]
              if one["relation"] in ("equal", "less likely") and "rule" in one}  # fmt: skip
    assert scopes <= {scope}
    spared = [one for one in as_well(named) if one["act"] == "pass"]
    assert {kind for one in spared for kind in one["trigger"]["match"].get("payload", [])} >= {
        "stun", "dns"}  # fmt: skip
    assert {one["scope"] for one in spared} == {"packet"}
    assert 'act = "pass"' in named["rule_toml"]
    # what it spares arrives among what it drops, and is no sign against it
    assert not [one for one in named["alternatives"] if "always arrive" in one["why"]]


def test_addresses_that_pass_are_named_with_their_prefix_and_ports_that_are_struck() -> None:
    allowed, other = bytes([203, 0, 113, 7]), bytes([192, 0, 2, 9])
    rules = (rule_of({"addresses": ["203.0.112.0/22"]}, "pass"),
             rule_of({"protocol": "udp", "ports": ["1024-65535"]}, "drop"))  # fmt: skip
    answer = run.against(Policy(rules), media(30, allowed, other), "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["scope"], answer["direction"]) == ("drop", "flow", "both")
    matches = [one["trigger"]["match"] for one in as_well(answer) if one["act"] == "pass"]
    assert matches == [{"addresses": ["203.0.112.0/22"]}]
    assert answer["trigger"]["match"]["ports"] == ["1024-65535"]
    [let_pass] = [one for one in as_well(answer) if one["act"] == "pass"]
    assert {let_pass["scope"], *(one["scope"] for one in let_pass["equal"])} == {"packet", "flow"}


@pytest.mark.parametrize(("scope", "shared"), [
    pytest.param("packet", "packet", marks=[pytest.mark.slow, pytest.mark.longest]),
    ("flow", "pair"),
])  # fmt: skip
def test_a_kind_that_passes_in_front_of_a_queue_is_named(scope: str, shared: str) -> None:
    shape = {"rate_kbit": 40.0, "queue_ms": 300.0}
    rules = (rule_of({"payload": ["stun"]}, "pass", scope=scope),
             rule_of({"protocol": "udp"}, "shape", scope=shared, **shape))  # fmt: skip
    answer = run.against(Policy(rules), call(), "fibre", 3, NOISE).answer
    assert answer["act"]["name"] == "shape"
    spared = [one for one in as_well(answer) if one["act"] == "pass"]
    assert [one["scope"] for one in spared if "stun" in one["trigger"]["match"]["payload"]] == [
        scope]  # fmt: skip


def test_kinds_are_tried_where_the_box_recognises_them() -> None:
    last = media(1, FAR)[0]._replace(ends=FLOW._replace(far_port=DNS))
    assert ends_of_kinds(last).far_port != DNS
    assert {"rtp", "quic", "stun", "sip"} <= set(other_kinds(last))
    at_own = last._replace(ends=FLOW)
    assert ends_of_kinds(at_own) == FLOW
    assert other_kinds(at_own)["dns"].ends.far_port == DNS


def test_the_other_far_addresses_of_a_capture_are_those_with_the_most_packets() -> None:
    fars = [bytes([198, 19, 7, last]) for last in range(12)]
    unit = in_order([*media(20, FAR), *media(3, *fars[:4]), *media(9, *fars[4:])])
    stream = Sent(0, True, STREAM._replace(far=bytes([9] * 4)), b"a")
    for some in (unit, in_order([*unit, *[stream] * 90])):
        chosen = destinations_of(some, media(1, FAR)[:1])
        assert {one.far for one in chosen} <= set(fars[4:])
        assert {one._replace(far=FAR) for one in chosen} == {media(1, FAR)[0].ends}


def test_an_address_that_passes_in_front_of_a_rule_on_payloads_is_named() -> None:
    rules = (rule_of({"addresses": ["203.0.112.0/22"]}, "pass"),
             rule_of({"payload": ["rtp"]}, "drop"))  # fmt: skip
    unit = media(30, bytes([203, 0, 113, 7]), bytes([192, 0, 2, 9]))
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["trigger"]["match"]) == ("drop", {"payload": ["rtp"]})
    matches = [one["trigger"]["match"] for one in as_well(answer) if one["act"] == "pass"]
    assert matches == [{"addresses": ["203.0.112.0/22"]}]


@pytest.mark.parametrize("match", [
    {"addresses": ["203.0.112.0/22"], "ports": [7_000]}, {"ports": [7_000]},
])  # fmt: skip
def test_a_port_that_passes_is_named_with_the_address_if_it_needs_one(
    match: dict[str, Any],
) -> None:
    rules = (rule_of(match, "pass"), rule_of({"protocol": "udp"}, "delay", delay_ms=150.0))
    allowed = tuple(one._replace(ends=one.ends._replace(far_port=7_000))
                    for one in media(30, bytes([203, 0, 113, 7])))  # fmt: skip
    unit = in_order([*allowed, *media(30, bytes([192, 0, 2, 9]))])
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["scope"], answer["direction"]) == (
        "delay", "flow", "both")  # fmt: skip
    assert [one["trigger"]["match"] for one in as_well(answer) if one["act"] == "pass"] == [match]


def test_a_rule_that_strikes_no_well_known_port_gets_its_own_ports() -> None:
    best, sought = hypothesis({"protocol": "udp"}, "packet"), Effect(DROP)
    found = Found(best, 0.9, sought, Beliefs(LINE, [sought]), call()[:1], None, best)  # type: ignore[arg-type]
    found.take_allow_list(AllowList(({"payload": ["stun"]},), ("1024-65535",), False, True))
    assert found.best.keys == {"protocol": "udp", "ports": ["1024-65535"]}
    assert [(one.act, one.strikes) for one in found.rules] == [("pass", "flow"), ("drop", "flow")]


def test_a_page_on_a_stream_without_http_is_explained_by_no_rule() -> None:
    unit = tuple(Sent(at * 50 * MS, at % 2 == 0, STREAM, bytes([at]) * 40) for at in range(8))
    prober, base = line_of(rule_of({"ports": [9]}, "drop"))
    plays = Plays(prober, unit, Result())
    page = Event(300 * MS, True, STREAM, DATA, b"HTTP/1.1 403 Forbidden\r\n\r\n")
    seen = outcome_of(unit, np.zeros(8, bool), 8)._replace(strange=[[page] for _ in range(8)])
    plays.shown, plays.own, plays.base = [seen], seen, base
    finding = Finding(INJECT, STREAM, True, 160.0, 1.0, 0)
    forged = Effect(INJECT, 1.0, 1.0, "block-page")
    assert Identifier(plays, 1.0).begin(finding, [forged]) is None


@pytest.mark.parametrize("scope", ["flow", "client"])
def test_flows_of_a_client_that_are_spared_behind_struck_ones_are_condemned_alone(
    scope: str,
) -> None:
    rule = rule_of({"stun": True}, "drop", scope=scope, probability=0.6, per="flow")
    prober, base = line_of(rule)
    core = (call()[0]._replace(time=0),)
    tail = Tail(prober, base, Effect(DROP, 1.0, 0.6), hypothesis({"stun": True}, "client"),
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), core)  # fmt: skip
    chance = chance_of(tail, core)
    assert chance is not None
    assert chance.alone == (scope == "flow")


# -- how soon probes show it


@pytest.mark.parametrize("form", ["again", "noise"])
@pytest.mark.parametrize("after", [{"packets": 90}, {"bytes": 9_000}])
def test_what_follows_a_trigger_uses_up_an_allowance(form: str, after: dict[str, int]) -> None:
    unit = media(1, FAR)[:1]
    rule = rule_of({"protocol": "udp"}, "stall", after=after)
    tail = tail_of({"protocol": "udp"}, unit, Effect(DROP), after=str(after).replace("'", '"'))
    tail.form = form
    struck = strikes(tail.through(tail.unit(unit), True), [rule]).struck[0]
    assert tail.shown <= struck.sum() <= len(struck) / 2
    assert struck[-1]


def test_only_what_shows_a_loss_of_a_stream_is_sent_far_apart() -> None:
    unit = (Sent(0, True, STREAM, bytes(100)),)
    tail = tail_of({"protocol": "tcp"}, unit, Effect(PARTIAL, 0.5), after='{"packets": 80}')
    times = [one.time for one in tail.unit(unit) if one.up][1:]
    gaps = np.diff(times)
    assert (gaps == STREAM_APART).sum() == tail.shown - 1
    assert times[tail.used] - times[0] < STREAM_APART * 2


def test_a_capture_is_played_twice_at_once_until_it_was_played_often_enough() -> None:
    rule = rule_of({"payload": ["stun"]}, "drop", scope="packet")
    prober, base = line_of(rule)
    plays = Plays(prober, call(), Result())
    plays.base = base
    assert plays.look()
    assert plays.looks == 1
    before = prober.probes
    plays.look_again()
    assert (prober.probes - before, plays.looks) == (1, LEAST_PLAYS)
    assert len(plays.shown[0].delay) == COPIES * (2 if prober.fresh_far else 3)
    plays.look_again()
    assert (prober.probes - before, plays.looks) == (2, LEAST_PLAYS + 1)


@pytest.mark.parametrize(("first", "last"), [(3_478, 3_481), (1_024, 65_535), (50_000, 50_059)])
def test_few_probes_find_where_a_range_of_ports_ends(first: int, last: int) -> None:
    own = first + (last - first) // 3
    for good, bad, end in ((own, 1, first), (own, 65_535, last)):
        if end == bad:
            continue
        asked = likely_ends(good, bad)
        assert all(min(good, bad) < port < max(good, bad) for port in asked)
        low, high = within(good, bad, {port: first <= port <= last for port in asked})
        assert first <= low <= last
        assert end in (low, high) or (low < end < high) or (high < end < low)
        rounds: list[int] = []

        def asks(values: Sequence[float], rounds: list[int] = rounds) -> list[bool]:
            rounds.append(len(values))
            return [first <= value <= last for value in values]

        assert end in edges([(low, high)], asks, 1)[0]
        assert len(rounds) <= 2


# -- a delay, or a limit


@pytest.mark.parametrize(("waits", "apart", "no_queue"), [
    (180.0, 20, True), (180.0, 200, False), (5.0, 20, False), (None, 20, False),
])  # fmt: skip
def test_packets_that_follow_each_other_faster_than_they_wait_are_in_no_queue(
    waits: float | None, apart: int, no_queue: bool
) -> None:
    unit = tuple(Sent(at * apart * MS, True, FLOW, at.to_bytes(2) + bytes(200))
                 for at in range(20))  # fmt: skip
    outcome = outcome_of(unit, np.zeros(20, bool), 4)
    more = np.arange(20) * 12.0 if waits is None else np.full(20, waits)
    outcome.delay[:] += (more * MS).astype(np.int64)
    assert is_no_queue(LINE, outcome, range(20)) == no_queue


def test_a_window_of_a_limit_must_explain_more_than_its_edge() -> None:
    sought = Effect.of_limit({"act": "police", "rate_kbit": 20.0, "bucket_bytes": 2_000})
    unit = media(40, FAR)
    through = passing(unit, "4g", STREAM_PATIENCE)
    limit = rule_of({"protocol": "udp"}, "police", rate_kbit=20.0, bucket_bytes=2_000)
    lost = strikes_of_limit(through, [limit], LINE).struck[0]
    assert lost.any()
    beliefs = Beliefs(LINE, [sought])
    beliefs.observe(Seen(through, outcome_of(unit, lost, 8), True))
    wide, narrow = hypothesis({"protocol": "udp"}), hypothesis({"protocol": "udp", "packets": "2-"})
    beliefs.add([wide, narrow])
    scores = dict(zip(beliefs.hypotheses, beliefs.scores, strict=True))
    assert scores[wide] > scores[narrow] + OVERFIT
    assert narrow.bounds == 1
    assert hypothesis({"size": "9-", "packets": "2-"}, after='{"seconds": 2}').bounds == 3
