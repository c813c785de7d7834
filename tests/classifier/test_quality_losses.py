# SPDX-License-Identifier: BSD-3-Clause
"""Losses, pauses and stalls of audio, and frames with a longer first packet, in made-up streams."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.classifier.quality.estimate import AUDIO
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
    gone = without(voice(30), 24_000, 24_000 + 20 * beats)
    assert abs(missing(gone) - beats) <= 1


def test_the_first_long_gap_of_sizes_that_vary_is_no_known_loss() -> None:
    quality = quality_of(without(voice(14), 6_200, 6_500))
    assert np.flatnonzero(np.isnan(inner(quality.loss))).tolist() == [4]
    assert not np.any(inner(quality.loss) > 0)


def test_the_same_gap_of_a_constant_rate_is_loss() -> None:
    quality = quality_of(without([(time, 172) for time, _ in voice(14)], 6_200, 6_500))
    assert abs(float(quality.loss[6]) - 0.3) <= 0.02


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


@pytest.mark.parametrize("beat", [40.0, 60.0])
def test_long_packets_of_a_constant_rate_are_audio(beat: float) -> None:
    sent = [(time, int(8 * beat) + 12) for time, _ in voice(20, beat)]
    lost = np.random.default_rng(4).random(len(sent)) < 0.05
    quality = quality_of([one for one, gone in zip(sent, lost, strict=True) if not gone])
    assert np.all(inner(quality.media) == AUDIO)
    assert abs(float(np.mean(inner(quality.loss))) - lost.mean()) < 0.01


@pytest.mark.parametrize(("beat", "each"), [(20.0, 62.5), (60.0, 110.0)])
def test_reports_of_what_arrived_hide_no_loss(beat: float, each: float) -> None:
    rng = np.random.default_rng(5)
    sent = [(beat * i + float(rng.exponential(1)), int(rng.integers(120, 280))) for i in range(900)]
    lost = rng.random(len(sent)) < 0.06
    rest = [one for one, gone in zip(sent, lost, strict=True) if not gone]
    count = int(900 * beat / each)
    reports = [
        (each * i + float(rng.uniform(0, each)), int(rng.choice([38, 42]))) for i in range(count)
    ]
    quality = quality_of([*rest, *reports])
    half = len(quality.loss) // 2
    assert np.mean(np.isnan(quality.loss[half:-1])) < 0.2
    assert abs(float(np.nanmean(quality.loss[half:-1])) - lost[450:].mean()) < 0.015


def test_frames_that_fill_packets_are_counted_by_gaps_where_few_follow_at_once() -> None:
    rng, sent = np.random.default_rng(7), []
    for frame in range(360):
        start, size = 1000 * frame / 30 + float(rng.uniform(0, 2)), int(rng.integers(350, 900))
        sizes = [1200, size] if rng.random() < 0.11 else [size]
        sent += [(start + 0.1 * part, one) for part, one in enumerate(sizes)]
    quality = quality_of(sent)
    assert np.mean(np.abs(inner(quality.frame_rate) - 30) <= 2) > 0.9


def test_a_few_packets_that_others_overtake_are_not_lost() -> None:
    rng = np.random.default_rng(9)
    late = rng.random(1500) < 0.05
    sent = [
        (20.0 * i + float(rng.exponential(0.5)) + late[i] * float(rng.uniform(0, 40)), 172)
        for i in range(1500)
    ]
    assert np.nanmean(inner(quality_of(sorted(sent)).loss)) < 0.005
