# SPDX-License-Identifier: BSD-3-Clause
"""The prober: what a line does by itself, limits of a rate, datagrams that come twice or out of
order, and effects late in a long capture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe import run
from midcall.experiments.probe.acts import never_arrives
from midcall.experiments.probe.asking import SETTLED, score, stopped
from midcall.experiments.probe.baseline import Baseline, dispersion, pooled_counts
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.effects import findings
from midcall.experiments.probe.excerpts import excerpt
from midcall.experiments.probe.fit import followed
from midcall.experiments.probe.kinds import limits_of
from midcall.experiments.probe.line_oracle import DOUBLE, DROP, PARTIAL, REORDER, Effect
from midcall.experiments.probe.prober import STREAM_PATIENCE, Outcome, overtaken
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size, probe_of
from midcall.testbed.probing.sockets import ABORT, Played, play
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOW = Ends(UDP, NEAR, 40_000, FAR, 4_000)
STREAM = Ends(TCP, NEAR, 40_001, FAR, 443)
LINE = Baseline((0.02, 0.02), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((20, 1000), (20, 1000)))
MS = 1_000_000


def unit_of(count: int, ends: Ends = FLOW, gap: int = 20 * MS, size: int = 160) -> Probe:
    """Return packets of one flow upwards."""
    return tuple(Sent(n * gap, True, ends, n.to_bytes(2, "big") * (size // 2))
                 for n in range(count))  # fmt: skip


def outcome_of(unit: Probe, delay: NDArray[np.int64], **more: Any) -> Outcome:
    copies = len(delay)
    return Outcome(
        unit, delay, np.array([ip_size(one) for one in unit]), np.array([one.up for one in unit]),
        [[] for _ in range(copies)], [[] for _ in range(copies)], **more,
    )  # fmt: skip


def rule_of(match: dict[str, Any], act: str, **more: Any) -> Rule:
    return Rule.model_validate(
        {"name": "r", "match": match, "act": act, "grade": "C", "source": "test", **more}
    )


def played(rule: Rule, unit: Probe, noise: Noise | None = None) -> Played:
    line = VirtualSockets(Policy((rule,)), "4g", 3, noise or Noise(), ideal=noise is None)
    return play(line, unit, 500 * MS)


def outcome_under(rule: Rule, unit: Probe, copies: int = 6) -> Outcome:
    """Return the outcome of copies of a unit under a rule, each over a line of its own."""
    rows = []
    for _ in range(copies):
        result = played(rule, unit)
        rows.append([result.delay(at) for at in range(len(unit))])
    delay = np.array(rows, np.int64)
    return outcome_of(unit, delay)


# ---- the line itself


def test_a_bad_time_that_strikes_few_copies_is_not_a_rule() -> None:
    unit = unit_of(1)
    delay = np.full((48, 1), 50 * MS, np.int64)
    delay[[3, 17, 40], 0] = -1
    assert findings(outcome_of(unit, delay), LINE) == []
    most = np.where(np.arange(48)[:, None] % 2 == 0, -1, delay)
    found = findings(outcome_of(unit, most), LINE)
    assert found[0].kind in (DROP, PARTIAL)
    assert found[0].score > 11


def test_one_early_copy_does_not_hide_the_delay_of_a_stream_but_copies_held_up_make_none() -> None:
    unit, rng = unit_of(4, STREAM, 400 * MS), np.random.default_rng(1)
    line = 50 * MS + rng.integers(0, 2 * MS, (24, 4))
    late = line.copy()
    late[:, 2] += 45 * MS
    late[5, 2] -= 45 * MS
    found = findings(outcome_of(unit, late), LINE)
    assert [(one.kind, one.first) for one in found] == [("delay", 2)]
    assert found[0].amount == pytest.approx(45 * MS, rel=0.1)
    held_up = line.copy()
    held_up[:9, 2:] += 200 * MS  # more copies than the line loses packets of, but not most
    assert not [one for one in findings(outcome_of(unit, held_up), LINE) if one.kind == "delay"]


def test_copies_of_a_stream_that_stop_at_different_packets_show_a_drop() -> None:
    """A limit lets as much pass as it may, and what a kernel sends again takes part of that."""
    unit = unit_of(60, STREAM)
    stops = np.array([22, 25, 31, 24, 37, 28, 34, 26])[:, None]
    delay = np.where(np.arange(60) >= stops, -1, 50 * MS)
    found = findings(outcome_of(unit, delay), LINE)
    drops = [one for one in found if one.kind == DROP and one.score > 14]
    assert [one.first for one in drops] == [22]
    once = np.where((np.arange(60) >= 59) & (stops == 22), -1, 50 * MS)
    assert not [one for one in findings(outcome_of(unit, once), LINE) if one.score > 11]


def test_a_line_that_loses_half_of_what_it_carries_gives_shares_below_one() -> None:
    unit = unit_of(2, STREAM)
    lossy = LINE._replace(loss=(0.5, 0.5), stuck=(1.0, 1.0))
    assert (lossy.never(outcome_of(unit, np.full((3, 2), 50 * MS, np.int64))) < 1).all()


def test_losses_in_bursts_do_not_make_one_kind_of_control_the_line() -> None:
    counts = [(0, 600), (40, 1_000), (12, 600)]
    assert pooled_counts(counts, inflation=4.0)[1] == 2_200
    assert pooled_counts([(0, 600), (400, 1_000)], inflation=4.0) == (0, 600)
    rng = np.random.default_rng(1)
    single = rng.random((40, 200)) < 0.05
    sent = np.ones_like(single)
    bursts = np.repeat(rng.random((40, 25)) < 0.05, 8, axis=1)
    assert 0.5 < dispersion(single, sent) < 1.8
    assert dispersion(bursts, sent) > 3.0


def test_a_reset_in_a_capture_does_not_cut_its_stream() -> None:
    unit = (Sent(0, True, STREAM, b""), Sent(MS, False, STREAM, b"answer" * 8),
            Sent(2 * MS, False, STREAM, b"", ABORT))  # fmt: skip
    short = excerpt(unit)
    assert all(one.payload or not one.flags & ABORT for one in short)
    assert any(one.payload for one in short)
    answer = run.against(EMPTY, unit, "3g", 0, Noise(loss=0.05, jitter_ms=15)).answer
    assert answer["verdict"] in ("clean", "cannot tell")


@pytest.mark.parametrize("access", ["3g", "adsl"])
def test_bursts_of_a_stream_on_a_slow_line_are_no_delay(access: str) -> None:
    unit = tuple(Sent((500 + n // 20 * 400) * MS + n, False, STREAM, bytes([n]) * 1400)
                 for n in range(60))  # fmt: skip
    unit = (Sent(0, True, STREAM, b"please"), *unit)
    answer = run.against(EMPTY, unit, access, 1, Noise(loss=0.03, jitter_ms=8)).answer
    assert answer["verdict"] in ("clean", "cannot tell")


# ---- effects


def test_packets_that_come_twice_or_are_overtaken_are_counted() -> None:
    unit = unit_of(60)
    twice = played(rule_of({"protocol": "udp"}, "duplicate", share=0.5), unit).twice
    assert 10 < len(twice) < 50
    late = overtaken(played(rule_of({"protocol": "udp"}, "reorder", share=0.3, delay_ms=90), unit))
    assert 6 < len(late) < 40
    nothing = played(rule_of({"protocol": "tcp"}, "drop"), unit)
    assert not nothing.twice
    assert not overtaken(nothing)
    assert followed(unit, 21 * MS).sum() == 59
    equal = tuple(one._replace(payload=b"-") for one in unit)
    assert 10 < len(played(rule_of({"protocol": "udp"}, "duplicate", share=0.5), equal).twice) < 50


@pytest.mark.parametrize("kind", [DOUBLE, REORDER])
def test_a_share_of_datagrams_that_come_otherwise_is_an_effect(kind: str) -> None:
    unit = unit_of(30)
    flags = np.random.default_rng(2).random((8, 30)) < 0.3
    delay = np.where(flags & (kind == REORDER), 130 * MS, 50 * MS)
    more = {"twice" if kind == DOUBLE else "overtaken": flags}
    found = findings(outcome_of(unit, delay, **more), LINE)
    assert [one.kind for one in found] == [kind]
    assert found[0].amount == pytest.approx(0.3, abs=0.1)
    assert findings(outcome_of(unit, np.full((8, 30), 50 * MS, np.int64)), LINE) == []


def test_a_stream_that_stops_early_shows_the_effect() -> None:
    unit = unit_of(20, STREAM)
    mask = np.arange(20) >= 15
    delay = np.full((2, 20), 50 * MS, np.int64)
    delay[0, 9:] = -1  # it stops before the packets that were expected to show it
    gains = stopped(outcome_of(unit, delay), mask, np.full(20, 0.01))
    assert gains[0] > 3 > -3 > gains[1]


@pytest.mark.parametrize(("late", "settled"), [
    ((1.0, 0.0, 0.1), -1),  # the line has lost an early segment of one copy
    ((0.85, 0.75, 0.2), -1),
    ((1.0, 1.0, 1.0), 1),
    ((1.0, 1.0, 0.0, 1.0, 1.0), 1),  # the trigger itself was lost once
])  # fmt: skip
def test_segments_that_wait_for_each_other_are_no_evidence_of_their_own(
    late: tuple[float, ...], settled: int
) -> None:
    unit = tuple(Sent(n * 40 * MS, True, STREAM, bytes([n]) * 500) for n in range(60))
    delay = np.full((len(late), 60), 50 * MS, np.int64)
    for copy, share in zip(delay, late, strict=True):
        copy[: round(share * 60)] += 900 * MS
    limit = Effect.of_limit({"act": "shape", "rate_kbit": 100.0, "queue_ms": 400.0})
    line = LINE._replace(loss=(0.05, 0.05))
    value = score(outcome_of(unit, delay), np.ones(60, bool), line, limit)
    assert np.sign(value) == settled
    assert settled < 0 or value > SETTLED


@pytest.mark.parametrize(("act", "more", "key"), [
    ("police", {"rate_kbit": 32.0, "bucket_bytes": 2_000}, "bucket_bytes"),
    ("shape", {"rate_kbit": 32.0, "queue_ms": 400.0}, "queue_ms"),
])  # fmt: skip
def test_a_limit_is_fitted_and_its_rule_is_the_likeliest(
    act: str, more: dict[str, Any], key: str
) -> None:
    unit = unit_of(150)
    outcome = outcome_under(rule_of({"protocol": "udp"}, act, **more), unit)
    fixed = float(np.median(outcome.delay[:, 0]))
    line = LINE._replace(fixed=(fixed, fixed))
    finding = findings(outcome, line)[0]._replace(ends=FLOW, up=True)
    limits = [one for one in limits_of(outcome, line, finding) if one.detail == act]
    assert limits
    assert limits[0].act["rate_kbit"] == pytest.approx(32, rel=0.1)
    assert limits[0].act[key] == pytest.approx(more[key], rel=0.25)
    uneven = line._replace(spread=(150.0 * MS, 150.0 * MS))  # its own delay varies like a queue's
    shown = {one.detail for one in limits_of(outcome, uneven, finding)}
    assert (act in shown) == (act == "police")
    beliefs = Beliefs(line, [*limits, Effect(DROP), Effect(PARTIAL, 0.5)])
    beliefs.observe(Seen(passing(unit, "4g", STREAM_PATIENCE), outcome))
    right = hypothesis({"protocol": "udp"}, "flow")
    wrong = hypothesis({"packets": "40-", "protocol": "udp"}, "flow")
    beliefs.add([right, wrong])
    assert beliefs.best == right
    assert beliefs.sought.detail == act


def test_rules_of_a_limit_are_predicted_by_the_box_itself() -> None:
    through = passing(unit_of(100), "4g", STREAM_PATIENCE)
    limit = rule_of({"protocol": "udp"}, "police", rate_kbit=32.0, bucket_bytes=2_000)
    other = rule_of({"protocol": "tcp"}, "police", rate_kbit=32.0, bucket_bytes=2_000)
    struck = strikes(through, [limit, other]).struck
    assert 0.4 < struck[0].mean() < 0.8
    assert not struck[0, :8].any()
    assert not struck[1].any()
    late = rule_of({"protocol": "udp"}, "delay", delay_ms=90.0)
    assert strikes(through, [late], 80 * MS).struck.all()
    assert not strikes(through, [late], 100 * MS).struck.any()


# ---- whole searches


@pytest.mark.longest
def test_a_share_of_datagrams_that_come_twice_is_named() -> None:
    call = probe_of(scene("0.0 > udp relay:3478/40001 rtp 160 x40 0.02\n"
                          "0.01 < udp relay:3478/40001 rtp 160 x40 0.02\n"
                          "0.3 > udp peer:5000/40003 noise 90 x10 0.05\n"))  # fmt: skip
    rule = rule_of({"payload": ["rtp"]}, "duplicate", share=0.4)
    answer = run.against(Policy((rule,)), call, "4g", 4, Noise(loss=0.02, jitter_ms=4)).answer
    assert answer["verdict"] == "degraded"
    assert answer["act"]["name"] == "duplicate"
    share = answer["act"]["parameters"]["share"]
    assert share["low"] <= 0.4 <= share["high"]


@pytest.mark.longest
def test_an_effect_behind_the_first_packets_of_a_long_capture_is_found() -> None:
    call = probe_of(scene("0.0 > udp relay:3478/40001 noise 160 x260 0.02\n"))
    assert len(excerpt(call)) < 230
    rule = rule_of({"protocol": "udp", "packets": "231-"}, "drop")
    answer = run.against(Policy((rule,)), call, "4g", 4, Noise(loss=0.01)).answer
    assert answer["verdict"] == "blocked"
    assert answer["act"]["name"] in ("drop", "stall")
    assert answer["begin"]["value"] == pytest.approx(230, abs=4)


def test_an_icmp_error_on_datagrams_is_reported_as_equal_to_a_drop() -> None:
    call = probe_of(scene("0.0 > udp relay:3478/40001 stun-allocate 4000\n"
                          "0.2 > udp relay:3478/40001 rtp 160 x20 0.02\n"))  # fmt: skip
    rule = rule_of({"stun": True}, "unreachable")
    answer = run.against(Policy((rule,)), call, "4g", 4, Noise()).answer
    named = {answer["act"]["name"], *(one.get("act") for one in answer["alternatives"]
                                      if one["relation"] == "equal")}  # fmt: skip
    assert {"drop", "unreachable"} <= named


def test_a_stream_is_cut_where_all_copies_lose_everything_behind_about_the_same_packet() -> None:
    ends = Ends(TCP, bytes([198, 18, 0, 9]), 40_001, bytes([198, 19, 0, 9]), 443)

    def cut(begins: list[int], count: int = 20) -> bool:
        unit = tuple(Sent(number, True, ends, bytes(100)) for number in range(count))
        struck = np.arange(count) >= 4
        gone = np.arange(count) >= np.array(begins)[:, None]
        return never_arrives(outcome_of(unit, np.where(gone, -1, 1)), struck, 4)

    assert cut([4, 4, 4, 4])
    assert cut([7, 6, 7, 8])  # the rule begins a few packets later than was found
    assert not cut([5, 9, 13, 20])  # each copy lost another packet for good
    assert not cut([18, 18, 18, 18])  # too little is behind it
    assert cut([4, 9, 13, 11], 80)  # acknowledgements count, too
    assert not cut([4, 9, 30, 60], 80)


@pytest.mark.parametrize("late", [False, True])
def test_losses_that_begin_late_in_a_long_flow_are_seen(late: bool) -> None:
    """Of a whole flow of which a fifth of the last datagrams is lost in some copies more than in
    others, the share varies as much as on a line with bad times."""
    rng = np.random.default_rng(7)
    unit = unit_of(600)
    share = np.full((12, 600), 0.017)
    if late:
        share[:, 330:] = np.array([0.2, 0.2, 0.4, 0.15] * 3)[:, None]
    delay = np.where(rng.random(share.shape) < share, -1, 50 * MS).astype(np.int64)
    line = LINE._replace(loss=(0.016, 0.023), counts=((14, 902), (20, 902)))
    seen = [one for one in findings(outcome_of(unit, delay), line) if one.score > 14]
    assert [one.kind for one in seen] == ([PARTIAL] if late else [])
    assert all(one.first >= 300 for one in seen)


@pytest.mark.parametrize(("struck", "copies", "seen"), [(4, 2, True), (4, 1, False), (1, 2, False)])
def test_queries_of_which_some_are_never_answered_show_a_drop_together(
    struck: int, copies: int, seen: bool
) -> None:
    flows = [FLOW._replace(near_port=30_000 + number, far_port=53) for number in range(20)]
    unit = tuple(one for at, ends in enumerate(flows) for one in unit_of(1, ends)
                 for one in [one._replace(time=at * 50 * MS)])  # fmt: skip
    busy = tuple(one for number in range(4)
                 for one in unit_of(100, FLOW._replace(near_port=40_000 + number)))  # fmt: skip
    delay = np.zeros((copies, len(unit) + len(busy)), np.int64)
    delay[:, :struck] = -1
    found = [one for one in findings(outcome_of(unit + busy, delay), LINE) if one.kind == DROP]
    assert [(one.ends.far_port, one.up) for one in found] == ([(53, True)] if seen else [])
