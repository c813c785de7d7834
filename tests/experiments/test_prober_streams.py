# SPDX-License-Identifier: BSD-3-Clause
"""The prober: limits of the rate of streams, delays of packets that are far apart, losses of few
packets, and units that fit into a play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import client_hello, noise
from midcall.experiments.probe import run
from midcall.experiments.probe.acts import Acts, Number, act_unit, late_part, reordered
from midcall.experiments.probe.atoms import references
from midcall.experiments.probe.baseline import Baseline, baseline_of, control_units
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.choice import Choice, is_playable
from midcall.experiments.probe.conditions import with_allowances
from midcall.experiments.probe.cores import TURN, in_turns
from midcall.experiments.probe.effects import Finding, findings, joined, waits_of
from midcall.experiments.probe.evidence import of_kind
from midcall.experiments.probe.fit import (
    affected_of,
    agreement,
    stops_elsewhere,
    waits_in_streams,
)
from midcall.experiments.probe.found import Result
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import LOST, Outcome, Prober
from midcall.experiments.probe.rates import stream_limit
from midcall.experiments.probe.tails import Tail
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import (
    Ends,
    Probe,
    Sent,
    flow_numbers,
    in_order,
    ip_size,
)
from midcall.testbed.probing.strikes import strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

MS = 1_000_000
NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
STREAM, FLOW = Ends(TCP, NEAR, 40_001, FAR, 443), Ends(UDP, NEAR, 40_000, FAR, 4_000)
LINE = Baseline((0.02, 0.02), (5e7, 5e7), (0.0, 0.0), (1e7, 1e7), ((20, 1000), (20, 1000)))
#: A queue of 64 kbit/s, 8 octets per ms.
QUEUE = {"act": "shape", "rate_kbit": 64.0, "queue_ms": 500.0}
RECORD = b"\x17\x03\x03\x00\x80" + noise(128, "record")


def rule_of(match: dict[str, Any], act: str, **more: Any) -> Rule:
    return Rule.model_validate(
        {"name": "r", "match": match, "act": act, "grade": "C", "source": "test", **more}
    )


def line_of(rule: Rule, noise_: Noise) -> tuple[Prober, Baseline]:
    """Return a prober of a line with one rule, and what the line does by itself."""
    prober = Prober(VirtualSockets(Policy((rule,)), "4g", 5, noise_), "4g", 5)
    return prober, baseline_of(prober, [joined([one])
                                        for one in prober.ask("", control_units(), 4)])  # fmt: skip


def outcome_of(unit: Probe, delay: np.ndarray[Any, Any]) -> Outcome:
    none: list[list[Any]] = [[] for _ in delay]
    return Outcome(unit, delay.astype(np.int64), np.array([ip_size(one) for one in unit]),
                   np.array([one.up for one in unit]), none, none)  # fmt: skip


def writes(count: int, gap: int, size: int = 60) -> Probe:
    return tuple(Sent(n * gap, True, STREAM, noise(size, n)) for n in range(count))


@pytest.mark.parametrize(("gap", "shows"), [(400 * MS, True), (0, False)])
def test_a_small_delay_shows_where_packets_do_not_wait_for_each_other(
    gap: int, shows: bool
) -> None:
    unit = tuple(Sent(n * gap, True, FLOW, noise(60, n)) for n in range(8))
    own = np.random.default_rng(3).normal(50 * MS, 10 * MS, (48, 8))
    if not gap:
        own = np.maximum.accumulate(own, axis=1)  # none overtakes another
    kinds = {one.kind for one in findings(outcome_of(unit, own), LINE) if one.score > 11}
    assert DELAY not in kinds
    late = own + 17 * MS if gap else own
    kinds = {one.kind for one in findings(outcome_of(unit, late), LINE) if one.score > 11}
    assert (DELAY in kinds) == shows


def test_packets_wait_for_those_before_them() -> None:
    unit = tuple(Sent(at, True, FLOW, bytes(100)) for at in (0, 0, 0, 0, 500 * MS))
    outcome = outcome_of(unit, np.full((8, 5), 50 * MS))
    waits = waits_of(outcome, LINE)
    assert abs(waits[0]) < 2 * MS
    assert waits[3] > 8 * MS > waits[1] > 3 * MS  # 0.56 and 1.03 deviations, of order statistics
    assert abs(waits[4]) < 2 * MS
    slow = waits_of(outcome, LINE._replace(per_octet=(0.0, 1e5), spread=(1.0, 1.0)))
    assert np.round(slow / (128 * 1e5), 2).tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("late", [{TCP}, {UDP}, {TCP, UDP}])
def test_datagrams_behind_late_segments_in_the_access_networks_queue_are_not_delayed(
    late: set[int],
) -> None:
    rules = [rule_of({"ports": [ends.far_port]}, "delay", delay_ms=60.0, scope="packet")
             for ends in (STREAM, FLOW) if ends.proto in late]  # fmt: skip
    prober = Prober(VirtualSockets(Policy(tuple(rules)), "adsl", 5, Noise(jitter_ms=3)), "adsl", 5)
    base = baseline_of(prober, [joined([one]) for one in prober.ask("", control_units(), 4)])
    segments = [Sent((200 + 100 * (n // 20)) * MS + n, False, STREAM, noise(1200, n))
                for n in range(60)]  # fmt: skip
    datagrams = [Sent((n + 1) * 10 * MS, False, FLOW, noise(100, n)) for n in range(80)]
    unit = in_order([Sent(0, True, STREAM, noise(200, 9)), Sent(1, True, FLOW, noise(99, 9)),
                     *segments, *datagrams])  # fmt: skip
    found = findings(prober.ask("", [unit], 12)[0], base)
    delayed = {unit[one.first].ends.proto for one in found if one.kind == DELAY and one.score > 11}
    assert delayed == late


@pytest.mark.parametrize(("lost", "shows"), [(18, True), (6, False)])
def test_a_loss_of_one_datagram_of_many_shows(lost: int, shows: bool) -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, noise(60, n)) for n in range(60))
    delay = np.full((48, 60), 50 * MS)
    delay[np.random.default_rng(2).random(delay.shape) < 0.02] = -1
    delay[:lost, 7] = -1
    found = [one for one in findings(outcome_of(unit, delay), LINE) if one.score > 11]
    assert [(one.kind, one.first) for one in found] == ([(PARTIAL, 7)] if shows else [])


@pytest.mark.parametrize("kind", [DROP, PARTIAL, DELAY])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_units_with_neighbouring_flows_can_be_played(kind: str, length: int) -> None:
    core = tuple(Sent(n * MS, True, FLOW, noise(60, n)) for n in range(length))
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), core, Result())
    sought = Effect(kind, 0.5)
    beliefs = Beliefs(LINE, [sought])
    beliefs.add([hypothesis({"bytes": "900-"}, "flow"), hypothesis({"protocol": "udp"}, "server")])
    units = list(Choice(plays, beliefs, core, core, sought, True).units())
    asked = [one for word, one in units if word.startswith(("other flows", "slowly"))]
    assert len(asked) >= 4
    assert all(is_playable(one) for one in asked)


def test_a_stream_waits_under_a_limit_for_what_came_before() -> None:
    unit = writes(4, 10 * MS, 360)  # of 400 IP octets: 50 ms each
    outcome = outcome_of(unit, np.full((2, 4), 50 * MS))
    waits = waits_in_streams(outcome, Effect.of_limit(QUEUE))
    assert np.round(waits / MS).tolist() == [50, 90, 130, 170]
    policer = {"act": "police", "rate_kbit": 64.0, "bucket_bytes": 800}
    waits = waits_in_streams(outcome, Effect.of_limit(policer))
    assert np.round(waits / MS).tolist() == [0, 0, 30, 70]


@pytest.mark.parametrize(("share", "spread", "part"), [
    (0.23, 2.0, True), (0.6, 2.0, True), (0.02, 2.0, False), (1.0, 2.0, False), (0.5, 30.0, False),
], ids=["few", "most", "hardly any", "all", "at random"])  # fmt: skip
def test_segments_out_of_order_are_a_part_that_is_late(
    share: float, spread: float, part: bool
) -> None:
    rng = np.random.default_rng(7)
    excess = rng.normal(0, 2.0, (14, 15))
    late = rng.random(excess.shape) < share
    excess[late] += 57 + rng.normal(0, spread, int(late.sum()))
    seen = late_part(excess, 2.0)
    assert (seen is not None) == part
    if seen is not None:
        assert len(seen) / excess.size == pytest.approx(share, abs=0.07)
        delay = reordered(seen, Number(share, share, share))[1]["delay_ms"]
        assert delay.low < 57 < delay.high


def test_copies_that_are_late_as_a_whole_are_no_segments_out_of_order() -> None:
    excess = np.random.default_rng(8).normal(0, 2.0, (14, 15))
    excess[::3] += 57
    assert late_part(excess, 2.0) is None


@pytest.mark.longest
def test_segments_out_of_order_are_named() -> None:
    rule = rule_of({"protocol": "tcp", "direction": "down", "size": "1001-"}, "reorder",
                   share=0.25, delay_ms=60.0)  # fmt: skip
    packets = [Sent(0, True, STREAM, client_hello("call.example"))]
    packets += [Sent((200 + 40 * n) * MS, n % 5 == 0, STREAM, noise(90 if n % 5 == 0 else 1300, n))
                for n in range(120)]  # fmt: skip
    act = run.against(Policy((rule,)), tuple(packets), "fibre", 4, Noise()).answer["act"]
    assert act["name"] == "reorder"
    assert "probability" not in act["parameters"]
    assert act["parameters"]["delay_ms"]["low"] < 60 < act["parameters"]["delay_ms"]["high"]
    share = act["parameters"]["share"]  # a 95 % interval misses one in twenty
    width = share["high"] - share["low"]
    assert share["low"] - width / 2 < 0.25 < share["high"] + width / 2
    assert width < 0.2


@pytest.mark.parametrize(("kind", "own"), [(DELAY, True), (DELAY, False), (DROP, True),
                                           (DROP, False)])  # fmt: skip
def test_what_a_stream_shows_without_a_rule_is_the_lines_own(kind: str, own: bool) -> None:
    """A large upload waits in the queue of a slow access network, and may not arrive in time."""
    plays = Plays(Prober(VirtualSockets(EMPTY, "3g", 1), "3g", 1), writes(4, 100 * MS), Result())
    plays.base, count = LINE, 4
    late, lost = np.full((8, count), 450 * MS), np.array([50 * MS] * (count - 2) + [-1, -1])
    seen = outcome_of(writes(count, 100 * MS), late if kind == DELAY else np.tile(lost, (8, 1)))
    usual = outcome_of(seen.unit, np.full((8, count), 50 * MS))
    plays.simulated = lambda *_: seen if own else usual  # type: ignore[method-assign]
    kinds = {one.kind for one in plays.effects(seen)}
    assert (kind in kinds) == (not own)
    assert kind in {one.kind for one in findings(seen, LINE)}


def test_answers_that_are_dropped_behind_a_trigger_are_a_rule_of_one_direction() -> None:
    """The other direction stops, too, as nothing acknowledges it."""
    unit = tuple(Sent(at * 100 * MS, at % 2 == 0, STREAM, body) for at, body in enumerate(
        [client_hello("call.example"), *(noise(60, "record", number) for number in range(19))]
    ))  # fmt: skip
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())
    delay = np.full((8, len(unit)), 50 * MS)
    delay[:, 9::2] = -1
    parts: list[dict[str, Any]] = [{"name": ["call.example"]}]
    late = list(with_allowances(plays, parts, outcome_of(unit, delay), Effect(DROP, 1.0, 1.0)))
    ways = {one.way for one in late if "seconds" in one.allowance and one.scope == "flow"}
    assert "down" in ways
    assert "up" not in ways


def test_an_allowance_of_one_direction_may_stop_the_other_one_first() -> None:
    """What both ends send crosses each other: answers may meet a box that has counted enough."""
    hello = client_hello("call.example")
    unit = in_order([
        Sent(0, True, STREAM, hello),
        *(Sent((200 + at) * MS, True, STREAM, noise(1_000, "upload", at)) for at in range(30)),
        *(Sent((180 + at) * MS, False, STREAM, noise(900, "answer", at)) for at in range(5)),
    ])  # fmt: skip
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())
    up = np.cumsum([one.up for one in unit])  # segments of the upload, and the hello
    lost = np.array([not one.up or count > 21 for one, count in zip(unit, up, strict=True)])
    seen = outcome_of(unit, np.tile(np.where(lost, -1, 50 * MS), (8, 1)))
    parts: list[dict[str, Any]] = [{"name": ["call.example"]}]
    late = list(with_allowances(plays, parts, seen, Effect(DROP, 1.0, 1.0)))
    octets = [one.allowance["bytes"] for one in late
              if one.allowance.get("direction") == "up" and "bytes" in one.allowance]  # fmt: skip
    sizes = [ip_size(one) for one in unit if one.up]
    assert any(sum(sizes[:21]) <= count + 400 and count <= sum(sizes[:22]) for count in octets)


def test_the_line_itself_holds_up_a_stream_as_simulated() -> None:
    unit = writes(3, 10 * MS)
    outcome = outcome_of(unit, np.full((2, 3), 50 * MS))._replace(
        held_up=np.array([0.1, 0.2, 0.7])
    )  # fmt: skip
    other = affected_of(outcome, LINE, Effect.of_limit(QUEUE))[2]
    assert other == pytest.approx([0.104, 0.204, 0.704])
    assert outcome.part([2]).held_up == pytest.approx([0.7])
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())
    plays.base = LINE._replace(loss=(0.2, 0.2))
    dense = outcome_of(writes(40, 4 * MS), np.full((2, 40), 50 * MS))
    known = plays.with_held_up(dense, True, Effect.of_limit(QUEUE)).held_up
    assert known is not None
    assert known[-1] > 0.3
    assert plays.with_held_up(dense, True, Effect(DROP)).held_up is None


@pytest.mark.parametrize("limits", [False, True])
def test_a_limit_of_a_rate_delays_other_streams_than_those_that_it_drops(limits: bool) -> None:
    other = STREAM._replace(near_port=40_005)
    unit = (*writes(20, 20 * MS),
            *(one._replace(ends=other) for one in writes(20, 20 * MS)))  # fmt: skip
    delay = np.full((24, 40), 50 * MS)
    delay[:, :20] = -1
    delay[:, 20:] += 400 * MS
    line = LINE._replace(loss=(0.001, 0.001), spread=(1e6, 1e6))
    outcome = outcome_of(unit, delay)
    drop = Finding(DROP, STREAM, True, 40.0, 1.0, 0)
    kept = of_kind(outcome, line, drop, limits=limits)
    assert (kept.delay[:, 20:] == 450 * MS).all() == limits


def test_a_limit_of_a_stream_explains_no_datagrams() -> None:
    unit = in_order([*writes(4, 20 * MS), Sent(5, True, FLOW, bytes(50))])
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())
    delay = np.full((8, 5), 50 * MS)
    delay[:, [one.ends == FLOW for one in unit]] += 300 * MS
    beliefs = Beliefs(LINE, [Effect.of_limit(QUEUE)])
    beliefs.add([hypothesis({"protocol": "tcp"}, "flow")])
    beliefs.observe(Seen(plays.through(unit, False), outcome_of(unit, delay), True))
    assert beliefs.explained == 1.0


def test_the_ends_of_a_stream_wait_for_each_other() -> None:
    core = tuple(Sent(n * MS, up, STREAM, b"x") for n, up in enumerate((True, True, False, True)))
    gaps = np.diff([one.time for one in in_turns(core)])
    assert gaps.tolist() == [MS, TURN, TURN]
    datagrams = tuple(one._replace(ends=FLOW) for one in core)
    assert in_turns(datagrams) == datagrams


@pytest.mark.parametrize("kind", [["tls"], ["http"]])
def test_a_limit_of_a_kind_of_packets_is_measured_with_the_own_payload(kind: list[str]) -> None:
    rule = rule_of({"payload": kind, "direction": "up"}, "shape", scope="packet",
                   rate_kbit=64.0, queue_ms=300.0)  # fmt: skip
    prober, base = line_of(rule, Noise(loss=0.005, jitter_ms=3))
    core = (Sent(0, True, STREAM, client_hello("a.example")), Sent(MS, True, STREAM, RECORD))
    limit = stream_limit(prober, base, core, True)
    assert (limit is not None) == (kind == ["tls"])
    assert limit is None or limit.rate == pytest.approx(64, rel=0.15)
    assert limit is None or limit.shown is not None


def test_a_slow_queue_is_measured_behind_the_packets_that_bring_it_about() -> None:
    rule = rule_of({"protocol": "tcp"}, "shape", rate_kbit=24.0, queue_ms=2000.0)
    prober, base = line_of(rule, Noise())
    core = tuple(Sent(n * MS, True, STREAM, noise(1200, n)) for n in range(8))
    limit = stream_limit(prober, base, core, True)
    assert limit is not None
    assert limit.act == "shape"
    assert limit.rate == pytest.approx(24, rel=0.1)
    assert np.isfinite(limit.room)


@pytest.mark.longest
@pytest.mark.parametrize("seed", [7, 23, 30])
def test_the_shaper_of_a_stream_of_few_packets_is_named(seed: int) -> None:
    server = Ends(TCP, NEAR, 40_003, bytes([198, 19, 0, 30]), 443)
    web = [Sent(100 * MS, True, server, client_hello("call.b.example")),
           Sent(160 * MS, False, server, b"\x16\x03\x03" + noise(1085, "answer"))]  # fmt: skip
    web += [Sent((700 + 400 * n) * MS, True, server, RECORD + noise(n, "end")) for n in range(8)]
    voice = [Sent(n * 60 * MS, n % 2 == 0, FLOW, noise(160, n)) for n in range(60)]
    rule = rule_of({"payload": ["tls-hello"]}, "shape", rate_kbit=100.0, queue_ms=400.0)
    played = run.against(Policy((rule,)), in_order([*web, *voice]), "adsl", seed, Noise(loss=0.03))
    [found] = played.result.found
    assert (found.rule.act, found.rule.way) == ("shape", None)
    assert found.rule.rate_kbit == pytest.approx(100, rel=0.1)


@pytest.mark.longest
def test_a_delay_of_small_segments_downwards_is_named_with_its_size_and_direction() -> None:
    rule = rule_of({"protocol": "tcp", "payload": ["unknown"], "size": "1-60", "direction": "down"},
                   "delay", delay_ms=260.0, jitter_ms=15.0, scope="packet")  # fmt: skip
    sizes = [12, 900, 40, 700, 16, 1200, 30, 300]
    packets = tuple(Sent(n * 120 * MS, n % 4 == 3, STREAM, noise(sizes[(n + n // 8) % 8], n))
                    for n in range(48))  # fmt: skip
    answer = run.against(Policy((rule,)), packets, "adsl", 4, Noise(jitter_ms=8.0)).answer
    assert answer["act"]["name"] == "delay"
    assert answer["direction"] == "down"
    assert answer["trigger"]["match"]["size"] == "1-60"
    assert answer["act"]["parameters"]["delay_ms"]["value"] == pytest.approx(260, rel=0.05)


@pytest.mark.parametrize("kind", [DELAY, PARTIAL])
def test_a_stream_without_its_syn_does_not_show_a_delay(kind: str) -> None:
    """A copy of which nothing arrives is one in which a rule was enforced if it is to lose packets,
    and says nothing if it is to delay them."""
    rule = rule_of({"protocol": "tcp"}, "delay", delay_ms=100.0, scope="packet")
    prober, base = line_of(rule, Noise())
    unit = writes(8, 100 * MS)
    late = 100 * MS if kind == DELAY else 0
    delay = np.full((4, 8), int(base.fixed[1]) + late)
    delay[0] = -1
    sought = Effect(kind, 100.0 * MS if kind == DELAY else 0.5, 0.8)
    tail = Tail(prober, base, sought, hypothesis({"protocol": "tcp"}, "packet"),
                Plays(prober, unit, Result()).through, unit)  # fmt: skip
    acts = Acts(tail, unit)
    kept = acts.enforced(outcome_of(unit, delay), np.ones(8, bool))
    assert len(kept.delay) == (3 if kind == DELAY else 1)
    assert kept.lost.any() == (kind == PARTIAL)


def test_a_rule_that_strikes_the_stream_of_controls_is_not_taken_for_the_line() -> None:
    """Streams that never end on a line whose datagrams arrive are a rule's: another stream that
    stops in all copies shows it."""
    rule = rule_of({"protocol": "tcp", "payload": ["unknown"], "size": "1-", "direction": "up"},
                   "drop")  # fmt: skip
    for access in ("3g", "fibre"):
        prober = Prober(VirtualSockets(Policy((rule,)), access, 5, Noise(loss=0.03)), access, 5)
        controls = prober.ask("", control_units(), 8)
        base = baseline_of(prober, [joined([one]) for one in controls])
        stream = controls[-1]
        assert stream.streams.all()
        assert stream.lost.mean() > 0.8
        assert base.never(stream).max() < 0.05
        packets = writes(12, 60 * MS)
        answer = run.against(Policy((rule,)), packets, access, 5, Noise(loss=0.03)).answer
        assert answer["act"]["name"] == "drop"
        assert answer["trigger"]["match"] == rule.match.model_dump(exclude_unset=True)


@pytest.mark.parametrize("seconds", [0.0, 0.8, 4.3])
def test_the_packets_that_show_an_act_come_behind_an_allowance_of_seconds(seconds: float) -> None:
    prober = Prober(VirtualSockets(EMPTY, "4g", 5), "4g", 5)
    core = (Sent(0, True, FLOW, noise(60, "core")),)
    after = f'{{"seconds": {seconds}}}' if seconds else ""
    best = hypothesis({"protocol": "udp"}, "flow", None, after)
    tail = Tail(prober, LINE, Effect(DELAY, 90.0 * MS), best,
                Plays(prober, core, Result()).through, core)  # fmt: skip
    unit, slow, _ = act_unit(tail, core)
    assert unit[slow].time > seconds * 1e9
    rule = best.rule()
    assert rule is not None
    assert strikes(tail.through(unit, True), [rule]).struck[0, slow:].all()


def stopped(stops: Sequence[int], count: int = 10) -> Outcome:
    """Return copies of a stream of writes that stop for good, each at its own write; -1 for one
    that does not stop."""
    delay = np.full((len(stops), count), 30 * MS)
    for copy, stop in enumerate(stops):
        if stop >= 0:
            delay[copy, stop:] = LOST
    return outcome_of(writes(count, 20 * MS), delay)


@pytest.mark.parametrize(("stops", "gains"), [
    ([4, 5, 6, -1], True), ([3, 6, 7, -1], True), ([5, 5, 5, -1], False), ([0, 8, 9, -1], False),
], ids=["near", "nearly", "at the predicted one", "far"])  # fmt: skip
def test_copies_of_a_stream_may_stop_near_the_predicted_packet(
    stops: list[int], gains: bool
) -> None:
    """Packets of both directions meet at the box in another order in each copy."""
    outcome, effect = stopped(stops), Effect(DROP)
    struck = np.arange(10)[None, :] >= np.array([[5], [10]])
    affected, usable, other = affected_of(outcome, LINE, effect)
    weight = np.where(affected, np.log(0.97 / other), np.log(0.03 / (1 - other))) * usable
    more = stops_elsewhere(struck, outcome, weight, flow_numbers(outcome.unit))
    assert more.shape == (2, 4, 1)
    assert (more[0].sum() > 0) == gains
    assert not more[1].any()  # of a rule that strikes nothing
    assert not more[0, 3].any()  # of a copy that does not stop


def test_all_behind_the_stop_of_a_stream_shows_a_drop_that_is_enforced_by_chance() -> None:
    outcome, effect = stopped([5, 5, 5, -1, -1, -1]), Effect(DROP, chance=0.5)
    both, either = agreement(np.arange(10) >= 5, outcome, LINE, effect)
    assert (both, either) == (5, 5)


def test_hypotheses_are_made_around_the_packets_that_open_each_flow_with_an_effect() -> None:
    other = STREAM._replace(near_port=STREAM.near_port + 1)
    first = [Sent(at * MS, True, FLOW, noise(20 + 70 * at, at)) for at in range(12)]
    second = [Sent((20 + at) * MS, True, other, noise(90 + at, at)) for at in range(4)]
    unit = (*first, *second)
    shows = np.zeros(len(unit))
    shows[[11, 15]] = 1.0
    assert {12, 13} <= set(references(unit, shows))


def test_hypotheses_are_made_around_a_typical_packet_that_shows_the_effect() -> None:
    """The first ones may be those that the line itself lost."""
    unit = tuple(Sent(at * MS, True, FLOW, noise(40 + at % 3, at)) for at in range(60))
    shows = np.zeros(len(unit))
    shows[[0, 1, *range(20, 41)]] = 1.0
    assert 29 in references(unit, shows)


def test_single_conditions_are_weighed_with_the_mechanism_of_the_likeliest_rule() -> None:
    """They are far from a rule of several conditions, one condition more or less at a time."""
    first = hypothesis({"packets": "1-2", "protocol": "udp", "size": "39-544"}, "flow", "up")
    beliefs = Beliefs(LINE, [Effect(PARTIAL, 0.15)])
    beliefs.add([first])
    beliefs.climb([{"payload": ["rtp"]}], 1)
    assert hypothesis({"payload": ["rtp"]}, "flow", "up") in beliefs.hypotheses
