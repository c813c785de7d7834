# SPDX-License-Identifier: BSD-3-Clause
"""The prober: what it predicts of a unit is what the line carries, and what comes too late."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe import beliefs, run
from midcall.experiments.probe.acts import near_edge
from midcall.experiments.probe.atoms import allowance, openers, references
from midcall.experiments.probe.baseline import runs
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis, without_media
from midcall.experiments.probe.conditions import conditions_around
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.excerpts import with_openers
from midcall.experiments.probe.found import Result
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL, Effect
from midcall.experiments.probe.phases import (
    AS_LONG,
    MOST_SENT,
    PACKETS,
    changes_per_s,
    comes_in_runs,
    longest_phase,
    phases,
    phases_of,
)
from midcall.experiments.probe.plays import Plays, also_shown
from midcall.experiments.probe.prober import MS, STREAM_PATIENCE, Prober, free_from
from midcall.experiments.probe.tails import SLOW, Tail, apart_for, beyond
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.leash import BudgetUsedUp
from midcall.testbed.probing.probe import Ends, Probe, Sent, probe_of
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import CALL, LINE, call, line_of, outcome_of, rule_of

NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOW = Ends(UDP, NEAR, 40_000, FAR, 4_000)
# ---- streams that open when a block has ended


def test_a_stream_that_opens_when_a_block_has_ended_counts_as_lost() -> None:
    stream = Ends(TCP, NEAR, 40_001, FAR, 443)
    unit = (Sent(0, True, FLOW, b"trigger" * 9), Sent(100 * MS, True, stream, b"hello" * 20))
    later = Sent(12_000 * MS, True, FLOW._replace(near_port=40_009, far_port=5_000), b"x" * 99)
    blocks = Policy((rule_of({"ports": [4000]}, "drop", scope="client", lasts_s=5.0),))
    for policy, lost in ((blocks, True), (EMPTY, False)):
        prober = Prober(VirtualSockets(policy, "4g", 1))
        outcome = prober.ask("", [(*unit, later)], 2, tight=False)[0]
        assert (outcome.lost[:, 1] == lost).all()
        assert not outcome.lost[:, 2].any()  # the play itself goes on until the block has ended


# ---- predictions as they are paced


def fast_unit() -> Probe:
    """Return more octets in a moment than a slow access network carries."""
    return tuple(Sent(number * MS, True, FLOW, bytes([number]) * 1200) for number in range(120))


def test_a_unit_is_predicted_as_it_is_paced() -> None:
    prober = Prober(VirtualSockets(EMPTY, "3g", 1), "3g")
    rule = rule_of({"protocol": "udp"}, "drop")
    unit = fast_unit()
    direct = strikes(passing(unit, "3g", STREAM_PATIENCE), [rule]).struck[0]
    assert not direct.all()  # the network's own queue overflows before the box
    plays = Plays(prober, unit, Result())
    assert strikes(plays.through(unit, True), [rule]).struck[0].all()
    outcome = prober.ask("", [unit], 2)[0]
    assert outcome.lost.mean() < 0.05


@pytest.mark.parametrize("access", ["3g", "adsl", "fibre"])
def test_all_copies_of_a_capture_are_sent_at_the_same_times(access: str) -> None:
    slow = tuple(one._replace(time=one.time * 20) for one in fast_unit())
    prober = Prober(VirtualSockets(EMPTY, access, 1), access)
    for outcome in prober.ask("", [slow, call()], 8, tight=False):
        assert outcome.planned is not None
        since = outcome.planned - outcome.planned[:, :1]
        assert np.ptp(since, axis=0).max() < 2 * MS


@pytest.mark.parametrize("seed", range(20))
def test_what_is_free_is_taken_once(seed: int) -> None:
    rng, period = random.Random(seed), 1_000
    busy: list[tuple[int, int]] = []
    taken = np.zeros(period, int)
    for _ in range(60):
        time, need = rng.randrange(5_000), rng.randrange(1, 40)
        begin = free_from(busy, time, need, period)
        assert time <= begin < time + 2 * period
        own = taken[begin % period : begin % period + need]
        if len(own) == need and not own.any():
            own += 1
        else:  # no gap is long enough
            assert begin == time
            gaps = "".join(map(str, taken)).split("1")
            assert max(map(len, gaps)) < 2 * need
    assert taken.max() == 1
    assert sum(end - begin for begin, end in busy) == taken.sum()
    assert all(one[1] < other[0] for one, other in pairwise(busy))


def test_a_late_write_behind_one_that_came_in_time_counts_as_lost() -> None:
    stream = Ends(TCP, NEAR, 40_001, FAR, 443)
    unit = tuple(Sent(n * 300 * MS, True, stream, bytes([n]) * 99) for n in range(4))
    outcome = outcome_of(unit, np.zeros(4, bool), 2)
    outcome.delay[0, [0, 2]] += 250 * MS  # both are sent again; the one between them is in time
    assert outcome.behind[0].tolist() == [False, True, False, True]
    delay = outcome.delay.copy()
    delay[0, 1] += 120 * MS  # it waits for the first, and the third may wait for it
    assert outcome._replace(delay=delay).behind[0].tolist() == [False, True, True, True]


@pytest.mark.parametrize("way", ["up", "down"])
def test_an_allowance_of_one_direction_is_among_those_that_a_flow_used_up(way: str) -> None:
    after = {"packets": 4, "direction": way}
    unit = tuple(Sent(n * 20 * MS, n % 3 != 0, FLOW, bytes([n]) * (100 + n)) for n in range(24))
    through = passing(unit, "fibre", STREAM_PATIENCE)
    rule = rule_of({"protocol": "udp"}, "stall", after=after)
    struck = strikes(through, [rule]).struck[0]
    first = int(np.flatnonzero(struck)[0])
    found = allowance(through, 0, first)
    assert after in found
    octets = next(one["bytes"] for one in found if "bytes" in one and "direction" in one)
    other = rule_of({"protocol": "udp"}, "stall", after={"bytes": octets, "direction": way})
    assert (strikes(through, [other]).struck[0] == struck).all()


@pytest.mark.parametrize("fresh", [False, True])
def test_names_that_show_an_effect_are_a_list_and_drawn_addresses_are_no_condition(
    fresh: bool,
) -> None:
    names = ["a.example", "b.example", "c.example"]
    unit = probe_of(scene("\n".join(
        f"0.{number} > udp resolver:53/4000{number} question {name}"
        for number, name in enumerate(names)
    )))  # fmt: skip
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1)), unit, Result())
    plays.prober.fresh_far = fresh
    outcome = outcome_of(unit, np.array([True, False, True]), 8)
    found = conditions_around(plays, outcome, Effect(DROP))
    assert {"dns": ["a.example", "c.example"]} in found
    assert any("addresses" in one for one in found) == (not fresh)


def test_the_capture_has_the_times_at_which_it_is_sent() -> None:
    plays = Plays(Prober(VirtualSockets(EMPTY, "3g", 1), "3g"), fast_unit(), Result())
    before = plays.capture
    play = plays.prober.ask("", [before], 4)[0]
    after = play.as_sent
    assert [one._replace(time=0) for one in after] == [one._replace(time=0) for one in before]
    times = np.array([one.time for one in after])
    assert times[0] == 0
    assert (np.diff(times) >= 0).all()
    assert times[-1] > before[-1].time


@pytest.mark.parametrize("noise", [Noise(), Noise(nat=True)], ids=["plain", "nat"])
def test_a_capture_of_the_way_back_alone_can_be_probed(noise: Noise) -> None:
    far = Ends(UDP, NEAR, 40_000, FAR, 19_305)
    unit = tuple(Sent(n * 20 * MS, False, far, bytes([n]) * 150) for n in range(60))
    clean = run.against(EMPTY, unit, "4g", 3, noise).answer
    assert clean["verdict"] == "clean"
    rule = rule_of({"ports": [19_305]}, "drop", way="down")
    answer = run.against(Policy((rule,)), unit, "4g", 3, noise).answer
    assert (answer["verdict"], answer["direction"]) == ("blocked", "down")


def test_flows_of_both_ways_get_no_opener() -> None:
    assert with_openers(call()) == call()


# ---- hypotheses


def test_leaving_out_unlikely_hypotheses_changes_no_likely_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    through = passing(call(), "4g", STREAM_PATIENCE)
    listed = [hypothesis(match, scope) for scope in ("packet", "flow", "client") for match in (
        {"payload": ["rtp"]}, {"ports": [3478]}, {"stun": True}, {"protocol": "udp"},
        {"ports": [53]}, {"size": "100-"}, {"name": ["a.example"]}, {"direction": "up"},
    )]  # fmt: skip
    rule = hypothesis({"payload": ["rtp"]}, "flow").rule()
    assert rule is not None
    struck = strikes(through, [rule]).lost[0]
    tables = []
    for margin in (math.inf, beliefs.MARGIN):
        monkeypatch.setattr(beliefs, "MARGIN", margin)
        some = Beliefs(LINE, [Effect(DROP), Effect(PARTIAL, 0.5)])
        some.observe(Seen(through, outcome_of(call(), struck, 8), True))
        some.observe(Seen(through, outcome_of(call(), struck, 8)))
        for one in listed:
            some.add([one])
        tables.append(dict(zip((one.words for one in some.hypotheses), some.scores, strict=True)))
    whole, fewer = tables
    assert len(fewer) < len(whole)
    assert {key: pytest.approx(whole[key]) for key in fewer} == fewer
    best = max(whole.values())
    assert all(value < best - 9 for key, value in whole.items() if key not in fewer)


def test_a_rule_on_media_alone_is_one_on_rtp_packet_by_packet() -> None:
    media = hypothesis({"size": "800-"}, media=True)
    plain, *_ = without_media(media)
    assert (plain.scope, plain.media) == ("packet", False)
    assert plain.keys == {"size": "800-", "payload": ["rtp"]}
    assert not list(without_media(plain))
    upwards = without_media(hypothesis({"payload": ["stun"]}, "flow", "up", media=True))
    assert [one.way for one in upwards] == ["up", None]  # in the same order in each process
    (whole,) = without_media(hypothesis({"payload": ["stun"]}, media=True))
    assert (whole.keys, whole.scope, whole.media) == (
        {"payload": ["stun"], "size": "1-"},
        "flow",
        False,
    )


def test_names_before_an_effect_on_many_flows_are_looked_at() -> None:
    question = next(at for at, one in enumerate(call()) if one.ends.far_port == 53)
    far = [Sent(900 * MS + n * MS, True, FLOW._replace(near_port=50_000 + n), bytes(40) + b"x")
           for n in range(6)]  # fmt: skip
    fill = [Sent(500 * MS + n * MS, True, FLOW, bytes([n]) * (64 + 64 * n)) for n in range(12)]
    unit = (*call(), *fill, *far)
    shows = np.array([one.time >= 900 * MS for one in unit], float)
    assert question in references(unit, shows)
    assert question in openers(unit, len(call()) + 12, [])
    assert not openers(unit, 0, [])


# ---- effects that need a capture's own addresses


def test_an_effect_counts_as_shown_elsewhere_if_the_same_flow_shows_it_about_as_surely() -> None:
    other = FLOW._replace(far=bytes([198, 19, 9, 9]))
    port = FLOW._replace(far_port=4_001)
    plain = [Finding(DROP, FLOW, True, 90.0, 1.0, 0), Finding(PARTIAL, port, True, 80.0, 0.5, 0),
             Finding(DELAY, FLOW, False, 40.0, 5e7, 0)]  # fmt: skip
    moved = [Finding(PARTIAL, other, True, 70.0, 0.9, 0), Finding(PARTIAL, port, True, 9.0, 0.1, 0)]
    assert also_shown(plain, moved) == plain[:1]  # a loss instead of a drop is the same effect
    assert also_shown(plain, []) == []


# ---- rules that come and go


def losses(
    on: float, off: float, own: float, seed: int, begin: float = 0.0, seconds: float = 16.0
) -> Any:
    times = np.arange(PACKETS) * int(seconds * 1e9) // PACKETS
    lost = ((times / 1e9 + begin) % (on + off)) < on
    return times, lost | (np.random.default_rng(seed).random(800) < own)


@pytest.mark.parametrize("own", [0.0, 0.05])
@pytest.mark.parametrize("begin", [0.0, 0.3, 1.1])
def test_phases_are_measured_wherever_they_begin(own: float, begin: float) -> None:
    found = phases(*losses(0.5, 1.0, own, 3, begin), own)
    assert found is not None
    assert found.on_s.low <= 0.5 <= found.on_s.high
    assert found.off_s.low <= 1.0 <= found.off_s.high
    assert found.act["act"] == "drop"


@pytest.mark.parametrize(("on", "off"), [(3.7, 5.3), (17.0, 9.0), (20.0, 4.0)])
@pytest.mark.parametrize("begin", [0.0, 2.0, 8.0])
def test_long_phases_say_for_how_long_packets_must_be_sent(
    on: float, off: float, begin: float
) -> None:
    times, lost = losses(on, off, 0.03, 3, begin)
    assert phases(times, lost, 0.03) is None
    longest = longest_phase(times, lost, 0.03)
    assert longest is not None
    seconds = min(AS_LONG * longest, MOST_SENT) / 1e9
    found = phases(*losses(on, off, 0.03, 4, begin, seconds), 0.03)
    assert found is not None
    assert found.on_s.value == pytest.approx(on, rel=0.03)
    assert found.off_s.value == pytest.approx(off, rel=0.03)


def test_losses_at_random_and_in_bursts_have_no_phases() -> None:
    rng = np.random.default_rng(5)
    times = np.arange(800) * 20 * MS
    for burst in (1, 10, 40):
        for _ in range(20):
            lost = np.zeros(800, bool)
            at = 0
            while at < 800:  # runs of geometric lengths
                at += int(rng.geometric(1 / (2 * burst)))
                length = int(rng.geometric(1 / burst))
                lost[at : at + length] = True
                at += length
            assert phases(times, lost, 0.02) is None
            assert longest_phase(times, lost, 0.02) is None
    assert phases(times, np.ones(800, bool), 0.0) is None
    assert phases(times[:3], np.ones(3, bool), 0.0) is None


@pytest.mark.parametrize(("each_ms", "longer"), [(10, False), (600, True)])
def test_packets_without_a_phase_are_sent_on_where_the_capture_changes_seldom(
    each_ms: int, longer: bool
) -> None:
    prober, base = line_of(rule_of({"size": "300-"}, "drop", scope="packet"))
    unit = tuple(Sent(at * each_ms * MS, True, FLOW, bytes([at]) * (400 if at // 20 % 2 else 60))
                 for at in range(120))  # fmt: skip
    best = hypothesis({"protocol": "udp"}, "packet")
    core = (unit[20]._replace(time=0),)
    tail = Tail(prober, base, Effect(PARTIAL, 0.5), best,
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), core)  # fmt: skip
    rule = best.rule()
    assert rule is not None
    outcome = prober.ask("the capture", [unit], 3, tight=False)[0]
    assert comes_in_runs(outcome, rule, tail)
    per_s = changes_per_s(outcome, rule, tail)
    assert per_s == pytest.approx(5 / (119 * each_ms / 1000), rel=0.3)
    before = prober.probes
    assert phases_of(tail, core, per_s) is None
    assert prober.probes - before == (2 if longer else 1)


def test_runs_of_losses() -> None:
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], bool)) == [2, 1, 3]
    assert runs(np.zeros(4, bool)) == []
    assert runs(np.zeros(0, bool)) == []


@pytest.mark.longest
def test_a_rule_that_comes_and_goes_seldom_is_named_with_its_phases() -> None:
    rule = rule_of({"payload": ["rtp"]}, "drop", scope="packet", on_s=3.7, off_s=5.3)
    long = probe_of(scene(CALL.replace("x30 0.02", "x90 0.04")))
    answer = run.against(Policy((rule,)), long, "fibre", 3, Noise(loss=0.03)).answer
    assert (answer["act"]["name"], answer["scope"]) == ("drop", "packet")
    parameters = answer["act"]["parameters"]
    assert parameters["on_s"]["value"] == pytest.approx(3.7, rel=0.05)
    assert parameters["off_s"]["value"] == pytest.approx(5.3, rel=0.05)
    assert "probability" not in parameters


@pytest.mark.longest
def test_a_rule_that_comes_and_goes_is_mostly_named_with_its_phases() -> None:
    rule = rule_of({"payload": ["rtp"]}, "drop", scope="packet", on_s=0.3, off_s=0.6)
    long = probe_of(scene(CALL.replace("x30 0.02", "x90 0.04")))
    named = 0
    for seed in (3, 4, 5):  # at which phase a probe is played is chance
        answer = run.against(Policy((rule,)), long, "4g", seed, Noise(loss=0.01)).answer
        assert answer["verdict"] in ("blocked", "degraded")
        if (answer["act"]["name"], answer["scope"]) == ("drop", "packet"):
            parameters = answer["act"]["parameters"]
            assert parameters["on_s"]["value"] == pytest.approx(0.3, rel=0.1)
            assert parameters["off_s"]["value"] == pytest.approx(0.6, rel=0.1)
            named += 1
    assert named >= 2


@pytest.mark.parametrize("seconds", [0.5, 3.5, 20.0])
def test_units_are_long_enough_to_use_up_an_allowance_of_seconds(seconds: float) -> None:
    best = hypothesis({"payload": ["rtp"]}, "flow", None, json.dumps({"seconds": seconds}))
    apart = apart_for(best, 15 * MS)
    assert apart >= 15 * MS
    pairs = beyond(best, apart // MS)
    assert pairs * apart > seconds * 1e9
    assert pairs <= SLOW + 2


def test_packets_near_the_end_of_an_allowance_or_window_say_nothing_of_the_act() -> None:
    unit = tuple(Sent(n * 50 * MS, True, FLOW, b"x" * 80) for n in range(100))
    struck = np.array([one.time >= 2_000 * MS for one in unit])
    best = hypothesis({"payload": ["rtp"]}, "flow", None, json.dumps({"seconds": 2.0}))
    planned = np.array([[one.time for one in unit]] * 4)
    planned[3, 1:] += 90 * MS  # one copy is sent later
    outcome = outcome_of(unit, struck, 4)._replace(planned=planned)
    near = near_edge(best, outcome, struck)
    assert near[struck][0]
    assert not near[~struck].any()
    assert 90 * MS < near.sum() * 50 * MS < 300 * MS
    assert not near_edge(best._replace(after=""), outcome, struck).any()
    inside = struck & np.array([one.time <= 4_000 * MS for one in unit])
    of_window = near_edge(hypothesis({"seconds": "2-4"}, "packet"), outcome, inside)
    for at in (0, -1):
        assert of_window[inside][at]
    assert 10 < (inside & ~of_window).sum() < inside.sum() - 6
    to_end = near_edge(hypothesis({"seconds": "2-"}, "packet"), outcome, struck)
    assert (to_end == near).all()


class Bounded(VirtualSockets):
    """A line whose budget ends after some packets."""

    left, sends = 10**9, 0

    def send(self, *args: Any, **named: Any) -> Any:
        """Send a packet, or raise BudgetUsedUp."""
        self.sends += 1
        if self.sends > self.left:
            raise BudgetUsedUp("the budget is spent: at most 10 packets")
        return super().send(*args, **named)


@pytest.mark.slow
def test_a_search_whose_budget_ends_answers_with_what_it_has_found() -> None:
    policy = Policy((rule_of({"stun": True}, "drop", scope="packet"),))
    whole = Bounded(policy, "4g", 5, Noise(loss=0.01))
    answer = run.over(whole, call(), "4g", 5).answer
    assert answer["verdict"] == "blocked"
    assert not any("budget" in one["why"] for one in answer["alternatives"])
    for share, verdict in ((0.9, "blocked"), (0.02, "cannot tell")):
        sockets = Bounded(policy, "4g", 5, Noise(loss=0.01))
        sockets.left = int(share * whole.sends)
        answer = run.over(sockets, call(), "4g", 5).answer
        assert answer["verdict"] == verdict
        assert any("the budget is spent" in one["why"] for one in answer["alternatives"])
