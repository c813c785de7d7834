# SPDX-License-Identifier: BSD-3-Clause
"""The prober: two rules on one line, and effects of the line itself that look like a rule."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe import answer, run
from midcall.experiments.probe.acts import Number
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis, shared
from midcall.experiments.probe.conditions import lists_of_names, lists_of_ports
from midcall.experiments.probe.effects import SHOWN, Finding, findings
from midcall.experiments.probe.fit import ANOTHER
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.line_oracle import DELAY, DROP, INJECT, PARTIAL, REORDER, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Outcome, parts_of
from midcall.experiments.probe.search import Search
from midcall.experiments.probe.variants import alike, of_subject
from midcall.experiments.proofs.prober.score import as_well, named_rules, names
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size, probe_of
from midcall.testbed.probing.sockets import play
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import DATAGRAM, SEGMENT, Noise, VirtualSockets
from tests.experiments.prober_call import LINE

NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOW = Ends(UDP, NEAR, 40_000, FAR, 4_000)
STREAM = Ends(TCP, NEAR, 40_001, FAR, 443)
MS = 1_000_000
CALL = """
0.00 > udp relay:3478/40001 stun-allocate 4000
0.04 < udp relay:3478/40001 stun-allocate-answer
0.20 > udp relay:3478/40001 rtp 160 x20 0.02
0.21 < udp relay:3478/40001 rtp 160 x20 0.02
0.10 > udp peer:7000/40002 rtp 160 x20 0.02
0.13 < udp peer:7000/40002 rtp 160 x20 0.02
"""


def rule_of(name: str, match: dict[str, Any], act: str, **more: Any) -> Rule:
    return Rule.model_validate(
        {"name": name, "match": match, "act": act, "grade": "C", "source": "test", **more}
    )


def outcome_of(unit: Probe, delay: Any) -> Outcome:
    none: list[list[Any]] = [[] for _ in delay]
    sizes, up = [ip_size(one) for one in unit], [one.up for one in unit]
    return Outcome(unit, np.array(delay), np.array(sizes), np.array(up), none, none)


def test_packets_of_one_direction_are_compared_with_that_direction_of_their_flows() -> None:
    packets = hypothesis({"direction": "up", "ports": [7078]}, "packet")
    flows = hypothesis({"ports": [7078]}, "flow", way="up")
    assert flows in alike(packets)
    assert packets in alike(flows)
    assert all(one.way is None for one in alike(hypothesis({"ports": [7078]}, "packet")))
    ends = Ends(UDP, bytes([198, 18, 0, 1]), 40_000, bytes([198, 19, 0, 1]), 7078)
    unit = tuple(Sent(n * 20_000_000, n % 3 > 0, ends, bytes(60)) for n in range(12))
    struck = strikes(passing(unit, "4g", STREAM_PATIENCE),
                     [rule for one in (packets, flows) if (rule := one.rule())]).struck  # fmt: skip
    assert struck[0].any()
    assert (struck[0] == struck[1]).all()


@pytest.mark.longest
@pytest.mark.parametrize(
    "first",
    [
        rule_of("r1", {"ports": [3478]}, "drop"),
        rule_of("r1", {"ports": [3478]}, "loss", loss=0.4, scope="packet", way="up"),
    ],
    ids=["drop", "loss"],
)
def test_a_rule_next_to_another_one_is_named(first: Rule) -> None:
    second = rule_of("r2", {"ports": ["3000-8000"]}, "delay", delay_ms=150, way="up")
    noise = Noise(loss=0.01, jitter_ms=3)
    named = run.against(Policy((first, second)), probe_of(scene(CALL)), "4g", 5, noise).answer
    found = [named_rules(named), *([one, *one["equal"]] for one in as_well(named))]
    for rule in (first, second):
        assert any(all(names(rule, one)) for one in found), (rule, found)


def test_a_flow_that_another_rule_strikes_costs_a_rule_no_more_than_that() -> None:
    other = FLOW._replace(near_port=40_002, far_port=5_000)
    unit = tuple(Sent(n * 20 * MS, True, ends, bytes([n, n % 7]) * 50)
                 for n in range(20) for ends in (FLOW, other))  # fmt: skip
    line = Baseline((0.02, 0.02), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((20, 1000), (20, 1000)))
    outcome = outcome_of(unit, np.full((8, len(unit)), -1))
    through = passing(unit, "4g", STREAM_PATIENCE)
    rules = [hypothesis({"ports": [4_000]}), hypothesis({"ports": [4_000, 5_000]})]
    gaps, covered = [], []
    for capture, others in ((True, ()), (False, (other,)), (False, ())):
        beliefs = Beliefs(line, [Effect(DROP)])
        beliefs.observe(Seen(through, outcome, capture, frozenset(others)))
        beliefs.add(rules)
        gaps.append(float(np.diff(beliefs.scores)[0]))
        covered.append(beliefs.covered)
    assert 0.5 * ANOTHER < gaps[0] <= ANOTHER + 5 < gaps[2]
    assert 0.5 * ANOTHER < gaps[1] <= ANOTHER + 5  # a unit with one flow of the capture
    assert min(covered) > 0.9


def test_of_equal_datagrams_a_lost_one_is_no_delay() -> None:
    unit = tuple(Sent(at * 490 * MS, True, FLOW, b"keep-alive") for at in range(2))
    line = VirtualSockets(
        Policy((rule_of("r", {"packets": "1-1"}, "drop", scope="packet"),)), "fibre", 3, ideal=True
    )
    result = play(line, unit, 900 * MS)
    assert result.arrived[0] < 0 < result.arrived[1]
    assert 0 < result.delay(1) < 100 * MS


@pytest.mark.parametrize("loss", [0.0005, 0.05])
def test_a_stream_that_waits_in_all_copies_is_late_only_if_the_line_hardly_loses(
    loss: float,
) -> None:
    unit = tuple(Sent(n * MS, True, STREAM, bytes(1000)) for n in range(120))
    line = Baseline((loss, loss), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((20, 1000), (20, 1000)))
    delay = np.full((16, len(unit)), 50 * MS)
    delay[:, 80:] += 90 * MS
    late = [one for one in findings(outcome_of(unit, delay), line)
            if one.kind == DELAY and one.score > SHOWN]  # fmt: skip
    assert bool(late) == (loss < 0.01)


@pytest.mark.parametrize(("ends", "most"), [(FLOW, DATAGRAM), (STREAM, SEGMENT)])
def test_packets_that_the_capturing_host_had_joined_are_played_as_several(
    ends: Ends, most: int
) -> None:
    long = Sent(7, True, ends, bytes(range(250)) * 40)
    parts = list(parts_of(long))
    assert b"".join(one.payload for one in parts) == long.payload
    assert max(len(one.payload) for one in parts) <= most
    short = long._replace(payload=bytes(1200))
    assert list(parts_of(short)) == [short]


def test_an_effect_that_no_rule_explains_is_said_and_makes_the_answer_less_probable() -> None:
    drop = Finding(DROP, FLOW, True, 40.0, 1.0, 0)
    line = Baseline((0.02, 0.02), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6))
    rule = hypothesis({"ports": [4_000]})
    found = Found(rule, 0.9, Effect(DROP), Beliefs(line, [Effect(DROP)]), (), drop, rule)
    whole = Result("blocked", [found])
    part = Result("blocked", [found], [drop._replace(kind=DELAY)])
    assert 0 < answer.probability(part) <= answer.MISFIT * answer.probability(whole) < 0.9
    pair = [found, found]
    both, rest = Result("blocked", pair), Result("blocked", pair, part.rest)
    assert 0 < answer.probability(rest) <= answer.MISFIT * answer.probability(both) < 0.8
    [reason] = answer.unexplained(part)
    assert reason["relation"] == "cannot tell"
    assert DELAY in reason["why"]
    assert not list(answer.unexplained(whole))


def test_an_allowance_is_tried_with_every_subject_that_may_share_it() -> None:
    own = hypothesis({"payload": ["rtp"]}, "pair", None, json.dumps({"seconds": 0.3}))
    subjects = {one.allowance.get("per") for one in shared(own)}
    assert subjects == {None, "call", "client", "pair", "server", "triple"}
    flows = own._replace(after=json.dumps({"flows": 2, "per": "client"}))
    allowed = [one for one in shared(flows) if one.rule() is not None]
    assert {one.allowance.get("per") for one in allowed} == subjects - {None}
    late = [own._replace(scope="flow", after=json.dumps({"seconds": 0.2}))]
    found = {(one.scope, one.allowance.get("per")) for one in of_subject(late, own)}
    assert found == {("pair", None), ("flow", "pair"), ("packet", "pair")}
    assert all(one.rule() is not None for one in shared(own))


def test_a_page_answers_names_over_http_alone() -> None:
    beliefs = Beliefs(LINE, [Effect(INJECT, detail="block-page")])
    over_http = hypothesis({"name": ["a.example", "b.example"], "name_in": ["http"]})
    beliefs.add([over_http, hypothesis({"name": ["a.example", "b.example"]}),
                 hypothesis({"ports": [80]})])  # fmt: skip
    assert beliefs.hypotheses == [over_http]
    resets = Beliefs(LINE, [Effect(INJECT, detail="reset")])
    resets.add([over_http, hypothesis({"ports": [80]})])
    assert len(resets.hypotheses) == 2


def test_names_of_one_protocol_are_a_list() -> None:
    lines = """
