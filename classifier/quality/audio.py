# SPDX-License-Identifier: BSD-3-Clause
"""Audio of a direction, from sizes and times: its cadence, lost packets, pauses and jitter.

Audio codecs send a packet every 10 to 120 ms: the beat. Which packets are audio, and which beats
are missing, is the cheapest explanation of the packets so far (the Viterbi algorithm over the last
PATHS packets that can be audio). A path is a chain of audio packets. It pays for each lost packet,
for packets that come late, more for packets that come early (a network can delay packets, but not
send them before their time), and for each packet that it leaves out as something else (RTCP, STUN,
small video packets): little where its size is unlike the audio, much where it is like it. A gap of
PAUSE beats or more is a stall of the network if the missing packets follow at once; else an outage
if all packets have one size, or a pause (discontinuous transmission) if sizes vary: sizes and times
do not tell a pause from an outage, so losses of PAUSE - 1 packets in a row or more are not counted.

Costs are in units of the delay by one beat. They were chosen by hand; docs/decisions says how they
were tested. Interarrival jitter is that of RFC 3550, 6.4.1, with the beat in place of the RTP
clock.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.classifier.quality.tracks import CADENCES, PATHS, SLOTS

MS = 1_000_000
#: Beats without a packet that can be a pause; the longest stall and the longest outage, in beats.
PAUSE, STALL, LONGEST = 5, 25, 150
#: Costs: a lost packet; a packet one beat later than the one before; catching up one beat; coming
#: one beat too early.
LOST, LATE, CATCH_UP, EARLY = 0.65, 1.32, 0.1, 3.0
#: Cost of a delay by one beat that lasts for one more packet.
CARRIED = 0.13
#: Beats behind from which a path is kept beside the cheapest one that is less behind; and by how
#: much more it must cost so that it is no longer followed.
BEHIND, DOUBT = 0.5, 4.0
#: Costs of leaving out a packet whose size is like the audio, and unlike it; of taking one unlike
#: it, on the beat and off it.
LIKE, UNLIKE, UNLIKE_ON_BEAT, UNLIKE_OFF_BEAT = 1.5, 0.29, 0.23, 0.6
#: Sizes of audio differ by this factor: the codec can pause, so a long gap is not counted as loss.
VARIES = 1.2
#: Costs of a pause before comfort noise, and before any other packet; bound of a stall's or an
#: outage's cost.
NOISE_PAUSE, OTHER_PAUSE, MOST = 0.5, 2.0, 3.0
#: A gap fits a cadence if it differs by at most this share (percent) of it; their mean: this share.
FITS, MEAN_FITS = 15, 7
#: Equal gaps in a row after which the cadence changes: to a shorter one, to a longer one.
SHORTER, LONGER = 4, 6
#: Gaps that must fit before a cadence is known; else the mean of so many gaps counts.
FEWEST, MEAN_OF = 5.0, 24
#: Packets of comfort noise differ by at most this many bytes, and are at most so far apart (ns).
NOISE, NOISE_GAP = 4, 480 * MS
#: Share of a path's delay that counts as the path's own after each packet.
SETTLES = 50


@kernel
def cadence_bin(gap: int, fits: int) -> int:
    """Return the position in CADENCES that a gap (ns) fits within `fits` percent, -1 for none."""
    for place in range(len(CADENCES)):
        beat = CADENCES[place] * MS
        if abs(gap - beat) * 100 <= fits * beat:
            return place
    return -1


@inlined
def learn_cadence(track: Any, gap: int) -> None:
    """Learn the cadence from a gap (ns) between two packets that can be audio."""
    if gap > 130 * MS:
        track["run"] = track["summed"] = track["sum"] = 0
        return
    cadence = I(track["cadence"])
    if cadence:  # known: follow how many gaps fit it, and whether others come in a row
        fits = abs(gap - 1000 * cadence) * 100 <= FITS * 1000 * cadence
        track["steady"] = track["steady"] * 0.98 + (0.02 if fits else 0.0)
        if fits:
            track["run"] = 0
            return
    place = cadence_bin(gap, FITS)
    if cadence:
        change_cadence(track, place, cadence)
        return
    track["all_gaps"] = track["all_gaps"] * 0.98 + 1.0
    for one in range(len(CADENCES)):
        track["gaps"][one] = track["gaps"][one] * 0.98
    track["summed"] += 1
    track["sum"] += gap
    if I(track["summed"]) >= MEAN_OF:
        mean = cadence_bin(I(track["sum"]) // MEAN_OF, MEAN_FITS)
        if mean >= 0:
            set_cadence(track, CADENCES[mean] * 1000, 0.2)
        track["summed"] = track["sum"] = 0
    if place < 0:
        return
    track["gaps"][place] = track["gaps"][place] + 1.0
    best = I(0)
    for one in range(len(CADENCES)):
        if track["gaps"][one] > track["gaps"][best]:
            best = I(one)
    if track["gaps"][best] >= FEWEST and 3 * track["gaps"][best] >= track["all_gaps"]:
        set_cadence(track, CADENCES[best] * 1000, 0.5)


@kernel
def change_cadence(track: Any, place: int, cadence: int) -> None:
    """Change the cadence (µs) after some gaps in a row that fit another one, `place`."""
    if place < 0:
        track["run"] = 0
        return
    if place == I(track["run_bin"]):
        track["run"] += 1
    else:
        track["run_bin"], track["run"] = place, 1
    beat = CADENCES[place] * 1000
    if beat != cadence and I(track["run"]) >= (SHORTER if beat < cadence else LONGER):
        set_cadence(track, beat, 0.5)


@kernel
def set_cadence(track: Any, cadence: int, steady: float) -> None:
    """Set the cadence (µs) and the share of gaps that fit it so far, and begin all paths anew."""
    track["cadence"] = cadence
    track["steady"] = steady
    track["missing"] = track["run"] = 0
    track["best"] = -1
    for path in range(PATHS):
        track["paths"][path]["time"] = 0


@inlined
def observe_audio(track: Any, size: int, time: int) -> None:
    """Follow a packet that can be audio: `size` payload bytes at `time` (ns)."""
    since = time - I(track["seen"]) if I(track["seen"]) else I(0)
    if since:
        learn_cadence(track, since)
    track["seen"] = time
    cadence = I(track["cadence"]) * 1000
    if cadence == 0:
        if I(track["heard"]):
            track["longest"] = max(I(track["longest"]), time - I(track["heard"]))
        track["heard"] = time
        track["audio"] += 1
        learn_size(track, size)
    else:
        extend(track, size, time, since, cadence)


@inlined
def extend(track: Any, size: int, time: int, since: int, cadence: int) -> None:
    """Add a packet to the cheapest paths before it: in time, late, and after losses or a pause."""
    best = I(track["best"])
    if best >= 0 and abs(size - track["mean"]) <= 2.5 * track["spread"] + 6:
        path = track["paths"][best]
        gap, lag = time - I(path["time"]), I(path["lag"])
        if (
            4 * abs(gap - cadence) < cadence
            and 4 * (lag + gap - cadence) < cadence
            and 4 * (lag + gap - cadence) > -cadence
        ):
            advance(path, time, cadence, I(1), False)
            learn_size(track, size)
            path["time"], path["size"] = time, size
            track["left_out"] += LIKE
            path["left_out"] = track["left_out"]
            return
    noise = is_noise(track, size, time, since > 2 * cadence)
    like = noise or abs(size - track["mean"]) <= 2.5 * track["spread"] + 6
    paths = track["paths"]
    next_path, next_cost = I(-1), 1e9
    late_path, late_cost = I(-1), 1e9
    after_path, after_cost, after_beats, after_pause = I(-1), 1e9, I(0), False
    begin, share, left_out = I(track["cheapest"]), 1.0 / cadence, track["left_out"]
    for step in range(PATHS):
        one = (begin + step) % PATHS
        path = paths[one]
        skipped = path["cost"] + (left_out - path["left_out"])
        # Every cost is at least 0, so a path that costs more already is never the cheapest.
        if I(path["time"]) == 0 or skipped >= max(next_cost, late_cost, after_cost):
            continue
        gap = time - I(path["time"])
        lag = I(path["lag"])
        shift = (gap - cadence) * share
        on_beat = -0.25 < shift < 0.25
        taken = 0.0 if like else (UNLIKE_ON_BEAT if on_beat else UNLIKE_OFF_BEAT)
        if gap < STALL * cadence:
            behind = lag * share + shift
            if shift >= 0:
                cost = skipped + min(LATE * shift, MOST) + taken
            else:
                under = max(-behind, 0.0)
                cost = skipped + CATCH_UP * (-shift - under) + EARLY * under + taken
            if behind > 0.0:
                cost += min(CARRIED * behind, MOST)
            if behind < BEHIND and cost < next_cost:
                next_path, next_cost = I(one), cost
            if behind >= BEHIND and cost < late_cost:
                late_path, late_cost = I(one), cost
        beats = (lag + gap + cadence // 2) // cadence
        if beats < 2:
            continue
        small, pauses = is_small(track, I(path["size"])), I(track["noise"]) > 0
        pause = track["high"] > VARIES * track["low"] or noise or beats > LONGEST
        if gap >= PAUSE * cadence:
            cost = skipped + (NOISE_PAUSE if noise else OTHER_PAUSE)
        elif pauses and small:
            cost = skipped + LOST + taken
        else:
            pause = False
            rest = abs(lag + gap - beats * cadence)
            taken = 0.0 if like else (UNLIKE_ON_BEAT if rest * 4 < cadence else UNLIKE_OFF_BEAT)
            cost = skipped + LOST * (beats - 1) + LATE * rest * share + taken
        if cost < after_cost:
            after_path, after_cost, after_beats, after_pause = I(one), cost, beats, pause
    track["left_out"] += LIKE if like else UNLIKE
    if next_path >= 0:
        if abs(time - I(paths[next_path]["time"]) - cadence) * 5 < cadence:
            learn_size(track, size)
        copy_path(paths[next_path], track["next"])
        advance(track["next"], time, cadence, I(1), False)
    if late_path >= 0:
        copy_path(paths[late_path], track["late"])
        advance(track["late"], time, cadence, I(1), False)
    if after_path >= 0:
        copy_path(paths[after_path], track["after"])
        advance(track["after"], time, cadence, after_beats, after_pause)
        put_path(track, track["after"], size, time, after_cost)
    if late_path >= 0:
        put_path(track, track["late"], size, time, late_cost)
    if next_path >= 0:
        put_path(track, track["next"], size, time, next_cost)
    # The last packet ends the cheapest path if it is on the beat and no path was left in doubt.
    track["best"] = I(-1)
    sure = like and next_path >= 0 and next_cost < after_cost and next_cost + DOUBT < late_cost
    if sure and 4 * abs(since - cadence) < cadence:
        track["best"] = newest(track, time)
    if next_path < 0 and after_path < 0 and late_path < 0:
        clear_path(track["next"])
        track["next"]["audio"] = 1
        put_path(track, track["next"], size, time, 0.0)


@inlined
def put_path(track: Any, new: Any, size: int, time: int, cost: float) -> None:
    """Put a path in the place of the most expensive one; the next packet tries it first."""
    paths, worst, most = track["paths"], I(0), -1.0
    for one in range(PATHS):
        path = paths[one]
        if I(path["time"]) == 0:
            worst = I(one)
            break
        price = path["cost"] + (track["left_out"] - path["left_out"])
        if price > most:
            worst, most = I(one), price
    new["time"], new["size"], new["cost"], new["left_out"] = time, size, cost, track["left_out"]
    copy_path(new, paths[worst])
    track["cheapest"] = worst


@kernel
def newest(track: Any, time: int) -> int:
    """Return the cheapest path if its last packet came at `time`, else -1."""
    best, cheapest = I(-1), 1e9
    for one in range(PATHS):
        path = track["paths"][one]
        if I(path["time"]):
            cost = path["cost"] + (track["left_out"] - path["left_out"])
            if cost < cheapest:
                best, cheapest = I(one), cost
    return best if best >= 0 and I(track["paths"][best]["time"]) == time else I(-1)


@inlined
def copy_path(path: Any, new: Any) -> None:
    """Copy a path."""
    new["time"], new["lag"], new["jitter"] = path["time"], path["lag"], path["jitter"]
    new["longest"], new["cost"], new["left_out"] = path["longest"], path["cost"], path["left_out"]
    new["size"], new["missing"] = path["size"], path["missing"]
    new["audio"], new["spoken"] = path["audio"], path["spoken"]


@inlined
def clear_path(new: Any) -> None:
    """Clear a path."""
    new["lag"] = new["jitter"] = new["longest"] = 0
    new["missing"] = new["audio"] = new["spoken"] = 0


@inlined
def advance(new: Any, time: int, cadence: int, beats: int, pause: bool) -> None:
    """Add a packet at `time` to a path, some beats after the last one."""
    gap = time - I(new["time"])
    new["longest"] = max(I(new["longest"]), gap)
    new["audio"] += 1
    if pause:
        new["lag"] = 0
        return
    jitter = I(new["jitter"])
    new["jitter"] = jitter + abs(gap - beats * cadence) - ((jitter + 8) >> 4)
    lag = max(I(new["lag"]) + gap - beats * cadence, 0)
    new["lag"] = lag - lag // SETTLES
    new["missing"] += beats - 1
    new["spoken"] += 1


@inlined
def is_small(track: Any, size: int) -> bool:
    """Return whether an audio packet is small among the last ones, as comfort noise is."""
    low, high = track["low"], track["high"]
    return bool(high > 1.4 * low and size <= low + 0.25 * (high - low))


@inlined
def learn_size(track: Any, size: int) -> None:
    """Follow the sizes of audio packets: decaying minimum, maximum, mean and mean deviation."""
    if track["high"] == 0:
        track["low"] = track["high"] = track["mean"] = size
    track["low"] = min(size, track["low"] + 0.01 * (size - track["low"]))
    track["high"] = max(size, track["high"] + 0.01 * (size - track["high"]))
    track["spread"] += (abs(size - track["mean"]) - track["spread"]) / 16
    track["mean"] += (size - track["mean"]) / 16


@inlined
def is_noise(track: Any, size: int, time: int, quiet: bool) -> bool:
    """Return whether a packet is comfort noise: of a size that comes twice a second or more.

    quiet: the packet before came more than two beats earlier.
    """
    oldest = I(0)
    for slot in range(SLOTS):
        if abs(size - I(track["noise_size"][slot])) <= NOISE:
            gap = time - I(track["noise_time"][slot])
            hits = I(track["noise_hits"][slot])
            track["noise_time"][slot] = time
            in_time = quiet and 80 * MS <= gap <= NOISE_GAP
            track["noise_hits"][slot] = min(hits + 1, 100) if in_time else 0
            if hits >= 2 and in_time:
                track["noise"] = size
            known = I(track["noise"]) > 0 and abs(size - I(track["noise"])) <= NOISE
            return in_time and (hits >= 1 or known)
        if I(track["noise_time"][slot]) < I(track["noise_time"][oldest]):
            oldest = I(slot)
    track["noise_size"][oldest], track["noise_time"][oldest] = size, time
    track["noise_hits"][oldest] = 0
    return False


@inlined
def decide(track: Any) -> None:
    """Take the counts of the second from the cheapest path, and begin counting anew."""
    paths, best = track["paths"], I(-1)
    cheapest = 1e9
    for one in range(PATHS):
        path = paths[one]
        if I(path["time"]):
            cost = path["cost"] + (track["left_out"] - path["left_out"])
            if cost < cheapest:
                best, cheapest = I(one), cost
    if best >= 0:
        path = paths[best]
        track["audio"] += I(path["audio"])
        track["spoken"] += I(path["spoken"])
        track["missing"] += I(path["missing"])
        track["longest"] = max(I(track["longest"]), I(path["longest"]))
        track["jitter"] = path["jitter"]
    left_out = track["left_out"]
    for one in range(PATHS):
        path = paths[one]
        path["cost"] += left_out - path["left_out"] - cheapest
        path["left_out"] = 0
        path["audio"] = path["spoken"] = path["missing"] = 0
        path["longest"] = 0
    track["left_out"] = 0
