# SPDX-License-Identifier: BSD-3-Clause
"""The prober: plays of many packets, what they cost, and what several rules explain of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe import identify
from midcall.experiments.probe.asking import edge, edges
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, Seen, hypothesis
from midcall.experiments.probe.conditions import conditions_around
from midcall.experiments.probe.effects import SUSPICIOUS, Finding, findings, late_parts
from midcall.experiments.probe.excerpts import AGES, AT_AN_AGE, PACKETS, old_packets
from midcall.experiments.probe.fit import fits_by_share, struck_by_another
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.kinds import effects_behind
from midcall.experiments.probe.line_oracle import DELAY, DROP, INJECT, PARTIAL, Effect
from midcall.experiments.probe.plays import (
    CARRIED,
    COPIES,
    COPIES_AGAIN,
    LEAST_PLAYS,
    MORE,
    MOST_DENSE,
    SHORTER,
    TELLING_COPIES,
    Plays,
    plain_from,
)
from midcall.experiments.probe.prober import LOST, MEET, MS, Outcome, Prober, once
from midcall.experiments.probe.refine import Refiner, fillers
from midcall.experiments.probe.search import Search
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.variants import as_allowance
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order, ip_size
from midcall.testbed.probing.sockets import DATA, Event
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import VirtualSockets
from tests.experiments.prober_call import LINE, STREAM, call, line_of, outcome_of, rule_of

NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOW = Ends(UDP, NEAR, 40_000, FAR, 4_000)


def prober_of(*rules: Rule, access: str = "fibre") -> Prober:
    """Return a prober of a line with rules."""
    return Prober(VirtualSockets(Policy(rules) if rules else EMPTY, access, 1), access)


# ---- copies in turn


def test_two_large_units_in_turn_last_little_longer_than_one() -> None:
    rng = np.random.default_rng(2)
    unit = tuple(Sent(int(time) * 300 * MS, bool(rng.random() < 0.3), FLOW,
                      bytes(1_232 if rng.random() < 0.5 else 40))
                 for time in np.sort(rng.integers(0, 40, 1_500)))  # fmt: skip
    prober = prober_of(access="wifi")
    apart, timed = prober.soonest_in_turn([unit, unit], 3, prober.least_apart([unit, unit]))
    assert timed[1][-1].time < 1.7 * unit[-1].time
    for more in (1.15, 1.8, 4.0):
        wider = int(more * prober.least_apart([unit, unit]))
        end = 5 * wider + prober.in_turn([unit, unit], wider)[0][1][-1].time
        assert 5 * apart + timed[1][-1].time <= (1 + MEET) * end
    assert all(one.time <= other.time for some in timed for one, other in pairwise(some))


def test_more_of_a_capture_is_predicted_with_the_times_at_which_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plays = Plays(prober_of(access="3g"), call(), Result())
    plays.look()
    sent: list[Probe] = []
    ask = plays.prober.ask

    def spied(question: str, *rest: object, **more: object) -> list[Outcome]:
        outcomes = ask(question, *rest, **more)  # type: ignore[arg-type]
        sent.extend(one.as_sent for one in outcomes if question == MORE)
        return outcomes

    monkeypatch.setattr(plays.prober, "ask", spied)
    planned = plays.more_units()
    assert plays.look_closer(()) == []
    assert plays.own_units == sent[: len(planned)]
    assert plays.own_units != planned  # copies in turn move packets


def test_of_more_of_a_capture_what_shows_nothing_is_played_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = [FLOW._replace(near_port=40_000 + at) for at in range(400)]
    capture = tuple(Sent(n * MS, True, one, at.to_bytes(2) + n.to_bytes(2) + bytes(90))
                    for n in range(6) for at, one in enumerate(ends))  # fmt: skip
    plays = Plays(prober_of(), capture, Result())
    plays.look()
    planned, sent = plays.more_units(), list[list[Probe]]()
    assert len(planned) > 1
    ask = plays.prober.ask

    def spied(
        question: str, units: Sequence[Probe], *rest: object, **more: object
    ) -> list[Outcome]:
        sent.append(list(units))
        return ask(question, units, *rest, **more)  # type: ignore[arg-type]

    def doubtful(outcome: Outcome, tried: object) -> list[Finding]:
        doubt = [SUSPICIOUS + 1] if outcome.unit == plays.own_units[-1] else []
        return [Finding(DROP, FLOW, True, score, 1.0, 0) for score in doubt]

    monkeypatch.setattr(plays.prober, "ask", spied)
    monkeypatch.setattr(plays, "further", doubtful)
    assert plays.look_closer(()) == []
    assert [len(units) for units in sent] == [len(planned), *[1] * (MOST_DENSE - 1)]
    assert all(units == plays.own_units[-1:] for units in sent[1:])


def test_more_of_a_capture_is_played_where_no_rule_explains_what_its_first_part_shows() -> None:
    ends = [FLOW._replace(far_port=40_000 + at) for at in range(400)]
    capture = tuple(Sent(n * MS, True, one, at.to_bytes(2) + n.to_bytes(2) + bytes(90))
                    for n in range(6) for at, one in enumerate(ends))  # fmt: skip
    short = {one.ends for one in Plays(prober_of(), capture, Result()).capture}
    later = next(one for one in ends if one not in short)
    result = Result()
    plays = Plays(prober_of(rule_of({"ports": [later.far_port]}, "drop")), capture, result)
    assert plays.look() == []
    result.findings = [Finding(DROP, capture[0].ends, True, 40.0, 0.3, 0)]
    tried = {one.key for one in result.findings}
    finding = plays.unexplained(tried)
    assert finding is not None
    assert finding.ends.far_port == later.far_port


@pytest.mark.parametrize("own", [True, False])
def test_a_loss_that_one_copy_shows_is_told_from_a_drop_by_more_of_them(own: bool) -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, n.to_bytes(2) + bytes(90)) for n in range(200))
    plays = Plays(prober_of(rule_of({"protocol": "udp"}, "loss", loss=0.2)), unit, Result())
    plays.base = LINE._replace(counts=((20, 1000), (20, 1000)))
    one = plays.prober.ask("once", [unit], 1, tight=False, keep_far=[True])[0]
    play = one._replace(unit=unit if own else plays.elsewhere(unit))
    plays.own_units = [unit] if own else []
    [finding] = plays.look_into(play, (), False)
    assert finding.kind == PARTIAL
    assert len(plays.shown[0].delay) == TELLING_COPIES
    assert plays.prober.fresh_far != own


@pytest.mark.longest
def test_a_late_trigger_in_a_flow_without_an_effect_is_found() -> None:
    media = FLOW._replace(near_port=40_007, far_port=4_007)
    up = [Sent(n * 30 * MS, True, FLOW, n.to_bytes(2) + bytes(331 if n == 150 else 58))
          for n in range(250)]  # fmt: skip
    down = [Sent(n * 14 * MS, False, media, n.to_bytes(2) + bytes(150)) for n in range(500)]
    prober, _ = line_of(rule_of({"size": "333-333"}, "drop", scope="client", way="down"), "fibre")
    result = Search(prober, in_order([*up, *down])).run()
    assert result.verdict == "blocked"
    [found] = result.found
    assert (found.best.keys["size"], found.rule.strikes, found.rule.way) == (
        "333-333", "client", "down",
    )  # fmt: skip


@pytest.mark.parametrize("octets", [0, 40, 1_300, 1_301, 270_383, 399_999])
def test_packets_before_a_trigger_have_as_many_octets_as_are_asked_and_fit_a_datagram(
    octets: int,
) -> None:
    last = Sent(0, True, FLOW, bytes(100))
    packets = list(fillers(last, max(-(-octets // 1_300), 1), octets))
    sizes = [ip_size(one) for one in packets]
    assert sum(sizes) == max(octets, 32)
    assert max(sizes) <= 1_300


@pytest.mark.parametrize("access", ["fibre", "adsl"])
def test_a_slow_access_network_carries_the_capture_in_a_short_time(access: str) -> None:
    capture = tuple(Sent(n * 20 * MS, True, FLOW, n.to_bytes(2) + bytes(1_190)) for n in range(400))
    plays = Plays(prober_of(access=access), capture, Result())
    assert plays.prober.least_apart([plays.capture]) <= CARRIED
    assert (len(plays.capture) == PACKETS) == (access == "fibre")
    assert len(plays.capture) >= SHORTER[-1] * PACKETS


# ---- streams and copies by chance


def streams(count: int, packets: int) -> tuple[Probe, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return streams of which the first one loses all packets from the third on, and which."""
    ends = [Ends(TCP, NEAR, 41_000 + at, FAR, 443) for at in range(count)]
    unit = tuple(Sent((n * count + at) * MS, True, one, b"x" * 90)
                 for n in range(packets) for at, one in enumerate(ends))  # fmt: skip
    return unit, np.array([n >= 2 * count and n % count == 0 for n in range(len(unit))])


