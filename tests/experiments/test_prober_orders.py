# SPDX-License-Identifier: BSD-3-Clause
"""The prober: which of two rules decides a packet, packets that come twice, and late packets."""

from __future__ import annotations

import tomllib
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe import answer, run
from midcall.experiments.probe.acts import Number
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, Seen, hypothesis
from midcall.experiments.probe.choice import AT_ONCE, Choice
from midcall.experiments.probe.effects import Finding, groups_of
from midcall.experiments.probe.evidence import come_behind, without_found_rules
from midcall.experiments.probe.expected import not_seen, unexplained
from midcall.experiments.probe.fit import behind_lost, fits_by_share
from midcall.experiments.probe.found import Found, Result, order_of
from midcall.experiments.probe.kinds import effects_behind
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DOUBLE,
    DROP,
    MARK,
    PARTIAL,
    Effect,
    LineOracle,
)
from midcall.experiments.probe.measure import Measure, of_datagrams
from midcall.experiments.probe.plays import PLAIN, Plays, merged_findings
from midcall.experiments.probe.prober import STREAM_PATIENCE, Outcome, Prober, ProbesSpent
from midcall.experiments.probe.search import Search
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import call

MS = 1_000_000
NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOWS = [Ends(UDP, NEAR, 40_000 + number, FAR, 4_000 + number) for number in range(2)]
LINE = Baseline((0.005, 0.005), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((5, 1000), (5, 1000)))
TWICE, DROPPED = Effect(DOUBLE, 0.5), Effect(DROP)


def unit_of(count: int = 20, gap: int = 20 * MS) -> Probe:
    """Return packets of two flows upwards."""
    return tuple(Sent(n * gap, True, ends, bytes([n]) * 100) for n in range(count)
                 for ends in FLOWS)  # fmt: skip


def outcome_of(unit: Probe, lost: Any = False, twice: Any = False, copies: int = 8) -> Outcome:
    """Return a play of a unit. lost, twice: bool[packets], or of all packets."""
    none: list[list[Any]] = [[] for _ in range(copies)]
    shape = copies, len(unit)
    delay = np.where(np.broadcast_to(lost, shape), -1, 50 * MS)
    flags = np.broadcast_to(twice, shape).copy()
    return Outcome(unit, delay, np.array([ip_size(one) for one in unit]),
                   np.array([one.up for one in unit]), none, none, twice=flags)  # fmt: skip


def found_of(best: Hypothesis, kind: str = DROP, **act: Any) -> Found:
    """Return a rule that was found."""
    sought = Effect(kind)
    finding = Finding(kind, FLOWS[0], True, 40.0, 1.0, 0)
    return Found(best, 0.9, sought, Beliefs(LINE, [sought]), (), finding, best, act=act)


def plays_of(unit: Probe, *found: Found) -> Plays:
    """Return plays of a capture with rules that were found."""
    line = VirtualSockets(EMPTY, "4g", 1)
    plays = Plays(Prober(line, "4g", 1), unit, Result(found=list(found)))
    plays.base = LINE
    return plays


def test_a_rule_whose_effect_shows_on_packets_that_another_one_decides_comes_before_it() -> None:
    unit = unit_of()
    first = np.array([one.ends == FLOWS[0] for one in unit])
    of_first, of_second = (found_of(hypothesis({"ports": [ends.far_port]})) for ends in FLOWS)
    plays = plays_of(unit, of_first, of_second)
    plays.shown = [outcome_of(unit, lost=~first, twice=first)]
    finding = Finding(DOUBLE, FLOWS[0], True, 40.0, 0.5, 0)
    assert come_behind(plays, finding, TWICE) == [of_first]


def test_a_rule_on_single_packets_of_a_direction_leaves_the_other_one_to_rules_behind_it() -> None:
    unit = tuple(one._replace(up=number % 4 < 2) for number, one in enumerate(unit_of()))
    up = np.array([one.up for one in unit])
    found = found_of(hypothesis({"protocol": "udp", "direction": "up"}, "packet"))
    plays = plays_of(unit, found)
    late = outcome_of(unit)
    plays.shown = [late._replace(delay=late.delay + 300 * MS * ~up)]
    finding = Finding(DELAY, FLOWS[0], False, 50.0, 300.0 * MS, 2)
    assert come_behind(plays, finding, Effect(DELAY, 300.0 * MS)) == []
    assert found.leaves_other
    assert not plays.decided(unit, False)[~up].any()


