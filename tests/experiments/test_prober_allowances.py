# SPDX-License-Identifier: BSD-3-Clause
"""The prober: allowances as the box counts them, what follows a trigger, equal datagrams, and
queues that cross-traffic shares."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import UDP
from midcall.experiments.probe import kinds, run
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.line_oracle import DOUBLE, DROP, PARTIAL, REORDER, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.priorities import goes_first
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.rates import LEAST_RATE, Limit
from midcall.experiments.probe.search import Result
from midcall.experiments.probe.tails import STREAM_APART, Tail
from midcall.experiments.probe.units import again, repeated_unit
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import LINE, STREAM, call, outcome_of, rule_of

MS = 1_000_000
FLOW = Ends(UDP, bytes([198, 18, 0, 9]), 40_000, bytes([198, 19, 0, 9]), 4_000)
NOISES = [Noise(), Noise(loss=0.03, jitter_ms=5, reorder=0.005)]


def answered(
    match: dict[str, Any], act: str, noise: Noise, access: str = "4g", **more: Any
) -> dict[str, Any]:
    """Return the answer on a line with one rule."""
    return run.against(Policy((rule_of(match, act, **more),)), call(), access, 11, noise).answer


@pytest.mark.parametrize(
    ("match", "act", "key", "value", "noise"),
    [
        ({"payload": ["rtp"]}, "stall", "packets", 17, 0),
        pytest.param(
            {"ports": [3478]},
            "stall",
            "bytes",
            1711,
            1,
            marks=pytest.mark.longest,
        ),
        pytest.param({"ports": [443]}, "drop", "bytes", 900, 0, marks=pytest.mark.longest),
        pytest.param(
            {"stun": True},
            "stall",
            "seconds",
            0.4,
            1,
            marks=pytest.mark.longest,
        ),
    ],
)
def test_an_allowance_is_measured_as_the_box_counts_it(
    match: dict[str, Any], act: str, key: str, value: float, noise: int
) -> None:
    begin = answered(match, act, NOISES[noise], after={key: value})["begin"]
    assert begin["unit"] == key
    assert begin["value"] == pytest.approx(value, rel=0.03)
    assert begin["low"] <= value <= begin["high"]


@pytest.mark.longest
def test_what_follows_a_trigger_does_not_meet_the_rule_by_itself() -> None:
    answer = answered({"entropy": "0.6-"}, "stall", NOISES[1], after={"bytes": 2200})
    match = {"entropy": "0.6-", "protocol": "udp"}  # the transport may be left open
    assert answer["trigger"]["match"] | {"protocol": "udp"} == match
    assert answer["begin"]["value"] == pytest.approx(2200, rel=0.02)


@pytest.mark.longest
def test_of_equal_datagrams_it_shows_which_came_twice() -> None:
    match = {"ports": [3478], "direction": "up"}
    answer = answered(match, "duplicate", NOISES[0], scope="packet", share=0.4)
    assert (answer["act"]["name"], answer["direction"]) == ("duplicate", "up")
    assert answer["probability"] > 0.9
    assert not [one for one in answer["alternatives"] if "not show the effect" in one["why"]]


@pytest.mark.parametrize(("kind", "differ"), [(DOUBLE, True), (REORDER, True), (DROP, False)])
def test_packets_that_come_again_differ_where_their_order_matters(kind: str, differ: bool) -> None:
    one = Sent(0, True, FLOW, b"\x80\x60" + bytes(range(100)))
    unit = repeated_unit((one,), 5, 10 * MS, kind=kind)
    own = {packet.payload for packet in unit if len(packet.payload) == 102}
    assert (len(own) > 1) == differ
    assert ip_size(again(one, 3, kind)) == ip_size(one)


@pytest.mark.parametrize(
    ("match", "act", "key", "value"),
    [
        pytest.param({"size": "24-"}, "loss", "loss", 0.3, marks=pytest.mark.longest),
        pytest.param({"size": "20-"}, "delay", "delay_ms", 60.0, marks=pytest.mark.slow),
    ],
)
def test_a_rule_that_strikes_most_controls_is_not_taken_for_the_line(
    match: dict[str, Any], act: str, key: str, value: float
) -> None:
    answer = answered(match, act, NOISES[1], scope="packet", **{key: value})
    about = answer["act"]["parameters"][key]
    assert answer["trigger"]["match"] == match
    assert about["low"] <= value <= about["high"]


@pytest.mark.parametrize(
    ("noise", "verdict"),
    [
        (Noise(loss=0.05), "clean"),
        (Noise(loss=0.15), "cannot tell"),
        (Noise(reorder=0.05, reorder_ms=80), "clean"),
        (Noise(reorder=0.25, reorder_ms=80), "cannot tell"),
    ],
)
def test_a_line_that_disturbs_much_of_all_that_is_sent_is_not_called_clean(
    noise: Noise, verdict: str
) -> None:
    answer = run.against(EMPTY, call(), "4g", 1, noise).answer
    assert answer["verdict"] == verdict
    assert (answer["probability"] > 0.9) == (verdict == "clean")
    noted = [one for one in answer["alternatives"] if "strikes everything alike" in one["why"]]
    assert bool(noted) == (verdict == "cannot tell")


@pytest.mark.slow
def test_datagrams_that_condemn_a_client_are_found_behind_forged_resets_of_its_streams() -> None:
    match = {"stun": True, "ports": [3478]}
    answer = answered(match, "reset", NOISES[1], scope="client", lasts_s=120.0)
    assert answer["act"]["name"] == "reset"
    assert (answer["scope"], answer["trigger"]["match"]) == ("client", match)


def test_a_bucket_that_hardly_fills_is_no_limit_of_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(VirtualSockets(EMPTY, "fibre", 3, Noise()), "fibre", 3)
    plays = Plays(prober, call(), Result())
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n]) * 100) for n in range(20))
    plays.base, plays.shown = LINE, [outcome_of(unit, np.arange(20) > 8, 4)]
    finding = Finding(DROP, FLOW, True, 50.0, 1.0, 9)
    plays.result.findings = [finding]
    shown: dict[str, Any] = {}
    for rate in (0.004, 40 * LEAST_RATE):
        plays.limits.clear()
        found = Limit("police", rate, 900.0, 0.0, 0.0, plays.shown[0])
        monkeypatch.setattr(kinds, "rate_limit", lambda *_, found=found: found)
        effects = kinds.effects_behind(plays, finding, shown, True, False)
        assert any(one.limit for one in effects) == (rate >= LEAST_RATE)
        assert all(one.kind in (DROP, PARTIAL) for one in effects)


def test_code_points_go_first_even_where_cross_traffic_holds_up_most_of_them() -> None:
    points = [0 if n % 2 == 0 else (46, 8)[n // 2 % 2] for n in range(65)]
    waits = np.full((6, 65), 150.0 * MS)
    waits[:, [n for n, one in enumerate(points) if one == 46][::2]] = 20 * MS
    assert goes_first(points, waits, 0.6, 10 * MS, 3 * MS) == (46,)
    waits[4:] = 20 * MS  # a copy whose queue is not as full, for all of its packets alike
    assert goes_first(points, waits, 0.6, 10 * MS, 3 * MS) == (46,)


@pytest.mark.longest
def test_a_priority_queue_that_others_share_is_named() -> None:
    answer = answered({"ports": [3478]}, "prioritise", NOISES[0], scope="triple", rate_kbit=64.0,
                      queue_ms=250.0, first=["cs5", "af41"], cross_kbit=12.8)  # fmt: skip
    assert answer["act"]["name"] == "prioritise"
    assert set(answer["act"]["parameters"]["first"]) == {"cs5", "af41"}


def tail_of(match: dict[str, Any], unit: Probe, sought: Effect, after: dict[str, int]) -> Tail:
    """Return what makes units for a rule with an allowance, on a line without one."""
    prober = Prober(VirtualSockets(EMPTY, "4g", 1), "4g", 1)
    return Tail(prober, LINE, sought, hypothesis(match, after=json.dumps(after)),
                lambda some, tight: passing(some, "4g", STREAM_PATIENCE), unit)  # fmt: skip


@pytest.mark.parametrize("form", ["again", "noise"])
@pytest.mark.parametrize("after", [{"packets": 90}, {"bytes": 9_000}])
def test_what_follows_a_trigger_uses_up_an_allowance(form: str, after: dict[str, int]) -> None:
    unit = (Sent(0, True, FLOW, bytes([0x80, 96]) + bytes(150)),)
    rule = rule_of({"protocol": "udp"}, "stall", after=after)
    tail = tail_of({"protocol": "udp"}, unit, Effect(DROP), after)
    tail.form = form
    struck = strikes(tail.through(tail.unit(unit), True), [rule]).struck[0]
    assert tail.shown <= struck.sum() <= len(struck) / 2
    assert struck[-1]


def test_only_what_shows_a_loss_of_a_stream_is_sent_far_apart() -> None:
    unit = (Sent(0, True, STREAM, bytes(100)),)
    tail = tail_of({"protocol": "tcp"}, unit, Effect(PARTIAL, 0.5), {"packets": 80})
    times = [one.time for one in tail.unit(unit) if one.up][1:]
    gaps = np.diff(times)
    assert (gaps == STREAM_APART).sum() == tail.shown - 1
    assert times[tail.used] - times[0] < STREAM_APART * 2


@pytest.mark.parametrize("subject", ["client", "call", "pair", "server", "triple"])
def test_an_allowance_that_flows_share_needs_more_evidence_than_one_of_each_flow(
    subject: str,
) -> None:
    own, shared = (hypothesis({"protocol": "udp"}, "flow", None, json.dumps(after)) for after in (
        {"bytes": 113}, {"bytes": 113, "per": subject}))  # fmt: skip
    beliefs = Beliefs(LINE, [Effect(DROP)])
    unit = tuple(Sent(n * 20 * MS, True, FLOW, bytes([n]) * 90) for n in range(30))
    outcome = outcome_of(unit, np.array([n >= 1 for n in range(30)]), 6)
    beliefs.observe(Seen(passing(unit, "fibre", 0), outcome, True))
    beliefs.add([shared, own])  # of one flow, both say the same
    assert beliefs.best == own
