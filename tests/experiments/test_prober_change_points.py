# SPDX-License-Identifier: BSD-3-Clause
"""The prober: where an effect on a share of packets begins and ends in a flow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from midcall.experiments.probe import run
from midcall.experiments.probe.acts import Acts, Number, late_part
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, hypothesis
from midcall.experiments.probe.change_points import likeliest_window
from midcall.experiments.probe.conditions import in_windows
from midcall.experiments.probe.effects import Finding, findings
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.line_oracle import DOUBLE, DROP, PARTIAL, REORDER, Effect
from midcall.experiments.probe.measure import Measure
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.tails import Tail
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.policy.syntax import span
from midcall.testbed.probing.probe import Probe, Sent, in_order
from midcall.testbed.probing.strikes import passing
from midcall.testbed.probing.virtual_line import VirtualSockets
from tests.experiments.prober_call import FLOW, LINE, NOISE, line_of, outcome_of, rule_of

MS = 1_000_000
INFINITE = math.inf


def media(count: int) -> Probe:
    """Return datagrams both ways, 20 ms apart."""
    return in_order(
        Sent(at * 20 * MS + 2 * MS * up, up, FLOW,
             bytes([0x80, 96]) + at.to_bytes(2) + bytes([up]) + bytes(150))
        for at in range(count) for up in (True, False)
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.15, 0.3, 0.7])
@pytest.mark.parametrize(("first", "last"), [(60, INFINITE), (50, 100), (1, 90), (1, INFINITE)])
def test_the_interval_of_a_begin_and_end_holds_the_truth(
    share: float, first: int, last: float
) -> None:
    counts = np.repeat(np.arange(1.0, 151.0), 6)
    inside, other = (counts >= first) & (counts <= last), np.full(len(counts), 0.02)
    right = []
    for seed in range(40):
        chance = np.random.default_rng(seed).random(len(counts))
        affected = chance < np.where(inside, share, 0.02)
        seen = likeliest_window(counts, affected, other, 1.2 * share)
        assert seen is not None
        begin, end = seen
        fits = begin.value == 1 if first == 1 else begin.low < first <= begin.high
        if math.isinf(last):
            right.append(fits and end is None)
        else:
            right.append(fits and end is not None and end.low <= last < end.high)
    assert np.mean(right) >= 0.85


def test_without_an_effect_there_is_no_window() -> None:
    counts, other = np.repeat(np.arange(100.0), 4), np.full(400, 0.02)
    for seed in range(40):
        affected = np.random.default_rng(seed).random(400) < 0.02
        assert likeliest_window(counts, affected, other, 0.3) is None
    assert likeliest_window(counts[:0], np.zeros(0, bool), other[:0], 0.3) is None


def test_a_share_of_losses_is_looked_for_in_the_window_that_shows_it() -> None:
    unit = media(100)
    lost = np.zeros((8, len(unit)), bool)
    lost[:, 80:140] = np.random.default_rng(3).random((8, 60)) < 0.4
    lost[2, 4] = lost[5, 190] = True  # the line's own
    outcome = outcome_of(unit, lost, 8)
    inside = in_windows(outcome, LINE, Effect(PARTIAL, 0.4))
    assert np.flatnonzero(inside)[0] in range(78, 86)
    assert np.flatnonzero(inside)[-1] in range(134, 142)


def test_a_change_of_order_late_in_a_flow_is_an_effect() -> None:
    unit = media(300)
    outcome = outcome_of(unit, np.zeros(len(unit), bool), 8)
    late = np.zeros(outcome.delay.shape, bool)
    late[:, 510:] = np.random.default_rng(2).random((8, 90)) < 0.12
    outcome = outcome._replace(delay=outcome.delay + 70 * MS * late, overtaken=late)
    seen = findings(outcome, LINE)
    assert {one.kind for one in seen} == {REORDER}
    assert all(one.first >= 400 for one in seen)
    line = np.random.default_rng(5).random(late.shape) < 0.003
    assert not findings(
        outcome_of(unit, np.zeros(len(unit), bool), 8)._replace(overtaken=line), LINE
    )


@pytest.mark.parametrize(("match", "act", "amount", "more"), [
    ({"packets": "121-"}, "reorder", 0.15, {"share": 0.15, "delay_ms": 70.0}),
    ({"packets": "41-90"}, "loss", 0.3, {"loss": 0.3}),
    ({"bytes": "9000-"}, "loss", 0.4, {"loss": 0.4}),
    ({"seconds": "1.3-"}, "duplicate", 0.3, {"share": 0.3}),
    ({"seconds": "12-"}, "loss", 0.35, {"loss": 0.35}),
    ({"packets": "-50"}, "loss", 0.35, {"loss": 0.35}),
])  # fmt: skip
def test_windows_of_shares_are_measured_in_one_flow(
    match: dict[str, Any], act: str, amount: float, more: dict[str, float]
) -> None:
    kinds = {"reorder": REORDER, "loss": PARTIAL, "duplicate": DOUBLE}
    [key] = match
    low, high = span(match[key])
    exact = 1 if key == "seconds" else 0  # digits; what is known before is some percent off
    about = f"{round(low * 1.05, exact)}-" + ("" if high == INFINITE else f"{high * 0.9:.0f}")
    prober, base = line_of(rule_of({"payload": ["rtp"], **match}, act, scope="packet", **more))
    sought = Effect(kinds[act], amount, late=70 * MS if act == "reorder" else 0)
    best = hypothesis({"payload": ["rtp"], key: about}, "packet")
    core = media(1)[1:]
    assert core[0].up
    tail = Tail(prober, base, sought, best,
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), core)  # fmt: skip
    refiner = Refiner(tail, best, core)
    before = prober.probes
    found = refiner.window(key, best.keys, lambda value: core, 400.0)
    assert prober.probes - before <= 2
    assert found
    seen_low, seen_high = span(found)
    assert seen_low == pytest.approx(max(low, 1 if key != "seconds" else 0), rel=0.06, abs=3)
    assert seen_high == pytest.approx(high, rel=0.06)
    assert not refiner.refuted
    unit, others = refiner.spread_over(key, 0.0, 5.0)
    shown = [one.payload for one in unit[others:]]  # of equal ones it is not known which were lost
    assert len(set(shown)) == len(shown) > 1


def test_exact_numbers_are_those_of_equal_hypotheses_too() -> None:
    best = hypothesis({"protocol": "udp", "packets": "30-"})
    equal = [best._replace(scope="pair"), hypothesis({"packets": "30-", "size": "9-"}),
             hypothesis({"protocol": "udp"})]  # fmt: skip
    sought = Effect(PARTIAL, 0.4)
    found = Found(best, 0.9, sought, Beliefs(LINE, [sought]), media(1), None, best, equal=equal)  # type: ignore[arg-type]
    exact = hypothesis({"protocol": "udp", "packets": "33-"})
    found.take_exact(exact)
    assert found.best == exact
    sized = hypothesis({"packets": "33-", "size": "9-"})
    assert found.equal == [exact._replace(scope="pair"), sized, hypothesis({"protocol": "udp"})]


@pytest.mark.parametrize(("window", "share", "close"), [
    pytest.param({"packets": "41-90"}, 0.3, 6.0, marks=pytest.mark.longest),
    ({"seconds": "0.5-1.2"}, 0.6, 0.05),
])  # fmt: skip
def test_a_rule_on_a_window_of_a_share_is_named_with_its_share(
    window: dict[str, str], share: float, close: float
) -> None:
    rule = rule_of({"payload": ["rtp"], **window}, "loss", scope="packet", loss=share)
    answer = run.against(Policy((rule,)), media(100), "4g", 3, NOISE).answer
    assert (answer["act"]["name"], answer["direction"]) == ("loss", "both")
    [key] = window
    seen = span(answer["trigger"]["match"][key])
    assert seen == pytest.approx(span(window[key]), abs=close)
    about = answer["act"]["parameters"]["loss"]
    # a 95 % interval misses one in twenty: four standard errors
    assert abs(about["value"] - share) < about["high"] - about["low"] < 0.25


def sent_late(
    act: str, seed: int, between: bool = False, jitter_ms: float = 1, **more: float
) -> tuple[dict[str, Any], dict[str, Number]]:  # fmt: skip
    """Return what is measured of packets that a rule delays, as of a rule that delays a share.
    between: whether packets that it does not delay are sent between them."""
    prober, base = line_of(rule_of({"payload": ["rtp"]}, act, scope="packet", **more),
                           noise=NOISE._replace(jitter_ms=jitter_ms))  # fmt: skip
    unit = tuple(Sent(at * 45 * MS, True, FLOW, bytes([0x80, 96]) + at.to_bytes(2) + bytes(150))
                 for at in range(150))  # fmt: skip
    if between:
        others = (one._replace(time=one.time + 20 * MS, payload=one.payload[2:]) for one in unit)
        unit = in_order([*unit, *others])
    sought, best = Effect(REORDER, 0.3, late=60 * MS), hypothesis({"payload": ["rtp"]}, "packet")
    tail = Tail(prober, base, sought, best,
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), unit[:1])  # fmt: skip
    outcome = prober.ask("late packets", [unit], 4 + seed)[0]
    struck = np.array([one.payload[:2] == b"\x80\x60" for one in unit])
    acts = Acts(tail, unit[:1], False)
    acts.rule = best.rule()
    return acts.sent_otherwise(outcome, struck, sought)


@pytest.mark.parametrize("jitter_ms", [1, 17])
def test_a_delay_of_all_packets_is_no_reordering(jitter_ms: float) -> None:
    act, numbers = sent_late("delay", 4, between=True, jitter_ms=jitter_ms, delay_ms=60.0)
    assert act["act"] == "delay"
    assert numbers["delay_ms"].low <= 60 <= numbers["delay_ms"].high


def test_a_delay_that_varies_with_the_line_is_none_of_a_part_of_a_stream() -> None:
    rng = np.random.default_rng(4)
    for part, seen in ((1.0, False), (0.5, True)):
        late = rng.random((6, 40)) < part
        excess = rng.normal(0.0, 17.0, (6, 40)) + np.where(late, 72.0, 0.0)
        assert (late_part(excess, 17.0) is not None) == seen


@pytest.mark.parametrize("seed", [4, 5])
def test_a_share_of_late_packets_is_measured_where_few_packets_could_overtake_them(
    seed: int,
) -> None:
    act, numbers = sent_late("reorder", seed, share=0.4, delay_ms=60.0)
    assert act["act"] == "reorder"
    assert numbers["share"].low <= 0.4 <= numbers["share"].high
    assert numbers["delay_ms"].low <= 60 <= numbers["delay_ms"].high


@pytest.mark.parametrize("refuted", [(), ("packets",), ("packets", "seconds")])
def test_a_begin_that_its_trigger_does_not_show_is_counted_otherwise(
    refuted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core has no pauses, so that a begin after some seconds does not show behind as many packets
    in less time."""
    plays = Plays(Prober(VirtualSockets(EMPTY, "fibre", 1), "fibre", 1), media(60), Result())
    plays.look()
    beliefs = Beliefs(LINE, [Effect(DROP)])
    rtp = {"payload": ["rtp"]}
    counts = ({"packets": "41-"}, {"seconds": "0.4-"}, {"packets": "41-", "seconds": "0.4-"}, {})
    beliefs.add(hypothesis(rtp | more, "packet") for more in counts)
    best = hypothesis(rtp | {"packets": "41-"}, "packet")
    finding = Finding(DROP, FLOW, True, 40.0, 1.0, 80)
    core = tuple(one._replace(time=one.time // 10) for one in media(21))
    near = ({"packets": "40-"}, {"seconds": "0.39-"})
    equal = [hypothesis(rtp | more, "packet") for more in near]
    found = Found(best, 0.9, Effect(DROP), beliefs, core, finding, best, equal=equal)
    asked: list[Probe] = []

    def run_of(refiner: Refiner) -> Hypothesis:
        asked.append(refiner.core)
        refiner.refuted = any(key in refiner.best.keys for key in refuted)
        return refiner.best

    monkeypatch.setattr(Refiner, "run", run_of)
    measure = Measure(plays, found, 1.0, False)
    assert measure.refine(measure.tail()) == ("seconds" in refuted)
    assert len(asked) == (2 if refuted else 1)
    named = "seconds" if refuted == ("packets",) else "packets"
    assert found.best.keys.keys() == {"payload", named}
    assert (found.core[-1].time >= 400 * MS) == (named == "seconds")
    assert found.equal == [one for one in equal if named == "packets" or named in one.keys]