0.0 > tcp peer:80/41000 http a.example
1.0 > tcp peer:80/41001 http b.example
2.0 > tcp peer:443/41002 tls-hello c.example
3.0 > tcp peer:80/41003 http b.example
4.0 > udp peer:53/41004 question d.example
"""
    unit = probe_of(scene(lines))
    assert list(lists_of_names(unit, np.ones(len(unit)))) == [
        {"name": ["a.example", "b.example", "c.example"]},
        {"name": ["*.a.example", "*.b.example", "*.c.example"]},
        {"name": ["a.example", "b.example"], "name_in": ["http"]},
        {"name": ["*.a.example", "*.b.example"], "name_in": ["http"]},
    ]


def test_names_below_the_same_labels_are_a_list_as_well() -> None:
    names = ("chat.a.example", "cdn1.up.b.example", "cdn2.up.b.example", "b.example")
    lines = "\n".join(f"{at}.0 > tcp peer:443/4100{at} tls-hello {name}"
                      for at, name in enumerate(names))  # fmt: skip
    unit = probe_of(scene(lines))
    lists = list(lists_of_names(unit, np.ones(len(unit))))
    expected = [
        [*names],
        ["*.chat.a.example", "*.up.b.example", "*.b.example"],
        ["*.a.example", "*.b.example"],
    ]
    assert [one["name"] for one in lists] == expected * 2  # in any protocol, and in TLS
    assert [one.get("name_in") for one in lists] == [None] * 3 + [["tls"]] * 3


def test_names_below_one_domain_are_no_list_of_domains() -> None:
    unit = probe_of(scene("0.0 > tcp peer:443/41000 tls-hello a.b.example\n"
                          "1.0 > tcp peer:443/41001 tls-hello c.b.example"))  # fmt: skip
    lists = [one["name"] for one in lists_of_names(unit, np.ones(len(unit)))]
    assert lists[:2] == [["a.b.example", "c.b.example"], ["*.a.b.example", "*.c.b.example"]]
    assert ["*.b.example"] not in lists


@pytest.mark.parametrize(("opens", "equal"), [(True, True), (False, False)])
def test_a_reset_towards_a_server_that_answers_a_syn_is_a_drop(opens: bool, equal: bool) -> None:
    match = {"ports": [443]} if opens else {"name": ["a.example"]}
    best = hypothesis({"protocol": "tcp"} | match)
    core = (Sent(0, True, STREAM, b"" if opens else b"hello"),)
    finding = Finding(DROP, STREAM, True, 40.0, 1.0, 0)
    found = Found(best, 0.9, Effect(DROP), Beliefs(LINE, [Effect(DROP)]), core, finding, best)
    named = [(one["act"], one.get("towards")) for one in answer.equal_acts(found)]
    assert (("reset", "server") in named) == equal


@pytest.mark.parametrize(("kind", "act", "whole"), [
    (PARTIAL, {"act": "loss", "loss": 0.5}, "drop"),
    (REORDER, {"act": "reorder", "share": 0.5, "delay_ms": 90.0}, "delay"),
])  # fmt: skip
@pytest.mark.parametrize(("low", "high", "equal"), [
    (0.46, 0.54, True), (0.40, 0.49, True), (0.40, 0.47, False), (0.52, 0.60, True),
    (0.53, 0.60, False), (0.90, 0.99, False),
])  # fmt: skip
def test_a_share_of_packets_is_one_in_so_many_unless_it_lies_far_from_that(
    kind: str, act: dict[str, Any], whole: str, low: float, high: float, equal: bool
) -> None:
    best = hypothesis({"payload": ["rtp"]}, "packet")
    core = (Sent(0, True, FLOW, b"r"),)
    share = (low + high) / 2
    effect = Effect(kind, share)
    finding = Finding(kind, FLOW, True, 40.0, share, 0)
    found = Found(best, 0.9, effect, Beliefs(LINE, [effect]), core, finding, best)
    key = "loss" if kind == PARTIAL else "share"
    found.act = act | {key: share}
    found.parameters = {key: Number(share, low, high)}
    assert (whole in {one["act"] for one in answer.equal_acts(found)}) == equal


@pytest.mark.parametrize("needed", [True, False])
def test_an_earlier_rule_that_its_probes_refute_explains_nothing_next_to_a_sure_one(
    needed: bool,
) -> None:
    """One that is probable stays where the others fit worse without it."""

    def rule(probability: float, *notes: str) -> SimpleNamespace:
        return SimpleNamespace(probability=probability, notes=list(notes))

    sure, unsure, noted, refuted = rule(0.9), rule(0.1), rule(0.9, "why"), rule(0.1, "why")
    for last, out in ((sure, [refuted]), (refuted, [])):
        search = Search.__new__(Search)
        search.plays = SimpleNamespace(closer=True)
        search.result = Result()
        search.result.found = [unsure, noted, *([refuted] if last is sure else []), last]
        search.misfits = lambda: needed and noted not in search.result.found  # noqa: B023
        taken = [*([] if needed else [noted]), *out]
        assert search.take_out_refuted() == taken
        assert search.result.found == [unsure, *([noted] if needed else []), last]
        assert search.plays.closer == (not taken)  # what it hid is looked for again


def finding(kind: str, ends: Ends, amount: float) -> Finding:
    return Finding(kind, ends, True, 50.0, amount, 0)


@pytest.mark.parametrize(("ends", "gone", "share", "exceeds"), [
    (FLOW, 6, 0.3, True), (FLOW, 6, 0.97, False), (FLOW, 1, 0.3, False), (STREAM, 6, 0.3, False),
], ids=["many", "as the share allows", "few", "stream"])  # fmt: skip
def test_packets_that_never_arrive_are_another_rules_than_a_share_that_does_not_explain_them(
    ends: Ends, gone: int, share: float, exceeds: bool
) -> None:
    unit = tuple(Sent(at * 20 * MS, True, ends, bytes(60)) for at in range(6))
    delay = np.full((8, 6), 30 * MS)
    delay[:, :gone] = -1
    search = object.__new__(Search)
    search.plays = SimpleNamespace(shown=[outcome_of(unit, delay)])
    search.result = Result()
    dropped = finding(DROP, ends, 1.0)
    search.result.findings = [dropped]
    assert not search.exceeds_shares(dropped)  # of no share
    search.result.findings = [dropped, finding(PARTIAL, FLOW._replace(far_port=5_000), share)]
    assert search.exceeds_shares(dropped) == exceeds


def test_rules_that_others_make_needless_are_left_out_before_further_ones_are_looked_for() -> None:
    """What they explain wrongly would hide what further rules do. Behind one rule, three effects
    without a rule are looked into."""
    wrong, right = (SimpleNamespace(name=one, rule=SimpleNamespace(act="delay"))
                    for one in ("wrong", "right"))  # fmt: skip
    names, effects = iter([wrong, right, *[None] * 9]), [finding(DELAY, FLOW, 9.0)]
    looked: list[list[str]] = []
    search = Search.__new__(Search)
    search.result = Result()

    def unexplained(tried: set[Any]) -> Finding:
        looked.append([one.name for one in search.result.found])
        return effects[0]

    search.plays = SimpleNamespace(
        look=lambda: effects, at_edge=lambda seen: False, base=LINE, worth_a_play=lambda _: False,
        unexplained=unexplained, result=search.result, shown=[SimpleNamespace(unit=())],
    )  # fmt: skip
    methods = {
        "identify": lambda _: next(names), "known": lambda _: None, "is_taken": lambda *_: True,
        "explain_by_scope": lambda _: False, "revise": lambda: None, "conclude": lambda: None,
        "take_out_refuted": list, "join_lists": lambda: None, "take_unsure": lambda _: None,
        "join_ways": lambda: None,
        "leave_out_superfluous": lambda: search.result.found.pop(0),
    }  # fmt: skip
    for name, method in methods.items():
        setattr(search, name, method)
    search._run()
    assert looked == [[], ["wrong"], ["right"], ["right"], ["right"]]


def test_ports_of_flows_that_show_an_effect_are_a_range_and_a_list() -> None:
    lines = """
