# SPDX-License-Identifier: BSD-3-Clause
"""The prober: triggers that lie in other flows, parts of long captures, delays at random, and
streams that rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import UDP
from midcall.captures.wire.stun import method_bits
from midcall.experiments.localise.messages import exemplars
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe.acts import Acts, Measured
from midcall.experiments.probe.atoms import atoms, places
from midcall.experiments.probe.beliefs import Beliefs, hypothesis
from midcall.experiments.probe.choice import Choice
from midcall.experiments.probe.conditions import how_surely
from midcall.experiments.probe.cores import core_of, in_context, until_struck
from midcall.experiments.probe.effects import Finding, findings
from midcall.experiments.probe.excerpts import (
    BUSIEST,
    OF_EACH,
    OF_KIND,
    PACKETS,
    excerpt,
    first_packets,
    rare_datagrams,
)
from midcall.experiments.probe.expected import unexplained
from midcall.experiments.probe.fit import LATE, ends_of_streams, fits_of_limit, waits_in_streams
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.kinds import with_small_bucket
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL, Effect
from midcall.experiments.probe.plays import CARRIED_DEEPER, DEEPER, Plays
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.rates import Limit
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.units import Size, repeated_unit
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.operator import EMPTY
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size, probe_of
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import FLOW, LINE, STREAM, call, line_of, outcome_of, rule_of

MS = 1_000_000
NAMED = """
0.00 > udp relay:9999/40009 noise
0.05 > udp other:7000/40008 noise
0.10 > udp resolver:53/40001 question www.a.example
0.13 < udp resolver:53/40001 answer www.a.example
0.20 > udp other:7000/40008 noise
0.40 > udp peer:9999/40002 noise
"""


def plays_of(unit: Probe) -> Plays:
    """Return plays of a capture on a line without a rule."""
    return Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())


# -- triggers that lie in other flows


@pytest.mark.parametrize(("match", "flows"), [
    ({"resolved": ["*.a.example"]}, 2), ({"ports": [9999]}, 1),
], ids=["what the DNS gave", "its own port"])  # fmt: skip
def test_a_core_has_the_other_flow_that_its_rule_needs(match: dict[str, Any], flows: int) -> None:
    unit, plays = probe_of(scene(NAMED)), plays_of(probe_of(scene(NAMED)))
    finding = Finding(DELAY, unit[-1].ends, True, 40.0, 1.0, len(unit) - 1)
    core = core_of(plays, hypothesis(match | {"packets": "1-"}, "packet"), unit, finding, False)
    assert len({one.ends for one in core}) == flows
    assert core[-1].ends == unit[-1].ends
    assert all(one.ends.far_port in (53, 9999) for one in core)


def test_few_packets_bring_a_window_of_seconds_about_and_not_one_of_packets() -> None:
    unit = tuple(Sent(at * 25 * MS, at % 2 == 0, FLOW, at.to_bytes(2) * 30) for at in range(300))
    plays, finding = plays_of(unit), Finding(DELAY, FLOW, True, 40.0, 1.0, 240)
    for match, most in (({"seconds": "6-"}, 40), ({"packets": "240-"}, 300)):
        best = hypothesis({"protocol": "udp"} | match, "packet")
        core = core_of(plays, best, unit, finding, False)
        rule = best.rule()
        assert rule is not None
        assert strikes(plays.through(core, True), [rule]).struck[0, -1]
        assert len(core) <= most
        assert (len(core) > 100) == ("packets" in match)


def test_the_core_of_a_window_ends_with_the_packet_that_condemns_its_flow() -> None:
    unit = tuple(Sent(at * 25 * MS, at % 2 == 0, FLOW, at.to_bytes(2) * 30) for at in range(100))
    rule = rule_of({"protocol": "udp", "packets": "41-"}, "drop", scope="packet")
    for last in (60, 100):  # a packet behind it, on which the effect shows
        assert until_struck(plays_of(unit), rule, unit[:last]) == unit[:41]
    assert until_struck(plays_of(unit), rule, unit[:30]) == unit[:30]


def test_the_core_of_a_window_of_one_direction_is_as_long_as_the_box_needs() -> None:
    """Of close packets, fewer that were sent the other way have met the box before the last one."""
    unit = tuple(Sent(at * 25 * MS, at % 2 == 0, FLOW, at.to_bytes(2) * 30) for at in range(200))
    plays, finding = plays_of(unit), Finding(DELAY, FLOW, False, 40.0, 1.0, 150)
    best = hypothesis({"protocol": "udp", "direction": "down", "packets": "121-"}, "packet")
    core, rule = core_of(plays, best, unit, finding, False), best.rule()
    assert rule is not None
    assert strikes(plays.through(core, True), [rule]).struck[0].any()
    assert len(core) < 150


def test_the_core_of_a_window_keeps_what_meets_the_box_before_its_last_packet() -> None:
    """An answer, sent first, meets a box near the subscriber behind the packets after it."""
    unit = tuple(Sent(at * 2 * MS, at % 7 != 5, FLOW, at.to_bytes(2) * 30) for at in range(100))
    plays = plays_of(unit)
    rule = rule_of({"protocol": "udp", "packets": "41-"}, "drop", scope="packet")
    core = until_struck(plays, rule, unit)
    assert len(core) < len(unit)
    assert strikes(plays.through(core, True), [rule]).struck[0].any()


def test_no_flows_make_a_rule_strike_what_it_never_does() -> None:
    unit = probe_of(scene(NAMED))
    assert in_context(plays_of(unit), rule_of({"ports": [1]}, "drop"), unit, True) == ()


# -- parts of long captures


def capture_of(counts: list[int]) -> Probe:
    """Return flows with so many packets, which take turns."""
    packets = [Sent(turn * MS, True, FLOW._replace(near_port=number, far_port=number), bytes(60))
               for turn in range(max(counts)) for number, count in enumerate(counts, 2_000)
               if turn < count]  # fmt: skip
    return tuple(packets)


def test_a_long_part_shows_more_of_other_flows_than_their_first_packets() -> None:
    counts = [900, 800, 700, 600, 60, 40, 8]
    for most, shown in ((4 * PACKETS, True), (PACKETS, False)):
        part = first_packets(capture_of(counts), most)
        taken = Counter(one.ends.far_port - 2_000 for one in part)
        assert len(part) <= most
        assert len(part) > 0.9 * most
        assert (taken[4] == 60 and taken[5] == 40 and taken[6] == 8) == shown
        assert min(taken.values()) >= OF_EACH
        busiest = [taken[number] for number in range(BUSIEST)]
        assert max(busiest) - min(busiest) <= 1


def test_the_busiest_flows_have_the_room_that_others_leave() -> None:
    part = first_packets(capture_of([900, 20]), 4 * PACKETS)
    assert Counter(one.ends.far_port for one in part) == {2_000: 4 * PACKETS - 20, 2_001: 20}


def test_datagrams_of_a_kind_that_comes_late_in_a_long_flow_are_played() -> None:
    bodies = exemplars(UDP)
    flow = Ends(UDP, bytes([198, 18, 0, 9]), 40_000, bytes([198, 19, 0, 9]), 3_478)
    words = ["stun binding"] * 900 + ["stun send"] * 40
    capture = tuple(Sent(at * 10 * MS, at % 2 == 0, flow, bodies[word])
                    for at, word in enumerate(words))  # fmt: skip
    for part in (excerpt(capture), *plays_of(capture).more_units()[:1]):
        late = Counter(one.up for one in part if one.payload == bodies["stun send"])
        assert min(late[True], late[False]) >= OF_KIND
    assert not rare_datagrams(capture, range(len(capture)))


@pytest.mark.parametrize("most", [50, PACKETS])
def test_a_part_with_many_kinds_of_datagrams_is_no_longer_and_has_one_of_each_first(
    most: int,
) -> None:
    flow = FLOW._replace(far_port=3_478)
    kinds = [Sent(20_000 * MS, up, flow, body) for body in exemplars(UDP).values()
             for up in (True, False)]  # fmt: skip
    known = {(read(one).kind, read(one).method, one.up): one for one in kinds}
    many = [Sent(at * 10 * MS, True, FLOW._replace(near_port=9_000 + at // 20), bytes(60))
            for at in range(1_200)]  # fmt: skip
    part = first_packets((*many, *(one for one in known.values() for _ in range(3))), most)
    assert len(part) <= most
    seen = {(read(one).kind, read(one).method, one.up) for one in part}
    assert len(seen & known.keys()) >= min(len(known), most // 2 - OF_EACH)


@pytest.mark.parametrize(("counts", "deep"), [
    ([2_000, *[30] * 60], [2_000]),
    ([800, 400, *[200] * 4, *[30] * 100], [2_000, 2_001, 2_004, 2_005]),  # much of the others was
    ([300, 30, 30], []),
], ids=["one", "four", "none"])  # fmt: skip
def test_the_flows_with_the_most_packets_are_played_alone_where_little_of_them_was(
    counts: list[int], deep: list[int]
) -> None:
    plays = plays_of(capture_of(counts))
    units = plays.more_units()
    counted = [Counter(one.ends.far_port for one in unit) for unit in units]
    deeper = [at for at, one in enumerate(counted) if one[2_000] > counted[0][2_000]]
    assert len(deeper) == bool(deep)
    for at in deeper:
        assert all(counted[at][port] >= max(DEEPER * counted[0][port], 150) for port in deep)
        assert plays.prober.least_apart([units[at]]) <= CARRIED_DEEPER
        busy = [one.ends.far_port in deep for one in units[at]]
        assert busy == sorted(busy)  # others come first: they may condemn the client
        assert not all(busy)


# -- delays at random


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("more", [0, 400])
def test_the_largest_of_many_random_delays_is_expected(seed: int, more: int) -> None:
    rng, count = np.random.default_rng(seed), 900
    unit = tuple(Sent(at * 20 * MS, True, FLOW, at.to_bytes(2) + bytes(60)) for at in range(count))
    none = np.zeros(count, bool)
    seen, expected = (
        outcome_of(unit, none, copies)._replace(
            delay=np.maximum(rng.normal(130.0 * MS, 40.0 * MS, (copies, count)), 0).astype(np.int64)
        )
        for copies in (4, 8)
    )
    seen.delay[:, 400:410] += more * MS
    line = LINE._replace(spread=(15.0 * MS, 15.0 * MS))
    rest = unexplained(seen, expected, line, DELAY, ~none)
    late = [one for one in findings(rest, line) if one.score > 14]
    assert bool(late) == bool(more)


def test_a_rule_that_delays_at_random_explains_late_packets_of_a_stream() -> None:
    unit = tuple(Sent(at * 150 * MS, True, STREAM, bytes([at]) * 90) for at in range(40))
    rule = rule_of({"protocol": "tcp"}, "jitter", jitter_ms=60)
    prober, base = line_of(rule, "4g", Noise(loss=0.002))
    plays = Plays(prober, unit, Result())
    plays.base = base
    outcome = prober.ask("stream", [plays.capture], 24, tight=False)[0]
    assert PARTIAL in {one.kind for one in plays.further(outcome, ())}
    best, sought = hypothesis({"protocol": "tcp"}), Effect(DELAY)
    finding = Finding(DELAY, STREAM, True, 40.0, 1.0, 0)
    plays.result.found.append(Found(best, 0.9, sought, Beliefs(base, [sought]), (), finding, best,
                                    act={"act": "jitter", "jitter_ms": 60.0}))  # fmt: skip
    assert plays.far_beyond(outcome, ()) == []


# -- limits


@pytest.mark.parametrize(
    ("act", "room", "rate", "small"),
    [
        ("police", 300_000.0, 24.0, [3_000.0]),
        ("police", 1e6, 800.0, [50_000.0]),
        ("police", 9_000.0, 24.0, []),
        ("police", 300_000.0, 2.3, []),
        ("shape", 9_000.0, 24.0, []),
    ],
)
def test_a_bucket_that_lasts_long_may_be_an_allowance(
    act: str, room: float, rate: float, small: list[float]
) -> None:
    found = list(with_small_bucket(Limit(act, rate, room, 0.0, 0.0)))
    assert [(one.act, one.rate, one.room) for one in found] == [(act, rate, one) for one in small]


def test_losses_before_an_effect_begins_are_the_lines_own() -> None:
    count = 200
    unit = tuple(Sent(at * 20 * MS, True, FLOW, at.to_bytes(2) + bytes(60)) for at in range(count))
    delay = np.full((8, count), 50 * MS)
    delay[:3, 5] = -1  # a burst of the line
    delay[np.random.default_rng(1).random((8, count)) < 0.5 * (np.arange(count) > 120)] = -1
    seen = outcome_of(unit, np.zeros(count, bool), 8)._replace(delay=delay)
    shows = np.flatnonzero(how_surely(seen, LINE, Effect(PARTIAL, 0.5)) > 0.5)
    assert 115 < shows[0] <= 130


@pytest.mark.parametrize("up", [False, True])
def test_noise_does_not_hold_up_the_direction_that_shows_an_effect(up: bool) -> None:
    prober = Prober(VirtualSockets(EMPTY, "adsl", 1), "adsl", 1)
    plays = Plays(prober, call(), Result())
    sought = Effect.of_limit({"act": "police", "rate_kbit": 100.0, "bucket_bytes": 4_000.0})
    choice = Choice(plays, Beliefs(LINE, [sought]), call()[:1], call(), sought, up)

    def pace(size: Size) -> float:
        """Return the rate of the direction in a unit of noise, octets/ns."""
        sent = prober.paced(repeated_unit(call()[:1], 60, 1 * MS, size))
        own = [one for one in sent if one.up == up and one.ends == call()[0].ends]
        return sum(map(ip_size, own)) / (own[-1].time - own[0].time)

    least = 2.0 if not up else 0.95  # upwards, this access network is the slower one
    assert pace(choice.size(900)) > least * pace(900)


def test_the_rate_of_a_queue_is_that_of_the_directions_that_fill_it() -> None:
    copies, count = 4, 200
    times = np.tile(np.arange(count) * 5.0 * MS, (copies, 1))
    queued = np.minimum(np.arange(count) * 3.0 * MS, 220.0 * MS)  # 600 octets in 8 ms: 600 kbit/s
    small = np.random.default_rng(1).normal(0.0, 8.0 * MS, (copies, count))
    none = np.zeros((copies, count), bool)
    ways = []
    for way, size, excess in ((False, 600.0, np.tile(queued, (copies, 1))), (True, 100.0, small)):
        arrived = excess.copy()
        if size > 500:  # what the full queue drops
            arrived[:, 80:][:, np.arange(count - 80) % 8 >= 5] = np.nan
        ways.append(Measured(way, none, none, arrived, arrived, times, np.full(count, size)))
    sought = Effect.of_limit({"act": "shape", "rate_kbit": 590.0, "queue_ms": 220.0})
    tail = Tail(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), LINE, sought,
                hypothesis({"protocol": "udp"}, "packet"),
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), call()[:1])  # fmt: skip
    act, _ = Acts(tail, call()[:1], True).shape(ways)
    assert act["rate_kbit"] == pytest.approx(600, rel=0.05)
    assert Acts(tail, call()[:1], True).shape(ways[1:]) == ({}, {})


# -- streams that rest


def test_a_stream_that_rested_is_no_longer_late_under_a_limit() -> None:
    times = [*range(0, 160, 4), *range(5_000, 5_400, 10)]  # a burst, a rest, and slow writes
    sizes = [1_400] * 40 + [40] * 40
    unit = tuple(Sent(time * MS, True, STREAM, bytes(size))
                 for time, size in zip(times, sizes, strict=True))  # fmt: skip
    sought = Effect.of_limit({"act": "police", "rate_kbit": 200.0, "bucket_bytes": 4_000})
    delay = np.full((4, 80), 50 * MS)
    delay[:, 4:40] += 1_500 * MS
    line = LINE._replace(loss=(0.001, 0.001))
    late = outcome_of(unit, np.zeros(80, bool), 4)._replace(delay=delay)
    ends = list(ends_of_streams(unit, waits_in_streams(late, sought) > LATE))
    assert ends
    assert max(ends[0]) < 40
    limited = np.arange(80)[None, :] >= 3  # what comes behind the first drop
    on_time = late._replace(delay=np.full((4, 80), 50 * MS))
    fits = [fits_of_limit(limited, limited, one, line, sought)[0] for one in (late, on_time)]
    assert fits[0] > 20
    assert fits[1] < -20


def test_the_kind_of_a_payload_is_the_one_by_which_the_box_strikes_it() -> None:
    """A box recognises packets of a flow of QUIC by the flow, also of versions without a name."""
    google = [bytes.fromhex("c35130343650") + bytes(range(60)) * 20,
              bytes.fromhex("40c38046e77aa306ea") + bytes(range(1, 30))]  # fmt: skip
    unit = (
        *call(),
        *(
            Sent((3_000 + at * 20) * MS, True, FLOW._replace(near_port=40_011, far_port=443), body)
            for at, body in enumerate([*google, bytes.fromhex("80c90001") + bytes(4)])
        ),
    )
    through = passing(unit, "4g", STREAM_PATIENCE)
    where = places(through)
    kinds = set()
    for at in sorted(where):
        [kind] = [one["payload"] for one in atoms(unit, at, where[at]) if "payload" in one]
        kinds |= set(kind)
        rule = rule_of({"payload": kind}, "drop", scope="packet")
        assert strikes(through, [rule]).struck[0, at] or not unit[at].payload
    assert {"quic", "rtp", "dns", "stun", "tls-hello"} <= kinds
    assert read(unit[-3]).kind == "quic"


def test_the_methods_of_a_vendor_are_named_together() -> None:
    """Its own methods follow each other, and of one flow few of them may be seen."""
    prober, base = line_of(rule_of({"stun_method": [513, 514, 517]}, "drop", scope="packet"))
    best = hypothesis({"stun_method": [514]}, "packet")
    body = method_bits(514).to_bytes(2, "big") + bytes(2) + bytes.fromhex("2112a442") + bytes(12)
    core = (Sent(0, True, FLOW, body),)
    tail = Tail(prober, base, Effect(DROP, 1.0, 1.0), best,
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), core)  # fmt: skip
    found = Refiner(tail, best, core).methods(best.keys)
    assert found is not None
    assert sorted(found, key=str) == [513, 514, 517]
