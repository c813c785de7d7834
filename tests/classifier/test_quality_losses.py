# SPDX-License-Identifier: BSD-3-Clause
"""Losses, pauses and stalls of audio, and frames with a longer first packet, in made-up streams."""

from __future__ import annotations

import numpy as np
import pytest

from tests.classifier.test_quality import Sent, capture, film, inner, quality_of, rows_of, voice


def without(sent: Sent, begin: float, end: float) -> Sent:
    """Return packets that are not sent from `begin` to before `end` (ms)."""
    return [one for one in sent if not begin <= one[0] < end]


def missing(sent: Sent) -> int:
    """Return how many packets are counted as lost after the first two seconds."""
    rows = rows_of(capture(sorted(sent)))
    return int(rows["missing"][rows["second"] >= 2].sum())


def talk(spurts: int, seed: int = 5) -> Sent:
    """Return speech of 1.5 s each, comfort noise at its end and a pause of 400 ms after it."""
    rng, sent = np.random.default_rng(seed), []
    for spurt in range(spurts):
        start = 1920.0 * spurt
        sent += [(start + 20 * i, int(rng.integers(90, 130))) for i in range(75)]
        sent.append((start + 1500, 29))
    return sent


@pytest.mark.parametrize("beats", [6, 9, 15])
def test_an_outage_of_a_codec_that_never_pauses_is_counted(beats: int) -> None:
    gone = without(voice(14), 6000, 6000 + 20 * beats)
    assert abs(missing(gone) - beats) <= 1


def test_a_pause_after_comfort_noise_is_no_loss() -> None:
    assert missing(talk(12)) == 0


def test_a_sender_that_sends_a_small_packet_each_150_ms_loses_nothing() -> None:
    sent = [(20.0 * i, 172) for i in range(300)]
    assert missing([*sent, *[(6000 + 150.0 * i, 13) for i in range(130)]]) <= 8


def test_a_loss_among_packets_of_comfort_noise_is_counted() -> None:
    sent: Sent = []
    for spurt in range(8):
        start = 2000.0 * spurt
        sent += [(start + time, size) for time, size in voice(1.2, seed=spurt)]
        sent += [(start + 1200 + 20 * i, 43) for i in range(5)]
    lost = [(2000.0 * spurt + 1240, 43) for spurt in range(4, 7)]
    assert missing(sent) == 0
    assert missing([one for one in sent if one not in lost]) == len(lost)


def test_packets_that_a_stall_lost_are_counted_where_the_rest_comes_at_once() -> None:
    sent = talk(10)
    begin = 1920.0 * 6 + 400
    stalled = [one for one in sent if begin <= one[0] < begin + 160]
    late = [(begin + 160 + 0.01 * i, size) for i, (_, size) in enumerate(stalled[:5])]
    assert len(stalled) == 8
    assert abs(missing([*without(sent, begin, begin + 160), *late]) - 3) <= 1


def test_a_packet_of_another_kind_does_not_hide_the_loss_before_the_next_one() -> None:
    sent = voice(20)
    places = range(250, 900, 50)
    kept = [one for i, one in enumerate(sent) if i + 1 not in places]
    others = [(20.0 * place - 3, 170 + i % 40) for i, place in enumerate(places)]
    assert abs(missing([*kept, *others]) - len(places)) <= 2


@pytest.mark.parametrize("rate", [10.0, 16.0, 25.0])
def test_a_longer_first_packet_of_a_frame_is_no_frame_of_its_own(rate: float) -> None:
    rng, sent = np.random.default_rng(3), []
    for frame in range(int(12 * rate)):
        start, size = 1000 * frame / rate, int(rng.integers(700, 1000))
        sent.append((start, size + int(rng.integers(50, 160))))
        sent += [(start + 6 + part, size) for part in range(int(rng.integers(1, 4)))]
    quality = quality_of(sent)
    assert np.mean(np.abs(inner(quality.frame_rate) - rate) <= 2) > 0.9


def test_a_frame_soon_after_another_one_is_counted() -> None:
    rng, sent = np.random.default_rng(4), []
    for frame in range(360):
        times = [33.3 * frame, 33.3 * frame + 7] if frame % 10 == 0 else [33.3 * frame]
        sent += [(time, int(rng.integers(500, 1100))) for time in times]
    quality = quality_of(sent)
    assert np.mean(np.abs(inner(quality.frame_rate) - 33) <= 1) > 0.8


def test_frames_without_a_longer_first_packet_are_counted_as_before() -> None:
    quality = quality_of(film(12, 20))
    assert np.mean(np.abs(inner(quality.frame_rate) - 20) <= 2) > 0.9


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_few_packets_between_pauses_are_no_audio(others: int) -> None:
    sent = without(voice(14), 5000, 9000)
    few = [(6300.0 + 300 * i, 60 + 4 * i) for i in range(others - 1)]
    quality = quality_of([*sent, *few])
    assert {5, 6, 7, 8} <= {int(second) for second in quality.second[quality.silent == 1]}