@pytest.mark.parametrize(("loss", "left"), [(0.03, False), (0.2, True)])
def test_of_packets_that_another_rule_decides_not_only_those_the_line_loses_are_left(
    loss: float, left: bool
) -> None:
    unit = unit_of()
    plays = plays_of(
        unit, found_of(hypothesis({"protocol": "udp"}), DELAY, act="delay", delay_ms=80.0)
    )
    plays.base = plays.base._replace(loss=(0.03, 0.03))
    outcome = outcome_of(unit)
    gone = np.random.default_rng(1).random(outcome.delay.shape) < loss
    rest = without_found_rules(
        plays, outcome._replace(delay=np.where(gone, -1, outcome.delay)), True, Effect(PARTIAL, 0.1)
    )
    assert bool(rest.sent.any()) == left


@pytest.mark.parametrize("known", [False, True])
def test_a_delay_that_a_rule_found_explains_is_no_effect_of_a_further_rule(known: bool) -> None:
    late = found_of(hypothesis({"ports": [FLOWS[0].far_port]}), DELAY, act="delay", delay_ms=80.0)
    unit = unit_of()
    plays = plays_of(unit, *[late] * known)
    slow = np.array([one.ends == FLOWS[0] for one in unit])
    outcome = outcome_of(unit)
    plays.shown = [outcome._replace(delay=outcome.delay + 80 * MS * slow)]
    loss = Finding(PARTIAL, FLOWS[0], True, 40.0, 0.1, 0)
    plays.result.findings = [loss, Finding(DELAY, FLOWS[0], True, 50.0, 80.0 * MS, 0)]
    kinds = {one.kind for one in effects_behind(plays, loss, {}, False, False)}
    assert kinds == {PARTIAL, DROP} | ({DELAY} if not known else set())


def test_what_a_rule_behind_drops_a_rule_before_it_does_not_strike() -> None:
    unit = unit_of()
    first = np.array([one.ends == FLOWS[0] for one in unit])
    found = found_of(hypothesis({"protocol": "udp"}))
    plays = plays_of(unit, found)
    outcome = outcome_of(unit, lost=~first, twice=first)
    hidden = without_found_rules(plays, outcome, False, TWICE)
    assert (hidden.delay[:, ~first] < 0).all()  # it may never have met them
    plays.behind = [found]
    rest = without_found_rules(plays, outcome, False, TWICE)
    assert (rest.delay >= 0).all()
    assert rest.twice is not None
    assert (rest.twice == first).all()
    assert not plays.decided(unit, False).any()


@pytest.mark.parametrize("equal", [True, False])
def test_a_rule_that_may_strike_single_packets_leaves_the_other_direction(equal: bool) -> None:
    """Downward packets are lost under the rule found, upward ones come twice."""
    ends = FLOWS[0]
    unit = tuple(Sent(n * 20 * MS, n % 2 == 0, ends, bytes([n]) * 100) for n in range(40))
    up = np.array([one.up for one in unit])
    found = found_of(hypothesis({"protocol": "udp"}, way="down"))
    single = hypothesis({"protocol": "udp", "direction": "down"}, "packet")
    found.equal = [single] if equal else []
    plays = plays_of(unit, found)
    plays.shown = [outcome_of(unit, lost=~up, twice=up)]
    behind = come_behind(plays, Finding(DOUBLE, ends, True, 40.0, 0.5, 0), TWICE)
    assert behind == ([] if equal else [found])
    assert (found.best == single) == equal
    assert plays.decided(unit, False)[up].any() == (not equal)


def test_rules_are_listed_in_the_order_in_which_they_decide() -> None:
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit_of())
    drop, other = (found_of(hypothesis({"ports": [port]})) for port in (4_000, 4_001))
    before = found_of(hypothesis({"protocol": "udp"}), DOUBLE, act="duplicate", share=0.5)
    before.behind = [drop]
    search.result.found = [other, drop, before]
    assert order_of(search.result.found) == [other, before, drop]
    again = found_of(hypothesis({"ports": ["3999-4000"]}))
    search.put(1, again)  # the dropping rule is identified again
    assert order_of(search.result.found) == [other, before, again]


