# SPDX-License-Identifier: BSD-3-Clause
"""The prober: limits of a flow's rate, quotas of a client, rules that inspect one packet in n, and
windows of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe import identify, run
from midcall.experiments.probe.acts import MIDDLE, SOONEST, Acts, Measured, differ, limit_numbers
from midcall.experiments.probe.asking import Question, ask_all, edges
from midcall.experiments.probe.atoms import places, windows_with_ends
from midcall.experiments.probe.baseline import baseline_of, control_units
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis, with_act
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.fit import by_stream, fits_of_limit, strikes_of_limit
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.identify import take_simplest
from midcall.experiments.probe.lasting import chance_of, sampled
from midcall.experiments.probe.line_oracle import DROP, PARTIAL, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Outcome, Prober
from midcall.experiments.probe.quotas import quotas
from midcall.experiments.probe.rates import (
    Drop,
    Limit,
    datagram_limit,
    first_drop,
    interleaved,
    paced_unit,
    policer_of,
    rate_limit,
    shaper_of,
    stream_limit,
)
from midcall.experiments.probe.refine import Refiner, likely_ends, until, within
from midcall.experiments.probe.search import Search
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.variants import without_windows
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Probe, Sent, in_order, probe_of
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import (
    FLOW,
    LINE,
    STREAM,
    line_of,
    outcome_of,
    rule_of,
)

MS = 1_000_000
HELLO = (Sent(0, True, STREAM, b"hello" * 20),)


# ---- rates


def drops_of(rate: float, room: float, size: int, paces: list[float]) -> list[Drop]:
    """Return the first drop of writes at some paces (octets/s), as a bucket brings it about."""
    result = []
    for pace in paces:
        count = next(n for n in range(1, 10_000) if (n + 1) * size > room + rate * n * size / pace)
        result.append(Drop(count * size, size, count * size / pace, 0.0))
    return result


@pytest.mark.parametrize(("rate", "room"), [(2_000.0, 1_500.0), (16_000.0, 8_000.0)])
@pytest.mark.parametrize("size", [60, 110])
def test_the_first_drops_at_several_paces_give_rate_and_bucket(
    rate: float, room: float, size: int
) -> None:
    paces = [part * rate for part in (1.6, 2.5, 6.0)]
    limit = policer_of(drops_of(rate, room, size, paces))
    assert limit is not None
    assert limit.rate == pytest.approx(rate / 125, abs=3 * limit.rate_error)
    assert limit.room == pytest.approx(room, abs=3 * limit.room_error + size)
    assert limit.rate == pytest.approx(rate / 125, rel=0.2)


def test_a_drop_at_the_same_octets_of_every_pace_is_no_limit_of_a_rate() -> None:
    drops = [Drop(4_000.0, 500.0, 4_000 / pace, 0.0) for pace in (2e4, 5e4, 1e5)]
    assert policer_of(drops) is None


@pytest.mark.parametrize(("act", "more", "room"), [
    ("police", {"rate_kbit": 64.0, "bucket_bytes": 6_000}, 6_000),
    ("shape", {"rate_kbit": 64.0, "queue_ms": 300.0}, 300),
])  # fmt: skip
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_the_limit_of_a_stream_is_measured(
    act: str, more: dict[str, Any], room: float, up: bool
) -> None:
    prober, base = line_of(rule_of({"protocol": "tcp"}, act, **more))
    limit = stream_limit(prober, base, HELLO, up)
    assert limit is not None
    assert limit.act == act
    assert limit.rate == pytest.approx(64, rel=0.2)
    assert limit.room == pytest.approx(room, rel=0.6)


@pytest.mark.parametrize("dropped", [True, False])
def test_a_stream_catches_up_behind_what_the_line_loses_and_not_behind_a_limit(
    dropped: bool,
) -> None:
    """Where the limit begins, a write is not always later than the latest one before it."""
    unit = paced_unit(HELLO, True, 500, 4 * MS, 90)
    played = outcome_of(unit, np.zeros(len(unit), bool), 8)
    delay = np.tile(LINE.own_delay(played).astype(np.int64), (8, 1))
    for copy in range(8):
        lost = len(HELLO) + 10 + 5 * copy
        delay[copy, lost : lost + 10] += np.linspace(120 * MS, 10 * MS, 10).astype(np.int64)
    if dropped:
        begin = len(HELLO) + 64
        delay[:, begin:] += (np.minimum(np.arange(len(unit) - begin), 5) * 20 + 70) * MS
    seen = first_drop(played._replace(delay=delay), LINE, len(HELLO))
    assert (seen is not None) == dropped
    if seen is not None:
        assert seen.octets == 64 * 540


@pytest.mark.parametrize("rate", [200.0, 350.0, 500.0])
def test_the_policer_of_a_stream_is_measured_on_a_line_that_loses_packets(rate: float) -> None:
    """What the line loses makes a stream late, too, but it catches up again."""
    rule = rule_of({"protocol": "tcp"}, "police", rate_kbit=rate, bucket_bytes=14_000)
    prober, base = line_of(rule, "fibre", Noise(loss=0.035, reorder=0.02))
    limit = stream_limit(prober, base, HELLO, False)
    assert limit is not None
    assert limit.act == "police"
    assert limit.rate == pytest.approx(rate, rel=0.2)
    assert limit.room == pytest.approx(14_000, rel=0.4)


@pytest.mark.parametrize(("match", "more"), [
    ({"protocol": "tcp"}, {}), ({"addresses": ["198.51.100.0/24"]}, {}),
    ({"protocol": "tcp"}, {"lasts_s": 3.0}),
], ids=["any host", "hosts of a network", "for some seconds"])  # fmt: skip
def test_the_policer_of_a_host_is_measured_with_hosts_of_the_same_network(
    match: dict[str, Any], more: dict[str, Any]
) -> None:
    """Copies that go to one host spend its bucket together."""
    ends = STREAM._replace(far=bytes([198, 51, 100, 7]))
    core = tuple(one._replace(ends=ends) for one in HELLO)
    rule = rule_of(match, "police", rate_kbit=110.0, bucket_bytes=12_000, scope="server", **more)
    prober, base = line_of(rule)
    assert not prober.fresh_far
    limit = stream_limit(prober, base, core, False)
    assert limit is not None
    assert limit.act == "police"
    assert limit.rate == pytest.approx(110, rel=0.2)
    assert limit.room == pytest.approx(12_000, rel=0.4)
    assert not prober.fresh_far


@pytest.mark.parametrize("late", [True, False])
def test_the_limit_of_a_stream_that_begins_behind_an_allowance_is_measured(late: bool) -> None:
    more = {"after": {"bytes": 60_000, "direction": "down"}} if late else {}
    rule = rule_of({"protocol": "tcp"}, "police", rate_kbit=160.0, bucket_bytes=6_000, **more)
    prober, base = line_of(rule)
    writes = [Sent((at + 1) * 5 * MS, False, STREAM, bytes([at]) * 900) for at in range(90)]
    outcome = prober.ask("the stream", [(*HELLO, *writes)], 6)[0]
    shown = int(np.flatnonzero((outcome.lost | outcome.resent).mean(axis=0) > 0.5)[0])
    limit = rate_limit(prober, base, outcome, 1, {DROP, PARTIAL}, shown)
    assert limit is not None
    assert limit.act == "police"
    assert limit.rate == pytest.approx(160, rel=0.1)
    assert limit.room == pytest.approx(6_000, rel=0.3)


@pytest.mark.parametrize(("act", "room", "after", "own"), [
    ("police", 6_500.0, "", True), ("police", 30_000.0, "", False),
    ("police", 30_000.0, '{"bytes": 40000}', True), ("shape", 30_000.0, "", True),
], ids=["as much", "more", "behind an allowance", "a queue"])  # fmt: skip
def test_a_much_larger_bucket_behind_the_trigger_alone_is_an_allowance(
    monkeypatch: pytest.MonkeyPatch, act: str, room: float, after: str, own: bool
) -> None:
    about = Limit(act, 160.0, 6_000.0, 2.0, 100.0)
    found = about._replace(rate=80.0, room=room)
    monkeypatch.setattr("midcall.experiments.probe.acts.refined", lambda *_: found)
    acts = Acts.__new__(Acts)
    acts.core = HELLO
    acts.tail = SimpleNamespace(  # type: ignore[assignment]
        best=hypothesis({"protocol": "tcp"}, "flow", None, after),
        sought=Effect.of_limit(about.fields), prober=None, base=LINE,
    )  # fmt: skip
    numbers, _ = acts.limit_of_stream()
    assert numbers["rate_kbit"] == (80.0 if own else 160.0)


def test_other_hosts_are_of_the_network_of_the_own_ones_or_of_the_lab() -> None:
    prober, _ = line_of(rule_of({"protocol": "tcp"}, "pass"))
    for far, bits in ((bytes([203, 0, 113, 9]), 24), (bytes.fromhex("20010db8") + bytes(12), 64)):
        with prober.other_hosts():
            other = prober.server(far)
            assert other != far
            assert other[: bits // 8] == far[: bits // 8]
            unit = (HELLO[0]._replace(ends=STREAM._replace(near=far, far=far)),)
            prober.lab_only = True
            (mapped,) = prober._mapped(unit, False).values()
            prober.lab_only = False
            assert mapped.far.startswith((bytes([198, 19]), bytes.fromhex("fd4d1945")))
        assert not prober.server(far).startswith(far[: bits // 8])


@pytest.mark.parametrize("rule", [
    rule_of({"protocol": "udp"}, "police", rate_kbit=64.0, bucket_bytes=6_000),
    rule_of({"protocol": "tcp"}, "delay", delay_ms=150.0),
    rule_of({"protocol": "tcp"}, "loss", loss=0.2),
    rule_of({"protocol": "tcp"}, "police", rate_kbit=64.0, bucket_bytes=6_000, way="down"),
], ids=["of datagrams", "delay", "loss", "the other direction"])  # fmt: skip
def test_what_is_no_limit_of_a_stream(rule: Rule) -> None:
    prober, base = line_of(rule)
    assert stream_limit(prober, base, HELLO, True) is None


def test_of_a_stream_whose_single_writes_are_late_alike_no_paces_are_played() -> None:
    prober, base = line_of(rule_of({"protocol": "tcp"}, "delay", delay_ms=150.0))
    assert stream_limit(prober, base, HELLO, True) is None
    assert [one.question for one in prober.record][1:] == ["single writes"]


def datagrams() -> Probe:
    """Return a flow of datagrams of several sizes, some of them STUN."""
    call = "0.00 > udp relay:3478/40001 stun-binding\n"
    for number, size in enumerate((60, 300, 900, 160)):
        call += f"0.1{number} > udp relay:3478/40001 noise {size} x15 0.05\n"
        call += f"0.12{number} > udp relay:3478/40001 stun-binding x4 0.2\n"
    return probe_of(scene(call))


def test_the_limit_of_datagrams_is_measured_and_a_match_is_none() -> None:
    own = datagrams()
    prober, base = line_of(rule_of({"protocol": "udp"}, "police", rate_kbit=64.0,
                                   bucket_bytes=3_000))  # fmt: skip
    limit = datagram_limit(prober, base, own, True)
    assert limit is not None
    assert limit.act == "police"
    assert limit.rate == pytest.approx(64, rel=0.15)
    assert limit.shown is not None
    assert limit.shown.lost.mean() > 0.5  # the fastest pace
    for rule in (rule_of({"size": "200-"}, "drop", scope="packet"),
                 rule_of({"protocol": "udp"}, "loss", loss=0.4)):  # fmt: skip
        prober, base = line_of(rule)
        assert datagram_limit(prober, base, own, True) is None


@pytest.mark.parametrize(("act", "numbers"), [
    ("delay", {"delay_ms": 215.0, "jitter_ms": 28.0}),
    ("shape", {"rate_kbit": 200.0, "queue_ms": 2_000.0}),
])  # fmt: skip
def test_a_delay_that_begins_after_some_packets_is_no_queue(
    act: str, numbers: dict[str, float]
) -> None:
    rng = np.random.default_rng(3)
    own = tuple(Sent(at * 20 * MS, True, FLOW, rng.bytes(int(rng.integers(120, 240))))
                for at in range(90))  # fmt: skip
    rule = rule_of({"protocol": "udp", "packets": "55-"}, act, scope="packet", **numbers)
    line = VirtualSockets(Policy((rule,)), "fibre", 5, Noise(loss=0.01, jitter_ms=5))
    prober = Prober(line, "fibre", 5)
    base = baseline_of(prober, prober.ask("controls", control_units(4), 4))
    limit = datagram_limit(prober, base, own, True, waits=True)
    assert (limit is not None) == (act == "shape")


def test_where_its_own_probes_refute_a_limit_the_rule_may_be_a_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = Effect.of_limit({"act": "shape", "rate_kbit": 214.0, "queue_ms": 247.0})

    def behind(plays: Plays, finding: Finding, measured: dict[str, Outcome], may_limit: bool,
               apart: bool) -> list[Effect]:  # fmt: skip
        if may_limit:  # as if several paces had shown it
            measured[limit.limit] = plays.shown[0]
        return [limit, finding.effect] if may_limit else [finding.effect]

    monkeypatch.setattr(identify, "effects_behind", behind)
    rng = np.random.default_rng(3)
    own = tuple(Sent(at * 20 * MS, True, FLOW, rng.bytes(160 if at % 2 else 400))
                for at in range(120))  # fmt: skip
    rule = rule_of({"protocol": "udp", "packets": "55-", "size": "85-260"}, "delay",
                   scope="packet", delay_ms=215.0, jitter_ms=28.0)  # fmt: skip
    prober = Prober(VirtualSockets(Policy((rule,)), "wifi", 5), "wifi", 5)
    [found] = Search(prober, own).run().found
    assert found.rule.act == "delay"
    assert found.best.keys.keys() >= {"packets", "size"}
    assert not found.notes


def test_a_limit_above_a_flows_own_rate_is_measured_where_other_packets_are_lost() -> None:
    own = datagrams()
    limited = rule_of({"size": "200-"}, "police", scope="packet", rate_kbit=400.0,
                      bucket_bytes=4_000)  # fmt: skip
    lost = rule_of({"stun": True}, "drop", scope="packet")
    line = VirtualSockets(Policy((limited, lost)), "fibre", 5, Noise(loss=0.01, jitter_ms=4))
    prober = Prober(line, "fibre", 5)
    base = baseline_of(prober, prober.ask("controls", control_units(4), 4))
    large = [one for one in own if len(one.payload) >= 900]
    limit = datagram_limit(prober, base, own, True, lost=large)
    assert limit is not None
    assert limit.act == "police"
    assert limit.rate == pytest.approx(400, rel=0.1)


def test_the_limit_of_some_kinds_of_packets_is_measured_with_those_that_are_lost() -> None:
    call = "0.00 > udp relay:3478/40001 stun-binding\n"
    call += "0.10 > udp relay:3478/40001 noise 1100 x2 0.05\n"
    call += "0.12 > udp relay:3478/40001 stun-binding x20 0.05\n"
    call += "0.13 > udp relay:3478/40001 rtp 160 x12 0.02"
    own = probe_of(scene(call))
    rule = rule_of({"payload": ["rtp"]}, "police", rate_kbit=16.0, bucket_bytes=1_000)
    prober, base = line_of(rule)
    outcome = prober.ask("flow", [own], 6)[0]
    limit = rate_limit(prober, base, outcome, 0, {DROP})
    assert limit is not None
    assert limit.act == "police"
    assert 8 < limit.rate < 24  # measured exactly once the trigger is known


def test_packets_of_which_some_copies_arrive_suggest_a_limit() -> None:
    own = tuple(one for one in datagrams() if len(one.payload) == 900)
    own = tuple(one._replace(time=at * 5 * MS) for at, one in enumerate(own))
    prober, _ = line_of(rule_of({"protocol": "udp"}, "police", rate_kbit=150.0,
                                bucket_bytes=2_000))  # fmt: skip
    outcome = prober.ask("flow", [own], 6)[0]
    assert interleaved(outcome, list(range(len(own))))


def test_packets_that_arrive_behind_lost_ones_suggest_a_limit() -> None:
    own = datagrams()
    places = list(range(len(own)))
    for rule, expected in ((rule_of({"size": "200-"}, "drop", scope="packet"), True),
                           (rule_of({"packets": "9-"}, "drop"), False)):  # fmt: skip
        prober, _ = line_of(rule)
        assert interleaved(prober.ask("flow", [own], 6)[0], places) is expected


def test_few_lost_packets_at_the_end_of_many_may_be_those_of_a_limit() -> None:
    own = tuple(Sent(at * 20 * MS, True, FLOW, bytes([at]) * 90) for at in range(16))
    for first, expected in ((14, True), (9, False), (2, False)):
        lost = np.arange(len(own)) >= first
        assert interleaved(outcome_of(own, lost, 6), list(range(len(own)))) is expected
    few = own[:3]
    assert not interleaved(outcome_of(few, np.arange(3) >= 2, 6), [0, 1, 2])


def test_other_kinds_than_a_dns_question_are_tried_at_another_port() -> None:
    ask = probe_of(scene("0.00 > udp resolver:53/40002 question a.example"))
    refiner = refiner_of({"payload": ["dns"]}, {"payload": ["dns"]}, ask)
    assert refiner.kinds(refiner.best.keys) == ["dns"]
    tried: set[str] = set()

    def hits(cores: Sequence[Probe], question: str) -> list[bool]:
        tried.update(read(core[-1]).kind for core in cores)
        return [True] * len(cores)

    refiner.ask = hits  # type: ignore[assignment, method-assign]
    assert refiner.kinds(refiner.best.keys) == []
    assert {"stun", "sip", "rtp", "dtls", "quic"} <= tried  # at port 53 all but STUN is DNS


def test_a_limit_is_written_as_the_policy_language_does() -> None:
    for limit in (Limit("police", 64.0, 0.2, 1.0, 1.0), Limit("shape", 64.0, 300.0, 1.0, 1.0)):
        assert rule_of({"protocol": "tcp"}, **limit.fields).act == limit.act


def test_only_the_end_of_a_stream_counts_for_a_limit() -> None:
    unit = tuple(Sent(n * MS, True, STREAM, b"x" * 9) for n in range(12))
    limited = np.zeros((2, 12), bool)
    limited[0, 4:] = True
    limited[1, :4] = True
    assert by_stream(limited, unit).tolist() == [[True], [False]]


def test_how_much_a_queue_holds_that_was_not_filled_is_not_said() -> None:
    filled = [Drop(octets, 540.0, octets / 40_000, 300 * MS) for octets in (9_000.0, 12_000.0)]
    for drops in ((), filled):
        fields, numbers = limit_numbers(shaper_of(drops, 20_000.0, 500.0, 44.0 * MS))
        assert fields["rate_kbit"] == 160
        assert ("queue_ms" in numbers) == bool(drops)
        assert fields["queue_ms"] > (250 if drops else 40)


# ---- quotas


def flows_in_turn(count: int, apart: int = 20 * MS) -> Probe:
    """Return flows of one client that begin one after the other."""
    return tuple(
        Sent(flow * 8 * apart + n * apart, True, FLOW._replace(near_port=41_000 + flow), bytes([
            flow, n]) * 40)
        for flow in range(count) for n in range(8)
    )  # fmt: skip


@pytest.mark.parametrize("after", [
    {"flows": 2, "per": "client"}, {"packets": 19, "per": "client"},
])  # fmt: skip
def test_a_quota_of_a_client_is_among_those_that_its_flows_used_up(after: dict[str, Any]) -> None:
    unit = flows_in_turn(4)
    through = passing(unit, "4g", STREAM_PATIENCE)
    rule = rule_of({"protocol": "udp"}, "drop", scope="packet", after=after)
    struck = strikes(through, [rule]).struck[0]
    assert 0 < struck.sum() < len(unit)
    met = np.ones(len(unit), bool)
    assert after in list(quotas(through, met, struck))
    for one in quotas(through, met, struck):
        if {"flows", "packets"} & one.keys() & after.keys():
            again = rule.model_copy(update={"after": rule_of({"protocol": "udp"}, "drop",
                                                             after=one).after})  # fmt: skip
            assert (strikes(through, [again]).struck[0] == struck).all()
            break


def test_a_quota_that_the_first_flow_uses_up_shows_in_those_that_begin_later() -> None:
    after = {"packets": 5, "per": "client"}
    unit = flows_in_turn(2)
    through = passing(unit, "4g", STREAM_PATIENCE)
    rule = rule_of({"protocol": "udp"}, "drop", scope="packet", after=after)
    struck = strikes(through, [rule]).struck[0]
    assert struck.sum() == len(unit) - 5
    assert after in list(quotas(through, np.ones(len(unit), bool), struck))


def test_one_flow_has_no_quota_of_a_client() -> None:
    unit = flows_in_turn(1)
    struck = np.arange(len(unit)) >= 5
    through = passing(unit, "4g", STREAM_PATIENCE)
    assert list(quotas(through, np.ones(len(unit), bool), struck)) == []


# ---- one packet in so many


@pytest.mark.parametrize(("more", "expected"), [
    ({"match": {"stun": True, "one_in": 8}}, True),
    ({"match": {"stun": True}, "probability": 0.2}, False),
], ids=["one in 8", "by chance"])  # fmt: skip
def test_sampled_inspection_condemns_flows_with_many_triggers(
    more: dict[str, Any], expected: bool
) -> None:
    rule = rule_of({"stun": True}, "drop").model_copy(
        update=rule_of(act="drop", **more).__dict__
    )  # fmt: skip
    prober, base = line_of(rule)
    core = probe_of(scene("0.0 > udp relay:3478/40001 stun-binding\n"))
    plays = Plays(prober, core, Result())
    tail = Tail(prober, base, Effect(DROP, 1.0, 0.2), hypothesis({"stun": True}, "flow"),
                plays.through, core)  # fmt: skip
    part = sampled(tail, core, tail.unit(core), 10, 60)
    assert (part is not None) is expected
    if part is not None:
        assert part.low < 8 < part.high


# ---- windows


def refiner_of(match: dict[str, Any], believed: dict[str, Any], core: Probe) -> Refiner:
    """Return what refines a rule that is believed, on a line with another one."""
    prober, base = line_of(rule_of(match, "drop", scope="packet"))
    best = hypothesis(believed, "packet")
    tail = Tail(prober, base, Effect(DROP), best, Plays(prober, core, Result()).through, core)
    return Refiner(tail, best, core)


@pytest.mark.parametrize(("match", "decides"), [
    ({"protocol": "udp", "bytes": "4000-"}, "bytes"),
    ({"protocol": "udp", "packets": "20-"}, "packets"),
])  # fmt: skip
def test_it_is_asked_which_count_of_a_flow_decides(match: dict[str, Any], decides: str) -> None:
    core = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n]) * 180) for n in range(21))
    keys = refiner_of(match, {"protocol": "udp", "packets": "20-"}, core).which_count(
        {"protocol": "udp", "packets": "20-"}
    )
    assert [key for key in keys if key != "protocol"] == [decides]


@pytest.mark.parametrize(("key", "last", "beyond", "window"), [
    ("packets", 5.0, 6.0, "1-5"), ("bytes", 900.0, 940.0, "1-920"),
    ("seconds", 0.44, 0.46, "0-0.45"), ("seconds", 7.9, 8.3, "0-8"),
])  # fmt: skip
def test_a_window_from_the_begin_of_a_flow_is_one_of_the_language(
    key: str, last: float, beyond: float, window: str
) -> None:
    assert until(key, last, beyond) == window
    assert hypothesis({"protocol": "udp", key: window}).rule() is not None


def test_a_window_that_ends_is_found() -> None:
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n]) * 60) for n in range(30))
    where = places(passing(unit, "4g", STREAM_PATIENCE))
    shows = np.array([5 <= n < 15 for n in range(30)], np.float64)
    packets, seconds = windows_with_ends(unit, where, shows)
    assert packets == {"packets": "6-15"}
    first, last = (float(word) for word in seconds["seconds"].split("-"))
    assert 0.08 < first <= 0.1
    assert 0.28 <= last < 0.3
    shows[15:] = 1.0  # to the flow's last packet
    assert list(windows_with_ends(unit, where, shows)) == []
    found = refiner_of({"protocol": "udp", "packets": "6-40"},
                       {"protocol": "udp", "packets": "6-"}, unit[:6]).run()  # fmt: skip
    low, high = map(int, found.keys["packets"].split("-"))
    assert (low, high) == (6, 40)


def test_windows_of_a_match_are_left_out_one_by_one() -> None:
    best = hypothesis({"ports": [9078], "size": "163-", "packets": "4-"}, "packet")
    listed = list(without_windows(best._replace(after='{"packets": 3}')))
    assert best in listed
    assert hypothesis({"ports": [9078]}, "flow") in listed
    assert {len(one.keys) for one in listed} == {1, 2, 3}
    assert len(set(listed)) == len(listed) == 16
    assert all(one.rule() is not None for one in listed)


def test_the_share_of_a_limit_is_that_of_packets_of_one_size() -> None:
    """Of small and large packets in turn the large ones are lost, as the limit predicts."""
    unit = tuple(Sent(n * 10 * MS, True, FLOW, bytes(90 if n % 2 else 900)) for n in range(40))
    large = np.array([len(one.payload) > 500 for one in unit])
    outcome = outcome_of(unit, large, 4)
    rules = np.array([np.ones(40, bool), large])  # on all packets, and on large ones alone
    effect = Effect.of_limit({"act": "police", "rate_kbit": 300.0, "bucket_bytes": 9000})
    fits = fits_of_limit(rules, np.array([large, large]), outcome, LINE, effect)
    assert fits[1] - fits[0] < 0.1 * fits[1]


def test_only_windows_that_the_measured_numbers_need_are_kept() -> None:
    unit = tuple(Sent(n * 10 * MS, True, FLOW, bytes([n]) * 900) for n in range(40))
    through = passing(unit, "4g", STREAM_PATIENCE)
    act = {"act": "police", "rate_kbit": 300.0, "bucket_bytes": 9_000}
    rule = hypothesis({"ports": [4_000]}).rule()
    assert rule is not None
    limited = strikes_of_limit(through, with_act([rule], Effect.of_limit(act)), LINE).struck[0]
    assert 0 < limited.sum() < len(unit)
    for limit, kept in ((act, False), (act | {"act": "prioritise"}, True)):
        best = hypothesis({"ports": [4_000], "packets": "3-"}, "packet")
        sought = Effect.of_limit(limit)
        finding = Finding(PARTIAL, FLOW, True, 40.0, 0.5, 0)
        beliefs = Beliefs(LINE, [sought])
        beliefs.observe(Seen(through, outcome_of(unit, limited, 4)))
        found = Found(best, 0.9, sought, beliefs, unit[:1], finding, best, act=dict(limit))
        take_simplest(found)
        assert (found.best == best) == kept
        assert found.best in (best, hypothesis({"ports": [4_000]}))


@pytest.mark.parametrize(("rate", "begin", "kept"), [(309.0, 10, False), (300.0, 110, True)])
def test_a_rate_that_is_not_exact_makes_no_window(rate: float, begin: int, kept: bool) -> None:
    """A queue of 309 kbit/s fills later than one of 300, as if its first packets were spared."""
    unit = tuple(Sent(n * 23 * MS, True, FLOW, bytes([n]) * 900) for n in range(160))
    line = LINE._replace(spread=(10.0 * MS, 10.0 * MS))
    through = passing(unit, "4g", STREAM_PATIENCE)
    plain = hypothesis({"ports": [4_000]})
    window = hypothesis({"ports": [4_000], "packets": f"{begin}-"}, "packet")
    act = {"act": "shape", "rate_kbit": 300.0, "queue_ms": 400.0}
    rule = (window if kept else plain).rule()
    assert rule is not None
    in_force = Effect.of_limit(act | {"rate_kbit": rate})
    waits = strikes_of_limit(through, with_act([rule], in_force), line).struck[0]
    outcome = outcome_of(unit, np.zeros(160, bool), 4)
    outcome = outcome._replace(delay=outcome.delay + 200 * MS * waits)
    sought = Effect.of_limit(act)
    beliefs = Beliefs(line, [sought])
    for _ in range(3):
        beliefs.observe(Seen(through, outcome))
    finding = Finding(PARTIAL, FLOW, True, 40.0, 0.5, 0)
    found = Found(window, 0.9, sought, beliefs, unit[:1], finding, window, act=dict(act))
    take_simplest(found)
    assert ("packets" in found.best.keys) == kept


@pytest.mark.parametrize("way", [None, "down"])
def test_a_limit_that_less_traffic_of_one_direction_does_not_reach_is_one_of_both(
    way: str | None,
) -> None:
    """With the rate estimated at first, the packets upwards seemed to be spared."""
    unit = in_order(Sent(n * gap * MS, up, FLOW, bytes([n]) * 900)
                    for up, gap in ((True, 22), (False, 12)) for n in range(120))  # fmt: skip
    through = passing(unit, "4g", STREAM_PATIENCE)
    act = {"act": "shape", "rate_kbit": 400.0 if way is None else 300.0, "queue_ms": 300.0}
    both = hypothesis({"ports": [4_000]})
    down = both._replace(way="down")
    rule = both._replace(way=way).rule()
    assert rule is not None
    waits = strikes_of_limit(through, with_act([rule], Effect.of_limit(act)), LINE).struck[0]
    outcome = outcome_of(unit, np.zeros(len(unit), bool), 4)
    outcome = outcome._replace(delay=outcome.delay + 200 * MS * waits)
    sought = Effect.of_limit(act | {"rate_kbit": 300.0})
    beliefs = Beliefs(LINE, [sought])
    beliefs.observe(Seen(through, outcome))
    finding = Finding(PARTIAL, FLOW, False, 40.0, 0.5, 0)
    found = Found(down, 0.9, sought, beliefs, unit[:1], finding, down, act=dict(act))
    take_simplest(found)
    assert found.best.way == way


def test_packets_of_a_stream_that_are_sent_again_give_its_delay_no_direction() -> None:
    """Both directions are delayed alike; of one, most packets are also sent again."""
    delays = 260 * MS + np.arange(20.0) * MS
    again = np.where(np.arange(20) >= 8, delays + 1_000 * MS, delays)
    none = np.zeros(20, bool)
    up, down = (Measured(way, none, none, excess, excess, excess, excess)
                for way, excess in ((True, delays), (False, again)))  # fmt: skip
    assert differ(up, down, 5.0 * MS, MIDDLE)
    assert not differ(up, down, 5.0 * MS, SOONEST)
    later = down._replace(slow_excess=delays + 200 * MS)
    assert differ(up, later, 5.0 * MS, SOONEST)


@pytest.mark.longest
def test_small_packets_that_a_nearly_empty_bucket_lets_pass_are_policed_too() -> None:
    lines = ("0.00 > udp peer:9078/40001 noise 900 x90 0.012\n0.00 > udp peer:9078/40001 noise 90 "
             "x60 0.018\n0.01 < udp peer:9078/40001 noise 90 x60 0.018\n")  # fmt: skip
    rule = rule_of({"ports": [9078], "protocol": "udp"}, "police", rate_kbit=300,
                   bucket_bytes=10_000)  # fmt: skip
    answer = run.against(Policy((rule,)), probe_of(scene(lines)), "fibre", 5,
                         Noise(loss=0.02, jitter_ms=8)).answer  # fmt: skip
    assert answer["act"]["name"] == "police"
    assert answer["scope"] in ("flow", "triple")
    assert answer["trigger"]["match"].keys() <= {"ports", "protocol"}
    rate = answer["act"]["parameters"]["rate_kbit"]
    assert rate["low"] <= 300 <= rate["high"]


@pytest.mark.parametrize("scope", ["flow", "client"])
def test_flows_of_a_client_that_are_spared_behind_struck_ones_are_condemned_alone(
    scope: str,
) -> None:
    rule = rule_of({"payload": ["rtp"]}, "drop", scope=scope, probability=0.6, per="flow")
    prober, base = line_of(rule)
    core = (Sent(0, True, FLOW, bytes([0x80, 96]) + bytes(150)),)
    tail = Tail(prober, base, Effect(DROP, 1.0, 0.6), hypothesis({"payload": ["rtp"]}, "client"),
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), core)  # fmt: skip
    chance = chance_of(tail, core)
    assert chance is not None
    assert chance.alone == (scope == "flow")


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


def test_where_nothing_is_asked_what_the_last_probe_taught_stays_noted() -> None:
    prober, base = line_of(rule_of({"ports": [9]}, "drop"))
    prober.taught("loss 0.5%")
    assert ask_all(prober, base, Effect(DROP), [], "which ports") == []
    assert prober.record[-1].answer == "loss 0.5%"


def test_a_window_of_seconds_that_begins_behind_all_that_is_tried_has_no_end() -> None:
    late = {"protocol": "udp", "seconds": "15-"}
    core = (Sent(0, True, FLOW, bytes(60)), Sent(16_000 * MS, True, FLOW, bytes(60)))
    refiner = refiner_of(late, late, core)
    assert refiner.seconds(late) is not None
    assert not refiner.refuted


@pytest.mark.parametrize("unknown", [False, True])
def test_a_question_of_which_no_packet_says_anything_is_asked_once(unknown: bool) -> None:
    prober, base = line_of(rule_of({"ports": [9]}, "drop"))
    unit = (Sent(0, True, FLOW, b"asked" * 20),)
    asked = [Question(unit, np.zeros(1, bool)), Question(unit, np.ones(1, bool))]
    before = prober.probes
    answers = ask_all(prober, base, Effect(DROP), asked, "which ports", unknown=unknown)
    assert answers == [unknown, False]
    assert prober.probes - before <= 2
