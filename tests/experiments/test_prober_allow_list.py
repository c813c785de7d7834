# SPDX-License-Identifier: BSD-3-Clause
"""The prober: what a rule lets pass that it would strike."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import UDP
from midcall.experiments.localise.messages import exemplars
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe import allow_list, run
from midcall.experiments.probe.allow_list import destinations_of
from midcall.experiments.probe.baseline import baseline_of, control_units
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.conditions import list_of_kinds
from midcall.experiments.probe.found import AllowList, Found, Result
from midcall.experiments.probe.line_oracle import DROP, Effect
from midcall.experiments.probe.measure import Measure
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.units import DNS, ends_of_kinds, other_kinds
from midcall.experiments.proofs.prober.score import as_well
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Probe, Sent, in_order
from midcall.testbed.probing.strikes import passing
from midcall.testbed.probing.virtual_line import VirtualSockets
from tests.experiments.prober_call import FAR, FLOW, LINE, NOISE, STREAM, call, outcome_of, rule_of

MS = 1_000_000
ALLOWED, OTHER = bytes([203, 0, 113, 7]), bytes([192, 0, 2, 9])


def media(count: int, *fars: bytes) -> Probe:
    """Return datagrams both ways of flows to some far addresses, 20 ms apart."""
    return in_order(
        Sent(at * 20 * MS + 2 * MS * up, up, FLOW._replace(far=far, near_port=40_000 + number),
             bytes([0x80, 96]) + at.to_bytes(2) + bytes([number, up]) + bytes(150))
        for number, far in enumerate(fars) for at in range(count) for up in (True, False)
    )  # fmt: skip


@pytest.mark.parametrize("scope", ["packet", pytest.param("flow", marks=pytest.mark.longest)])
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
    rules = (rule_of({"addresses": ["203.0.112.0/22"]}, "pass"),
             rule_of({"protocol": "udp", "ports": ["1024-65535"]}, "drop"))  # fmt: skip
    resolver = tuple(one._replace(ends=one.ends._replace(near_port=40_009, far_port=53))
                     for one in media(12, bytes([192, 0, 2, 77])))  # fmt: skip
    unit = in_order([*media(30, ALLOWED, OTHER), *resolver])
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["scope"], answer["direction"]) == ("drop", "flow", "both")
    matches = [one["trigger"]["match"] for one in as_well(answer) if one["act"] == "pass"]
    assert matches == [{"addresses": ["203.0.112.0/22"]}]
    assert answer["trigger"]["match"]["ports"] == ["1024-65535"]
    [let_pass] = [one for one in as_well(answer) if one["act"] == "pass"]
    assert {let_pass["scope"], *(one["scope"] for one in let_pass["equal"])} == {"packet", "flow"}


def test_kinds_that_pass_are_named_next_to_the_ports_that_are_struck() -> None:
    rules = (rule_of({"payload": ["stun", "dns", "quic"], "protocol": "udp"}, "pass",
                     scope="packet"),
             rule_of({"protocol": "udp", "ports": ["1024-65535"]}, "drop",
                     scope="packet"))  # fmt: skip
    stun = call()[0]
    unit = in_order([*(one for one in call() if one.ends.proto == UDP),
                     *(stun._replace(time=at * 90 * MS, ends=FLOW, up=at % 2 == 0)
                       for at in range(6)),
                     *(Sent(at * 20 * MS, at % 2 == 0, FLOW, bytes([255, at]) * 60)
                       for at in range(20))])  # fmt: skip
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["scope"]) == ("drop", "packet")
    assert answer["trigger"]["match"]["ports"] == ["1024-65535"]
    [spared] = [one for one in as_well(answer) if one["act"] == "pass"]
    assert {"stun", "quic"} <= set(spared["trigger"]["match"]["payload"])
    assert spared["scope"] == "packet"


def test_kinds_of_payload_that_are_mostly_struck_are_a_condition() -> None:
    bodies = {kind: body for kind, body in exemplars(UDP).items()
              if read(Sent(0, True, FLOW, body)).kind in ("rtp", "stun", "sip")}  # fmt: skip
    unit = tuple(Sent(at * MS, True, FLOW, body) for at, body in enumerate(bodies.values()))
    kinds = [read(one).kind for one in unit]
    struck = np.array([kind != "stun" for kind in kinds])
    [match] = list_of_kinds(outcome_of(unit, struck, 4), struck.astype(float))
    assert set(match["payload"]) == {"rtp", "sip"}
    assert not list(list_of_kinds(outcome_of(unit, ~struck, 4), (~struck).astype(float)))
    assert not list(list_of_kinds(outcome_of(unit, struck | True, 4), np.ones(len(unit))))


@pytest.mark.longest
@pytest.mark.parametrize(("scope", "shared"), [("packet", "packet"), ("flow", "pair")])
def test_a_kind_that_passes_in_front_of_a_queue_is_named(scope: str, shared: str) -> None:
    shape = {"rate_kbit": 40.0, "queue_ms": 300.0}
    rules = (rule_of({"payload": ["stun"]}, "pass", scope=scope),
             rule_of({"protocol": "udp"}, "shape", scope=shared, **shape))  # fmt: skip
    answer = run.against(Policy(rules), call(), "fibre", 3, NOISE).answer
    assert answer["act"]["name"] == "shape"
    spared = [one for one in as_well(answer) if one["act"] == "pass"]
    assert [one["scope"] for one in spared if "stun" in one["trigger"]["match"]["payload"]] == [
        scope]  # fmt: skip


def test_a_trigger_of_a_kind_that_passes_is_replaced_and_its_kind_named() -> None:
    """A queue of all datagrams shows on flows that begin with STUN, which passes before it."""
    shape = rule_of({"protocol": "udp"}, "shape", scope="packet", rate_kbit=60.0, queue_ms=400.0)
    rules = (rule_of({"payload": ["stun"]}, "pass", scope="packet"), shape)
    prober = Prober(VirtualSockets(Policy(rules), "4g", 3, NOISE), "4g", 3)
    base = baseline_of(prober, prober.ask("controls", control_units(), 3))
    core, best = (call()[0]._replace(ends=FLOW),), hypothesis({"protocol": "udp"})
    sought = Effect.of_limit({"act": "shape", "rate_kbit": 60.0, "queue_ms": 400.0})
    tail = Tail(prober, base, sought, best, Plays(prober, core, Result()).through, core)
    refiner, kinds = Refiner(tail, best, core), other_kinds(core[-1])
    kinds = {kind: one for kind, one in kinds.items() if kind in ("rtp", "rtcp", "quic")}
    refiner.take_form("again")
    found = allow_list.passing(refiner, kinds, [], [])
    assert list(found.matches) == [{"payload": ["stun"]}]
    assert found.behind
    assert read(refiner.core[-1]).kind in kinds


@pytest.mark.parametrize("scope", ["packet", "flow"])
def test_what_passes_is_tried_behind_an_allowance_that_is_used_up(scope: str) -> None:
    """RTP passes in front of a drop after 2 s: of a flow that is dropped already, it does not."""
    drop = rule_of({"protocol": "udp"}, "drop", scope=scope, after={"seconds": 2.0})
    rules = (rule_of({"payload": ["rtp"]}, "pass", scope="packet"), drop)
    prober = Prober(VirtualSockets(Policy(rules), "4g", 3, NOISE), "4g", 3)
    base = baseline_of(prober, prober.ask("controls", control_units(), 3))
    core, best = (call()[0]._replace(ends=FLOW),), hypothesis({"protocol": "udp"})
    best = best._replace(after='{"seconds": 2.0}')
    sought = Effect(DROP)
    tail = Tail(prober, base, sought, best, Plays(prober, core, Result()).through, core)
    refiner, kinds = Refiner(tail, best, core), other_kinds(core[-1])
    refiner.take_form("again")
    found = allow_list.passing(refiner, {kind: kinds[kind] for kind in ("rtp", "dtls")}, [], [])
    assert list(found.matches) == [{"payload": ["rtp"]}]
    assert found.behind == (scope == "packet")


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
    unit = media(30, ALLOWED, OTHER)
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
                    for one in media(30, ALLOWED))  # fmt: skip
    unit = in_order([*allowed, *media(30, OTHER)])
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["scope"], answer["direction"]) == (
        "delay", "flow", "both")  # fmt: skip
    assert [one["trigger"]["match"] for one in as_well(answer) if one["act"] == "pass"] == [match]


def test_what_passes_shows_the_scope_of_the_rule_and_of_the_one_in_front_of_it() -> None:
    best, sought = hypothesis({"protocol": "udp"}, "packet"), Effect(DROP)
    found = Found(best, 0.9, sought, Beliefs(LINE, [sought]), call()[:1], None, best)  # type: ignore[arg-type]
    found.take_allow_list(AllowList(({"payload": ["stun"]}, {"ports": [9]}), False, True))
    assert [(one.act, one.strikes) for one in found.rules] == [
        ("pass", "flow"), ("pass", "packet"), ("drop", "flow")]  # fmt: skip


@pytest.mark.parametrize("rules", [
    pytest.param(({"match": {"addresses": ["203.0.112.0/22"]}, "act": "delay", "delay_ms": 150.0},
                  {"match": {"payload": ["rtp"]}, "act": "drop", "scope": "packet"}),
                 marks=pytest.mark.longest),
    pytest.param(({"match": {"addresses": ["203.0.112.0/22"]}, "act": "drop"},
                  {"match": {"protocol": "udp"}, "act": "delay", "delay_ms": 150.0}),
                 marks=pytest.mark.longest),
], ids=["delay, then drop", "drop, then delay"])  # fmt: skip
def test_what_another_rule_decides_is_not_said_to_pass(rules: Sequence[dict[str, Any]]) -> None:
    unit = media(30, ALLOWED, OTHER)
    policy = Policy(tuple(rule_of(**one) for one in rules))
    answer = run.against(policy, unit, "4g", 3, NOISE).answer
    [listed] = tomllib.loads(answer["rule_toml"])["hypothesis"]
    assert sorted(one["act"] for one in listed["rule"]) == ["delay", "drop"]
    if rules[0]["act"] == "delay":  # the drop would leave nothing to delay
        assert [one["act"] for one in listed["rule"]] == ["delay", "drop"]


def test_where_a_payload_is_of_another_kind_nothing_is_said_to_pass() -> None:
    unit = in_order([*call(), *media(10, FAR)])
    answer = run.against(Policy((rule_of({"payload": ["dns"]}, "drop"),)), unit, "4g", 3, NOISE)
    assert answer.answer["act"]["name"] == "drop"
    assert not [one for one in as_well(answer.answer) if one["act"] == "pass"]


@pytest.mark.longest
def test_what_a_further_rule_lets_pass_is_a_rule_of_the_answer() -> None:
    rules = (rule_of({"payload": ["dns"]}, "drop"),
             rule_of({"addresses": ["203.0.112.0/22"]}, "pass"),
             rule_of({"protocol": "udp"}, "delay", delay_ms=150.0))  # fmt: skip
    unit = in_order([*call(), *media(30, ALLOWED, OTHER)])
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    further = [(one["act"], one["trigger"]["match"]) for one in as_well(answer)]
    assert ("pass", {"addresses": ["203.0.112.0/22"]}) in further
    assert {answer["act"]["name"], *(act for act, _ in further)} == {"drop", "pass", "delay"}
    acts = [rule["act"] for rule in tomllib.loads(answer["rule_toml"])["hypothesis"][0]["rule"]]
    assert acts.index("drop") < acts.index("delay")  # the delay would decide questions, too


def test_a_rule_behind_what_passes_needs_no_window_that_leaves_that_out() -> None:
    web = tuple(one._replace(ends=one.ends._replace(far_port=443), payload=one.payload + bytes(99))
                for one in media(9, ALLOWED))  # fmt: skip
    unit = in_order([*web, *media(2, OTHER, FAR)])
    lost = np.array([one.ends.far_port != 443 for one in unit])
    sought = Effect(DROP)
    beliefs = Beliefs(LINE, [sought])
    beliefs.observe(Seen(passing(unit, "4g", STREAM_PATIENCE), outcome_of(unit, lost, 8), True))
    best = hypothesis({"protocol": "udp", "size": "28-220"})
    found = Found(best, 0.9, sought, beliefs, unit[:1], None, best,  # type: ignore[arg-type]
                  equal=[best._replace(scope="pair")])  # fmt: skip
    measure = Measure(None, found, 0.0, False)  # type: ignore[arg-type]
    measure.take_simplest_behind()
    assert found.best == best  # nothing is known to pass
    found.take_allow_list(AllowList(({"ports": [443]},)))
    measure.take_simplest_behind()
    assert (found.best, found.equal) == (hypothesis({"protocol": "udp"}), [])


def test_ports_that_pass_are_named_once() -> None:
    rules = (rule_of({"protocol": "udp", "ports": [53, 123, 443]}, "pass"),
             rule_of({"protocol": "udp"}, "drop", scope="packet"))  # fmt: skip
    web = tuple(one._replace(ends=one.ends._replace(near_port=40_008, far_port=443))
                for one in media(20, ALLOWED))  # fmt: skip
    unit = in_order([*call(), *web, *media(2, OTHER, FAR)])
    answer = run.against(Policy(rules), unit, "4g", 3, NOISE).answer
    assert answer["trigger"]["match"] == {"protocol": "udp"}
    passed = [one["trigger"]["match"] for one in as_well(answer) if one["act"] == "pass"]
    ports = [port for match in passed for port in match.get("ports", [])]
    assert {123, 443} <= set(ports) <= {53, 123, 443}
    assert len(ports) == len(set(ports))
    assert ({"payload": ["dns"]} in passed) == (53 not in ports)


def test_a_list_of_prefixes_of_both_versions_of_ip_is_named() -> None:
    rule = rule_of({"addresses": ["203.0.112.0/22", "2001:db8:7::/48"]}, "drop")
    near = ipaddress.ip_address("fd4d:1944::9").packed
    fars = [ipaddress.ip_address(f"2001:db8:{place}::9").packed for place in (7, 9)]
    sixth = [one._replace(ends=one.ends._replace(near=near)) for one in media(24, *fars)]
    unit = in_order([*sixth, *media(20, ALLOWED, OTHER)])
    answer = run.against(Policy((rule,)), unit, "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["direction"]) == ("drop", "both")
    rules = [answer["trigger"]["match"], *(one["trigger"]["match"] for one in as_well(answer))]
    named = [ipaddress.ip_network(word) for match in rules for word in match["addresses"]]
    for far, struck in zip((ALLOWED, OTHER, *fars), (True, False) * 2, strict=True):
        assert any(ipaddress.ip_address(far) in one for one in named) == struck


@pytest.mark.parametrize("match", [
    {"protocol": "tcp"}, {"protocol": "tcp", "ports": [443]}, {"ports": [443]}, None,
])  # fmt: skip
def test_flows_of_a_condemned_client_that_pass_are_named(match: dict[str, Any] | None) -> None:
    before = () if match is None else (rule_of(match, "pass"),)
    drop = rule_of({"stun": True}, "drop", scope="client", lasts_s=30)
    named = run.against(Policy((*before, drop)), call(), "4g", 3, NOISE).answer
    assert (named["act"]["name"], named["scope"]) == ("drop", "client")
    spared = [one["trigger"]["match"] for one in as_well(named) if one["act"] == "pass"]
    assert spared == ([] if match is None else [match])