def search_of(unit: Probe, lost: Any, *found: Found) -> Search:
    """Return a search in which a capture was played and rules were found. lost: bool[packets]."""
    search = Search(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit)
    search.plays.base = LINE
    search.plays.own = outcome_of(unit, lost=lost)
    search.plays.shown = [search.plays.own]
    search.result.found = list(found)
    return search


def test_a_further_rule_with_the_same_act_strikes_packets_that_an_earlier_one_does_not() -> None:
    ends = FLOWS[0]
    unit = tuple(Sent(n * 20 * MS, True, FLOWS[n % 2], bytes(60 + n)) for n in range(60))
    sizes = np.array([len(one.payload) for one in unit])
    of_flow = np.array([one.ends == ends for one in unit])
    known = found_of(hypothesis({"ports": [4_000]}, "packet"))
    larger, all_ = (found_of(hypothesis({"size": f"{size}-"}, "packet")) for size in (70, 1))
    for further, lost, wanted in (
        (larger, of_flow | (sizes >= 70), True),
        (all_, np.ones(60, bool), False),  # it strikes all that the earlier one does
        (larger, of_flow, False),  # nothing is left over
        (known, of_flow | (sizes >= 70), False),
    ):
        search = search_of(unit, lost, known)
        finding = Finding(DROP, FLOWS[1], True, 60.0, 1.0, 11)
        assert search.is_another(further, known, finding) == wanted
        assert search.result.found == [known]


@pytest.mark.parametrize("weight", [0.2, 0.001])
def test_what_is_left_over_decides_between_scopes_that_probes_allow(weight: float) -> None:
    unit = unit_of()
    found = found_of(hypothesis({"ports": [4_000]}))
    wide = found.began._replace(scope="client")
    found.beliefs.add([found.began, wide])
    found.beliefs.of_units[:, 0] = np.log([1.0, weight])
    search = search_of(unit, True, found)  # all packets are lost
    finding = Finding(DROP, FLOWS[1], True, 60.0, 1.0, 1)
    assert search.explain_by_scope(finding) == (weight > 0.1)
    assert found.best.scope == ("client" if weight > 0.1 else "flow")


@pytest.mark.parametrize("act", ["drop", "duplicate"])
def test_the_queue_that_copies_fill_says_nothing_of_the_scope(act: str) -> None:
    unit = unit_of()
    found = found_of(hypothesis({"ports": [4_000]}))
    found.act = {"act": act} if act == "drop" else {"act": act, "share": 0.4}
    search, asked = search_of(unit, True, found), []
    found.take_fitting_mechanism = lambda *_: asked.append(1) or True  # type: ignore[method-assign]
    finding = Finding(DELAY, FLOWS[1], True, 60.0, 1.0, 1)
    assert search.explain_by_scope(finding) == bool(asked) == (act == "drop")


@pytest.mark.parametrize(("seen", "taken"), [(0.42, True), (0.8, False)])
def test_the_share_that_comes_twice_is_that_of_all_plays_if_they_agree(
    seen: float, taken: bool
) -> None:
    unit = unit_of(40)
    found = found_of(hypothesis({"protocol": "udp"}))
    found.sought, found.act = TWICE, {"act": "duplicate", "share": 0.37}
    found.parameters["share"] = own = Number(0.37, 0.24, 0.52)
    outcome = outcome_of(unit, copies=16)
    assert outcome.twice is not None
    outcome.twice[:] = np.random.default_rng(3).random(outcome.twice.shape) < seen
    found.beliefs.seen.append(Seen(passing(unit, "4g", STREAM_PATIENCE), outcome))
    Measure(plays_of(unit), found, 1.0, False).take_share_of_plays()
    share = found.parameters["share"]
    assert (share != own) == taken
    assert found.act["share"] == round(share.value, 4)
    if taken:
        assert share.low < seen < share.high
        assert share.high - share.low < 0.1


@pytest.mark.parametrize("weight", [0.2, 0.001])
def test_a_rule_that_predicts_too_much_takes_a_scope_that_does_not(weight: float) -> None:
    unit = unit_of()
    found = found_of(hypothesis({"ports": [4_000]}, "client"))
    found.beliefs.add([found.began, found.began._replace(scope="flow")])
    found.beliefs.of_units[:, 0] = np.log([1.0, weight])
    search = search_of(unit, np.array([one.ends == FLOWS[0] for one in unit]), found)
    search.narrow(found)
    assert found.best.scope == ("flow" if weight > 0.1 else "client")


