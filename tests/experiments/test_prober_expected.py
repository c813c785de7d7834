# SPDX-License-Identifier: BSD-3-Clause
"""What rules predict of a unit, and what of an outcome they leave unexplained."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe.baseline import Baseline, baseline_of, control_units
from midcall.experiments.probe.effects import findings
from midcall.experiments.probe.expected import LEAST_DELAY, Model, not_seen, unexplained
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL
from midcall.experiments.probe.prober import MS, Outcome, Prober
from midcall.testbed.policy.operator import EMPTY
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

BASE = Baseline((0.01, 0.01), (30.0 * MS, 30.0 * MS), (0.0, 0.0), (1.0 * MS, 1.0 * MS),
                ((10, 1000), (10, 1000)))  # fmt: skip
COPIES, PACKETS = 24, 60
ALL = np.ones(PACKETS, bool)


def unit() -> Probe:
    """Return datagrams of one flow."""
    ends = Ends(UDP, bytes([198, 18, 0, 1]), 4000, bytes([198, 19, 0, 1]), 3478)
    return tuple(Sent(at * 20 * MS, True, ends, bytes([at]) * 60) for at in range(PACKETS))


def outcome(share: float | np.ndarray, seed: int, late: float = 0.0) -> Outcome:
    """Return copies of which each packet is lost with a share. late: ns of delay."""
    rng, packets = np.random.default_rng(seed), unit()
    shape = COPIES, PACKETS
    delay = rng.normal(30.0 * MS + late, 0.5 * MS, shape).astype(np.int64)
    delay[rng.random(shape) < share] = -1
    size = np.array([ip_size(one) for one in packets])
    empty: list[list[object]] = [[] for _ in range(COPIES)]
    up = np.ones(PACKETS, bool)
    return Outcome(packets, delay, size, up, empty, empty, 0, np.zeros(shape, bool),
                   np.zeros(shape, bool))  # type: ignore[arg-type]  # fmt: skip


def kinds(rest: Outcome) -> set[str]:
    """Return the kinds of the effects that an outcome still shows."""
    return {one.kind for one in findings(rest, BASE) if one.score > 14}


@pytest.mark.parametrize("share", [0.06, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_losses_that_a_rule_predicts_are_explained(share: float, seed: int) -> None:
    seen, expected = outcome(share, seed), outcome(share, 100 + seed)
    assert kinds(seen)
    assert not kinds(unexplained(seen, expected, BASE, PARTIAL, ALL))


@pytest.mark.parametrize("more", [0.15, 0.3])
def test_losses_beyond_those_predicted_are_left(more: float) -> None:
    both = 1 - (1 - 0.3) * (1 - more)
    rest = unexplained(outcome(both, 1), outcome(0.3, 2), BASE, PARTIAL, ALL)
    assert kinds(rest) == {PARTIAL}
    left = rest.lost.sum() / rest.sent.sum()
    assert left == pytest.approx(more, abs=0.06)


def test_packets_that_never_arrive_are_left_among_losses_by_a_share() -> None:
    share = np.full(PACKETS, 0.3)
    share[[10, 31, 50]] = 1.0
    rest = unexplained(outcome(share, 3), outcome(0.3, 4), BASE, DROP, ALL)
    assert kinds(rest) == {DROP}
    assert set(np.flatnonzero(rest.lost.any(axis=0))) == {10, 31, 50}


def test_losses_before_a_drop_that_are_predicted_at_random_are_explained() -> None:
    """Where packets of two directions race each other, a drop begins earlier in some copies; on a
    line without noise the rule strikes none of the packets before it."""
    places = np.arange(PACKETS)
    share = np.where(places >= 28, 1.0, np.where(places >= 20, 0.4, 0.0))
    loses = places >= 28
    rest = unexplained(outcome(share, 5), outcome(share, 6), BASE, PARTIAL, loses)
    assert not kinds(rest)
    alone = np.where(places >= 28, 1.0, 0.0)
    assert kinds(unexplained(outcome(share, 5), outcome(alone, 6), BASE, PARTIAL, loses))


def test_a_drop_that_is_predicted_says_nothing_more() -> None:
    share = np.where(np.arange(PACKETS) >= 20, 1.0, 0.0)
    rest = unexplained(outcome(share, 5), outcome(share, 6), BASE, DROP, ALL)
    assert not kinds(rest)
    assert not rest.sent[:, 20:].any()


def test_what_the_line_loses_of_a_flow_does_not_make_it_one_of_a_condemned_host() -> None:
    """A rule on a host says nothing of flows that it strikes in some copies alone: what it loses
    of them comes in a row."""
    expected, rows = outcome(0.0, 6), outcome(0.0, 6)
    for at in range(0, PACKETS, 5):  # another packet in each copy, here and there two copies' one
        expected.delay[at % COPIES, at] = expected.delay[(at + 7) % COPIES, at] = -1
        expected.delay[(at + 11) % COPIES, at] = expected.delay[(at + 13) % COPIES, at] = -1
    rows.delay[: COPIES // 3, 40:] = -1
    for predicted, left in ((expected, {DROP}), (rows, set())):
        seen = outcome(np.where(np.arange(PACKETS) >= 30, 1.0, 0.0), 5)
        rest = unexplained(seen, predicted, BASE, DROP, ~ALL, wide=ALL)
        assert kinds(rest) == left


@pytest.mark.parametrize(
    ("seen", "predicted", "left"),
    [(80, 80, False), (84, 80, False), (160, 80, True), (80, 0, True)],
)
def test_a_delay_is_left_where_it_is_longer_than_predicted(
    seen: int, predicted: int, left: bool
) -> None:
    rest = unexplained(
        outcome(0.0, 7, seen * MS), outcome(0.0, 8, predicted * MS), BASE, DELAY, ALL
    )
    assert (DELAY in kinds(rest)) == left


def test_a_predicted_effect_that_does_not_come_is_noticed() -> None:
    assert not_seen(outcome(0.02, 9), outcome(0.4, 10))
    assert not not_seen(outcome(0.4, 11), outcome(0.4, 12))
    assert not not_seen(outcome(0.4, 13), outcome(0.02, 14))


def test_delays_at_random_that_are_predicted_say_nothing_more() -> None:
    def reordered(seed: int) -> Outcome:
        some = outcome(0.0, seed)
        late = np.random.default_rng(50 + seed).random(some.delay.shape) < 0.25
        return some._replace(delay=some.delay + 70 * MS * late)

    seen = reordered(1)
    assert not kinds(unexplained(seen, reordered(2), BASE, DELAY, ALL))
    both = seen._replace(delay=seen.delay + 100 * MS)
    assert DELAY in kinds(unexplained(both, outcome(0.0, 3), BASE, DELAY, ALL))


@pytest.mark.parametrize(("part", "later", "left"), [
    (0.15, 0.0, False), (0.15, 150.0, True), (0.7, 150.0, False),
], ids=["as expected", "later than nearly all", "late by itself"])  # fmt: skip
def test_packets_later_than_nearly_all_that_are_expected_show_a_delay(
    part: float, later: float, left: bool
) -> None:
    """Where few packets are expected to be late, most of them are so by another rule."""
    seen, expected = outcome(0.0, 1), outcome(0.0, 2)
    for one, seed in ((seen, 3), (expected, 4)):
        rng = np.random.default_rng(seed)
        one.delay[rng.random(one.delay.shape) < part] += 60 * MS
    seen.delay[:] += int(later * MS)
    rest = unexplained(seen, expected, BASE, DELAY, ALL)
    assert (DELAY in kinds(rest)) == left


def test_a_stream_that_is_disturbed_one_way_shows_delays_the_other_way() -> None:
    packets = tuple(one._replace(ends=one.ends._replace(proto=TCP), up=at % 2 == 0)
                    for at, one in enumerate(unit()))  # fmt: skip
    up = np.array([one.up for one in packets])
    seen, expected = (outcome(0.0, seed)._replace(unit=packets, up=up) for seed in (1, 2))
    for one in (seen, expected):
        lost = np.random.default_rng(5).random(one.delay.shape) < 0.3
        one.delay[lost & up] += 300 * MS  # sent again
    seen.delay[:, ~up] += 60 * MS
    rest = unexplained(seen, expected, BASE, DELAY, up)
    assert {one.up for one in findings(rest, BASE) if one.kind == DELAY} == {False}
    assert not (rest.sent & up).any()


@pytest.mark.parametrize("jitter_ms", [0, 8])
def test_a_line_in_virtual_time_without_a_rule_is_no_slower_than_the_real_one(
    jitter_ms: int,
) -> None:
    line = VirtualSockets(EMPTY, "4g", 3, Noise(loss=0.01, jitter_ms=jitter_ms))
    prober = Prober(line, "4g", 3)
    base = baseline_of(prober, prober.ask("controls", control_units(), 6))
    expected = Model(prober, base, ()).outcome(unit(), True, False, None)
    late = np.nanmedian(base.excess(expected))
    assert abs(late) < 0.5 * LEAST_DELAY
    assert not [one for one in findings(expected, base) if one.score > 14]


def test_losses_of_a_flow_that_the_rule_does_not_strike_are_left() -> None:
    rest = unexplained(outcome(0.08, 1), outcome(0.01, 2), BASE, PARTIAL, ~ALL)
    assert (rest.delay == outcome(0.08, 1).delay).all()
    assert kinds(rest) == {PARTIAL}