def test_a_stream_that_stops_is_suspicious_however_many_packets_are_played() -> None:
    line = LINE._replace(stuck=(0.012, 0.012))
    for packets in (6, 150, 2_000):
        outcome = outcome_of(*streams(12, packets), copies=3)
        scores = [one.score for one in findings(outcome, line) if one.kind == DROP]
        assert max(scores) > SUSPICIOUS


def test_an_effect_is_plain_where_many_packets_show_it_and_not_at_a_chance_loss_before() -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n % 256]) * 90) for n in range(600))
    lost = np.zeros(600, bool)
    lost[[7, 31]] = True  # the line itself, in all of few copies
    lost[400:500] = True
    outcome = outcome_of(unit, lost, 3)
    found = next(one for one in findings(outcome, LINE) if one.kind == DROP)
    assert found.first == 7
    assert 400 <= plain_from(outcome, found) < 420
    outcome.delay[2, 400:500] = 50 * MS  # some copies arrive
    share = found._replace(kind=PARTIAL)
    assert 400 <= plain_from(outcome, share) < 460
    assert plain_from(outcome, found._replace(kind=DELAY)) == found.first


def test_a_late_drop_is_plain_behind_what_the_line_itself_loses_in_some_copies() -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n % 256]) * 90) for n in range(600))
    outcome = outcome_of(unit, np.arange(600) >= 590, 2)
    outcome.delay[0, 10:400:20] = LOST
    found = next(one for one in findings(outcome, LINE) if one.kind == DROP)
    assert 590 <= plain_from(outcome, found) < 593


