# SPDX-License-Identifier: BSD-3-Clause
"""The prober: rules next to another one that strike few packets, rare flows, or one direction."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import exemplars
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe import run
from midcall.experiments.probe.acts import Acts, Measured, act_unit, measure
from midcall.experiments.probe.answer import document
from midcall.experiments.probe.baseline import Baseline, baseline_of, control_units
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.effects import Finding, joined
from midcall.experiments.probe.excerpts import around
from midcall.experiments.probe.expected import without_delays
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.line_oracle import DELAY, DROP, INJECT, PARTIAL, REORDER, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import SHARE, STREAM_PATIENCE, Prober
from midcall.experiments.probe.rates import datagram_limit
from midcall.experiments.probe.search import Search
from midcall.experiments.probe.tails import STREAM_APART, Tail
from midcall.experiments.probe.units import (
    ADDED,
    DENSE,
    LATER,
    LATER_APART,
    changed_packets,
    dense_unit,
    ranked,
)
from midcall.experiments.proofs.prober.score import as_well, named_rules, names
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, ip_size, probe_of
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import VirtualSockets
from tests.experiments.prober_call import (
    FLOW,
    LINE,
    NOISE,
    STREAM,
    call,
    outcome_of,
    rule_of,
)

MS = 1_000_000
MEDIA = """
0.00 > udp relay:3478/40001 stun-binding
0.04 < udp relay:3478/40001 stun-binding-answer
0.20 > udp relay:3478/40001 rtp 160 x60 0.02
0.21 < udp relay:3478/40001 rtp 160 x60 0.02
"""


def named(
    rules: tuple[Rule, ...], capture: Probe, access: str = "4g"
) -> list[list[dict[str, object]]]:
    """Return the rules of the answer on a line with rules, each with those that are equal."""
    answer = run.against(Policy(rules), capture, access, 5, NOISE).answer
    return [named_rules(answer), *([one, *one["equal"]] for one in as_well(answer))]


@pytest.mark.parametrize(
    "rules",
    [
        (
            rule_of({"payload": ["rtp"], "direction": "up"}, "loss", loss=0.3, scope="packet"),
            rule_of({"payload": ["rtp"], "direction": "down"}, "delay", delay_ms=120,
                    scope="packet"),
        ),
        pytest.param(
            (rule_of({"stun": True}, "delay", delay_ms=200, scope="packet"),
             rule_of({"payload": ["rtp"]}, "drop", scope="packet",
                     after={"seconds": 0.3, "per": "pair"})),
            marks=pytest.mark.longest,
        ),
    ],
    ids=["opposite directions", "an allowance of a pair"],
)  # fmt: skip
def test_rules_on_one_flow_are_both_named(rules: tuple[Rule, ...]) -> None:
    found = named(rules, probe_of(scene(MEDIA)))
    for rule in rules:
        assert any(all(names(rule, one)) for one in found), (rule, found)


@pytest.mark.longest
def test_a_rule_on_a_flow_that_is_not_among_the_busiest_is_named() -> None:
    words = [f"0.{number:02} > udp peer:{7000 + number}/{41000 + number} rtp 160 x12 0.02"
             for number in range(17)]  # fmt: skip
    words += ["0.00 > udp relay:3478/40001 stun-allocate 4000",
              "0.04 < udp relay:3478/40001 stun-allocate-answer",
              *(f"0.{20 + number} > udp relay:3478/40001 rtp 160" for number in range(12)),
              "0.50 > udp resolver:53/40002 question rare.example",
              "0.55 < udp resolver:53/40002 answer rare.example"]  # fmt: skip
    rules = (rule_of({"stun_method": ["allocate"]}, "drop"),
             rule_of({"dns": ["rare.example"]}, "drop", scope="packet"))  # fmt: skip
    found = named(rules, probe_of(scene("\n".join(words))))
    for rule in rules:
        assert any(all(names(rule, one)) for one in found), (rule, found)


@pytest.mark.longest
def test_a_share_of_losses_of_a_stream_is_measured() -> None:
    words = "\n".join([
        "0.00 > tcp peer:443/40003 syn", "0.04 < tcp peer:443/40003 syn-ack",
        "0.05 > tcp peer:443/40003 ack", "0.06 > tcp peer:443/40003 tls-hello a.example",
        *(f"{0.3 + number * 0.4:.2f} > tcp peer:443/40003 tls 100" for number in range(12)),
    ])  # fmt: skip
    rule = rule_of({"protocol": "tcp", "ports": [443]}, "loss", loss=0.3)
    covered = 0
    for seed in range(1, 5):  # one 95 % interval in twenty excludes the truth
        answer = run.against(Policy((rule,)), probe_of(scene(words)), "4g", seed, NOISE).answer
        assert answer["act"]["name"] == "loss"
        about = answer["act"]["parameters"]["loss"]
        assert 0.15 < about["value"] < 0.5
        assert about["high"] - about["low"] < 0.3
        covered += about["low"] < 0.3 < about["high"]
    assert covered >= 3


# -- units


def test_a_dense_unit_has_many_packets_of_each_flow_and_direction() -> None:
    base = call()
    dense = dense_unit(base)
    assert len(dense) <= len(base) + ADDED
    assert [one.time for one in dense] == sorted(one.time for one in dense)
    sides = {(one.ends, one.up) for one in base if one.payload}
    assert sides == {(one.ends, one.up) for one in dense if one.payload}
    for ends, up in sides:
        own = [one.payload for one in dense if (one.ends, one.up) == (ends, up)]
        assert len(own) >= DENSE
        before = [one.payload for one in base if (one.ends, one.up) == (ends, up)]
        assert {one[:-2] for one in own} == {one[:-2] for one in before}  # a number may end it
        assert set(own) >= set(before)
    voice = [one.payload for one in dense if one.ends.proto == UDP and one.payload[:1] == b"\x80"]
    assert len(set(voice)) == len(voice)


@pytest.mark.parametrize("count", [60, 250])
def test_a_dense_unit_adds_no_more_than_its_budget_and_fills_some_flows(count: int) -> None:
    flows = [FLOW._replace(near_port=40_000 + number) for number in range(count)]
    base = tuple(Sent(at * MS, True, ends, b"one") for at, ends in enumerate(flows))
    dense = dense_unit(base)
    assert len(base) < len(dense) <= len(base) + ADDED
    assert sum(one.ends == flows[0] for one in dense) == DENSE + LATER
    assert sum(one.ends == flows[-1] for one in dense) in (1, 1 + LATER)


def test_a_dense_unit_has_fast_large_packets_and_late_ones_of_a_busy_flow() -> None:
    sizes = [60, 900, 60, 700] * 20
    base = tuple(Sent(at * 20 * MS, True, FLOW, b"m" * size) for at, size in enumerate(sizes))
    added = [one for one in dense_unit(base) if one.time > base[-1].time]
    fast = [one for one in added if one.time < base[-1].time + LATER_APART]
    assert [len(one.payload) for one in fast] == [900] * 20 + [700] * 4
    assert fast[-1].time - fast[0].time < len(fast) * 20 * MS
    assert added[-1].time - base[-1].time == LATER * LATER_APART


def test_flows_with_other_names_come_before_more_of_one_name() -> None:
    words = "\n".join([
        *(f"0.{number}0 > tcp peer:443/4000{number} tls-hello often.example\n"
          f"0.{number}3 < tcp peer:443/4000{number} noise 100 x9 0.02" for number in range(3)),
        "0.90 > tcp peer:443/40009 tls-hello once.example",
        "0.95 > udp relay:3478/40010 stun-binding",
    ])  # fmt: skip
    own: dict[Ends, list[Sent]] = {}
    for one in probe_of(scene(words)):
        if one.payload:
            own.setdefault(one.ends, []).append(one)
    order = [(rank, some[0].ends.near_port) for rank, some in ranked(own.values())]
    assert order == [(0, 40_000), (0, 40_010), (1, 40_009), (2, 40_001), (3, 40_002)]


@pytest.mark.longest
def test_an_effect_that_no_rule_explains_lowers_the_probability() -> None:
    rules = (
        rule_of({"payload": ["rtp"], "direction": "up"}, "loss", loss=0.4, scope="packet"),
        rule_of({"payload": ["rtp"], "direction": "down"}, "delay", delay_ms=120, scope="packet"),
    )
    prober = Prober(VirtualSockets(Policy(rules), "4g", 5, NOISE), "4g", 5)
    search = Search(prober, probe_of(scene(MEDIA)))
    search.run()
    sure = document(search.result, prober)["probability"]
    assert len(search.result.found) == 2
    search.result.found.pop()
    search.conclude()
    assert search.result.rest
    assert document(search.result, prober)["probability"] < 0.9 * sure


def test_an_answer_without_a_rule_says_what_shows_an_effect() -> None:
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    seen = [Finding(DROP, FLOW, True, 40.0, 1.0, 0), Finding(DROP, FLOW, False, 40.0, 1.0, 0)]
    answer = document(Result("blocked", findings=seen), prober)
    assert answer["act"]["name"] is None
    [why] = [one["why"] for one in answer["alternatives"] if one["relation"] == "cannot tell"]
    assert why.startswith("1 flow shows an effect (drop) that no rule")


def test_the_flows_that_show_an_effect_are_kept_whole() -> None:
    base = dense_unit(call())
    [ends, *_] = [one for one in flows_of(base) if one.proto == TCP]
    places = around(base, [Finding(DROP, ends, True, 40.0, 1.0, 0)])
    own = {at for at, one in enumerate(base) if one.ends == ends}
    assert own <= set(places)
    assert {base[at].ends for at in places} == set(flows_of(base))
    part = outcome_of(base, np.arange(len(base)) % 3 == 0, 4).part(places)
    assert part.unit == tuple(base[at] for at in places)
    assert (part.lost[0] == [at % 3 == 0 for at in places]).all()


@pytest.mark.parametrize("access", ["adsl", "3g", "fibre"])
def test_long_packets_are_sent_no_faster_than_the_access_network_carries(access: str) -> None:
    prober = Prober(VirtualSockets(EMPTY, access, 1), access, 1)
    core = (Sent(0, True, FLOW, b"trigger" * 20),)
    best = hypothesis({"size": "400-"}, "pair")

    def through(unit: Probe, tight: bool) -> object:
        return passing(prober.paced(unit), access, STREAM_PATIENCE)

    tail = Tail(prober, LINE, Effect(DROP), best, through, core)  # type: ignore[arg-type]
    for form in ("tiny", "long"):
        tail.form = form
        unit, _, fast = act_unit(tail, core)
        for up in (True, False):
            own = [one for one in unit[fast:] if one.up == up]
            seconds = (own[-1].time - own[0].time) / 1e9
            octets = sum(map(ip_size, own[1:]))
            assert octets * 8 / 1000 <= 1.01 * SHARE * prober.rate[up] * seconds


@pytest.mark.parametrize(("least", "form"), [(0, "noise"), (100, "long"), (2_000, "noise")])
def test_packets_that_another_rule_decides_do_not_follow_a_trigger(least: int, form: str) -> None:
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    core = (Sent(0, True, FLOW, b"trigger" * 200),)

    def through(unit: Probe, tight: bool) -> object:
        return passing(prober.paced(unit), "4g", STREAM_PATIENCE)

    def small(unit: Probe) -> object:
        return np.array([len(one.payload) < least for one in unit])

    tail = Tail(prober, LINE, Effect(DROP), hypothesis({"size": "1000-"}), through, core,  # type: ignore[arg-type]
                small)  # type: ignore[arg-type]  # fmt: skip
    assert tail.form == form


def test_writes_of_a_stream_that_show_a_share_of_losses_are_far_apart() -> None:
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    core = (Sent(0, True, STREAM, b"hello" * 20),)

    def through(unit: Probe, tight: bool) -> object:
        return passing(prober.paced(unit), "4g", STREAM_PATIENCE)

    best = hypothesis({"ports": [443]})
    tail = Tail(prober, LINE, Effect(PARTIAL, 0.2), best, through, core)  # type: ignore[arg-type]
    unit = tail.unit(core)
    times = [one.time for one in unit[1:] if one.up]
    assert min(np.diff(times)) >= STREAM_APART


@pytest.mark.parametrize(("match", "known"), [({"direction": "up"}, False), ({"stun": True}, True)])
def test_controls_that_a_rule_strikes_show_an_upper_end_of_the_lines_loss_alone(
    match: dict[str, object], known: bool
) -> None:
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    core = (Sent(0, True, FLOW, b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)),)

    def through(unit: Probe, tight: bool) -> object:
        return passing(prober.paced(unit), "4g", STREAM_PATIENCE)

    best = hypothesis(match, "client")
    tail = Tail(prober, LINE, Effect(PARTIAL, 0.4), best, through, core)  # type: ignore[arg-type]
    acts = Acts(tail, core)
    acts.rule, acts.known = best.rule(), [(40, 500), (40, 500)]
    control = acts.controls(8 * MS, 120)
    assert acts.rule is not None
    acts.count_controls(outcome_of(control, np.zeros(len(control), bool), 2), acts.rule)
    ways = [Measured(up, *[np.zeros(0)] * 6) for up in (True, False)]  # type: ignore[arg-type]
    share, deviation = acts.background(ways)
    lost, sent = map(sum, zip(*acts.known, strict=True))
    upper = (lost + 0.5) / (sent + 1)
    assert share == pytest.approx(upper if known else upper / 2)
    if not known:
        assert share - 2 * deviation < 0.01
        assert share + 2 * deviation > upper


def test_an_act_is_measured_by_the_times_at_which_packets_were_sent() -> None:
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    unit = tuple(Sent(number * MS, True, FLOW, bytes(60)) for number in range(20))
    planned = np.tile(np.arange(20) * 3 * MS, (2, 1))  # a slow access network needs more time
    outcome = outcome_of(unit, np.zeros(20, bool), 2)._replace(planned=planned)
    best = hypothesis({"size": "1-"}, "packet")

    def through(some: Probe, tight: bool) -> object:
        return passing(some, "4g", STREAM_PATIENCE)

    tail = Tail(prober, LINE, Effect(PARTIAL, 0.4), best, through, unit[:1])  # type: ignore[arg-type]
    way = measure(tail, outcome, np.ones(20, bool), True, 10, 0)
    assert way is not None
    assert np.diff(way.fast_times).tolist() == [[3 * MS] * 9] * len(way.fast_times)


# -- limits


@pytest.mark.parametrize(
    ("rule", "shaped"),
    [
        (rule_of({"ports": [4000]}, "shape", rate_kbit=600, queue_ms=250), True),
        (rule_of({"ports": [4000]}, "delay", delay_ms=60), False),
    ],
    ids=["queue", "delay"],
)
def test_a_queue_above_a_flows_own_rate_is_measured_and_a_delay_is_none(
    rule: Rule, shaped: bool
) -> None:
    prober = Prober(VirtualSockets(Policy((rule,)), "4g", 5, NOISE), "4g", 5)
    prober.fresh_far = False
    outcomes = [joined([one]) for one in prober.ask("controls", control_units(), 4)]
    own = tuple(Sent(at * 40 * MS, True, FLOW, bytes([at]) * 700) for at in range(8))
    limit = datagram_limit(prober, baseline_of(prober, outcomes), own, True, waits=True)
    assert (limit is not None) == shaped
    if limit is not None:
        assert limit.act == "shape"
        assert limit.rate == pytest.approx(600, rel=0.1)
        assert limit.room == pytest.approx(250, rel=0.2)


# -- what a rule found explains


def test_a_rule_touches_its_own_flows_and_those_of_the_hosts_that_it_condemns() -> None:
    capture = call()
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), capture, Result())
    for scope, more in (("flow", False), ("server", False), ("client", True)):
        rule = hypothesis({"stun_method": ["allocate"]}, scope)
        finding = Finding(DROP, capture[0].ends, True, 40.0, 1.0, 0)
        found = Found(rule, 0.9, Effect(DROP), Beliefs(LINE, [Effect(DROP)]), (), finding, rule)
        unit = plays.capture
        predicted = strikes(plays.through(unit, False), [found.as_drop])
        touched = plays.touched(found, unit, predicted)
        relay = np.array([one.ends.far_port == 3478 for one in unit])
        assert touched[relay].all()
        assert touched[~relay].all() == more
        assert touched[~relay].any() == more


def test_the_first_rule_must_explain_some_of_its_effect_and_a_further_one_half() -> None:
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), call(), 1.0)
    through = search.plays.through(search.plays.capture, False)
    rule = hypothesis({"stun_method": ["allocate"]}, "flow")
    beliefs = Beliefs(LINE, [Effect(DROP)])
    whole = np.ones(len(through.unit), bool)
    beliefs.observe(Seen(through, outcome_of(through.unit, whole, 8), True))
    finding = Finding(DROP, through.unit[0].ends, True, 40.0, 1.0, 0)
    found = Found(rule, 0.9, Effect(DROP), beliefs, (), finding, rule)
    taken = []
    for share in (0.0, 0.2, 0.6):
        found.explained = share
        search.result.found = []
        first = search.is_taken(found, finding)
        search.result.found = [found]
        taken.append((first, search.is_taken(found, finding)))
    assert taken == [(False, False), (True, False), (True, True)]


def test_a_delay_that_varies_is_expected_to_vary_in_few_copies() -> None:
    unit = tuple(Sent(at * 100 * MS, True, FLOW, bytes([at]) * 60) for at in range(40))
    line = Baseline((0.0, 0.0), (5e7, 5e7), (0.0, 0.0), (1e7, 1e7))
    rng = np.random.default_rng(7)
    seen, expected = (
        outcome_of(unit, np.zeros(len(unit), bool), copies)._replace(
            delay=(50 * MS + rng.normal(150, 30, (copies, len(unit))) * MS).astype(np.int64)
        )
        for copies in (4, 16)
    )
    rest = line.excess(without_delays(seen, expected, line, False))
    assert np.median(rest, axis=0).max() < 20 * MS
    later = seen._replace(delay=seen.delay + 200 * MS)
    assert (
        np.median(line.excess(without_delays(later, expected, line, False)), axis=0).min()
        > 100 * MS
    )


@pytest.mark.parametrize("size", [61, 300])
def test_messages_of_other_kinds_are_no_smaller_than_the_packet_in_whose_place_they_are(
    size: int,
) -> None:
    """A rule with a least size would spare smaller ones for their size alone."""
    one = Sent(0, True, FLOW, bytes(n % 256 for n in range(size)))
    changed = dict(changed_packets(one))
    for word, example in exemplars(UDP).items():
        other = changed[word]
        assert read(other).kind == read(one._replace(payload=example)).kind
        assert len(other.payload) >= size


@pytest.mark.parametrize(("kind", "score", "verdict"), [
    (DELAY, 35.0, "cannot tell"), (PARTIAL, 35.0, "cannot tell"), (DELAY, 90.0, "degraded"),
    (DROP, 35.0, "blocked"), (DROP, 20.0, "cannot tell"),
])  # fmt: skip
def test_an_effect_that_no_rule_explains_must_be_plainer_to_degrade_a_call(
    kind: str, score: float, verdict: str
) -> None:
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), call(), 1.0)
    search.result.findings = [Finding(kind, call()[0].ends, True, score, 0.2, 0)]
    assert search.verdict() == verdict


@pytest.mark.parametrize("shown", [True, False])
def test_a_rule_that_its_own_probes_refute_is_a_verdict_if_several_paces_have_shown_it(
    shown: bool,
) -> None:
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), call(), 1.0)
    finding = Finding(DELAY, call()[0].ends, True, 25.0, 0.2, 0)
    search.result.findings = [finding]
    sought = Effect.of_limit({"act": "shape", "rate_kbit": 64.0, "queue_ms": 200.0})
    rule = hypothesis({"protocol": "udp"})
    found = Found(rule, 0.9, sought, Beliefs(LINE, [sought]), (), finding, rule, act=sought.act)
    found.refute("the trigger alone did not show the effect again")
    search.result.found = [found]
    if shown:
        search.identifier.limits[sought.limit] = outcome_of(call(), np.zeros(len(call()), bool), 4)
    assert search.verdict() == ("degraded" if shown else "cannot tell")


@pytest.mark.parametrize(("kind", "probability", "verdict"), [
    (REORDER, 0.1, "cannot tell"), (REORDER, 0.4, "degraded"), (DROP, 0.1, "degraded"),
])  # fmt: skip
def test_an_effect_that_only_an_unlikely_rule_explains_degrades_no_call(
    kind: str, probability: float, verdict: str
) -> None:
    """A line that reorders much by itself had an answer with 0.1."""
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), call(), 1.0)
    finding = Finding(kind, call()[0].ends, True, 40.0, 0.2, 0)
    search.result.findings = [finding]
    rule, sought = hypothesis({"protocol": "udp"}), Effect(kind, 0.2)
    act = {"act": "reorder", "share": 0.2, "delay_ms": 40.0}
    search.result.found = [Found(rule, probability, sought, Beliefs(LINE, [sought]), (), finding,
                                 rule, act=act)]  # fmt: skip
    assert search.verdict() == verdict


def test_what_a_known_rule_leaves_over_of_its_own_flows_is_not_looked_into_again() -> None:
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), call(), 1.0)
    plays = search.plays
    late = outcome_of(call(), np.zeros(len(call()), bool), 16)
    late.delay[:] += 400 * MS * np.array([one.ends.proto != TCP for one in call()])
    plays.shown, plays.own, plays.base = [late], late, LINE
    beliefs = Beliefs(LINE, [Effect(DELAY)])
    rule, ends = hypothesis({"protocol": "udp", "direction": "up"}, "packet"), call()[0].ends
    found = Found(rule, 0.9, Effect(DELAY), beliefs, (), Finding(DELAY, ends, True, 40.0, 1.0, 0),
                  rule, act={"act": "delay", "delay_ms": 20.0})  # fmt: skip
    search.result.found = [found]
    left = {one.key for one in plays.not_explained()}
    assert {up for _, _, up in left} == {True, False}
    assert search.left_by(found, DELAY) == {key for key in left if key[2]}
    assert search.left_by(found, PARTIAL) == set()


@pytest.mark.parametrize(("left", "expected"), [
    ((INJECT, DROP), INJECT), ((DROP, DELAY), DROP), ((), None),
])  # fmt: skip
def test_an_earlier_rule_is_identified_again_by_what_the_others_leave_over(
    left: tuple[str, ...], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), call(), 1.0)
    rule = hypothesis({"protocol": "udp"})
    effects = {INJECT: Finding(INJECT, STREAM, True, 90.0, 1.0, 0),
               DROP: Finding(DROP, FLOW, True, 60.0, 1.0, 0),
               DELAY: Finding(DELAY, FLOW, False, 30.0, 1.0, 0)}  # fmt: skip
    found = Found(rule, 0.9, Effect(INJECT), Beliefs(LINE, [Effect(INJECT)]), (), effects[INJECT],
                  rule)  # fmt: skip
    asked: list[str] = []
    monkeypatch.setattr(search.plays, "not_explained", lambda: [effects[one] for one in left])
    monkeypatch.setattr(search.identifier, "is_still_best", lambda _: False)
    monkeypatch.setattr(search.identifier, "identify", lambda one: asked.append(one.kind))
    search.identified_again(found)
    assert asked == ([] if expected is None else [expected])
