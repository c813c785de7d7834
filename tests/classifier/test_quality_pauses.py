# SPDX-License-Identifier: BSD-3-Clause
"""Losses in pauses of made-up audio, and packets of other kinds in pauses."""

from __future__ import annotations

import numpy as np
import pytest

from tests.classifier.test_quality import Sent, capture, inner, quality_of, rows_of

#: Beats of silence in a pause (400 ms of 20 ms, 360 ms of 60 ms), ms of a beat.
PERIODS = ((20.0, 20), (60.0, 6))


def talk(beat: float, period: int, group: tuple[int, ...], spurts: int = 10) -> Sent:
    """Return speech of 1.5 s and pauses of three groups of packets of some sizes, in turn."""
    rng, sent, time = np.random.default_rng(6), [], 0.0
    for _ in range(spurts):
        for _ in range(int(1500 / beat)):
            sent.append((time, int(rng.integers(180, 220))))
            time += beat
        sent.append((time, group[-1]))
        for _ in range(3):
            time += beat * period
            for size in group:
                sent.append((time, size))
                time += beat
            time -= beat
        time += beat * (period // 2)
    return sent


def lost(sent: Sent) -> int:
    """Return how many packets are counted as lost after the first six seconds."""
    rows = rows_of(capture(sorted(sent)))
    return int(rows["missing"][rows["second"] >= 6].sum())


@pytest.mark.parametrize(("beat", "period"), PERIODS)
@pytest.mark.parametrize("group", [(30,), (70, 30)])
def test_packets_of_pauses_are_no_loss_and_their_losses_are_counted(
    beat: float, period: int, group: tuple[int, ...]
) -> None:
    sent = talk(beat, period, group)
    assert lost(sent) == 0
    sizes = [size if time > 8000 else 0 for time, size in sent]
    inside = [i for i in range(1, len(sent) - 1) if {*sizes[i - 1 : i + 2]} <= {*group}]
    gone = inside[1::5]
    assert len(gone) >= 2
    assert abs(lost([one for i, one in enumerate(sent) if i not in gone]) - len(gone)) <= 1


@pytest.mark.parametrize(("beat", "period"), PERIODS)
def test_a_packet_of_another_kind_in_a_pause_is_no_speech(beat: float, period: int) -> None:
    sent = talk(beat, period, (30,))
    ends = [time for time, size in sent if size == 30 and time > 6000][1::4]
    strays = [(time + 0.4 * period * beat, 190) for time in ends]
    assert lost([*sent, *strays]) <= 1


def test_a_sender_that_stops_for_long_loses_nothing() -> None:
    sent = talk(20.0, 20, (30,))
    begin = next(time for time, size in sent if size == 30 and time > 9000)
    stopped = [(time + 5000 if time > begin else time, size) for time, size in sent]
    assert lost(stopped) == 0


def test_a_beat_that_jitter_hides_is_that_of_the_mean_gap() -> None:
    rng = np.random.default_rng(2)
    sent = np.arange(0, 40_000, 60.0)
    arrived = np.ceil((sent + 20) / 100) * 100 + 0.1 * np.arange(len(sent)) % 1
    kept = rng.random(len(sent)) >= 0.05
    sizes = rng.integers(55, 90, len(sent))
    found = list(zip(arrived[kept].tolist(), sizes[kept].tolist(), strict=True))
    rows = rows_of(capture(sorted(found)))
    assert set(rows["cadence"][rows["second"] >= 12].tolist()) == {60_000}
    loss = inner(quality_of(sorted(found)).loss)[12:]
    assert np.isfinite(loss).mean() > 0.8
    assert abs(np.nanmean(loss) - 0.05) < 0.015


@pytest.mark.parametrize(("beat", "period"), [(20.0, 21), (60.0, 7)])
def test_gaps_that_repeat_show_pauses_where_comfort_noise_is_as_long_as_speech(
    beat: float, period: int
) -> None:
    rng, sent, time = np.random.default_rng(7), [], 0.0
    for _ in range(12):
        sent += [(time + beat * i, int(rng.integers(60, 100))) for i in range(int(1800 / beat))]
        time = sent[-1][0]
        for _ in range(5):
            time += period * beat
            sent.append((time, int(rng.integers(56, 66))))
        time += beat * int(rng.integers(2, period))
    quality = quality_of(sent)
    late = quality.second >= 6
    assert np.nansum(quality.loss[late] > 0) <= 2
    assert not np.any(quality.silent[late] == 1)


@pytest.mark.parametrize(("beat", "period"), [(20.0, 20), (60.0, 7)])
def test_the_first_comfort_noise_of_a_call_is_audio(beat: float, period: int) -> None:
    rng = np.random.default_rng(8)
    sent = [(beat * i, int(rng.integers(120, 160))) for i in range(int(6000 / beat))]
    begin = sent[-1][0]
    noise = [(begin + period * beat * (i + 1), int(rng.integers(50, 55))) for i in range(14)]
    after = noise[-1][0] + beat
    speech = [(after + beat * i, int(rng.integers(120, 160))) for i in range(int(3000 / beat))]
    quality = quality_of([*sent, *noise, *speech])
    assert np.sum(quality.silent == 1) <= 1
    assert np.nansum(quality.loss > 0) == 0