def test_a_few_packets_of_long_flows_are_played_at_the_ages_that_most_do_not_reach() -> None:
    whole = tuple(Sent(n * 50 * MS, n % 2 == 0, FLOW, n.to_bytes(2) * 40) for n in range(1_000))
    begin = 3_000 * MS
    part = (Sent(0, True, STREAM, b"x"),
            *(one._replace(time=one.time + begin) for one in whole[:300]))  # fmt: skip
    ages = [age for age in AGES if 15 <= age < 50]
    old = old_packets(whole, part)
    assert len(old) == 2 * AT_AN_AGE * len(ages)
    assert {one.payload for one in old} <= {one.payload for one in whole}
    for at, age in enumerate(ages):
        some = old[2 * AT_AN_AGE * at : 2 * AT_AN_AGE * (at + 1)]
        times = [(one.time - begin) / 1e9 for one in some]
        assert age <= min(times) < max(times) < age + 1
        assert Counter(one.up for one in some) == {True: AT_AN_AGE, False: AT_AN_AGE}
    assert not old_packets(whole[:200], part[:201])
    assert {one.time < begin + 20e9 for one in old_packets(whole, part, AGES[:2])} == {True}


def test_losses_of_few_packets_behind_long_pauses_are_an_effect() -> None:
    times = [*range(0, 800 * 20, 20), *(40_000 + 20 * n for n in range(8))]
    unit = tuple(Sent(ms * MS, True, FLOW, n.to_bytes(2) * 40) for n, ms in enumerate(times))
    outcome = outcome_of(unit, np.zeros(len(unit), bool), 3)
    outcome.delay[0, 100:700:50] = LOST  # the line itself
    outcome.delay[[0, 0, 0, 1, 1, 2, 2, 2], [800, 802, 805, 801, 806, 801, 803, 807]] = LOST
    parts = late_parts(unit, np.arange(len(unit)))
    assert 8 in map(len, parts)
    found = [one for one in findings(outcome, LINE) if one.kind == PARTIAL]
    assert max(one.score for one in found) > SUSPICIOUS
    assert [len(one) for one in late_parts(unit, np.arange(20))] == [20]


