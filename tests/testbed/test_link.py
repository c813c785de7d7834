# SPDX-License-Identifier: BSD-3-Clause
"""Links: what was set is what is measured, within 2 %."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.captures.jit.code_folders import PLAIN
from midcall.errors import TestbedError
from midcall.testbed.network.link import (
    LINK,
    LOST,
    OVERFLOW,
    POLICED,
    PRESETS,
    STATE,
    Link,
    access_links,
    admit,
    cross_gap,
    fill_link,
    take_turn,
)

MS = 1_000_000
START = 1_456_000_000_000_000_000
#: Draws are counted over many packets where that is quick.
MANY = 20_000 if PLAIN else 200_000


def outs(about: Link, count: int, gap: int, size: int = 200, key: int = 7) -> Any:
    """Return when each of `count` packets, `gap` ns apart, leaves a link, from its arrival."""
    link, state = np.zeros(1, LINK), np.zeros(1, STATE)
    fill_link(link[0], about, key)
    times = START + gap * np.arange(count)
    values = [admit(link[0], state[0], size, int(time), n) for n, time in enumerate(times)]
    out = np.array(values)
    return np.where(out < 0, out, out - times)


def test_a_link_of_which_nothing_is_said_does_nothing() -> None:
    assert (outs(Link(), 100, MS) == 0).all()


def test_delay_and_jitter_have_the_mean_and_deviation_that_were_set() -> None:
    late = outs(Link(delay_ms=50, jitter_ms=5), MANY, 100 * MS)
    assert abs(late.mean() / (50 * MS) - 1) < 0.002
    assert abs(late.std() / (5 * MS) - 1) < 0.02
    assert late.min() > 50 * MS - 3.5 * 5 * MS


def test_jitter_alone_does_not_reorder_and_reordering_is_the_share_that_was_set() -> None:
    gap = MS
    times = gap * np.arange(MANY)
    kept = times + outs(Link(delay_ms=50, jitter_ms=5), MANY, gap)
    assert (np.diff(kept) >= 0).all()
    swapped = times + outs(Link(delay_ms=50, reorder=0.05, reorder_ms=3.5), MANY, gap)
    overtaken = np.diff(swapped) < 0
    # A run of held packets is overtaken once, behind its last: 0.05 * 0.95.
    assert abs(overtaken.mean() / 0.0475 - 1) < 0.06


@pytest.mark.parametrize("burst", [0, 4, 20])
def test_loss_is_the_share_that_was_set_and_comes_in_bursts_of_the_length_that_was_set(
    burst: float,
) -> None:
    lost = outs(Link(loss=0.05, burst=burst), MANY, MS) == LOST
    # Five standard deviations of a share over runs that are `burst` long.
    assert abs(lost.mean() - 0.05) < 5 * np.sqrt(0.05 * 2 * max(burst, 1) / MANY)
    edges = np.flatnonzero(np.diff(lost.astype(int)))
    runs = np.diff(edges)[::2] if lost[edges[0] + 1] else np.diff(edges)[1::2]
    expected = burst or 1 / 0.95
    assert abs(runs.mean() / expected - 1) < 5 / np.sqrt(len(runs))


def test_losses_in_bad_times_may_be_partial() -> None:
    lost = outs(Link(loss=0.1, burst=50, loss_bad=0.5), MANY, MS) == LOST
    assert abs(lost.mean() - 0.1) < 0.02
    after_a_loss = lost[1:][lost[:-1]]
    assert abs(after_a_loss.mean() - 0.5) < 0.05


def test_a_policer_lets_through_its_rate_and_never_more_than_its_bucket_above_it() -> None:
    rate, bucket, size, gap = 130, 4000, 200, 2 * MS  # offered 800 kbit/s
    passed = outs(Link(police_kbit=rate, bucket_bytes=bucket), 20_000, gap, size) != POLICED
    seconds = 20_000 * gap / 1e9
    assert abs(passed.sum() * size * 8 / seconds / (rate * 1000) - 1) < 0.02
    ideal = bucket + rate * 125 * gap * np.arange(20_000) / 1e9
    sent = np.cumsum(passed * size)
    assert (sent <= ideal + 1e-6).all()  # never above the ideal bucket ...
    assert (sent > ideal - 2 * size)[100:].all()  # ... nor more than a packet below it


def test_a_shaper_sends_at_its_rate_and_drops_what_would_wait_too_long() -> None:
    rate, size, gap = 400, 250, 2 * MS  # offered 1,000 kbit/s
    late = outs(Link(rate_kbit=rate, queue_ms=100), 10_000, gap, size)
    kept = late != OVERFLOW
    assert abs(kept.sum() * size * 8 / (10_000 * gap / 1e9) / (rate * 1000) - 1) < 0.02
    assert late[kept].max() <= 100 * MS + size * 8 * 1_000_000 // rate
    assert late[0] == size * 8 * 1_000_000 // rate


EF = 46


def turns(about: Link, points: list[int], times: Any, size: int = 500, side: int = 0) -> Any:
    """Return when each packet, of a code point and a time, leaves a queue, from its arrival."""
    link, state = np.zeros(1, LINK), np.zeros(1, STATE)
    fill_link(link[0], about, 7)
    came = zip(times, points, strict=True)
    out = [take_turn(link[0], state[0], size, int(time), side, point) for time, point in came]
    return np.where(np.array(out) < 0, out, out - times)


def test_the_gaps_of_cross_traffic_are_exponential() -> None:
    gaps = np.array([cross_gap(7, n, 8, MS) for n in range(20_000)]) / MS
    for share in (0.1, 0.5, 0.9):
        assert abs(np.mean(gaps < -np.log(1 - share)) - share) < 4 / np.sqrt(len(gaps))
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / np.sqrt(len(gaps))


def test_packets_that_go_first_wait_as_in_a_queue_with_priorities_and_others_as_without() -> None:
    """Mean waits: A. Cobham, Priority Assignment in Waiting Line Problems, 1954; for the others
    Pollaczek and Khinchine, because the time of a packet is fixed when it comes.
    """
    rate, cross, size, gap, count = 2000, 1200, 500, 10 * MS, 40_000
    times = START + np.cumsum(np.random.default_rng(1).exponential(gap, count)).astype(np.int64)
    points = [EF, 0] * (count // 2)
    about = Link(rate_kbit=rate, queue_ms=10_000, cross_kbit=cross, first=(EF,))
    own, other = size * 8 / rate, 1500 * 8 / rate  # ms
    waits = turns(about, points, times, size) / MS - own
    first_load, cross_load = own / 20, cross / rate
    residual = (cross_load * other + 2 * first_load * own) / 2
    expected = residual / (1 - first_load), residual / (1 - 2 * first_load - cross_load)
    assert abs(waits[::2].mean() / expected[0] - 1) < 0.05
    assert abs(waits[1::2].mean() / expected[1] - 1) < 0.1
    assert waits[::2].max() < other + 20 * own


def test_a_packet_that_goes_first_overtakes_those_that_wait_and_no_cross_traffic_is_alone() -> None:
    about = Link(rate_kbit=400, queue_ms=100, first=(EF,))
    times = START + np.array([0, 0, 0, MS, 2 * MS], np.int64)
    late = turns(about, [0, 0, 0, EF, EF], times) / MS
    assert late.tolist() == [10, 20, 30, 19, 28]  # behind the packet being sent, in their order
    assert (turns(about, [0] * 20, np.full(20, START)) / MS).tolist()[:12] == [
        *range(10, 120, 10),
        OVERFLOW / MS,
    ]
    crossed = Link(rate_kbit=400, queue_ms=100, cross_kbit=300, first=(EF,))
    times = START + 100 * MS * np.arange(9)
    there, back = (turns(crossed, [0] * 9, times, side=side) for side in (0, 1))
    assert (there != back).any()  # each direction has cross-traffic of its own


def test_draws_depend_on_key_and_packet_number_alone() -> None:
    one = outs(Link(loss=0.5, jitter_ms=3, delay_ms=20), 200, MS)
    assert (one == outs(Link(loss=0.5, jitter_ms=3, delay_ms=20), 200, MS)).all()
    other = outs(Link(loss=0.5, jitter_ms=3, delay_ms=20), 200, MS, key=8)
    assert (one != other).any()


@pytest.mark.parametrize("access", list(PRESETS))
def test_every_access_network_has_a_link_each_way_and_a_source(access: str) -> None:
    links = access_links(access, 1)
    assert (links["delay"] > 0).all()
    assert (links["rate"] > 100_000).all()
    assert links[0]["key"] != links[1]["key"]
    assert len(PRESETS[access].source) > 40


def test_an_unknown_access_network_is_told() -> None:
    with pytest.raises(TestbedError, match="got '5g', expected one of 3g, 4g"):
        access_links("5g", 1)
