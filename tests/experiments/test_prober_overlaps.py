# SPDX-License-Identifier: BSD-3-Clause
"""The prober: packets that another rule decides, delays of streams, and rare kinds of flows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe import run
from midcall.experiments.probe.answer import document
from midcall.experiments.probe.atoms import size_of, size_windows
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, Seen, hypothesis
from midcall.experiments.probe.choice import Choice, is_playable
from midcall.experiments.probe.code_points import marks_of
from midcall.experiments.probe.conditions import conditions_around, how_surely
from midcall.experiments.probe.effects import Finding, findings
from midcall.experiments.probe.evidence import of_kind
from midcall.experiments.probe.excerpts import MOST_OPENINGS, OF_EACH, PACKETS, excerpt, openings
from midcall.experiments.probe.fit import evidence_of, fits_by_share
from midcall.experiments.probe.forged import forged_act, of_same_act
from midcall.experiments.probe.found import Found, Result
from midcall.experiments.probe.line_oracle import DELAY, DROP, INJECT, PARTIAL, REORDER, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import Outcome, Prober
from midcall.experiments.probe.search import Search
from midcall.experiments.probe.units import marked
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size, probe_of
from midcall.testbed.probing.sockets import DATA, ENDED, RESET, Event
from midcall.testbed.probing.strikes import Strikes, strikes
from midcall.testbed.probing.virtual_line import DATAGRAM, SEGMENT, Noise, VirtualSockets
from tests.experiments.prober_call import CALL, rule_of

MS = 1_000_000
NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOW = Ends(UDP, NEAR, 40_000, FAR, 4_000)
OTHER = Ends(UDP, NEAR, 40_001, FAR, 4_001)
STREAM = Ends(TCP, NEAR, 40_001, FAR, 443)
LINE = Baseline((0.005, 0.005), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((5, 1000), (5, 1000)))
CALLS = """
0.00 > udp relay:3478/40001 stun-allocate 4000
0.04 < udp relay:3478/40001 stun-allocate-answer
0.05 > udp relay:3478/40001 stun-binding
0.20 > udp relay:3478/40001 rtp 400 x30 0.02
0.21 < udp relay:3478/40001 rtp 120 x30 0.02
0.22 > udp peer:7000/40002 stun-binding
0.24 < udp peer:7000/40002 stun-binding-answer
0.30 > udp peer:7000/40002 rtp 120 x20 0.02
0.31 < udp peer:7000/40002 rtp 400 x20 0.02
"""


def outcome_of(unit: Probe, delay: list[int], copies: int = 8) -> Outcome:
    """Return a play of a unit in which all copies have the same delays, in ms."""
    none: list[list[object]] = [[] for _ in range(copies)]
    whole = np.array([delay] * copies, np.int64) * MS
    return Outcome(unit, whole, np.array([ip_size(one) for one in unit]),
                   np.array([one.up for one in unit]), none, none)  # type: ignore[arg-type] # fmt: skip


@pytest.mark.parametrize(("best", "act", "expected"), [
    (hypothesis({"stun": True, "direction": "down"}, "packet"), "loss", True),
    (hypothesis({"stun": True}, "packet", "down"), "loss", True),
    (hypothesis({"stun": True}, "packet"), "mark", False),
    (hypothesis({"stun": True}, "packet", None, '{"packets": 3}'), "drop", False),
    (hypothesis({"stun": True, "one_in": 2}, "packet"), "drop", False),
])  # fmt: skip
def test_a_rule_keeps_packets_of_both_directions_from_rules_behind_it(
    best: Hypothesis, act: str, expected: bool
) -> None:
    acts = {"loss": {"act": "loss", "loss": 0.3}, "mark": {"act": "mark", "code_point": 8}}
    finding = Finding(PARTIAL, FLOW, False, 40.0, 0.3, 0)
    sought = Effect(PARTIAL, 0.3)
    beliefs = Beliefs(LINE, [sought])
    found = Found(best, 0.9, sought, beliefs, (), finding, best, act=acts.get(act, {}))
    result = Result(found=[found])
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), probe_of(scene(CALLS)), result)
    decided = plays.decided(plays.capture, False)
    stun = np.array([read(one).kind == "stun" for one in plays.capture])
    assert decided.tolist() == (stun & expected).tolist()


def test_what_all_of_a_stream_waits_for_counts_once_whichever_rule_strikes_it() -> None:
    unit = tuple(Sent(n * 40 * MS, n % 2 == 0, STREAM, bytes([n]) * 300) for n in range(8))
    late = outcome_of(unit, [250] * 8)
    every = np.ones(8, bool)
    half = np.arange(8) % 2 == 0
    rows = np.stack([every, half, ~every])
    predicted = Strikes(rows, rows, np.zeros((3, 1), bool))
    sought = Effect(DELAY, 200.0 * MS)
    whole, part, none = fits_by_share(predicted, late, LINE, sought).max(axis=1)
    assert whole >= part > none
    _, usable, other = evidence_of(late, LINE, sought)
    assert usable.sum(axis=0).tolist() == [8, 8, 0, 0, 0, 0, 0, 0]
    assert whole <= 8 * 2 * -math.log(other.min())


def test_a_packet_of_a_stream_that_is_on_time_refutes_a_rule_that_delays_it() -> None:
    unit = tuple(Sent(n * 40 * MS, n % 2 == 0, STREAM, bytes([n]) * 300) for n in range(8))
    downwards = np.arange(8) % 2 == 1
    late = outcome_of(unit, [250 if down else 50 for down in downwards])
    rows = np.stack([downwards, np.ones(8, bool)])
    predicted = Strikes(rows, rows, np.zeros((2, 1), bool))
    alone, both = fits_by_share(predicted, late, LINE, Effect(DELAY, 200.0 * MS)).max(axis=1)
    assert alone > both + 10


def test_sizes_of_a_large_write_are_those_of_its_first_segment() -> None:
    unit = tuple(Sent(n * MS, True, STREAM, b"z" * size)
                 for n, size in enumerate((90, 1440, 1440, 1361, 1360)))  # fmt: skip
    windows = list(size_windows(unit, np.array([0.0, 1.0, 1.0, 1.0, 1.0])))
    assert windows == [{"size": f"{SEGMENT}-"}]
    assert {size_of(one) for one in unit} == {90, SEGMENT}
    assert size_of(unit[1]._replace(ends=FLOW)) == 1440


def test_packets_that_are_late_in_all_copies_are_delayed_and_not_reordered() -> None:
    unit = tuple(Sent(n * 10 * MS, True, FLOW, bytes([n]) * (900 if n % 4 == 0 else 90))
                 for n in range(24))  # fmt: skip
    outcome = outcome_of(unit, [450 if n % 4 == 0 else 50 for n in range(24)])
    overtaken = np.zeros(outcome.delay.shape, bool)
    overtaken[:, ::4] = True
    kinds = {one.kind for one in findings(outcome._replace(overtaken=overtaken), LINE)}
    assert kinds == {DELAY}
    some = np.random.default_rng(1).random(outcome.delay.shape) < 0.25
    delay = np.where(some, 450 * MS, 50 * MS)
    kinds = {one.kind for one in findings(outcome._replace(delay=delay, overtaken=some), LINE)}
    assert REORDER in kinds


def test_a_delay_of_one_packet_of_a_stream_is_an_effect_where_many_copies_show_it() -> None:
    unit = tuple(Sent(n * 400 * MS, True, STREAM._replace(near_port=40_001 + n), b"x" * 300)
                 for n in range(12))  # fmt: skip
    delay = [350, *[50] * 11]
    scores = [max(one.score for one in findings(outcome_of(unit, delay, copies), LINE))
              for copies in (8, 48)]  # fmt: skip
    assert scores[1] > 2 * scores[0]


def test_an_excerpt_holds_flows_of_each_kind() -> None:
    packets = [Sent((n + 40 * flow) * MS, True, STREAM._replace(near_port=41_000 + flow), b"y" * 99)
               for flow in range(40) for n in range(20)]  # fmt: skip
    packets += probe_of(scene("9.0 > udp resolver:53/40002 question a.example"))
    short = excerpt(tuple(packets))
    assert len(short) <= PACKETS
    assert any(one.ends.far_port == 53 for one in short)


def test_openings_are_the_first_packets_of_the_flows_that_are_not_known() -> None:
    flows = [STREAM._replace(near_port=41_000 + number) for number in range(90)]
    probe = tuple(Sent((n * 100 + number) * MS, True, ends, bytes([n]) * 99)
                  for n in range(9) for number, ends in enumerate(flows))  # fmt: skip
    units = openings(probe, flows[:20])
    assert len(units) <= MOST_OPENINGS
    assert max(len(one) for one in units) < PACKETS + OF_EACH
    sent = [(one.ends, one.payload[0]) for unit in units for one in unit]
    assert sorted(sent, key=str) == sorted(
        ((ends, n) for ends in flows[20:] for n in range(OF_EACH)), key=str
    )
    assert not openings(probe, flows)


def test_an_answer_says_how_many_packets_were_not_played() -> None:
    whole = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n % 256]) * 60) for n in range(3_200))
    search = Search(Prober(VirtualSockets(EMPTY, "fibre", 1), "fibre", 1), whole)
    answer = document(search.run(), search.plays.prober)
    assert answer["verdict"] == "clean"
    assert "1,400 packets of the capture were not played" in answer["alternatives"][-1]["why"]


@pytest.mark.longest
def test_a_name_is_found_among_those_of_many_flows() -> None:
    lines = [f"{n * 0.4 + at:.2f} {way} tcp peer:443/{41_000 + n} {what}\n" for n in range(70)
             for at, way, what in ((0.0, ">", "syn"), (0.04, "<", "syn-ack"),
                                   (0.05, ">", f"tls-hello host{n}.example"),
                                   (0.1, "<", "tls 300 x9 0.02"))]  # fmt: skip
    capture = probe_of(scene("".join(lines)))
    rule = rule_of({"name": ["host61.example"]}, "reset")
    answer = run.against(Policy((rule,)), capture, "fibre", 3, Noise(loss=0.005)).answer
    assert answer["verdict"] == "blocked"
    assert answer["act"]["name"] == "reset"
    assert answer["trigger"]["match"]["name"] == ["host61.example"]


@pytest.mark.parametrize(("size", "changes"), [(43, True), (13, False), (160, True)])
def test_a_short_datagram_is_numbered_where_it_stays_what_it_is(size: int, changes: bool) -> None:
    one = Sent(0, True, FLOW, b"\x80\x60" + bytes(range(1, size - 1)))
    assert (marked(one, 700) != marked(one, 701)) == changes


@pytest.mark.parametrize("size", [3, 9, 13])
def test_a_short_datagram_of_no_known_kind_is_numbered(size: int) -> None:
    one = Sent(0, True, FLOW, bytes([0x41] * size))
    assert len({marked(one, number) for number in range(300)}) == 300


def test_a_question_is_not_numbered_in_its_class() -> None:
    (one, *_) = probe_of(scene("0.0 > udp resolver:53/40002 question a.example"))
    assert len(one.payload) < 44
    assert marked(one, 700) == one.payload


def test_sizes_that_show_an_effect_have_one_end_or_both() -> None:
    unit = tuple(Sent(n * MS, True, FLOW, b"z" * size)
                 for n, size in enumerate((90, 500, 1243, 1453)))  # fmt: skip
    ends = [{"size": "500-"}, {"size": "1-1243"}]
    both = {"size": "500-1243"}
    assert list(size_windows(unit, np.array([0.0, 1.0, 1.0, 0.0]))) == [both, *ends]
    assert list(size_windows(unit, np.array([0.0, 0.0, 1.0, 1.0]))) == [{"size": "1243-"}]


def test_the_sizes_of_a_flow_are_not_those_of_another_one_with_the_same_effect() -> None:
    sizes = [(FLOW, 300), (FLOW, 1200), (FLOW, 1000), (FLOW, 900), (OTHER, 60), (OTHER, 90)]
    unit = tuple(Sent(n * MS, True, ends, b"z" * size) for n, (ends, size) in enumerate(sizes))
    windows = list(size_windows(unit, np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])))
    assert {"size": "1000-"} in windows


@pytest.mark.parametrize(("rewrites", "expected"), [
    ({(True, 0): 0, (True, 46): 0, (False, 0): 0, (False, 46): 0}, []),
    ({(True, 0): 0, (True, 16): 8, (False, 0): 0, (False, 16): 8}, [({"dscp": ["cs2"]}, 8)]),
    ({(True, 0): 0, (False, 0): 8}, [({"protocol": "udp", "direction": "down"}, 8)]),
    ({(True, 0): 46, (True, 8): 46, (False, 0): 46, (False, 8): 46}, [({"protocol": "udp"}, 46)]),
    ({(True, 0): 0, (True, 46): 0, (True, 8): 8, (False, 0): 0, (False, 46): 46, (False, 8): 8},
     [({"dscp": ["ef"], "direction": "up"}, 0)]),
    ({}, []),
])  # fmt: skip
def test_a_mark_that_controls_show_is_a_rule_and_bleaching_is_the_line(
    rewrites: dict[tuple[bool, int], int], expected: list[tuple[dict[str, object], int]]
) -> None:
    assert list(marks_of(rewrites)) == expected


def test_a_unit_with_a_datagram_that_is_too_long_is_not_played() -> None:
    assert is_playable((Sent(0, True, STREAM, bytes(2700)),))
    assert not is_playable((Sent(0, True, FLOW, bytes(DATAGRAM + 1)),))


@pytest.mark.parametrize(("act", "equal"), [
    ({}, True), ({"act": "delay", "delay_ms": 90}, True),
    ({"act": "mark", "code_point": 8}, False),  # rules behind it decide what it marks
])  # fmt: skip
def test_a_direction_that_another_rule_decides_is_not_known(
    act: dict[str, object], equal: bool
) -> None:
    upwards = hypothesis({"stun": True, "direction": "up"}, "packet")
    downwards = hypothesis({"protocol": "udp", "direction": "down"}, "packet")
    sought = Effect(DROP, 1.0)
    beliefs = Beliefs(LINE, [sought])
    beliefs.add([upwards])
    capture = probe_of(scene(CALLS))
    finding = Finding(DROP, capture[0].ends, True, 40.0, 1.0, 0)
    first, second = (
        Found(best, 0.9, sought, beliefs, capture[:1], finding, best, act=more)
        for best, more in ((upwards, {}), (downwards, act))
    )
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), capture, Result())
    choice = Choice(plays, beliefs, first.core, plays.capture, sought, True)
    both = hypothesis({"stun": True}, "packet")
    assert (both in choice.equal_with_others(first, [second])) == equal


def test_conditions_of_one_rule_are_joined_although_each_alone_strikes_much_without_effect() -> (
    None
):
    rng = np.random.default_rng(3)
    relay, web = FLOW, STREAM._replace(far=FLOW.far)
    other = FLOW._replace(far=bytes([198, 19, 77, 9]), near_port=40_007)
    unit = tuple(
        Sent(n * 12 * MS, n % 2 == 0, ends, bytes(rng.integers(0, 256, size, np.uint8)))
        for n, (ends, size) in enumerate(
            [(relay, 300), *[(relay, 60)] * 4, *[(web, 300)] * 3, *[(other, 300)] * 4] * 8
        )
    )
    struck = np.array([one.ends == relay and len(one.payload) > 200 for one in unit])
    delay = np.where(rng.random((24, len(unit))) < struck * 0.2, -1, 50 * MS)
    none: list[list[object]] = [[] for _ in delay]
    outcome = Outcome(unit, delay, np.array([ip_size(one) for one in unit]),
                      np.array([one.up for one in unit]), none, none)  # type: ignore[arg-type] # fmt: skip
    plays = Plays(Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1), unit, Result())
    beliefs = Beliefs(LINE, [Effect(PARTIAL, 0.2), Effect(DROP, 1.0)])
    beliefs.observe(Seen(plays.through(unit, False), outcome, True))
    parts = conditions_around(plays, outcome, beliefs.effects[0])
    promising = [one.keys for one in beliefs.promising(parts)]
    assert all(part in promising for part in ({"ports": [4000]}, {"size": "300-"}))
    assert {"protocol": "tcp"} not in promising
    beliefs.grow(parts)
    rule = beliefs.best.rule()
    assert rule is not None
    assert (strikes(plays.through(unit, False), [rule]).struck[0] == struck).all()


def test_packets_of_a_flow_that_surely_loses_some_come_before_a_chance_loss() -> None:
    unit = tuple(Sent(n * 10 * MS, True, FLOW._replace(near_port=40_001 + n // 24), bytes([n]) * 99)
                 for n in range(48))  # fmt: skip
    delay = np.full((48, 48), 50 * MS)
    delay[:4, 0] = -1  # of the first flow one packet, in four copies
    delay[np.random.default_rng(5).random((48, 48)) < 0.2 * (np.arange(48) >= 24)] = -1
    outcome = outcome_of(unit, [50] * 48, 48)._replace(delay=delay)
    shows = how_surely(outcome, LINE, Effect(PARTIAL, 0.14))
    assert not shows[:24].any()
    assert shows[24:].mean() > 0.9


def test_a_drop_differs_from_losses_of_another_direction_when_taken_apart() -> None:
    unit = tuple(Sent(n * 10 * MS, n % 2 == 0, FLOW, bytes([n]) * 99) for n in range(40))
    delay = np.full((24, 40), 50 * MS)
    delay[:, 21::4] = -1
    delay[:, ::2][np.random.default_rng(7).random((24, 20)) < 0.15] = -1
    outcome = outcome_of(unit, [50] * 40, 24)._replace(delay=delay)
    found = max(findings(outcome, LINE), key=lambda one: one.score)
    assert (found.kind, found.up) == (DROP, False)
    together, apart = (of_kind(outcome, LINE, found, alone) for alone in (False, True))
    assert (together.delay == delay).all()
    assert (apart.delay[:, ::2] == -2).all()
    assert (apart.delay[:, 1::2] == delay[:, 1::2]).all()


def test_losses_of_datagrams_say_nothing_of_a_false_answer_to_another_flow() -> None:
    question = FLOW._replace(far_port=53)
    unit = (Sent(0, True, question, b"q"),
            *(Sent((n + 1) * 10 * MS, True, FLOW, bytes([n]) * 99) for n in range(12)))  # fmt: skip
    outcome = outcome_of(unit, [50] * 13, 8)
    outcome.delay[:, 0] = -1  # the question that is answered by the box
    outcome.delay[:, 8:] = -1
    lie = Event(9, False, question, DATA, b"a")
    outcome = outcome._replace(events=[[lie] for _ in range(8)])
    kept = of_kind(outcome, LINE, Finding(INJECT, question, True, 40.0, 1.0, 0))
    assert kept.lost[:, 0].all()
    assert not kept.sent[:, 1:].any()


def test_forged_answers_of_another_kind_are_those_of_another_rule() -> None:
    question = FLOW._replace(far_port=53)
    web = STREAM._replace(near_port=40_009)
    unit = (
        Sent(0, True, question, b"q"),
        Sent(MS, True, STREAM, b"h"),
        Sent(2 * MS, True, web, b"g"),
    )
    outcome = outcome_of(unit, [50, 50, 50], 2)
    end = Event(9, False, STREAM, RESET)
    answer, page = (Event(9, False, ends, DATA, body)
                    for ends, body in ((question, b"a"), (web, b"HTTP/1.1 403")))  # fmt: skip
    outcome = outcome._replace(events=[[end], [end]], strange=[[answer, page], [answer]])
    for ends, kept, act in ((question, 0, "dns-lie"), (STREAM, 1, "reset"), (web, 2, "block-page")):
        same = of_same_act(outcome, ends._replace(far=bytes([1, 2, 3, 4])))
        assert [bool(one) for one in (same.delay[0] != -2)] == [at == kept for at in range(3)]
        assert forged_act(same)["act"] == act
    assert of_same_act(outcome, FLOW) is outcome  # a flow that receives none


def test_a_stream_that_a_fin_ends_is_another_rules_than_one_that_is_reset() -> None:
    """A kernel resets the other end of a stream that a forged FIN has closed."""
    other = STREAM._replace(near_port=40_009)
    outcome = outcome_of((Sent(0, True, STREAM, b"h"), Sent(MS, True, other, b"g")), [50, 50], 2)
    finished = [Event(9, False, STREAM, ENDED), Event(20, True, STREAM, RESET)]
    reset = Event(9, False, other, RESET)
    outcome = outcome._replace(events=[[*finished, reset], [finished[1], finished[0], reset]])
    for ends, kept, act in ((STREAM, 0, "finish"), (other, 1, "reset")):
        same = of_same_act(outcome, ends)
        assert [bool(one) for one in (same.delay[0] != -2)] == [at == kept for at in range(2)]
        assert forged_act(same._replace(events=[[e for e in some if not e.up] for some in
                                                same.events]))["act"] == act  # fmt: skip


@pytest.mark.longest
def test_a_reset_in_the_path_is_not_on_it_where_datagrams_of_the_same_port_pass() -> None:
    datagrams = """
0.60 > udp peer:443/40009 rtp 160 x20 0.02
0.61 < udp peer:443/40009 rtp 160 x20 0.02
"""
    rule = rule_of({"protocol": "tcp", "ports": [443]}, "reset", towards="both")
    unit = probe_of(scene(CALL + datagrams))
    answer = run.against(Policy((rule,)), unit, "4g", 3, Noise(loss=0.01, jitter_ms=5)).answer
    assert answer["act"]["name"] == "reset"
    assert "path" not in answer["act"]["parameters"]
    assert answer["trigger"]["match"] == {"protocol": "tcp", "ports": [443]}