def test_code_points_of_datagrams_that_do_not_arrive_are_no_effect() -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n]) * 90) for n in range(9))
    outcome = outcome_of(unit, np.ones(9, bool), 3)
    points = np.full(outcome.delay.shape, 46)
    assert {one.kind for one in findings(outcome._replace(points=points), LINE)} == {DROP}


def test_a_count_of_a_flow_is_also_weighed_as_each_other_count() -> None:
    unit = tuple(Sent(n * 100 * MS, True, FLOW, bytes([n]) * 90) for n in range(40))
    beliefs = Beliefs(LINE, [Effect(DROP)])
    through = passing(unit, "fibre", 0)
    beliefs.observe(Seen(through, outcome_of(unit, np.arange(40) >= 30, 4), True))
    one = hypothesis({"protocol": "udp", "packets": "31-"}, "packet")
    others = list(beliefs.with_other_count(one))
    assert [sorted(other.keys) for other in others] == [["bytes", "protocol"],
                                                        ["protocol", "seconds"]]  # fmt: skip
    for other in others:
        rule = other.rule()
        assert rule is not None
        assert np.flatnonzero(strikes(through, [rule]).struck[0])[0] in (29, 30)
    assert not list(beliefs.with_other_count(hypothesis({"packets": "3-31"}, "packet")))
    assert not list(beliefs.with_other_count(hypothesis({"protocol": "udp"}, "packet")))


def test_a_rule_explains_one_flow_where_another_one_strikes_others_by_chance() -> None:
    ends = [FLOW._replace(near_port=40_000 + n, far_port=4_000 if n == 0 else 5_000 + n)
            for n in range(5)]  # fmt: skip
    unit = tuple(Sent((5 * n + at) * 20 * MS, bool(n % 2), ends[at], bytes([n, at]) * 40)
                 for n in range(12) for at in range(5))  # fmt: skip
    outcome = outcome_of(unit, np.zeros(len(unit), bool), 24)
    rng = np.random.default_rng(5)
    for at in range(5):
        own = [place for place, one in enumerate(unit) if one.ends == ends[at]][2:]
        hit = np.full(24, True) if at == 0 else rng.random(24) < 0.7
        outcome.delay[np.ix_(hit, own)] = -1
    narrow, wide = (hypothesis(match | {"packets": "3-"}).rule()
                    for match in ({"ports": [4_000]}, {"protocol": "udp"}))  # fmt: skip
    assert narrow is not None
    assert wide is not None
    predicted = strikes(passing(unit, "fibre", 0), [narrow, wide])
    for kind in (DROP, PARTIAL):
        fits = fits_by_share(predicted, outcome, LINE, Effect(kind), np.full(5, True)).max(axis=1)
        assert abs(fits[1] - fits[0]) < 15.0  # one rule more, not one for each flow


@pytest.mark.parametrize("seed", range(4))
def test_losses_in_bursts_show_from_which_packet_on_a_rule_strikes(seed: int) -> None:
    """In few copies a burst looks as if each of its packets were struck by itself, which no rule of
    the capture would explain as well as something that strikes any packets."""
    unit = tuple(Sent(at * 20 * MS, True, FLOW, at.to_bytes(2, "big") * 60) for at in range(600))
    outcome = outcome_of(unit, np.zeros(600, bool), 4)
    rng, first, burst = np.random.default_rng(seed), 120, 14
    for copy in outcome.delay:
        state = rng.random() < 0.5
        for at in range(first, 600):
            state ^= rng.random() < 1 / burst
            copy[at] = -1 if state else copy[at]
    rules = [hypothesis(match).rule() for match in ({"packets": f"{first + 1}-"},
                                                    {"protocol": "udp"})]  # fmt: skip
    predicted = strikes(passing(unit, "fibre", 0), [one for one in rules if one is not None])
    late, whole = fits_by_share(predicted, outcome, LINE, Effect(PARTIAL), np.array([True])).max(
        axis=1
    )
    assert late > 5.0
    assert late > whole + 5.0


def test_losses_of_streams_are_no_other_rules_where_forged_answers_end_them() -> None:
    unit, lost = streams(3, 8)
    outcome = outcome_of(unit, lost, 6)
    for effect, explained in ((Effect(DROP), True), (Effect(INJECT, detail="reset"), False)):
        by_flow = struck_by_another(outcome, LINE, effect)
        assert (by_flow[0] > 5) == explained


