# SPDX-License-Identifier: BSD-3-Clause
"""The prober: limits of a rate. What shows that a queue delays, units that exceed a limit, and how
its numbers are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.experiments.probe.acts import act_unit, measure
from midcall.experiments.probe.beliefs import OVERFIT, Beliefs, Seen, hypothesis, with_act
from midcall.experiments.probe.choice import Choice, is_playable
from midcall.experiments.probe.effects import Finding, findings
from midcall.experiments.probe.expected import Model
from midcall.experiments.probe.fit import LATE, fits_of_limit, least_wait, strikes_of_limit
from midcall.experiments.probe.found import Result
from midcall.experiments.probe.kinds import first_place
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.rates import (
    OVERTAKEN,
    is_constant,
    is_no_queue,
    large_body,
    paced_body,
    rate_limit,
    share_overtaken,
    steady_limit,
)
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.tails import Tail
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY
from midcall.testbed.probing.probe import Probe, Sent, ip_size
from midcall.testbed.probing.strikes import passing
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import FLOW, LINE, STREAM, line_of, outcome_of, rule_of

MS = 1_000_000
SHAPE = {"act": "shape", "rate_kbit": 640.0, "queue_ms": 330.0}
POLICE = {"act": "police", "rate_kbit": 455.0, "bucket_bytes": 40_000.0}


def large(count: int, apart: int, size: int = 1_000, up: bool = True) -> Probe:
    """Return large datagrams of one direction, all of them different."""
    return tuple(Sent(at * apart, up, FLOW, at.to_bytes(2) + bytes([255]) * (size - 2))
                 for at in range(count))  # fmt: skip


# -- what shows it


def test_the_first_packet_of_an_effect_is_found_in_plays_of_other_packets() -> None:
    lost = outcome_of(large(40, MS), np.arange(40) >= 30, 8)
    seen = findings(lost, LINE)[0]
    assert (seen.kind, seen.first, first_place(lost, LINE, seen)) == (DROP, 30, 30)
    before = tuple(Sent(at * MS, True, STREAM, bytes([at]) * 20) for at in range(4))
    elsewhere = [one._replace(ends=FLOW._replace(far=bytes(4))) for one in large(12, MS)]
    shorter = outcome_of((*before, *elsewhere), np.arange(16) >= 9, 8)
    assert first_place(shorter, LINE, seen) == 9
    clean = outcome_of((*before, *elsewhere), np.zeros(16, bool), 8)
    assert first_place(clean, LINE, seen) == 4
    assert first_place(outcome_of(before, np.zeros(4, bool), 8), LINE, seen) is None


def test_a_queue_shows_in_short_waits_of_datagrams_where_the_access_network_makes_none() -> None:
    up, streams = np.array([True, True]), np.array([False, True])
    for per_octet, act, short in (
        (1e3, "shape", True),
        (2e4, "shape", False),
        (1e3, "police", False),
    ):
        base = LINE._replace(per_octet=(per_octet, per_octet))
        waits = least_wait(base, up, streams, act)
        assert waits[1] == LATE + 6 * base.spread[1]
        assert (waits[0] < waits[1]) == short


def test_a_queue_strikes_datagrams_that_wait_briefly_and_a_policer_none_of_them() -> None:
    unit = large(4, 1 * MS)
    through = passing(unit, "fibre", STREAM_PATIENCE)
    rule = hypothesis({"ports": [4_000]}).rule()
    assert rule is not None
    for act, struck in ((SHAPE, True), (POLICE, False)):
        limited = strikes_of_limit(through, with_act([rule], Effect.of_limit(act)), LINE)
        assert limited.struck.any() == struck


def test_what_passes_below_a_limit_says_nothing_of_a_rule() -> None:
    unit = large(40, 10 * MS)
    none = np.zeros(40, bool)
    outcome = outcome_of(unit, none, 4)
    rules = np.array([none, ~none])  # on no packet, and on all of them
    fits = fits_of_limit(rules, np.array([none, none]), outcome, LINE, Effect.of_limit(POLICE))
    assert fits[0] == 0
    assert abs(fits[1]) < 0.5


@pytest.mark.parametrize(("lost", "least", "most"), [(3, 20.0, np.inf), (1, -2.0, 3.0)],
                         ids=["losses of most copies", "the line's own losses"])  # fmt: skip
def test_what_is_lost_below_a_limit_speaks_for_a_rule_if_the_line_itself_does_not_lose_it(
    lost: int, least: float, most: float
) -> None:
    unit = large(40, 10 * MS)
    none = np.zeros(40, bool)
    outcome = outcome_of(unit, none, 4)
    delay = outcome.delay.copy()
    delay[:lost, 20:30] = -1
    fits = fits_of_limit(np.array([none, ~none]), np.array([none, none]),
                         outcome._replace(delay=delay), LINE, Effect.of_limit(POLICE))  # fmt: skip
    assert fits[0] == 0
    assert least < fits[1] < most


def test_packets_that_others_overtake_in_some_copies_alone_wait_in_no_queue() -> None:
    times = np.tile(np.arange(60) * 10.0 * MS, (4, 1))
    drawn = np.random.default_rng(2).random((4, 60)) < 0.5
    small = np.arange(60) % 2 == 0
    cases = ((drawn, True), (np.tile(small, (4, 1)), False))  # by chance, and by their size
    for late, by_chance in cases:
        assert (share_overtaken(times, late * 120.0 * MS, LINE) > OVERTAKEN) == by_chance
    queued = np.minimum(np.arange(60) * 4.0 * MS, 200.0 * MS)
    assert share_overtaken(times, np.tile(queued, (4, 1)), LINE) == 0


def test_losses_below_a_limit_do_not_speak_for_a_rule_whose_limit_another_flow_meets() -> None:
    other = tuple(
        one._replace(ends=one.ends._replace(far_port=4_001)) for one in large(40, 10 * MS)
    )
    unit = (*large(40, 10 * MS), *other)
    limited = np.arange(80) >= 60  # of the other flow
    delay = outcome_of(unit, limited, 4).delay.copy()
    delay[:, 20:30] = -1
    outcome = outcome_of(unit, limited, 4)._replace(delay=delay)
    rules = np.array([np.arange(80) >= 40, np.ones(80, bool)])  # on the other flow, and on both
    fits = fits_of_limit(rules, np.array([limited, limited]), outcome, LINE,
                         Effect.of_limit(POLICE))  # fmt: skip
    assert fits[0] > 20
    assert fits[1] <= fits[0]


# -- units


@pytest.mark.parametrize("act", [POLICE, POLICE | {"bucket_bytes": 2_000.0}, SHAPE],
                         ids=["large bucket", "small bucket", "queue"])  # fmt: skip
def test_units_exceed_a_limit_and_can_be_played(act: dict[str, Any]) -> None:
    core = large(1, 0, 200)
    plays = Plays(Prober(VirtualSockets(EMPTY, "fibre", 1), "fibre", 1), core, Result())
    sought = Effect.of_limit(act)
    beliefs = Beliefs(LINE, [sought])
    beliefs.add([hypothesis({"ports": [4_000]}), hypothesis({"ports": [4_000]}, "packet")])
    choice = Choice(plays, beliefs, core, core, sought, True)
    rule = [hypothesis({"ports": [4_000]}).rule()]
    words = set()
    for word, unit in choice.units():
        assert is_playable(unit), word
        if choice.predicted(unit, rule).struck.any():  # type: ignore[arg-type]
            words.add(word)
    assert {"other flows", "other flows, zeros", "again and again", "noise before it",
            "much noise before it"} <= words  # fmt: skip


@pytest.mark.parametrize("rate", [96.0, 455.0, 2_000.0])
@pytest.mark.parametrize("access", ["adsl", "4g", "fibre"])
def test_the_fast_part_exceeds_a_limit_in_each_direction_that_the_network_carries(
    access: str, rate: float
) -> None:
    prober = Prober(VirtualSockets(EMPTY, access, 1), access, 1)
    core = large(1, 0, 200)
    sought = Effect.of_limit(POLICE | {"rate_kbit": rate})
    tail = Tail(prober, LINE, sought, hypothesis({"size": "200-200"}),
                lambda unit, tight: passing(unit, access, STREAM_PATIENCE), core)  # fmt: skip
    unit, _, begin = act_unit(tail, core)
    fast = prober.paced(unit[begin:])
    seconds = (fast[-1].time - fast[0].time) / 1e9
    for up in (True, False):
        own = sum(ip_size(one) for one in fast if one.up == up) / 125 / seconds  # kbit/s
        if rate < 0.5 * prober.rate[up]:
            assert own > min(1.2 * rate, 0.6 * prober.rate[up])
        assert own < prober.rate[up]
    assert seconds < 6


# -- numbers


@pytest.mark.parametrize("noise", [Noise(), Noise(loss=0.04, jitter_ms=6)], ids=["clean", "noise"])
@pytest.mark.parametrize(("access", "rate", "bucket"),
                         [("wifi", 143.0, 6_100), ("4g", 178.0, 17_600)])  # fmt: skip
def test_a_limit_shows_in_what_passes_of_large_datagrams_of_one_pace(
    access: str, rate: float, bucket: int, noise: Noise
) -> None:
    rule = rule_of({"protocol": "udp"}, "police", rate_kbit=rate, bucket_bytes=bucket)
    prober, base = line_of(rule, access, noise)
    pace = 2 * rate * 125
    unit = paced_body(large(2, 0), large_body(large(9, 0), pace), pace, False)
    outcome = prober.ask("fast", [unit], 4, apart=unit[-1].time)[0]
    limit = steady_limit(outcome, base, 2, True)
    assert limit is not None
    assert limit.act == "police"
    assert limit.rate == pytest.approx(rate, rel=0.1)
    assert limit.room == pytest.approx(bucket, rel=0.25)


@pytest.mark.parametrize("rule", [
    rule_of({"protocol": "udp"}, "loss", loss=0.5),
    rule_of({"packets": "20-"}, "drop"),
    rule_of({"protocol": "tcp"}, "drop"),
], ids=["loss", "drop", "nothing"])  # fmt: skip
def test_what_passes_of_one_pace_is_no_limit_without_one(rule: Rule) -> None:
    prober, base = line_of(rule, "4g", Noise(loss=0.02))
    unit = paced_body(large(2, 0), large_body(large(9, 0), 1e5), 1e5, False)
    outcome = prober.ask("fast", [unit], 4, apart=unit[-1].time)[0]
    assert steady_limit(outcome, base, 2, True) is None


@pytest.mark.parametrize(("waits", "constant"), [
    ([380, 372, 391, 385, 377, 380, 379], True),
    ([380, 372, 391, 385, 377, 380, 1_400], True),  # one that was sent again
    ([20, 60, 380, 385, 377, 380, 379], False),  # a queue that fills
    ([20, 380, *[385] * 18], False),  # a queue of which much is played full
    ([30, 92, 31, 90, 29, 88, 30], False),  # each for its own octets
    ([380, 372, 391], False),
], ids=["delay", "again", "queue", "full queue", "sizes", "few"])  # fmt: skip
def test_a_stream_that_is_late_by_the_same_everywhere_is_not_limited(
    waits: list[int], constant: bool
) -> None:
    excess = np.array([waits, [one + 9 for one in waits]], np.float64) * MS
    excess[0, 1] = np.nan
    assert is_constant(excess) == constant


@pytest.mark.parametrize(("act", "asks"), [
    ({"act": "delay", "delay_ms": 380.0}, False),
    ({"act": "shape", "rate_kbit": 64.0, "queue_ms": 400.0}, True),
], ids=["delay", "queue"])  # fmt: skip
def test_no_paces_are_played_of_a_stream_with_a_constant_delay(
    act: dict[str, Any], asks: bool
) -> None:
    prober, base = line_of(rule_of({"protocol": "tcp"}, **act), "4g", Noise())
    unit = tuple(Sent(at * 100 * MS, True, STREAM, bytes([at]) * (100 + 400 * (at % 2)))
                 for at in range(12))  # fmt: skip
    outcome = prober.ask("stream", [unit], 4)[0]
    before = prober.probes
    limit = rate_limit(prober, base, outcome, 1, {DELAY})
    assert (prober.probes > before) == asks
    assert (limit is not None) == asks


@pytest.mark.parametrize(("act", "shown"), [
    ({"act": "delay", "delay_ms": 30.0}, None),
    ({"act": "shape", "rate_kbit": 64.0, "queue_ms": 400.0}, "shape"),
], ids=["delay", "queue"])  # fmt: skip
def test_a_stream_of_equal_segments_is_played_at_several_paces(
    act: dict[str, Any], shown: str | None
) -> None:
    """Segments of one size wait equally long in a queue that is empty when the next one comes."""
    prober, base = line_of(rule_of({"protocol": "tcp"}, **act), "4g", Noise())
    unit = tuple(Sent(at * 200 * MS, True, STREAM, bytes([at]) * 200) for at in range(12))
    outcome = prober.ask("stream", [unit], 4)[0]
    before = prober.probes
    limit = rate_limit(prober, base, outcome, 1, {DELAY})
    assert prober.probes > before
    assert (None if limit is None else limit.act) == shown


def test_a_queue_that_begins_late_in_a_stream_is_measured_behind_its_begin() -> None:
    late = rule_of({"protocol": "tcp", "bytes": "6000-"}, "shape", rate_kbit=96.0, queue_ms=900.0)
    prober, base = line_of(late, "adsl", Noise())
    unit = tuple(Sent(at * 200 * MS, True, STREAM, bytes([at]) * 500) for at in range(24))
    outcome = prober.ask("stream", [unit], 4)[0]
    first = int((np.median(base.excess(outcome), axis=0) > 20 * MS).argmax())
    assert first > 8
    limit = rate_limit(prober, base, outcome, first, {DELAY})
    assert limit is not None
    assert limit.act == "shape"
    assert limit.rate == pytest.approx(96.0, rel=0.1)


def test_the_trigger_comes_again_where_what_follows_lacks_a_condition_that_is_not_known() -> None:
    """Small packets are spared, and the rule that is supposed does not say so yet."""
    limit = {"act": "police", "rate_kbit": 24.0, "bucket_bytes": 3_000}
    prober, base = line_of(rule_of({"protocol": "udp", "size": "60-"}, scope="packet", way="down",
                                   **limit))  # fmt: skip
    best = hypothesis({"protocol": "udp"}, "flow", "down")
    core = (Sent(0, True, FLOW, bytes(20)), Sent(20 * MS, False, FLOW, bytes(160)))
    tail = Tail(prober, base, Effect.of_limit(limit), best,
                lambda unit, _: passing(unit, "4g", STREAM_PATIENCE), core)  # fmt: skip
    refiner = Refiner(tail, best, core)
    assert not tail.repeats
    assert refiner.triggers_again()
    assert tail.repeats


@pytest.mark.parametrize(("act", "asks"), [
    ({"act": "stall", "after": {"packets": 14}}, False),
    ({"act": "police", "rate_kbit": 24.0, "bucket_bytes": 3_000}, True),
], ids=["stall", "policer"])  # fmt: skip
def test_no_paces_are_played_of_a_stream_that_stops_at_once(
    act: dict[str, Any], asks: bool
) -> None:
    prober, base = line_of(rule_of({"protocol": "tcp"}, **act), "4g", Noise(loss=0.005))
    unit = tuple(Sent(at * 50 * MS, True, STREAM, bytes([at]) * 500) for at in range(40))
    outcome = prober.ask("stream", [unit], 8)[0]
    assert outcome.lost[:, -1].all()
    before = prober.probes
    limit = rate_limit(prober, base, outcome, int(outcome.lost.all(axis=0).argmax()), {DROP})
    assert (prober.probes > before) == asks
    assert (limit is not None) == asks


def test_large_datagrams_are_the_large_ones_of_a_flow() -> None:
    same = (*large(3, 0, 100), *large(2, 0, 900), *large(2, 0, 1_200))
    body = large_body(same, 100_000.0)
    assert {len(one.payload) for one in body} == {900, 1_200}
    assert sum(map(ip_size, body)) == pytest.approx(4 * 100_000, rel=0.3)


def test_copies_that_are_sent_at_other_times_are_measured_by_their_own() -> None:
    unit = large(30, 1 * MS)
    outcome = outcome_of(unit, np.zeros(30, bool), 2)
    planned = np.stack([np.arange(30) * 2 * MS, np.arange(30) * 5 * MS])
    tail = Tail(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), LINE, Effect.of_limit(POLICE),
                hypothesis({"size": "1-"}, "packet"),
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), unit[:1])  # fmt: skip
    way = measure(tail, outcome._replace(planned=planned), np.ones(30, bool), True, 10, 0)
    assert way is not None
    assert np.unique(np.diff(way.fast_times, axis=1), axis=1).tolist() == [[2 * MS], [5 * MS]]


# -- what the rules found explain


def test_a_limit_is_simulated_with_the_times_at_which_its_unit_was_sent() -> None:
    unit = large(60, 60 * MS, 1_400)
    prober = Prober(VirtualSockets(EMPTY, "adsl", 1), "adsl", 1)
    for act, moved in (("shape", False), ("drop", True)):
        more = {"rate_kbit": 640.0, "queue_ms": 330.0} if act == "shape" else {}
        rule = rule_of({"ports": [5_000]}, act, **more)
        model = Model(prober, LINE, [rule])
        outcome = model.outcome(unit, False, False, None)
        times = np.array([one.time for one in unit])
        assert outcome.planned is not None
        shift = np.abs(outcome.planned - outcome.planned[:, :1] - times).max()
        assert (shift > 20 * MS) == moved


def test_losses_of_few_packets_in_few_copies_are_the_edge_of_a_limit() -> None:
    unit = large(30, 10 * MS)
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())
    for places, kind, edge in (([20], PARTIAL, True), (list(range(10, 20)), PARTIAL, False),
                               ([20], DROP, False)):  # fmt: skip
        outcome = outcome_of(unit, np.zeros(30, bool), 48)
        delay = outcome.delay.copy()
        delay[:10, places] = -1
        plays.own, plays.base = outcome._replace(delay=delay), LINE
        finding = Finding(kind, FLOW, True, 34.0, 0.2, places[0])
        assert plays.at_edge([finding]) == edge
    assert not plays.at_edge([])


@pytest.mark.parametrize(("waits", "apart", "no_queue"), [
    (180.0, 20, True), (180.0, 200, False), (5.0, 20, False), (None, 20, False),
])  # fmt: skip
def test_packets_that_follow_each_other_faster_than_they_wait_are_in_no_queue(
    waits: float | None, apart: int, no_queue: bool
) -> None:
    unit = large(20, apart * MS, 200)
    outcome = outcome_of(unit, np.zeros(20, bool), 4)
    more = np.arange(20) * 12.0 if waits is None else np.full(20, waits)
    outcome.delay[:] += (more * MS).astype(np.int64)
    assert is_no_queue(LINE, outcome, range(20)) == no_queue


def test_a_window_of_a_limit_must_explain_more_than_its_edge() -> None:
    sought = Effect.of_limit({"act": "police", "rate_kbit": 20.0, "bucket_bytes": 2_000})
    unit = large(40, 20 * MS, 160)
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
