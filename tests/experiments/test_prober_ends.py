# SPDX-License-Identifier: BSD-3-Clause
"""The prober: condemnations that end within the capture, and are triggered again."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.packets.numbers import UDP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe import run
from midcall.experiments.probe.beliefs import hypothesis
from midcall.experiments.probe.conditions import end_between, since_last
from midcall.experiments.probe.lasting import end_of, share_at_first
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent
from midcall.testbed.probing.virtual_line import Noise
from tests.experiments.prober_call import rule_of

MS = 1_000_000
NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOWS = (Ends(UDP, NEAR, 40_000, FAR, 4_000), Ends(UDP, NEAR, 40_001, FAR, 4_001))
STUN = bytes.fromhex("000100002112a442")


def body(number: int, ends: Ends, up: bool) -> bytes:
    """Return an RTP packet."""
    return bytes([0x80, 111]) + number.to_bytes(2, "big") + noise(100, number, ends.far_port, up)


def capture(every: int = 50, first: int = 5) -> Probe:
    """Return two flows of RTP for 8 s, packets 40 ms apart. One has a STUN request instead of the
    packet `first` and of each one `every` packets later."""
    unit = []
    for number in range(200):
        for ends in FLOWS:
            stun = ends is FLOWS[0] and number % every == first
            sent = STUN + bytes([number]) * 12 if stun else body(number, ends, True)
            unit.append(Sent(number * 40 * MS, True, ends, sent))
            unit.append(Sent((number * 40 + 7) * MS, False, ends, body(number, ends, False)))
    return tuple(unit)


@pytest.mark.parametrize(
    ("scope", "lasts"),
    [
        pytest.param("client", 1.5, marks=pytest.mark.longest),
        pytest.param("client", 0.7, marks=pytest.mark.longest),
        pytest.param("flow", 0.7, marks=pytest.mark.longest),
    ],
)
def test_a_drop_that_ends_and_is_triggered_again_is_named(scope: str, lasts: float) -> None:
    rule = rule_of({"stun": True}, "drop", scope=scope, lasts_s=lasts)
    answer = run.against(Policy((rule,)), capture(), "fibre", 3, Noise(loss=0.01)).answer
    assert (answer["act"]["name"], answer["scope"]) == ("drop", scope)
    assert answer["trigger"]["match"] == {"stun": True}
    assert answer["residual_s"] == pytest.approx(lasts, rel=0.1)


@pytest.mark.longest
def test_an_end_is_named_where_a_window_of_the_flow_explains_the_capture_too() -> None:
    rule = rule_of({"stun": True}, "drop", lasts_s=1.0)
    line = Noise(loss=0.02, jitter_ms=5)
    answer = run.against(Policy((rule,)), capture(1000, 50), "4g", 4, line).answer
    assert (answer["act"]["name"], answer["scope"]) == ("drop", "flow")
    assert answer["trigger"]["match"] == {"stun": True}
    assert answer["residual_s"] == pytest.approx(1.0, rel=0.1)


def test_the_age_of_a_condemnation_is_that_of_its_last_trigger() -> None:
    unit = tuple(Sent(number * 500 * MS, True, FLOWS[number % 2], b"x") for number in range(5))
    struck = np.array([False, True, False, True, False])
    flows = np.array([0, 1, 0, 1, 0])
    own, any_ = since_last(unit, struck, flows), since_last(unit, struck, np.zeros(5, int))
    assert own.tolist() == [np.inf, 0.0, np.inf, 0.0, np.inf]
    assert any_.tolist() == [np.inf, 0.0, 0.5, 0.0, 0.5]


def test_an_end_is_seen_only_where_it_explains_much() -> None:
    ages = np.array([np.inf, 0.1, 0.6, 0.2, 0.7])
    assert end_between(ages, np.array([0.0, 5, -5, 5, -5])) == pytest.approx(0.4)
    assert end_between(ages, np.array([0.0, 5, -2, 5, -2])) is None
    assert end_between(ages, np.array([0.0, 5, 5, 5, 5])) is None
    assert end_between(ages, np.array([0.0, -5, -5, -5, -5])) is None
    assert end_between(ages / 10, np.array([0.0, 5, -5, 5, -5])) is None  # sooner than LEAST_END


def test_only_rules_that_condemn_have_an_end() -> None:
    assert hypothesis({"stun": True}, "flow", lasts=0.7).rule().lasts_s == 0.7  # type: ignore[union-attr]
    assert hypothesis({"stun": True}, "flow", lasts=0.7).rule(lasts_s=2.0).lasts_s == 2.0  # type: ignore[union-attr]
    assert hypothesis({"stun": True}, "packet", lasts=0.7).rule().lasts_s is None  # type: ignore[union-attr]


def test_an_end_is_looked_for_only_where_later_moments_speak_clearly_against_it() -> None:
    holds, over = [4.0] * 6, [-3.0, 1.0, -3.0]
    found = end_of(holds + over)
    assert found is not None
    assert found[0] == 6
    assert end_of(holds + over, 6.0) is None
    assert end_of(holds + 2 * over, 6.0) is not None
    assert end_of(holds, 6.0) is None


@pytest.mark.parametrize(("late", "share"), [(12, 0.95), (8, 8 / 12), (1, 0.37)])
def test_how_many_delayed_packets_are_late_is_what_the_first_moments_show(
    late: int, share: float
) -> None:
    counts = [(late // 3 + (at < late % 3), 4, 0.1) for at in range(3)] + [(0, 4, 0.1)] * 30
    assert share_at_first(counts) == pytest.approx(share)


@pytest.mark.parametrize(("way", "wanted"), [(None, [1, 1]), ("up", [1, 0]), ("down", [0, 1])])
def test_a_hypothesis_says_which_directions_it_may_strike(
    way: str | None, wanted: list[int]
) -> None:
    rule = hypothesis({"stun": True}, way=way)
    assert rule.may_strike(np.array([True, False])).tolist() == [bool(one) for one in wanted]
