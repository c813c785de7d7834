# SPDX-License-Identifier: BSD-3-Clause
"""The columns of a second's quality, from what the meter counted; a value that is unknown is
NaN."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.quality.tracks import (
    BURSTS,
    FRAME_COUNT,
    GAPS,
    LARGE,
    MIXED,
    PACKETS,
    REGULAR,
    SECONDS,
    SMALL,
    SPOKEN,
    Rows,
)

Floats = NDArray[np.float64]

#: The kinds of media, by number; NO_MEDIA is for a second whose kind is unknown.
MEDIA_KINDS = ("audio", "video", "screen", "data")
NO_MEDIA, AUDIO, VIDEO, SCREEN, DATA = -1, 0, 1, 2, 3
#: Long packets a second of a direction without audio and video that are data.
DATA_LEAST = 0.5
#: A screen shows fewer frames a second than this, for so many seconds.
SCREEN_RATE, SCREEN_SECONDS = 3.0, 3.5
#: Packets a second of audio whose beat is not known yet; packets below which nothing is known, and
#: below which a second has no audio while the beat is not known (RTCP and STUN come more rarely).
AUDIO_LEAST, FEWEST_PACKETS, FEWEST_UNSURE = 8.0, 3, 6
#: Audio packets of the last seconds from which audio runs beside video; or the share of packets of
#: LIMITS[0] to LIMITS[1] bytes.
BESIDE, SMALL_SHARE = 4.0, 0.15
#: Share of packets in bursts that differ in size from which gaps begin frames, and the fewest
#: bursts.
UNEVEN, UNEVEN_LEAST = 0.35, 16.0
#: Share of the frames that gaps begin which come at regular intervals, from which gaps begin frames
#: where at least this share of the packets in bursts differ in size; the fewest gaps.
EVERY, FILLED, FEWEST_GAPS = 0.65, 0.1, 8.0
#: A few more changes of size than frames, by this factor at most, are frames: two of nearly equal
#: size, or two soon after each other, were counted as one.
MERGED = 1.15
#: Short packets of a second without audio, at most: RTCP and STUN.
MOST_OTHERS = 4
#: The rules for frames agree where their counts differ by less than these shares; how often the
#: frame rate was then right within 2 (the corpus of November 2026: 693 seconds of 12 repositories).
SURE, UNSURE = 0.1, 0.5
AGREED, DIFFER, FAR_APART = 0.93, 0.80, 0.76
#: Frames by which the true rate differs in one second of ten at most, where the rules agree: at
#: least, and by share; and where they do not.
SURE_LEAST, SURE_SHARE, LEAST, SHARE = 2.0, 0.15, 2.0, 0.3
#: Loss is known of at least so many audio packets, where so many of the gaps fit the beat, or so
#: many of the beats have one packet (packets at random times: up to 0.85).
FEWEST_SPOKEN, LEAST_STEADY, LEAST_ORDERLY = 6, 0.35, 0.88
#: µs of audio in a second of which a loss is known: in a pause one lost packet is much of it.
LEAST_HEARD = 300_000
#: Seconds without a packet that are a pause of a stream, at most; longer ones are not rows.
LONGEST_PAUSE = 30
#: Packets of a second that follow a pause of at least PAUSE beats each and are no comfort noise:
#: fewer are no audio.
LONE = 3
#: µs of audio in one second, above which the time without packets before it was a stall: no more
#: than a second of audio is sent in a second; a tenth more is jitter.
STALLED = 1_100_000


class Quality(NamedTuple):
    """The quality of n seconds of directions, one row each; NaN (of media: -1) is unknown.

    flow: int64, number of the flow's first packet; up: 1 from the flow's source; second: from the
    start of the capture; packets, octets: IP, on the wire; media: of MEDIA_KINDS; frame_rate: per
    second, with the interval that holds it in 90 % of seconds; loss: share of packets; gap_ms,
    jitter_ms; silent: 1.0 a second without any audio packet; confidence: 0 to 1.
    """

    flow: NDArray[np.int64]
    up: NDArray[np.int64]
    second: NDArray[np.int64]
    packets: NDArray[np.int64]
    octets: NDArray[np.int64]
    media: NDArray[np.int64]
    frame_rate: Floats
    frame_rate_low: Floats
    frame_rate_high: Floats
    loss: Floats
    gap_ms: Floats
    silent: Floats
    jitter_ms: Floats
    confidence: Floats


def with_pauses(rows: Rows) -> Rows:
    """Return rows with one empty row for each second of a pause after them."""
    pauses = np.where(rows["idle"] <= LONGEST_PAUSE, rows["idle"], 0)
    result = np.repeat(rows, pauses + 1)
    ahead = np.arange(len(result)) - np.repeat(np.cumsum(pauses + 1) - pauses - 1, pauses + 1)
    result["second"] += ahead
    empty = ahead > 0
    for name in ("packets", "octets", "audio", "spoken", "missing", "doubts", "longest"):
        result[name][empty] = 0
    for name in result["counts"].dtype.names or ():
        result["counts"][name][empty] = 0
    return result


def estimate(measured: Rows, flows: NDArray[np.int64] | None = None) -> Quality:
    """Return the quality of measured seconds (ROW[n], by flow, direction and second).

    flows: the first packets of the flows that are wanted, None: all.
    """
    wanted = measured if flows is None else measured[np.isin(measured["flow"], flows)]
    rows = with_pauses(wanted)
    beat = by_direction(rows, rows["cadence"] > 0)
    media = kind(rows, beat)
    video = (media == VIDEO) | (media == SCREEN)
    frames, doubt = frame_rate(rows)
    frames = np.where(video, frames, np.nan)
    spread = np.where(
        doubt < SURE, np.maximum(SURE_LEAST, SURE_SHARE * frames), LEAST + SHARE * frames
    )
    spoken = rows["spoken"].astype(np.float64)
    known = (rows["cadence"] > 0) & (rows["spoken"] >= FEWEST_SPOKEN) & (rows["even"] == 1)
    known &= (rows["steady"] >= LEAST_STEADY) | (rows["orderly"] >= LEAST_ORDERLY)
    missing = lost_packets(rows)
    sent = missing + rows["audio"]
    known &= (media != DATA) & (rows["doubts"] == 0) & (sent * rows["cadence"] >= LEAST_HEARD)
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = np.where(known, missing / sent, np.nan)
    agreed = np.select([doubt < SURE, doubt < UNSURE], [AGREED, DIFFER], FAR_APART)
    trust = np.where(video, agreed, rows["steady"])
    return Quality(
        rows["flow"],
        rows["up"].astype(np.int64),
        rows["second"],
        rows["packets"].astype(np.int64),
        rows["octets"],
        media,
        frames,
        np.maximum(frames - spread, 0),
        frames + spread,
        loss,
        np.where(rows["longest"] > 0, rows["longest"] / 1e6, np.nan),
        silence(rows, beat),
        np.where((rows["cadence"] > 0) & (spoken > 0), rows["jitter"] / 1e6, np.nan),
        np.clip(np.where(media == NO_MEDIA, np.nan, trust), 0, 1),
    )


def lost_packets(rows: Rows) -> Floats:
    """Return the lost packets of each row.

    A late packet is taken back in the second in which it comes; this takes it back in the second in
    which it was missing. So a direction's sum up to a second is the least of all later ones.
    """
    begins, which = directions(rows)
    first = np.flatnonzero(begins)
    total = np.cumsum(rows["missing"], dtype=np.int64)
    base = np.where(first > 0, total[np.maximum(first, 1) - 1], 0)
    sums = (total - base[which])[::-1]
    # One running minimum for all directions: each is moved below those that follow it.
    apart = which[::-1] * (np.abs(sums).max(initial=0) + 1) * 2
    least = np.maximum((np.minimum.accumulate(sums + apart) - apart)[::-1], 0)
    before = np.where(begins, 0, np.roll(least, 1))
    result: Floats = (least - before).astype(np.float64)
    return result


def by_direction(rows: Rows, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each row whether a row of its direction is in a mask."""
    _, which = directions(rows)
    found = np.zeros(which.max(initial=-1) + 1, bool)
    np.logical_or.at(found, which, mask)
    return found[which]


