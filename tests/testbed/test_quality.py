# SPDX-License-Identifier: BSD-3-Clause
"""Quality: values that ITU-T and RFC 3550 publish, and directions made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.testbed.assess import quality
from midcall.testbed.assess.quality import AMR_WB, CODECS, G711, G729A, Codec

MS = 1_000_000
G723 = Codec("G.723.1 at 6.3 kbit/s with silence suppression", 15.0, 16.1, 67.5)


# G.107 annex B, table B.1: R and the MOS it stands for
@pytest.mark.parametrize(
    ("r", "mos"),
    [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (-5, 1.0),
     (100, 4.5), (120, 4.5)],
)  # fmt: skip
def test_mos_is_that_of_the_table_of_the_e_model(r: float, mos: float) -> None:
    assert quality.mos(r) == pytest.approx(mos, abs=0.01)


def test_a_connection_with_nothing_wrong_has_the_default_rating() -> None:
    assert quality.rating(G711, 0.0, 0.0) == pytest.approx(93.2)
    assert quality.rating(AMR_WB, 0.0, 0.0) == pytest.approx(129 - 13)
    assert quality.opinion(AMR_WB, 129.0) == pytest.approx(4.5)


# G.113 appendix I gives Ie at random loss: per cent lost -> Ie, of tables made by listening tests
TABLES = [
    (G729A, {0: 11, 0.5: 13, 1: 15, 1.5: 17, 2: 19, 4: 26, 8: 36, 16: 49}, 0.7),
    (G723, {0: 15, 0.5: 17, 1: 19, 1.5: 22, 2: 24, 4: 32, 8: 41, 16: 55}, 1.1),
    (G711, {0: 0, 2: 7, 3: 10, 5: 15, 7: 20, 15: 35}, 0.9),
]


@pytest.mark.parametrize(("codec", "table", "off"), TABLES)
def test_loss_impairs_a_codec_as_its_published_table_says(
    codec: Codec, table: dict[float, float], off: float
) -> None:
    for percent, impairment in table.items():
        assert quality.loss_impairment(codec, percent / 100) == pytest.approx(impairment, abs=off)


def test_bursts_hurt_more_than_random_loss_and_wideband_knows_random_loss_only() -> None:
    assert quality.loss_impairment(G711, 0.02, 2.0) == pytest.approx(95 * 2 / (1 + 25.1))
    assert quality.loss_impairment(G711, 0.02, 0.5) == quality.loss_impairment(G711, 0.02)
    assert quality.loss_impairment(AMR_WB, 0.02, 2.0) == quality.loss_impairment(AMR_WB, 0.02)


# one-way delay in ms -> Idd; at 200 and 400 ms the logarithm is 1 and 2, which a hand can work out
@pytest.mark.parametrize(
    ("delay", "impairment"),
    [
        (0, 0.0),
        (100, 0.0),
        (200, 25 * (2 ** (1 / 6) - 3 * (1 + 3**-6) ** (1 / 6) + 2)),
        (400, 25 * (65 ** (1 / 6) - 3 * (1 + (2 / 3) ** 6) ** (1 / 6) + 2)),
    ],
)
def test_delay_impairs_from_100_ms_on(delay: float, impairment: float) -> None:
    assert quality.delay_impairment(delay) == pytest.approx(impairment)


def test_the_rating_follows_the_curve_of_g_114() -> None:
    # G.114 figure 1: users very satisfied to 150 ms and more, many dissatisfied below 70 at 400
    assert quality.rating(G711, 150, 0) > 90
    assert 68 < quality.rating(G711, 400, 0) < 70
    assert quality.delay_impairment(1e6) < 60


def test_jitter_is_the_running_estimate_of_rfc_3550() -> None:
    # transit times that alternate by 16 units: J grows by (16 - J) / 16 with each packet
    sent = np.arange(40, dtype=np.int64) * 1_000_000
    came = sent + np.where(np.arange(40) % 2, 16_000, 0)
    j, seen = 0.0, []
    for _ in range(39):
        j += (16_000 - j) / 16
        seen.append(j)
    assert quality.jitter(sent, came) == pytest.approx(np.mean(seen), rel=1e-3)


def test_a_constant_delay_is_no_jitter_and_one_packet_has_none() -> None:
    sent = np.arange(9, dtype=np.int64)
    assert quality.jitter(sent, sent + 500) == 0
    assert quality.jitter(sent[:1], sent[:1] + 5) == 0


# losses in order -> BurstR
@pytest.mark.parametrize(
    ("lost", "ratio"),
    [
        ("....", 1.0),
        ("xxxx", 1.0),
        ("xx......", 2 * 0.75),
        ("x...xxx.", 2 * 0.5),
        ("x.x.x.x.", 1.0),
    ],
)
def test_the_burst_ratio_is_the_mean_burst_over_that_of_random_loss(
    lost: str, ratio: float
) -> None:
    assert quality.burst_ratio(np.array([c == "x" for c in lost])) == pytest.approx(ratio)


def test_the_burst_ratio_of_a_two_state_chain_is_one_over_the_sum_of_its_chances() -> None:
    # G.107 section 7.5: a Markov chain that enters loss with chance p and leaves it with q
    draw, p, q = np.random.default_rng(5), 0.02, 0.3
    bad, lost = False, []
    for one in draw.random(200_000):
        bad = one >= q if bad else one < p
        lost.append(bad)
    assert quality.burst_ratio(np.array(lost)) == pytest.approx(1 / (p + q), rel=0.03)


def sent_and_came(count: int = 500, delay: int = 30) -> tuple[Any, Any]:
    """Return packets every 20 ms that all come after `delay` ms."""
    sent = np.arange(count, dtype=np.int64) * 20 * MS
    return sent, sent + delay * MS


def test_an_untouched_direction_is_heard_as_it_was_sent() -> None:
    rated = quality.hear(*sent_and_came(), True)
    assert rated is not None
    assert (rated.expected, rated.arrived, rated.loss, rated.late) == (500, 500, 0.0, 0.0)
    assert (rated.delay_ms, rated.jitter_ms, rated.burst) == (30.0, 0.0, 1.0)
    assert rated.r == pytest.approx(93.2)
    assert rated.mos == rated.mos_high == pytest.approx(4.41, abs=0.01)
    assert rated.mos_low == pytest.approx(quality.mos(93.2 - 11), abs=0.01)
    assert not rated.beyond


def test_each_second_has_its_own_opinion_and_few_packets_have_none() -> None:
    sent, came = sent_and_came(205)
    came[60:100:10] = -1  # 4 of second 1
    came[100:150] = -1  # second 2
    whole, some, none, rest, few = quality.second_scores(sent, came, sent // (1000 * MS))
    assert whole == rest == pytest.approx(4.41, abs=0.01)
    assert some is not None
    assert 3.0 < some < 4.3
    assert none == 1.0
    assert few is None  # 5 packets


def test_loss_and_delay_are_measured_and_cost_opinion() -> None:
    sent, came = sent_and_came(delay=300)
    came[::20] = -1
    rated = quality.hear(sent, came, True)
    assert rated is not None
    assert (rated.loss, rated.delay_ms) == (pytest.approx(0.05), pytest.approx(300))
    wanted = 93.2 - quality.delay_impairment(300 + 20 + 20) - 95 * 5 / (5 + 25.1)
    assert rated.r == pytest.approx(wanted)
    assert rated.mos_low < rated.mos <= rated.mos_high


def test_what_comes_after_its_turn_is_lost_to_the_ear() -> None:
    sent, came = sent_and_came()
    came[::10] += 500 * MS
    rated = quality.hear(sent, came, True)
    assert rated is not None
    assert (rated.loss, rated.late) == (0.0, pytest.approx(0.1))
    assert rated.r is not None
    assert rated.r < 93.2 - 95 * 10 / (10 + 25.1) + 1e-6
    assert rated.jitter_ms is not None
    assert rated.jitter_ms > 20


def test_a_little_jitter_is_paid_for_in_delay_alone() -> None:
    sent, came = sent_and_came()
    came[::2] += 60 * MS
    rated = quality.hear(sent, came, True)
    assert rated is not None
    assert rated.late == 0.0
    assert rated.r == pytest.approx(93.2 - quality.delay_impairment(30 + 60 + 20))


def test_what_is_no_voice_or_hardly_came_gets_no_opinion() -> None:
    sent, came = sent_and_came()
    video = quality.hear(sent, came, False)
    assert video is not None
    assert video.mos is None
    assert video.delay_ms == 30.0
    came[quality.FEWEST - 1 :] = -1
    few = quality.hear(sent, came, True)
    assert few is not None
    assert few.r is None
    assert few.beyond
    came[:] = -1
    none = quality.hear(sent, came, True)
    assert none is not None
    assert (none.loss, none.delay_ms, none.mos) == (1.0, None, None)
    assert quality.hear(sent[:0], came[:0], True) is None


def test_the_assumed_codec_forgives_loss_most() -> None:
    drops = {one.name: quality.loss_impairment(one, 0.05) - one.ie for one in CODECS}
    assert min(drops, key=lambda name: drops[name]) == quality.ASSUMED.name