@pytest.mark.parametrize("kept", [True, False])
def test_a_server_that_other_copies_have_condemned_says_nothing(kept: bool) -> None:
    """The flow that is sent first is lost, although the packets that condemn its server come later:
    other copies and earlier plays have sent them to the same server."""
    unit = tuple(Sent(n * 20 * MS + at * 850 * MS, True, ends, bytes([n]) * 60)
                 for at, ends in enumerate(FLOWS) for n in range(20))  # fmt: skip
    found = found_of(hypothesis({"ports": [FLOWS[1].far_port]}, "server"))
    search = search_of(unit, True, found)
    search.plays.prober.fresh_far = not kept
    if not kept:  # a unit that every copy sends to servers of its own
        search.plays.capture = unit[:1]
    left = {(one.kind, one.ends) for one in search.plays.not_explained()}
    assert left == (set() if kept else {(DROP, FLOWS[0])})


def test_a_delay_for_a_server_explains_no_losses() -> None:
    unit = unit_of()
    found = found_of(hypothesis({"protocol": "udp"}, "server"), DELAY, act="delay", delay_ms=80.0)
    search = search_of(unit, np.array([one.ends == FLOWS[0] for one in unit]), found)
    left = {(one.kind, one.ends) for one in search.plays.not_explained()}
    assert (DROP, FLOWS[0]) in left