def directions(rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which rows begin a direction, and the number of each row's direction."""
    begins = np.ones(len(rows), bool)
    begins[1:] = (np.diff(rows["flow"]) != 0) | (np.diff(rows["up"]) != 0)
    return begins, np.cumsum(begins) - 1


def silence(rows: Rows, beat: NDArray[np.bool_]) -> Floats:
    """Return 1.0 for seconds without audio between others with audio, 0.0 for those with, else NaN.

    beat: rows of directions whose cadence is known at some time. Before it is, RTCP and STUN may be
    among the packets that are counted as audio. Nothing is known of a pause of over LONGEST_PAUSE.
    """
    begins, which = directions(rows)
    fewest = np.where(rows["cadence"] > 0, 1, FEWEST_UNSURE)
    heard = (rows["audio"] >= fewest) & ((rows["spoken"] > 0) | (rows["audio"] >= LONE))
    place = np.arange(len(rows))
    last = np.maximum.accumulate(np.where(heard, place, -1))
    first = np.flatnonzero(begins)
    before = last >= first[which] if len(rows) else heard
    turned = np.minimum.accumulate(np.where(heard, place, len(rows))[::-1])[::-1]
    ends = np.append(first[1:], len(rows))
    after = turned < ends[which] if len(rows) else heard
    second = rows["second"]
    back = np.minimum(turned, len(rows) - 1)
    length = second[back] - second[np.maximum(last, 0)]
    short = rows["packets"] - np.where(rows["video"] == 1, rows["counts"]["packets"][:, 1], 0)
    pause = ~heard & before & after & (length <= LONGEST_PAUSE) & (short <= MOST_OTHERS)
    sent = rows["audio"].astype(np.int64) * rows["cadence"]
    next_too = np.minimum(back + 1, np.maximum(ends[which] - 1, 0))
    pause &= np.maximum(sent[back], sent[next_too]) <= STALLED
    return np.where(beat & pause, 1.0, np.where(beat & heard, 0.0, np.nan))


def kind(rows: Rows, beat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the kind of media of rows; beat: rows of directions with a known cadence."""
    recent = rows["recent"]
    slow = recent[:, FRAME_COUNT] < SCREEN_RATE * recent[:, SECONDS]
    screen = slow & (recent[:, SECONDS] > SCREEN_SECONDS)
    rate = recent[:, PACKETS] / np.maximum(recent[:, SECONDS], 1e-9)
    audio = beat | (rate >= AUDIO_LEAST)
    few = recent[:, PACKETS] < FEWEST_PACKETS
    data = recent[:, LARGE] >= DATA_LEAST * recent[:, SECONDS]
    other = np.where(audio, AUDIO, np.where(data & ~few, DATA, NO_MEDIA))
    seen = np.where(screen, SCREEN, VIDEO)
    return np.where(rows["video"] == 1, seen, other).astype(np.int64)


def frame_rate(rows: Rows) -> tuple[Floats, Floats]:
    """Return the frames that begin in each row's second, and the doubt about them (0 to 1).

    Packets above LIMITS[0] bytes count where no audio runs beside the video. Where packets that
    follow at once differ in size, the packetiser fills packets up to the MTU, and gaps begin
    frames; fewer packets of other sizes show this where the gaps come at regular intervals.
    """
    recent, counts = rows["recent"], rows["counts"]
    beside = (recent[:, SPOKEN] > BESIDE) | (recent[:, SMALL] > SMALL_SHARE * recent[:, LARGE])
    uneven = recent[:, MIXED] > UNEVEN * (recent[:, BURSTS] + 1)
    uneven &= recent[:, BURSTS] > UNEVEN_LEAST
    regular = recent[:, REGULAR] > EVERY * (recent[:, GAPS] + 1)
    regular &= (recent[:, GAPS] > FEWEST_GAPS) & (recent[:, MIXED] > FILLED * recent[:, BURSTS])
    uneven |= regular
    which = np.where(beside, 1, 0)
    at = np.arange(len(rows))
    by_size, by_gap = counts["frames"][at, which], counts["gaps"][at, which]
    jumps = counts["jumps"][at, which].astype(np.float64)
    doubt = np.abs(np.where(uneven, by_size - by_gap, jumps - by_size)) / (
        np.where(uneven, by_gap, by_size) + 2
    )
    few = (jumps > by_size) & (jumps <= MERGED * by_size)
    frames = np.where(uneven, by_gap, np.where(few, jumps, by_size)).astype(np.float64)
    return frames, np.clip(doubt, 0.05, 0.95)
