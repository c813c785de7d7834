# SPDX-License-Identifier: BSD-3-Clause
"""The quality of a call from sizes and times: what it says of streams whose truth is known."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from midcall.captures.packets.pcap import CaptureFile, Packets, packets_of, read_with_notices
from midcall.captures.packets.writer import write_pcap
from midcall.classifier.call_quality import FIRST_PACKETS, MOST_TRACKS, RECORD, Meter
from midcall.classifier.engine import Engine
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.quality.estimate import (
    AUDIO,
    NO_MEDIA,
    VIDEO,
    Quality,
    estimate,
    lost_packets,
)
from midcall.classifier.quality.tracks import ROW, Rows
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGNS,
)
from midcall.errors import CaptureError
from tests.classifier.wire import ROOT, ether, noise, rtp, sample, udp_packet

MS = 1_000_000
START = 1_700_000_000 * 1000 * MS
#: Bytes of a capture of the corpus that the test reads, at most (the test takes seconds).
LARGEST = 200_000

#: Packets of a made-up stream: time in ms, payload bytes.
Sent = list[tuple[float, int]]


def capture(sent: Sent, begin: int = START, seed: int = 0) -> Packets:
    """Return packets of one UDP flow with payloads of noise."""
    frames = [ether(udp_packet(noise(size, seed + i))) for i, (_, size) in enumerate(sent)]
    return packets_of(frames, [begin + round(time * MS) for time, _ in sent])


def rows_of(packets: Packets) -> Rows:
    """Return the measured seconds of every flow."""
    meter = Meter(Engine(model=None), every=True)
    meter.feed(packets)
    return meter.rows()


def quality_of(sent: Sent) -> Quality:
    """Return the estimate of a made-up stream."""
    return estimate(rows_of(capture(sorted(sent))))


def voice(seconds: float, beat: float = 20.0, jitter: float = 1.0, seed: int = 1) -> Sent:
    """Return audio packets on a beat, with some jitter, their sizes as of speech."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 1000 / beat)
    late = rng.exponential(jitter, count)
    return [(i * beat + late[i], int(rng.integers(90, 130))) for i in range(count)]


def film(seconds: float, rate: float, seed: int = 2) -> Sent:
    """Return video packets: frames of equal packets, 5 ms between the packets of a frame."""
    rng = np.random.default_rng(seed)
    sent: Sent = []
    for frame in range(int(seconds * rate)):
        size = int(rng.integers(700, 1200))
        parts = int(rng.integers(1, 5))
        sent += [(1000 * frame / rate + 5 * part, size) for part in range(parts)]
    return sent


def inner(values: np.ndarray) -> np.ndarray:
    """Return the seconds of a stream without the first two and the last one."""
    return values[2:-1]


@pytest.mark.parametrize("beat", [20.0, 30.0, 60.0])
def test_audio_without_loss_has_none_and_is_never_silent(beat: float) -> None:
    quality = quality_of(voice(12, beat))
    assert np.all(quality.media == AUDIO)
    assert np.all(inner(quality.loss) == 0)
    assert np.all(inner(quality.silent) == 0)
    assert np.all(inner(quality.jitter_ms) < 3)
    assert np.all(np.isnan(quality.frame_rate))


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_loss_of_audio_is_counted(share: float) -> None:
    sent = voice(40)
    rng = np.random.default_rng(3)
    lost = rng.random(len(sent)) < share
    quality = quality_of([one for one, gone in zip(sent, lost, strict=True) if not gone])
    assert abs(float(np.mean(inner(quality.loss))) - lost.mean()) < 0.01


@pytest.mark.parametrize(("beat", "jitter"), [(20.0, 5.0), (60.0, 10.0)])
@pytest.mark.parametrize("size", [0, 108])
def test_jitter_of_packets_of_any_size_is_no_loss(beat: float, jitter: float, size: int) -> None:
    sent = [(time, size or own) for time, own in voice(20, beat, jitter)]
    assert np.mean(inner(quality_of(sent).loss)) < 0.01