0.0 > tcp peer:443/41000 syn
1.0 > udp peer:3478/41001 stun-allocate
2.0 > udp peer:4500/41002 rtp 160
3.0 > udp peer:5000/41003 rtp 160
"""
    unit = probe_of(scene(lines))
    shows = np.array([1.0, 1.0, 1.0, 0.2])
    assert list(lists_of_ports(unit, shows)) == [
        {"ports": ["443-4500"]}, {"ports": [443, 3478, 4500]},
        {"ports": ["3478-4500"]}, {"ports": [3478, 4500]},
    ]  # fmt: skip
    assert not list(lists_of_ports(unit, np.array([1.0, 0, 0, 0])))


def test_plays_to_the_own_addresses_are_looked_into_where_others_show_nothing_more() -> None:
    """Of those, the one that shows an effect is taken, to its own addresses."""
    plays = Plays.__new__(Plays)
    plays.more_own = [SimpleNamespace(name=one) for one in ("clean", "dropped")]
    dropped = [finding(DROP, FLOW, 1.0)]
    plays.far_beyond = lambda play, tried: dropped if play.name == "dropped" and not tried else []
    plays.look_into = lambda play, tried, fresh: [(play.name, fresh)]
    assert plays.look_at_own(()) == [("dropped", False)]
    assert plays.look_at_own({dropped[0].key}) == []


def test_more_of_the_capture_is_looked_into_where_an_effect_is_the_surest() -> None:
    scores = {b"first": 20.0, b"surest": 90.0, b"none": 0.0}
    units = [(Sent(0, True, FLOW, name),) for name in scores]
    plays = Plays.__new__(Plays)
    plays.result, plays.base, plays.patience, plays.own_units = Result(), LINE, None, []
    plays.more_units = lambda: units
    plays.prober = SimpleNamespace(
        fresh_far=False, least_apart=lambda _: 0,
        ask=lambda *_, **__: [outcome_of(unit, np.full((1, 1), 30 * MS)) for unit in units],
    )  # fmt: skip
    plays.further = lambda play, _: [
        finding(DROP, FLOW, 1.0)._replace(score=scores[play.unit[0].payload])]  # fmt: skip
    plays.look_into = lambda play, *_: [play.unit[0].payload]
    assert plays.look_closer(()) == [b"surest"]


@pytest.mark.parametrize(("apart_s", "lossy", "both", "copies"), [
    (0.1, False, False, (3, 3)), (1.5, False, False, (2, 3)), (9.0, False, False, (1, 2)),
    (9.0, True, False, (2, 3)), (9.0, True, True, (1, 2)), (0.1, False, True, (3, 3)),
])  # fmt: skip
def test_more_copies_are_played_where_the_access_network_carries_them_soon(
    apart_s: float, lossy: bool, both: bool, copies: tuple[int, int]
) -> None:
    plays = Plays.__new__(Plays)
    share = 0.04 if lossy else 0.01
    plays.base = LINE._replace(loss=(share, share))
    plays.prober = SimpleNamespace(least_apart=lambda _: int(1e9 * apart_s))
    units: list[Probe] = [(), ()]
    assert (plays.copies_of_more(units, both, True), plays.copies_of_more(units, both)) == copies