@pytest.mark.parametrize("way", [None, "down"])
def test_a_condemned_host_explains_no_losses_of_the_way_that_a_rule_passes(way: str | None) -> None:
    """Both ways of a flow are lost, and a rule that drops what a server sends was found."""
    unit = tuple(Sent(n * 20 * MS, n % 2 == 0, FLOWS[n % 4 // 2], bytes([n]) * 60)
                 for n in range(40))  # fmt: skip
    found = found_of(hypothesis({"protocol": "udp"}, "server", way=way))
    left = {(one.kind, one.up) for one in search_of(unit, True, found).plays.not_explained()}
    assert left == ({(DROP, True)} if way else set())


@pytest.mark.parametrize("explained", [False, True])
def test_a_rule_that_its_own_units_show_is_not_superfluous(explained: bool) -> None:
    unit = unit_of()
    found = found_of(hypothesis({"ports": [4_000]}, "packet"))
    lost = np.array([one.ends == FLOWS[0] for one in unit])
    seen = Seen(passing(unit, "4g", STREAM_PATIENCE), outcome_of(unit, lost=lost))
    found.beliefs.add([found.began])
    found.beliefs.observe(seen)
    other = found_of(hypothesis({"size": "1-" if explained else "500-"}, "packet"))
    assert search_of(unit, False, other).is_shown_by_units(found) == (not explained)


def test_the_rules_of_an_answer_decide_in_their_order() -> None:
    drop = found_of(hypothesis({"ports": [4_000]}))
    before = found_of(hypothesis({"protocol": "udp"}), DOUBLE, act="duplicate", share=0.5)
    before.behind = [drop]
    result = Result("blocked", [drop, before])
    document = answer.document(result, Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1))
    rules = tomllib.loads(document["rule_toml"])["hypothesis"][0]["rule"]
    assert [one["act"] for one in rules] == ["duplicate", "drop"]
    assert document["act"]["name"] == "drop"


@pytest.mark.parametrize("own", [True, False])
def test_where_few_packets_may_come_twice_none_may_do_so_by_chance(own: bool) -> None:
    unit = unit_of(1)
    first = np.array([one.ends == FLOWS[0] for one in unit])
    seen, expected = outcome_of(unit), outcome_of(unit, copies=16)
    assert seen.twice is not None
    seen.twice[:2, first] = True  # 2 of 8 copies; none of 16 that are expected
    rest = unexplained(seen, expected, LINE, DOUBLE, np.zeros(2, bool), flagged=first & own)
    assert rest.twice is not None
    assert rest.twice.any() == (not own)


def test_packets_that_a_rule_would_send_twice_and_that_come_once_contradict_it() -> None:
    unit = unit_of()
    half = np.arange(len(unit)) % 4 < 2
    assert not_seen(outcome_of(unit), outcome_of(unit, twice=half))
    assert not not_seen(outcome_of(unit, twice=half), outcome_of(unit, twice=half))
    assert len(groups_of(outcome_of(unit))) == 2


def rule_of(match: dict[str, Any], act: str, **more: Any) -> Rule:
    return Rule.model_validate(
        {"name": act, "match": match, "act": act, "grade": "C", "source": "test", **more}
    )


@pytest.mark.longest
def test_packets_are_reordered_however_far_apart_they_are_sent() -> None:
    """Packets 30 ms apart (a codec with frames of 30 ms) that come 150 ms late are overtaken."""
    rule = rule_of({"ports": [4_000]}, "reorder", way="up", delay_ms=150, share=0.3)
    unit = tuple(one._replace(ends=ends, up=up, time=one.time + (0 if up else 7 * MS))
                 for one in unit_of(25, 30 * MS)[::2] for ends in FLOWS
                 for up in (True, False))  # fmt: skip
    named = run.against(Policy((rule,)), unit, "fibre", 3, Noise(loss=0.01)).answer
    assert named["act"]["name"] == "reorder"
    assert (named["scope"], named["direction"]) == ("flow", "up")
    assert abs(named["act"]["parameters"]["delay_ms"]["value"] - 150) < 15


@pytest.mark.longest
def test_equal_datagrams_that_one_rule_drops_and_another_one_sends_twice_are_not_late() -> None:
    """In more of the capture, flows have their datagrams again: the first ones of these are lost,
    and the later ones come twice."""
    rules = (
        rule_of({"size": "150-"}, "duplicate", way="down", share=0.4),
        rule_of({"ports": [4_000]}, "drop", scope="server"),
    )
    unit = tuple(
        Sent(n * 40 * MS + (0 if up else 7 * MS), up, ends, bytes([n, ends == FLOWS[0]]) * size)
        for n in range(30) for ends in FLOWS for up in (True, False)
        for size in (100 if n > 9 and ends == FLOWS[1] else 50,)
    )  # fmt: skip
    named = run.against(Policy(rules), unit, "fibre", 3, Noise(loss=0.01)).answer
    acts = {named["act"]["name"], *(one.get("act") for one in named["alternatives"]
                                    if one["relation"] == "as well")}  # fmt: skip
    assert acts == {"drop", "duplicate"}
    assert not any("no rule found explains" in one.get("why", "") for one in named["alternatives"])


def test_a_unit_whose_packets_another_rule_decides_teaches_nothing() -> None:
    unit = unit_of()
    found = found_of(hypothesis({"protocol": "udp"}, "client"))
    rules = [hypothesis({"ports": [4_000]}), hypothesis({"ports": ["4000-4001"]})]
    beliefs = Beliefs(LINE, [TWICE])
    beliefs.add(rules)
    asked = []
    for behind in ([], [found]):
        plays = plays_of(unit, found)
        plays.behind = behind
        choice = Choice(plays, beliefs, unit[:1], unit, TWICE, True)
        asked.append(choice.choose())
    assert not asked[0]
    assert asked[1]


@pytest.mark.parametrize(
    ("sought", "fresh", "several"),
    [(DROPPED, True, True), (DROPPED, False, False), (TWICE, True, False)],
)
def test_units_that_cannot_disturb_each_other_are_played_at_once(
    sought: Effect, fresh: bool, several: bool
) -> None:
    unit = unit_of()
    beliefs = Beliefs(LINE, [sought])
    beliefs.add([
        hypothesis(match, scope) for scope in ("packet", "flow", "client", "pair")
        for match in ({"ports": [4_000]}, {"ports": ["4000-4001"]}, {"protocol": "udp"},
                      {"size": "1-90"}, {"entropy": "0.1-"})
    ])  # fmt: skip
    plays = plays_of(unit)
    plays.prober.fresh_far = fresh
    chosen = Choice(plays, beliefs, unit[:1], unit, sought, True).choose()
    assert (1 < len(chosen) <= AT_ONCE) if several else len(chosen) == 1
    assert len({one for _, one, _ in chosen}) == len(chosen)


def test_a_unit_that_would_only_show_what_another_one_shows_is_not_played_with_it() -> None:
    unit = unit_of()
    beliefs = Beliefs(LINE, [DROPPED])
    beliefs.add([hypothesis({"ports": [4_000]}), hypothesis({"protocol": "udp"})])
    plays = plays_of(unit)
    plays.prober.fresh_far = True
    choice = Choice(plays, beliefs, unit[:1], unit, DROPPED, True)
    first = tuple(one._replace(ends=FLOWS[1]) for one in unit)
    later = tuple(one._replace(time=one.time + MS) for one in first)
    chosen = choice.best_units(np.arange(2), np.ones(2), [("at once", first), ("later", later)])
    assert [(word, bits) for word, _, bits in chosen] == [("at once", 1.0)]


@pytest.mark.parametrize("share", [0.85, 1.0])
def test_datagrams_that_arrive_between_lost_ones_show_a_loss(share: float) -> None:
    unit = unit_of(40)
    lost = np.random.default_rng(3).random((8, len(unit))) < share
    outcome = outcome_of(unit, lost)
    found = found_of(hypothesis({"protocol": "udp"}))
    found.beliefs.seen.append(Seen(passing(unit, "4g", STREAM_PATIENCE), outcome))
    counts = of_datagrams(found)
    assert len(counts) == 8
    assert counts[:, 0].sum() == lost.sum()
    passed = counts[:, 3].sum() - counts[:, 2].sum()
    assert (passed > 20) if share < 1 else passed == 0


def test_datagrams_that_always_arrive_between_lost_ones_show_no_loss() -> None:
    unit = unit_of(40)
    lost = np.random.default_rng(3).random(len(unit)) < 0.8  # the same ones in all copies
    seen = Seen(passing(unit, "4g", STREAM_PATIENCE), outcome_of(unit, lost))
    found = found_of(hypothesis({"protocol": "udp"}))
    found.beliefs.seen.append(seen)
    found.act = {"act": "drop"}
    Measure(plays_of(unit), found, 1.0, False).take_loss_of_datagrams()
    assert found.act == {"act": "drop"}
    assert len(found.notes) == 1
    at_random = np.random.default_rng(3).random((8, len(unit))) < 0.8
    found.beliefs.seen[0] = seen._replace(outcome=outcome_of(unit, at_random))
    Measure(plays_of(unit), found, 1.0, False).take_loss_of_datagrams()
    assert found.act["act"] == "loss"


def test_copies_in_which_the_trigger_of_a_drop_was_lost_show_no_loss() -> None:
    unit = unit_of(40)
    lost = np.ones((8, len(unit)), bool)
    lost[0] = np.random.default_rng(3).random(len(unit)) < 0.1  # what the line itself loses
    found = found_of(hypothesis({"protocol": "udp"}))
    found.beliefs.seen.append(Seen(passing(unit, "4g", STREAM_PATIENCE), outcome_of(unit, lost)))
    found.act = {"act": "drop"}
    Measure(plays_of(unit), found, 1.0, False).take_loss_of_datagrams()
    assert found.act == {"act": "drop"}


@pytest.mark.longest
def test_a_drop_for_half_of_the_clients_of_a_lossy_line_is_no_loss() -> None:
    rule = rule_of({"protocol": "udp"}, "drop", probability=0.5, per="client")
    line = Noise(loss=0.05, jitter_ms=3)
    act = run.against(Policy((rule,)), call(), "wifi", 23, line).answer["act"]
    assert act["name"] == "drop"
    assert act["parameters"]["probability"]["value"] == pytest.approx(0.5, abs=0.15)


def test_equal_rules_of_all_scopes_are_shown() -> None:
    scopes = ("packet", "call", "client", "pair", "server", "triple")
    equal = [hypothesis({"size": f"{low}-", "protocol": "udp"}) for low in range(1, 10)]
    equal += [hypothesis({"protocol": "udp"}, scope) for scope in scopes]
    shown = answer.different_first(equal, 5)
    assert {one.scope for one in shown} == {"flow", *scopes}
    assert len(answer.different_first(equal[:9], 5)) == 5


@pytest.mark.parametrize(("act", "rules"), [("drop", 1), ("delay", 2)])
def test_rules_that_drop_and_differ_in_a_list_of_ports_alone_are_one(act: str, rules: int) -> None:
    more = {"delay_ms": 80.0} if act == "delay" else {}
    search = object.__new__(Search)
    search.result = Result(found=[
        found_of(hypothesis({"payload": ["rtcp"], "ports": [port]}, "packet"), act=act, **more)
        for port in (9079, 7079)
    ])  # fmt: skip
    search.join_lists()
    ports = [one.best.keys["ports"] for one in search.result.found]
    assert len(ports) == rules
    assert [port for listed in ports for port in listed] == [9079, 7079]


@pytest.mark.parametrize(("share", "scope", "rules"), [
    (0.12, "flow", 1),
    (0.3, "flow", 2),  # other numbers
    (0.12, "packet", 2),  # another scope
])  # fmt: skip
def test_losses_with_one_match_and_share_in_opposite_directions_are_one_rule(
    share: float, scope: str, rules: int
) -> None:
    search = object.__new__(Search)
    up = found_of(hypothesis({"stun": True}, way="up"), act="loss", loss=0.1)
    down = found_of(hypothesis({"stun": True, "direction": "up"}, scope, way="down"),
                    act="loss", loss=share)  # fmt: skip
    for one, value in ((up, 0.1), (down, share)):
        one.parameters = {"loss": Number(value, value - 0.03, value + 0.03)}
    search.result = Result(found=[up, down])
    search.misfits = lambda: 0  # type: ignore[method-assign]
    search.join_ways()
    assert len(search.result.found) == rules
    if rules == 1:
        assert (up.best.way, up.best.keys) == (None, {"stun": True})
    search.misfits = lambda: 2 - len(search.result.found)  # type: ignore[method-assign]
    search.result.found = [up, down]
    up.best = hypothesis({"stun": True}, way="up")
    search.join_ways()
    assert search.result.found == [up, down]  # one rule would explain less


def test_what_others_may_follow_from_goes_first() -> None:
    """A mark fills a queue that prefers it, and a full queue loses packets: not the other way."""
    loss = Finding(PARTIAL, FLOWS[0], True, 90.0, 0.3, 0)
    queued = Finding(DELAY, FLOWS[0], True, 2 * PLAIN, 80.0 * MS, 0)
    longer = queued._replace(ends=FLOWS[1], amount=900.0 * MS)
    faint = queued._replace(up=False, score=PLAIN / 2)
    mark = Finding(MARK, FLOWS[1], True, 20.0, 46, 0)
    wanted = [mark, longer, queued, loss, faint]
    for order in permutations(wanted):
        assert merged_findings(order) == wanted
    stream = FLOWS[0]._replace(proto=TCP)  # what a kernel sends again is late, too
    late = queued._replace(ends=stream)
    assert merged_findings([late, loss]) == [loss, late]


def test_losses_in_bursts_of_the_line_are_no_share_of_a_rule() -> None:
    """As many losses that come one by one are: a rule decides each packet by itself."""
    base = LINE._replace(loss=(0.01, 0.01), again=(0.5, 0.5))
    sought = Effect(PARTIAL, 0.1)
    unit = tuple(Sent(at * 20 * MS, True, FLOWS[0], bytes([9] * 80)) for at in range(100))
    rules = strikes(passing(unit, "4g", STREAM_PATIENCE),
                    [rule_of({"protocol": "udp"}, "drop", scope="packet")])  # fmt: skip
    rows, columns = np.arange(4)[:, None], np.array([[10, 30, 50, 70]])
    gains = []
    for behind in (1, 7):
        gone = np.zeros((4, len(unit)), bool)
        for step in (0, behind):
            gone[rows, columns + 3 * rows + step] = True
        outcome = outcome_of(unit, copies=4)
        outcome = outcome._replace(delay=np.where(gone, -1, outcome.delay))
        assert (behind_lost(outcome) & outcome.lost).sum() == (16 if behind == 1 else 0)
        gains.append(fits_by_share(rules, outcome, base, sought).max())
    assert gains[0] < gains[1] - 20


def test_the_localiser_of_a_trigger_ends_when_its_line_time_is_spent() -> None:
    unit = unit_of()
    plays = plays_of(unit)
    oracle = LineOracle(plays.prober, LINE, DROPPED, seconds=0.5)
    while plays.prober.line <= 0.5:
        assert not oracle.blocked(unit[:1])
    with pytest.raises(ProbesSpent):
        oracle.blocked(unit[:1])