def delivered(sent: Sent, every: float) -> Sent:
    """Return packets that a network holds until its next delivery, one each `every` ms."""
    return [(every * -(-time // every) + 0.01 * i, size) for i, (time, size) in enumerate(sent)]


def test_packets_that_come_in_batches_are_late_and_not_lost() -> None:
    sent = delivered(voice(30), 50)
    gone = np.random.default_rng(8).random(len(sent)) < 0.05
    for lost in (np.zeros(len(sent), bool), gone):
        rest = [one for one, left_out in zip(sent, lost, strict=True) if not left_out]
        rows = rows_of(capture(rest))[2:-1]
        missing = rows["missing"].sum()
        assert abs(missing / (missing + rows["spoken"].sum()) - lost.mean()) < 0.015


def test_lost_packets_are_counted_among_others_of_the_same_range_of_sizes() -> None:
    rng = np.random.default_rng(9)
    sent = [(60.0 * i + float(rng.exponential(2)), int(rng.integers(40, 300))) for i in range(600)]
    lost = rng.random(len(sent)) < 0.05
    rest = [one for one, gone in zip(sent, lost, strict=True) if not gone]
    others = [(990.0 * i + 17.0 * k, size) for i in range(36) for k, size in ((1, 84), (5, 104))]
    quality = quality_of([*rest, *others])
    assert abs(float(np.nanmean(quality.loss[12:-1])) - lost[200:].mean()) < 0.015


def test_loss_is_known_where_few_gaps_fit_the_beat_but_each_beat_has_a_packet() -> None:
    rng = np.random.default_rng(11)
    sent = [(time + float(rng.uniform(0, 14)), size) for time, size in voice(60, 20.0, 0.1)]
    lost = rng.random(len(sent)) < 0.04
    rest = [one for one, gone in zip(sent, lost, strict=True) if not gone]
    rows = rows_of(capture(sorted(rest)))
    assert np.mean(rows["steady"][10:-1]) < 0.4
    loss = estimate(rows).loss[20:-1]
    assert np.mean(np.isnan(loss)) < 0.1
    assert abs(float(np.nanmean(loss)) - lost[1000:].mean()) < 0.01


def test_packets_of_sizes_that_are_known_not_to_be_audio_fill_no_lost_beat() -> None:
    rng = np.random.default_rng(12)
    sent = [
        (60.0 * i + float(rng.exponential(2)), int(rng.integers(230, 290))) for i in range(1000)
    ]
    lost = rng.random(len(sent)) < 0.1
    rest = [one for one, gone in zip(sent, lost, strict=True) if not gone]
    others = [(210.0 * i + 7.0 * (i % 5), (42, 84, 108)[i % 3]) for i in range(285)]
    quality = quality_of([*rest, *others])
    assert abs(float(np.nanmean(quality.loss[20:-1])) - lost[333:].mean()) < 0.006


def test_a_second_that_is_mostly_a_pause_has_no_loss() -> None:
    sent = [(time, size) for time, size in voice(20) if time % 5000 > 800 or time < 5000]
    quality = quality_of(sent)
    pauses = [row for row, second in enumerate(quality.second.tolist()) if second % 5 == 0][1:]
    assert np.all(np.isnan(quality.loss[pauses]))
    assert np.mean(np.isnan(inner(quality.loss))) < 0.4


def test_pauses_after_comfort_noise_are_no_loss() -> None:
    rng = np.random.default_rng(10)
    sent: Sent = []
    time = 0.0
    for _ in range(60):
        for _ in range(int(rng.integers(10, 40))):
            sent.append((time, int(rng.integers(90, 130))))
            time += 20
        sent.append((time, 29))
        time += 20 * int(rng.choice([3, 4, 10, 20]))
    quality = quality_of(sent)
    assert np.nanmean(quality.loss[10:-1]) < 0.01


def test_a_burst_after_a_stall_is_late_and_not_silent() -> None:
    sent = [(5000.0 + 0.1 * i if 2000 <= t < 5000 else t, s) for i, (t, s) in enumerate(voice(12))]
    quality = quality_of(sent)
    assert not np.any(quality.silent == 1)
    assert np.nanmean(quality.loss) < 0.01


def test_a_wrong_cadence_is_corrected() -> None:
    start = voice(1.5, 60.0)
    sent = [*start, *delivered([(1500 + time, size) for time, size in voice(20)], 60)]
    rows = rows_of(capture(sorted(sent)))
    assert set(rows["cadence"][-10:].tolist()) == {20_000}


def test_a_late_packet_is_taken_back_in_the_second_in_which_it_was_missing() -> None:
    rows = np.zeros(9, ROW)
    rows["flow"] = [1] * 4 + [1] * 2 + [7] * 3
    rows["up"] = [1] * 4 + [0] * 2 + [1] * 3
    rows["missing"] = [2, 3, -2, 1, 4, -4, -1, 5, 0]
    assert lost_packets(rows).tolist() == [2, 1, 0, 1, 0, 0, 0, 4, 0]
    assert lost_packets(rows[:0]).tolist() == []


def test_a_flow_that_has_ended_leaves_the_meter() -> None:
    packets = capture(voice(6))
    meter = Meter(Engine(model=None), every=True)
    meter.feed(packets)
    whole, flow = meter.rows(), meter.engine.flows()
    assert meter.take(flow).tobytes() == whole.tobytes()
    assert len(meter.rows()) == 0
    assert len(meter.take(flow)) == 0


def test_loss_is_unknown_without_a_cadence() -> None:
    rng = np.random.default_rng(4)
    times = np.cumsum(rng.exponential(40, 400))
    quality = quality_of([(float(time), int(rng.integers(60, 250))) for time in times])
    assert np.mean(np.isnan(quality.loss)) > 0.9


def test_a_second_without_audio_between_others_is_silent() -> None:
    sent = [one for one in voice(12) if not 5000 <= one[0] < 8000]
    quality = quality_of(sent)
    assert [int(s) for s in quality.second[quality.silent == 1]] == [5, 6, 7]


def test_rtcp_in_a_pause_is_no_audio() -> None:
    sent = [one for one in voice(14) if not 5000 <= one[0] < 9000]
    quality = quality_of([*sent, (5500.0, 60), (7300.0, 52)])
    assert {5, 6, 7, 8} <= {int(s) for s in quality.second[quality.silent == 1]}


def test_comfort_noise_between_pauses_is_audio() -> None:
    sent: Sent = []
    for start in (0, 3000, 6000, 9000):
        sent += [(start + time, size) for time, size in voice(1.5)]
        sent.append((start + 1500.0, 29))
    sent.append((14_500.0, 29))
    quality = quality_of([*sent, *[(17_000 + time, size) for time, size in voice(2)]])
    silent = {int(s) for s in quality.second[quality.silent == 1]}
    assert {11, 12, 13, 15, 16} <= silent
    assert 14 not in silent


def test_late_packets_after_an_outage_show_that_the_sender_was_not_silent() -> None:
    sent = [one for one in voice(12) if not 2000 <= one[0] < 5200]
    late = [(5200.0 + 0.1 * i, 100) for i in range(30)]
    assert not np.any(quality_of([*sent, *late]).silent == 1)
    assert np.any(quality_of(sent).silent == 1)


def test_a_few_packets_before_a_call_are_no_audio() -> None:
    few = [(180.0 * i, 100) for i in range(4)]
    assert not np.any(quality_of([*few, *[(6000 + t, size) for t, size in voice(6)]]).silent == 1)


def test_a_packet_that_is_older_than_the_first_one_counts_in_the_first_second() -> None:
    packets = capture([(1500.0, 90), *voice(3)])
    assert rows_of(packets)["second"].min() == 0
    frames = [ether(udp_packet(noise(90, number), (40000 + number, 7000))) for number in (0, 1)]
    rows = rows_of(packets_of(frames, [START, START - 1500 * MS]))
    assert rows["second"].tolist() == [0, 0]


@pytest.mark.parametrize("rate", [7.0, 15.0, 30.0])
def test_frames_of_equal_packets_are_counted(rate: float) -> None:
    quality = quality_of(film(12, rate))
    assert np.all(inner(quality.media) == VIDEO)
    assert np.mean(np.abs(inner(quality.frame_rate) - rate) <= 2) > 0.9


def test_audio_beside_video_is_told_from_it() -> None:
    quality = quality_of([*film(12, 25), *voice(12)])
    assert np.all(inner(quality.media) == VIDEO)
    assert np.mean(np.abs(inner(quality.frame_rate) - 25) <= 2) > 0.9
    assert np.mean(inner(quality.loss) <= 0.02) > 0.9


def test_frames_that_fill_packets_up_to_the_mtu_are_counted_by_gaps() -> None:
    rng = np.random.default_rng(5)
    sent: Sent = []
    for frame in range(300):
        sizes = [1252, 1252, int(rng.integers(200, 1100)), 1252, int(rng.integers(200, 1100))]
        sent += [(40.0 * frame + 0.2 * part, size) for part, size in enumerate(sizes)]
    quality = quality_of(sent)
    assert np.mean(np.abs(inner(quality.frame_rate) - 25) <= 2) > 0.9


def test_longer_packets_of_error_correction_do_not_begin_frames() -> None:
    rng = np.random.default_rng(6)
    sent: Sent = []
    for frame in range(300):
        size = int(rng.integers(700, 1100))
        parts = [size, size, size, size + 32]
        sent += [(40.0 * frame + 4.0 * part, one) for part, one in enumerate(parts)]
    quality = quality_of(sent)
    assert np.mean(np.abs(inner(quality.frame_rate) - 25) <= 2) > 0.9


def test_a_few_packets_are_of_unknown_media() -> None:
    quality = quality_of([(0.0, 60), (900.0, 60)])
    assert np.all(quality.media == NO_MEDIA)
    assert np.all(np.isnan(quality.confidence))


def test_the_clock_does_not_matter() -> None:
    sent = sorted([*film(6, 20), *voice(6)])
    first, second = rows_of(capture(sent)), rows_of(capture(sent, START + 123_456_789_012))
    assert first.tobytes() == second.tobytes()


def test_the_payload_does_not_matter() -> None:
    sent = sorted([*film(6, 20), *voice(6)])
    assert rows_of(capture(sent)).tobytes() == rows_of(capture(sent, seed=9999)).tobytes()


@pytest.mark.parametrize(
    "name", ["sample-whatsapp-video", "sample-messenger-audio", "sample-facetime-muxed"]
)
def test_samples_with_noise_for_payloads_have_the_same_rows(name: str) -> None:
    packets = sample(name)
    blinded = without_payloads(packets)
    assert not np.array_equal(packets.data, blinded.data)
    assert rows_of(packets).tobytes() == rows_of(blinded).tobytes()


def test_the_batches_of_a_capture_do_not_matter() -> None:
    packets = sample("sample-whatsapp-video")
    meter = Meter(Engine(model=None), every=True)
    for begin in range(0, packets.total, 37):
        meter.feed(packets.take(slice(begin, begin + 37)))
    assert meter.rows().tobytes() == rows_of(packets).tobytes()


def test_a_file_has_the_rows_of_its_batches(tmp_path: Path) -> None:
    packets, path = sample("sample-whatsapp-video"), tmp_path / "own.pcap"
    write_pcap(path, packets, nanoseconds=True)
    meter = Meter(Engine(model=None), every=True)
    meter.through(CaptureFile(str(path)))
    assert meter.rows().tobytes() == rows_of(packets).tobytes()


@pytest.mark.parametrize("count", range(1, FIRST_PACKETS + 3))
def test_the_first_packets_of_a_flow_are_counted(count: int) -> None:
    meter = Meter(Engine(model=None), every=True)
    meter.feed(capture(voice(1)[:count]))
    for _ in range(2):  # asking does not change the rows
        assert meter.rows()["packets"].tolist() == [count]


def test_more_flows_than_tracks_leave_room_for_a_later_call() -> None:
    flows, each = MOST_TRACKS + 500, FIRST_PACKETS + 1
    ports = [(1024 + flow % 60_000, 5000 + flow // 60_000) for flow in range(flows)]
    own = [ether(udp_packet(noise(40, 1), pair)) for pair in ports]
    frames = [frame for frame in own for _ in range(each)]
    times = [START + i * MS // 10 for i in range(len(frames))]
    meter = Meter(Engine(model=None), every=True)
    meter.feed(packets_of(frames, times))
    sent, later = voice(6), times[-1] + 5000 * MS
    meter.feed(capture(sent, later))
    rows = meter.rows()
    assert meter.refused == 0
    assert rows["packets"].sum() == len(frames) + len(sent)
    call = rows[rows["flow"] == len(frames)]
    assert call["packets"].sum() == len(sent)
    assert np.all(call["missing"][2:-1] == 0)
    assert np.all(call["cadence"][2:] == 20_000)


def test_a_flow_that_is_no_call_gives_its_tracks_back() -> None:
    meter = Meter(Engine(model=None))
    meter.feed(sample("sample-web"))
    flows = meter.engine.flows()
    kept = np.count_nonzero(meter.state.owners[:, RECORD])
    assert kept < len(flows)


def without_payloads(packets: Packets) -> Packets:
    """Return packets whose UDP and TCP payloads are noise; headers are kept."""
    data, signs = packets.data.copy(), np.zeros(SIGNS, np.int64)
    fragments, rng = np.zeros((FRAGMENTS, 2), np.int64), np.random.default_rng(7)
    for i in range(packets.total):
        at, wire, link = (int(packets[which][i]) for which in (1, 3, 5))
        end = at + int(packets.captured[i])
        found = decode(packets.data, at, end, wire, link, signs, fragments)
        if found == DECODED and signs[SIGN_PAYLOAD_SIZE] > 0:
            start, stop = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
            data[start:stop] = rng.integers(0, 256, max(stop - start, 0), np.uint8)
    return packets._replace(data=data)


@pytest.mark.corpus
def test_calls_of_the_corpus_with_noise_for_payloads_have_the_same_rows(corpus: Path) -> None:
    seen = 0
    for path in sorted(corpus.rglob("*.pcap*")):
        if path.stat().st_size > LARGEST:
            continue
        try:
            packets, _ = read_with_notices(path)
        except CaptureError:
            continue
        rows = rows_of(packets)
        assert rows.tobytes() == rows_of(without_payloads(packets)).tobytes(), path.name
        seen += len(rows) > 0
    assert seen > 50


def test_rtp_headers_are_not_read() -> None:
    frames = [ether(udp_packet(rtp(111, i, 960 * i) + noise(80, i))) for i in range(400)]
    times = [START + 20 * MS * i for i in range(400)]
    shuffled = [ether(udp_packet(rtp(0, 7 * i, i) + noise(80, i))) for i in range(400)]
    assert rows_of(packets_of(frames, times)).tobytes() == (
        rows_of(packets_of(shuffled, times)).tobytes()
    )


def digest(name: str) -> str:
    """Return the sha256 (hex) of the rows of a sample."""
    return hashlib.sha256(rows_of(sample(name)).tobytes()).hexdigest()


def test_plain_python_and_compiled_code_measure_the_same() -> None:
    name = "sample-whatsapp-video"
    code = f"from tests.classifier.test_quality import digest; print(digest({name!r}))"
    plain = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert plain.stdout.strip() == digest(name)


def test_a_meter_classifies_as_the_engine_does() -> None:
    packets = sample("sample-whatsapp-video")
    engine, meter = Engine(seed=0), Meter(Engine(seed=0))
    assert np.array_equal(engine.feed(packets), meter.feed(packets))
    flows, measured = engine.flows(), meter.engine.flows()
    measured["mark"] = 0  # where the meter notes a flow's tracks
    assert flows.tobytes() == measured.tobytes()
