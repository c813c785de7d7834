# SPDX-License-Identifier: BSD-3-Clause
"""The quality meter in the packet path: one call per packet of a tracked flow, a row per second."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.classifier.quality.audio import end_second, observe_audio
from midcall.classifier.quality.cadence import is_between
from midcall.classifier.quality.frames import observe_frames
from midcall.classifier.quality.tracks import (
    BURSTS,
    EQUALS,
    FRAME_COUNT,
    GAPS,
    HUGE,
    KEPT,
    LARGE,
    LIMITS,
    MIXED,
    PACKETS,
    RECENT,
    REGULAR,
    SECONDS,
    SMALL,
    SPOKEN,
    Rows,
    Tracks,
)

SECOND = 1_000_000_000
#: The frame trackers for video beside audio, and for video alone.
VIDEO, SMALL_VIDEO = 1, 0
#: Seconds without packets after which the decaying sums are as good as 0.
FORGOTTEN = 20
#: Payload bytes of audio where video runs beside it, and where it does not.
AUDIO_BESIDE_VIDEO, AUDIO_ALONE = 320, 700
#: Packets of at least this many payload bytes are longer than audio.
LARGE_PACKET = 750
#: Such packets in the last seconds from which a direction has video, with this many frames a
#: second: alone, and beside audio of BESIDE packets a second.
FEWEST_HUGE, SLOWEST, SLOWEST_BESIDE, BESIDE = 2.5, 0.4, 1.5, 5.0
#: Or packets above LIMITS[1], how many of them were as long as the one before (also by share), and
#: the share of packets on a beat that speaks against it; where nearly all have one size, they are
#: audio of a constant rate.
FEWEST_LARGE, FEWEST_EQUAL, EQUAL_SHARE, BEATS, ONE_SIZE = 4.0, 1.5, 0.15, 0.7, 0.9


@kernel
def measure(
    tracks: Tracks, place: int, rows: Rows, used: int, size: int, octets: int, time: int, start: int
) -> int:
    """Count a packet in its track; returns how many of `rows` are used.

    place: of the track; size: payload bytes on the wire; octets: bytes of the IP packet; time: ns;
    start: ns, from which seconds count. Where the packet begins a new second, the row of the last
    one is written; the caller gives room for one more row per packet.
    """
    track = tracks[place]
    if time >= I(track["until"]):  # a packet whose time goes back counts in the current second
        second = max((time - start) // SECOND, 0)  # also of a packet that is older than the first
        if I(track["until"]):
            used = write_row(track, place, rows, used, second)
        track["second"], track["until"] = second, start + (second + 1) * SECOND
    observe(track, size, octets, time)
    return used


@inlined
def observe(track: Any, size: int, octets: int, time: int) -> None:
    """Count a packet in the current second."""
    track["packets"] += 1
    track["octets"] += octets
    for which in range(len(LIMITS)):
        observe_frames(track["frames"][which], track["counts"][which], LIMITS[which], size, time)
    track["huge"] += 1 if size >= LARGE_PACKET else 0
    most = AUDIO_BESIDE_VIDEO if track["video"] else AUDIO_ALONE
    if size <= most:
        observe_audio(track, size, time)


@inlined
def write_row(track: Any, place: int, rows: Rows, used: int, second: int) -> int:
    """Write the row of a track's current second and clear its counters; returns rows used."""
    if used >= len(rows):
        return used
    end_second(track)
    keep_recent(track, second - I(track["second"]))
    row = rows[used]
    row["flow"], row["up"] = I(track["flow"]) - 1, 1 - (place & 1)
    row["second"] = track["second"]
    row["video"] = track["video"]
    row["idle"] = second - I(track["second"]) - 1
    row["packets"], row["octets"] = track["packets"], track["octets"]
    for which in range(len(RECENT)):
        row["recent"][which] = track["recent"][which]
    for which in range(len(LIMITS)):
        copy_counts(track["counts"][which], row["counts"][which])
    row["cadence"] = track["cadence"]
    row["steady"], row["orderly"] = track["steady"], track["orderly"]
    row["even"] = is_between(track, I(track["cadence"]))
    row["audio"], row["spoken"] = track["audio"], track["spoken"]
    row["missing"], row["longest"] = track["missing"], track["longest"]
    row["doubts"], row["jitter"] = track["doubts"], I(track["jitter"]) >> 4
    track["packets"] = track["octets"] = track["huge"] = track["doubts"] = 0
    track["audio"] = track["spoken"] = track["missing"] = track["longest"] = 0
    return used + 1