def test_what_follows_from_an_outcome_is_computed_once_for_each_argument() -> None:
    asked: list[int] = []

    @once
    def counted(outcome: Outcome, number: int) -> int:
        asked.append(number)
        return number + len(outcome.delay)

    outcome = outcome_of(call(), np.zeros(len(call()), bool), 2)
    assert [counted(outcome, number) for number in (1, 2, 1)] == [3, 4, 3]
    assert asked == [1, 2]
    other = outcome._replace(delay=np.full_like(outcome.delay, -1)[:1])
    assert counted(other, 1) == 2
    assert other.lost.all()
    assert not outcome.lost.any()


# ---- numbers


@pytest.mark.parametrize(("low", "high"), [(4_000, 4_000), (3_990, 4_000), (4_000, 65_535),
                                           (1, 4_321), (3_998, 4_003)])  # fmt: skip
def test_ports_around_the_own_one_are_found_and_a_single_one_with_few_probes(
    low: int, high: int
) -> None:
    core = (Sent(0, True, FLOW, b"trigger" * 9),)
    prober = prober_of(rule_of({"ports": [f"{low}-{high}"], "protocol": "udp"}, "drop"))
    best = hypothesis({"ports": [4_000]})
    tail = Tail(prober, LINE, Effect(DROP), best, Plays(prober, core, Result()).through, core)
    found = Refiner(tail, best, core).ports(best.keys)
    assert found == [low if low == high else f"{low}-{high}"]
    assert prober.probes <= (2 if low == high else 8)


@pytest.mark.parametrize("between", [[(50.0, 0.0)], [(50.0, 0.0), (50.0, 100.0)],
                                     [(7.0, 7.0), (7.0, 900.0), (3.0, 2.0)]])  # fmt: skip
def test_several_edges_are_what_each_alone_is(between: list[tuple[float, float]]) -> None:
    rounds: list[int] = []

    def shows(values: Sequence[float]) -> list[bool]:
        rounds.append(len(values))
        return [3 <= value < 83 for value in values]

    together = edges(between, shows, 1.0)
    count = len(rounds)
    assert together == [edge(*one, shows, 1.0) for one in between]
    for (good, bad), (shown, not_shown) in zip(between, together, strict=True):
        assert shows([shown]) == [True]
        assert good == bad or (shows([not_shown]) == [False] and abs(shown - not_shown) == 1)
    assert count <= len(rounds) - count


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("key", ["packets", "bytes"])
def test_a_window_without_an_end_strikes_what_an_allowance_does(seed: int, key: str) -> None:
    rng = np.random.default_rng(seed)
    unit = tuple(Sent(n * 20 * MS, bool(rng.random() < 0.6), FLOW, bytes(int(size)))
                 for n, size in enumerate(rng.integers(20, 900, 30)))  # fmt: skip
    through = passing(unit, "fibre", 0)
    place = int(rng.integers(3, 20))
    low = place if key == "packets" else sum(map(ip_size, unit[:place]))
    window = hypothesis({"protocol": "udp", key: f"{low}-"})
    late = next(as_allowance(window))
    assert late.after
    struck = strikes(through, [window.rule(), late.rule()]).struck  # type: ignore[list-item]
    assert struck[0].any()
    assert (struck[0] == struck[1]).all()


def test_fewer_large_packets_exceed_a_limited_rate() -> None:
    act = json.dumps({"act": "shape", "rate_kbit": 121.0, "queue_ms": 620.0})
    counts = []
    for size in (60, 1_100):
        core = (Sent(0, True, FLOW, bytes(size)),)
        prober = prober_of(rule_of({"ports": [4_000]}, "shape", rate_kbit=121.0, queue_ms=620.0))
        tail = Tail(prober, LINE, Effect(PARTIAL, 0.02, limit=act),
                    hypothesis({"ports": [4_000]}, "packet"),
                    Plays(prober, core, Result()).through, core)  # fmt: skip
        unit = tail.unit(core)
        counts.append(len(unit))
        outcome = prober.ask("", [unit], 2)[0]
        assert np.ptp(outcome.delay) > 200 * MS  # the queue grows
    assert counts[1] < counts[0] / 3


