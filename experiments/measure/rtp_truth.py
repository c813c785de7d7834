# SPDX-License-Identifier: BSD-3-Clause
"""Truth of the quality of a call per second, from RTP headers where they are clear.

This module reads payloads; the estimator (midcall.classifier.quality) never does. RTP is read
plain, inside TURN (Send and Data indications, ChannelData), Microsoft's frames and Zoom's frames.
A stream is one source (SSRC) of a direction with at least FEWEST packets whose sequence numbers
rise.

- Kind: the rate of the timestamps against arrival. 90 kHz is video (RFC 3551, section 5), other
  rates are audio. Retransmission (RFC 4588) and padding repeat the timestamps of another stream or
  do not follow a clock: such streams are neither.
- Frames: different timestamps of the direction's largest video stream, in the second in which the
  first packet of a frame arrived. RTP does not tell a screen from a camera: both are video.
- Loss: sequence numbers that did not arrive, over all between the first and the last one, in the
  second of the next packet; of audio where a direction has audio, else of video.
- Gap: the longest time between two packets of audio (else video) that ends in the second.
- Silence: a second without any audio packet between two audio packets, while the RTP clock went on
  (at least half as far as the time).
- Jitter: RFC 3550, section 6.4.1, at the end of the second. MOS: as estimated, from these values.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.apps.zoom import rtp_offset_of
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.protocols.rtp import looks_like_rtp, read_rtcp
from midcall.classifier.protocols.stun import is_channel_data, is_microsoft_frame, read_stun
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGNS,
)

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: The columns of `headers`.
TYPE, SEQUENCE, STAMP, SOURCE, SIZE, TIME, FLOW, UP = range(8)
NO_HEADERS = np.zeros((0, 8), np.int64)
#: A stream has at least this many packets, of which this share follow their predecessor.
FEWEST, IN_ORDER = 20, 0.7
#: Largest step of a sequence number that is a loss.
STEP = 64
#: Clock rates of audio, in Hz (RFC 3551; Opus: RFC 7587), and of video.
AUDIO_RATES = (8000, 12000, 16000, 24000, 32000, 44100, 48000)
VIDEO_RATE = 90_000
#: Rates between these are video's; a stream shorter than this (s) has no rate.
VIDEO_LEAST, VIDEO_MOST, AUDIO_LEAST = 60_000, 130_000, 7_000
SHORTEST = 0.8
#: Share of timestamps that occur in a larger stream: retransmission.
REPEATED = 0.5
#: Seconds between two packets of a stream, above which nothing is said of the seconds between.
LONGEST_GAP = 3600
#: Levels of encapsulation that are removed.
NESTING = 4
SECOND = 1_000_000_000


class Stream(NamedTuple):
    """The packets of one source in a direction, in order of arrival.

    time: int64[n], ns; sequence, stamp: int64[n], continued over their wrap; rate: Hz; octets: of
    payloads.
    """

    video: bool
    time: Numbers
    sequence: Numbers
    stamp: Numbers
    rate: int
    octets: int


class TrueSecond(NamedTuple):
    """The truth of one second of a direction; None where RTP headers do not tell it."""

    media: str
    frame_rate: int | None
    loss: float | None
    gap_ms: float | None
    silent: bool | None
    jitter_ms: float | None


@kernel
def rtp_at(b: Octets, at: int, end: int, size: int, signs: Numbers) -> int:
    """Return where an RTP header begins in a UDP payload, -1 where there is none."""
    for _ in range(NESTING):
        if end - at < 12:
            return -1
        if read_stun(b, at, end, size, 1, signs):
            if signs[SIGN_STUN_DATA] == 0:
                return -1
            at, stop = I(signs[SIGN_STUN_DATA]), I(signs[SIGN_STUN_DATA_END])
            end, size = min(end, stop), stop - at
        elif is_channel_data(b, at, end, size):
            size = u16(b, at + 2)
            at += 4
            end = min(end, at + size)
        elif is_microsoft_frame(b, at, end, size):
            at, size = at + 12, size - 12
        else:
            break
    if end - at < 12:
        return -1
    if u8(b, at) >> 6 != 2:
        return zoom_at(b, at, end, size)
    if read_rtcp(b, at, end, size) or not looks_like_rtp(b, at, end, size):
        return -1
    return at


@kernel
def zoom_at(b: Octets, at: int, end: int, size: int) -> int:
    """Return where RTP begins in a Zoom frame, with or without its first eight octets; or -1."""
    for skipped in (0, 8):
        if end - at < skipped + 40:
            return -1
        offset = rtp_offset_of(u8(b, at + skipped))
        if offset:
            begin = at + skipped + offset
            if looks_like_rtp(b, begin, end, size - skipped - offset):
                return begin
    return -1


@kernel
def read_headers(
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    link: Numbers,
    signs: Numbers,
    fragments: Numbers,
    out: Numbers,
) -> None:
    """Write TYPE, SEQUENCE, STAMP, SOURCE and SIZE of each packet; type -1: not RTP."""
    for i in range(len(offset)):
        out[i, TYPE] = -1
        end = offset[i] + captured[i]
        if decode(data, offset[i], end, wire[i], link[i], signs, fragments) != DECODED:
            continue
        if signs[SIGN_PROTO] != UDP or signs[SIGN_PAYLOAD_SIZE] <= 0:
            continue
        stop, size = I(signs[SIGN_PAYLOAD_END]), I(signs[SIGN_PAYLOAD_SIZE])
        out[i, SIZE] = size
        at = rtp_at(data, I(signs[SIGN_PAYLOAD_AT]), stop, size, signs)
        if at >= 0:
            out[i, TYPE], out[i, SEQUENCE] = u8(data, at + 1) & 0x7F, u16(data, at + 2)
            out[i, STAMP], out[i, SOURCE] = u32(data, at + 4), u32(data, at + 8)


def headers(packets: Packets, flow: Numbers, up: Numbers) -> Numbers:
    """Return int64[m, 8] of the RTP packets among some packets: TYPE, SEQUENCE, STAMP, ...

    flow: int64[n], a number of each packet's flow, -1: none; up: 1 for packets from the flow's
    source. SIZE: payload bytes of UDP on the wire; TIME: ns.
    """
    out = np.zeros((packets.total, 8), np.int64)
    columns = (packets.data, packets.offset, packets.captured, packets.wire, packets.link)
    read_headers(*columns, np.zeros(SIGNS, np.int64), np.zeros((FRAGMENTS, 2), np.int64), out)
    out[:, TIME], out[:, FLOW], out[:, UP] = packets.time, flow, up
    return out[(out[:, TYPE] >= 0) & (flow >= 0)]


def payload_sizes(packets: Packets) -> Numbers:
    """Return int64[n], the UDP payload bytes on the wire of each packet, 0 for other packets."""
    out = np.zeros((packets.total, 8), np.int64)
    columns = (packets.data, packets.offset, packets.captured, packets.wire, packets.link)
    read_headers(*columns, np.zeros(SIGNS, np.int64), np.zeros((FRAGMENTS, 2), np.int64), out)
    return out[:, SIZE].copy()


def continued(values: Numbers, bits: int) -> Numbers:
    """Return wrapping numbers as a series that does not wrap; the first one is 0."""
    half = 1 << (bits - 1)
    steps = (np.diff(values) + half) % (2 * half) - half
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(steps)))


def streams(fields: Numbers) -> list[Stream]:
    """Return the audio and video streams of one direction, the largest first.

    fields: the rows of `headers` of the direction's packets.
    """
    time, size = fields[:, TIME], fields[:, SIZE]
    heard: list[tuple[Stream, Numbers]] = []
    for source in np.unique(fields[:, SOURCE]):
        own = np.flatnonzero(fields[:, SOURCE] == source)
        own = own[np.argsort(time[own], kind="stable")]
        ahead = np.diff(fields[own, SEQUENCE]) & 0xFFFF
        if len(own) < FEWEST or ((ahead > 0) & (ahead < STEP)).mean() < IN_ORDER:
            continue
        stamp = continued(fields[own, STAMP], 32)
        rate = clock(stamp, time[own])
        length = float(time[own[-1]] - time[own[0]]) / 1e9
        still = length >= SHORTEST and len(np.unique(stamp)) < len(own) / 2
        video = VIDEO_LEAST < rate < VIDEO_MOST and length >= SHORTEST
        if not (video or still or AUDIO_LEAST < rate <= VIDEO_LEAST):
            continue
        audio = not video and AUDIO_LEAST < rate <= VIDEO_LEAST
        nearest = min(AUDIO_RATES, key=lambda one: abs(np.log(rate / one))) if audio else VIDEO_RATE
        sequence = continued(fields[own, SEQUENCE], 16)
        octets = int(size[own].sum())
        stream = Stream(not audio, time[own], sequence, stamp, nearest, octets)
        heard.append((stream, fields[own, STAMP]))
    heard.sort(key=lambda one: -one[0].octets)
    result: list[Stream] = []
    seen: list[Numbers] = []
    for stream, stamps in heard:
        if stream.video and any(np.isin(stamps, other).mean() > REPEATED for other in seen):
            continue
        if stream.video:
            seen.append(stamps)
        result.append(stream)
    return result


def clock(stamp: Numbers, time: Numbers) -> float:
    """Return the rate of timestamps against arrival in Hz: the median over a tenth of a stream."""
    apart = max(len(time) // 10, 1)
    passed = (time[apart:] - time[:-apart]) / 1e9
    ticks = stamp[apart:] - stamp[:-apart]
    moved = passed > 0
    return float(np.median(ticks[moved] / passed[moved])) if moved.any() else 0.0


def seconds(heard: list[Stream], start: int) -> dict[int, TrueSecond]:
    """Return second -> truth of a direction, of its streams (`streams`); start: ns, second 0."""
    audio, video = [s for s in heard if not s.video], [s for s in heard if s.video]
    frames: dict[int, int] = {}
    for stream in video:
        for second, count in frame_counts(stream, start).items():
            frames.setdefault(second, count)
    main = audio or video
    lost, came = Tally(start), Tally(start)
    gaps: dict[int, int] = {}
    for stream in main:
        came.add(stream.time, np.ones(len(stream.time), np.int64))
        lost.add(*losses(stream))
    for stream in main:
        ends, length = stream.time[1:], np.diff(stream.time)
        for second, gap in zip(((ends - start) // SECOND).tolist(), length.tolist(), strict=True):
            gaps[second] = max(gaps.get(second, 0), gap)
    silent = silences(audio, start)
    jitters: dict[int, float] = {}
    for stream in audio:
        jitters |= jitter_by_second(stream, start)
    result: dict[int, TrueSecond] = {}
    for second in sorted({*frames, *came.counts, *silent}):
        arrived, missing = came.counts.get(second, 0), lost.counts.get(second, 0)
        whole = arrived + missing
        gap = gaps.get(second)
        quiet = silent.get(second, False if audio and arrived else None)
        result[second] = TrueSecond(
            "video" if second in frames else "audio",
            frames.get(second) if video else None,
            missing / whole if whole > 0 else None,
            gap / 1e6 if gap is not None else None,
            quiet,
            jitters.get(second),
        )
    return result


class Tally:
    """Counts by second."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.counts: dict[int, int] = {}

    def add(self, time: Numbers, count: Numbers) -> None:
        """Add counts at times (ns)."""
        for second, some in zip(
            ((time - self.start) // SECOND).tolist(), count.tolist(), strict=True
        ):
            self.counts[second] = self.counts.get(second, 0) + some


def frame_counts(stream: Stream, start: int) -> dict[int, int]:
    """Return second -> frames that begin in it, 0 in seconds between without one.

    A gap of more than LONGEST_GAP seconds has no seconds: the clock of the capture was set.
    """
    first = np.unique(stream.stamp, return_index=True)[1]
    begun, counts = np.unique((stream.time[first] - start) // SECOND, return_counts=True)
    result = dict(zip(begun.tolist(), counts.tolist(), strict=True))
    seen = np.unique((stream.time - start) // SECOND).tolist()
    for before, after in pairwise(seen):
        if after - before <= LONGEST_GAP:
            result |= {second: result.get(second, 0) for second in range(before, after + 1)}
    return {second: result.get(second, 0) for second in sorted({*result, *seen})}


def losses(stream: Stream) -> tuple[Numbers, Numbers]:
    """Return times (ns) and counts of lost packets; a late packet takes its own loss back."""
    highest = np.maximum.accumulate(stream.sequence)
    step = np.diff(highest)
    count = np.where((step > 1) & (step < STEP * 4), step - 1, 0)
    late = (np.diff(stream.sequence) < 0) & (step == 0)
    return stream.time[1:], count - late


def silences(audio: list[Stream], start: int) -> dict[int, bool]:
    """Return second -> True for seconds without audio while the clock went on, False where it did
    not.

    Only seconds between the first and the last audio packet are in it.
    """
    if not audio:
        return {}
    time = np.concatenate([stream.time for stream in audio])
    order = np.argsort(time, kind="stable")
    owner = np.concatenate([np.full(len(s.time), i) for i, s in enumerate(audio)])[order]
    stamp = np.concatenate([s.stamp for s in audio])[order]
    time = time[order]
    silent: dict[int, bool] = {}
    for i in np.flatnonzero(np.diff((time - start) // SECOND) > 1):
        same = owner[i] == owner[i + 1]
        passed = int(stamp[i + 1] - stamp[i]) / audio[owner[i]].rate if same else 0.0
        went_on = passed >= 0.5 * float(time[i + 1] - time[i]) / 1e9
        first, last = int((time[i] - start) // SECOND), int((time[i + 1] - start) // SECOND)
        for second in range(first + 1, last) if last - first <= LONGEST_GAP else ():
            silent[second] = bool(went_on)
    return silent


def jitter_by_second(stream: Stream, start: int) -> dict[int, float]:
    """Return second -> interarrival jitter in ms at its end (RFC 3550, 6.4.1)."""
    transit = stream.time / 1e9 - stream.stamp / stream.rate
    steps = np.abs(np.diff(transit))
    jitter, result = 0.0, {}
    for second, step in zip(((stream.time[1:] - start) // SECOND).tolist(), steps, strict=True):
        jitter += (step - jitter) / 16
        result[int(second)] = 1000 * jitter
    return result


def directions(fields: Numbers) -> Iterator[tuple[int, int, list[Stream]]]:
    """Yield (flow, up, streams) of each direction that has streams; fields: rows of `headers`."""
    keys = fields[:, FLOW] * 2 + fields[:, UP]
    for key in np.unique(keys):
        heard = streams(fields[keys == key])
        if heard:
            yield int(key) // 2, int(key) % 2, heard