@inlined
def keep_recent(track: Any, passed: int) -> None:
    """Add the current second's counters to the decaying sums; passed: seconds since it began."""
    recent, large, small = track["recent"], track["counts"][VIDEO], track["counts"][SMALL_VIDEO]
    fade(recent)
    recent[PACKETS] += track["packets"]
    recent[SMALL] += I(small["packets"]) - I(large["packets"])
    recent[LARGE] += large["packets"]
    recent[HUGE] += track["huge"]
    recent[EQUALS] += large["equal"]
    recent[BURSTS] += large["bursts"]
    recent[MIXED] += large["mixed"]
    recent[SPOKEN] += track["spoken"]
    recent[FRAME_COUNT] += large["frames"]
    recent[SECONDS] += 1
    recent[GAPS] += large["gaps"]
    recent[REGULAR] += large["regular"]
    track["video"] = 1 if has_video(recent, I(large["packets"])) else 0
    for _ in range(min(passed - 1, FORGOTTEN)):
        fade(recent)


@inlined
def has_video(recent: Any, large: int) -> bool:
    """Return whether the last seconds had video: long packets, or packets in pairs of one size.

    A burst of long packets every few seconds is set-up or a probe of the bandwidth. Long audio
    packets are on a beat, and rarely as long as the one before. large: packets above LIMITS[1] in
    the current second; video beside audio has some in every second.
    """
    beside = recent[SPOKEN] > BESIDE * recent[SECONDS]
    if beside and large == 0:
        return False
    slowest = SLOWEST_BESIDE if beside else SLOWEST
    if recent[HUGE] >= FEWEST_HUGE and recent[FRAME_COUNT] >= slowest * recent[SECONDS]:
        return True
    pairs = recent[EQUALS] >= max(FEWEST_EQUAL, EQUAL_SHARE * recent[LARGE])
    off_beat = recent[SPOKEN] <= BEATS * recent[PACKETS]
    constant = recent[EQUALS] > ONE_SIZE * recent[LARGE]
    return bool(pairs and off_beat and not constant and recent[LARGE] >= FEWEST_LARGE)


@inlined
def fade(recent: Any) -> None:
    """Multiply all decaying sums by KEPT."""
    for which in range(len(recent)):
        recent[which] = recent[which] * KEPT


@inlined
def copy_counts(counts: Any, out: Any) -> None:
    """Move the counters of a second into its row, and clear them."""
    out["packets"], out["jumps"], out["frames"] = (
        counts["packets"],
        counts["jumps"],
        counts["frames"],
    )
    out["gaps"], out["bursts"] = counts["gaps"], counts["bursts"]
    out["mixed"], out["equal"] = counts["mixed"], counts["equal"]
    out["regular"] = counts["regular"]
    counts["packets"] = counts["jumps"] = counts["frames"] = counts["gaps"] = 0
    counts["bursts"] = counts["mixed"] = counts["equal"] = counts["regular"] = 0


@kernel
def close_all(tracks: Tracks, count: int, rows: Rows, used: int) -> int:
    """Write the row of each track's last second; returns how many of `rows` are used."""
    for place in range(count):
        if I(tracks[place]["packets"]) > 0:
            track = tracks[place]
            used = write_row(track, place, rows, used, I(track["second"]) + 1)
    return used