def found_of(began: dict[str, int], measured: dict[str, int]) -> Found:
    """Return a stall of a flow whose packets were seen to pass up to the twelfth, with the
    allowance of a hypothesis and a measured one."""
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n]) * 90) for n in range(30))
    outcome = outcome_of(unit, np.array([n >= 12 for n in range(30)]), 6)
    beliefs = Beliefs(LINE, [Effect(DROP)])
    beliefs.observe(Seen(passing(unit, "fibre", 0), outcome, True))
    one, other = (hypothesis({"protocol": "udp"}, "flow", None, json.dumps(after))
                  for after in (began, measured))  # fmt: skip
    beliefs.add([one])
    finding = findings(outcome, LINE)[0]
    return Found(other, 0.9, Effect(DROP), beliefs, unit[:13], finding, one,
                 intervals={"after packets": (19.0, 21.0), "ports": (1, 2)})  # fmt: skip


@pytest.mark.parametrize(("measured", "kept"), [(12, True), (20, False)])
def test_a_measured_begin_that_plays_contradict_is_not_taken(measured: int, kept: bool) -> None:
    found = found_of({"packets": 12}, {"packets": measured})
    identify.keep_seen_begin(found)
    assert found.best.allowance == {"packets": 12}
    assert ("after packets" in found.intervals) is kept
    assert "ports" in found.intervals


@pytest.mark.parametrize(("kind", "shown", "act"), [
    (PARTIAL, {"drop"}, "loss"), (PARTIAL, {"drop", "loss"}, "drop"), (DROP, {"drop"}, "drop"),
    (PARTIAL, set(), "drop"),
])  # fmt: skip
def test_a_drop_of_which_the_capture_shows_a_share_is_a_loss(
    monkeypatch: pytest.MonkeyPatch, kind: str, shown: set[str], act: str
) -> None:
    found = found_of({"packets": 12}, {"packets": 12})
    found.sought = Effect(kind, 0.4)
    found.best = found.best._replace(after="")
    search = Search(prober_of(), call())
    monkeypatch.setattr(search, "predicts_more", lambda one: one.rule.act in shown)
    search.take_share(found)
    assert found.rule.act == act
    assert (found.probability < 0.9) is (act == "loss")


def test_rules_on_media_of_one_direction_are_among_the_first_hypotheses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = rule_of({"ports": [3478], "protocol": "udp"}, "drop-media", way="up")
    search = Search(prober_of(rule), call())
    search.result.findings = search.plays.look()
    finding = search.result.findings[0]
    added: list[Hypothesis] = []
    add = Beliefs.add

    def spied(beliefs: Beliefs, more: Iterable[Hypothesis]) -> None:
        some = list(more)
        added.extend(some)
        add(beliefs, some)

    monkeypatch.setattr(Beliefs, "add", spied)
    monkeypatch.setattr(Beliefs, "grow", lambda *_: None)
    search.identifier.begin(finding, effects_behind(search.plays, finding, {}, True, False))
    assert {("up", True), ("up", False)} <= {(one.way, one.media) for one in added
                                             if one.keys == {"ports": [3478]}}  # fmt: skip


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
    again = COPIES_AGAIN * (1 if prober.fresh_far else 2)
    assert len(plays.shown[0].delay) == COPIES + again
    plays.look_again()
    assert (prober.probes - before, plays.looks) == (2, LEAST_PLAYS + 1)


def test_a_page_on_a_stream_without_http_is_explained_by_no_rule() -> None:
    unit = tuple(Sent(at * 50 * MS, at % 2 == 0, STREAM, bytes([at]) * 40) for at in range(8))
    prober, base = line_of(rule_of({"ports": [9]}, "drop"))
    plays = Plays(prober, unit, Result())
    page = Event(300 * MS, True, STREAM, DATA, b"HTTP/1.1 403 Forbidden\r\n\r\n")
    seen = outcome_of(unit, np.zeros(8, bool), 8)._replace(strange=[[page] for _ in range(8)])
    plays.shown, plays.own, plays.base = [seen], seen, base
    finding = Finding(INJECT, STREAM, True, 160.0, 1.0, 0)
    forged = Effect(INJECT, 1.0, 1.0, "block-page")
    assert identify.Identifier(plays, 1.0).begin(finding, [forged]) is None


def test_the_request_that_a_page_answers_is_found_among_streams_of_a_condemned_client() -> None:
    request = b"GET / HTTP/1.1\r\nHost: call.example.org\r\n\r\n"
    others = [STREAM._replace(near_port=50_000 + at) for at in range(12)]
    asks = STREAM._replace(near_port=51_000, far_port=80)
    unit = tuple(Sent(at * 50 * MS, True, ends, request if ends == asks else bytes([at]) * 40)
                 for at, ends in enumerate([*others, asks]))  # fmt: skip
    prober, base = line_of(rule_of({"ports": [9]}, "drop"))
    plays = Plays(prober, unit, Result())
    plays.base = base
    pages = [Event(300 * MS, True, ends, DATA, b"HTTP/1.1 403 Forbidden\r\n\r\n")
             for ends in [*others, asks]]  # fmt: skip
    seen = outcome_of(unit, np.zeros(len(unit), bool), 8)._replace(strange=[pages] * 8)
    parts = conditions_around(plays, seen, Effect(INJECT, 1.0, 1.0, "block-page"))
    assert {"name": ["call.example.org"], "name_in": ["http"]} in parts


@pytest.mark.parametrize("measured", [True, False])
def test_a_rule_whose_trigger_does_not_show_a_limit_that_several_paces_show_is_refuted(
    monkeypatch: pytest.MonkeyPatch, measured: bool
) -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, n.to_bytes(2) + bytes(300)) for n in range(150))
    police = rule_of({"protocol": "udp", "ports": [FLOW.far_port]}, "police", rate_kbit=60.0,
                     bucket_bytes=4_000)  # fmt: skip
    plays = Plays(prober_of(police), unit, Result())
    plays.result.findings = plays.look()

    class Measured:
        """Stands for the measurement of the act."""

        def __init__(self, _: Plays, found: Found, *__: object) -> None:
            self.found = found

        def run(self) -> None:
            act = {"act": "police", "rate_kbit": 60.0, "bucket_bytes": 4_000}
            self.found.act = act if measured else {"act": "loss", "loss": 0.01}

    monkeypatch.setattr(identify, "Measure", Measured)
    monkeypatch.setattr(identify, "MOST_UNITS", 0)
    identifier = identify.Identifier(plays, 1.0)
    found = identifier.identify(plays.result.findings[0])
    assert found is not None
    assert found.sought.limit in identifier.limits  # several paces have shown it
    assert bool(found.notes) == (not measured)


@pytest.mark.parametrize("widened", [True, False])
def test_a_rule_whose_match_became_wider_takes_the_subject_that_fits_it(widened: bool) -> None:
    later = (FLOW._replace(near=bytes([198, 18, 0, 10])), FLOW._replace(far_port=4_001),
             FLOW._replace(far=bytes([198, 19, 0, 10])))  # fmt: skip
    unit = in_order(
        Sent((begin + n * 100) * MS, True, ends, bytes([n]) * (200 if n % 2 else 60))
        for begin, ends in ((0, FLOW), *((900, one) for one in later)) for n in range(40)
    )  # fmt: skip
    through = passing(unit, "fibre", 0)
    after = {"seconds": 1.0}
    truth, server, narrow = (
        hypothesis({"size": size}, scope, None, json.dumps(after | {"per": subject}))
        for size, scope, subject in (("200-", "packet", "pair"), ("200-", "triple", "server"),
                                     ("220-", "triple", "server"))
    )  # fmt: skip
    rule = truth.rule()
    assert rule is not None
    outcome = outcome_of(unit, strikes(through, [rule]).struck[0], 6)
    beliefs = Beliefs(LINE, [Effect(DROP)])
    beliefs.observe(Seen(through, outcome, True))
    began = narrow if widened else server
    found = Found(server, 0.9, Effect(DROP), beliefs, unit[:13], findings(outcome, LINE)[0], began)
    identify.take_seen_mechanism(found)
    if not widened:
        assert found.best == server
        return
    assert found.best.scope in ("packet", "flow")
    assert found.best.allowance == after | {"per": "pair"}
    assert found.began.match == narrow.match
    assert found.began.allowance == found.best.allowance
