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

from typing import Any, NamedTuple

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
#: Beats behind from which a path is kept as well as the cheapest one that is less behind; and by
#: how much more it must cost so that it is no longer followed.
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


class Choice(NamedTuple):
    """The cheapest path that a packet may continue, its cost with the packet, and how.

    path: -1: none; beats: from its last packet to this one; pause: the beats between are a pause.
    """

    path: int
    cost: float
    beats: int
    pause: bool


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
    """Set the cadence (µs) and the share of gaps that fit it so far, and clear all paths."""
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
    if continue_best(track, size, time, cadence):
        return
    noise = is_noise(track, size, time, since > 2 * cadence)
    like = noise or is_like(track, size)
    in_time = late = after = Choice(I(-1), 1e9, I(1), False)
    begin, share, left_out = I(track["cheapest"]), 1.0 / cadence, track["left_out"]
    for step in range(PATHS):
        one = I((begin + step) % PATHS)
        path = track["paths"][one]
        skipped = path["cost"] + (left_out - path["left_out"])
        # Every cost is at least 0, so a path that costs more already is never the cheapest.
        if I(path["time"]) == 0 or skipped >= max(in_time.cost, late.cost, after.cost):
            continue
        gap, lag = time - I(path["time"]), I(path["lag"])
        shift = (gap - cadence) * share
        taken = cost_of_size(like, -0.25 < shift < 0.25)
        if gap < STALL * cadence:
            behind = lag * share + shift
            cost = cost_of_next_beat(skipped, shift, behind, taken)
            if behind < BEHIND and cost < in_time.cost:
                in_time = Choice(one, cost, I(1), False)
            if behind >= BEHIND and cost < late.cost:
                late = Choice(one, cost, I(1), False)
        beats = (lag + gap + cadence // 2) // cadence
        if beats < 2:
            continue
        pause = track["high"] > VARIES * track["low"] or noise or beats > LONGEST
        if gap >= PAUSE * cadence:
            cost = skipped + (NOISE_PAUSE if noise else OTHER_PAUSE)
        elif I(track["noise"]) > 0 and is_small(track, I(path["size"])):
            cost = skipped + LOST + taken
        else:
            pause = False
            rest = abs(lag + gap - beats * cadence)
            taken = cost_of_size(like, rest * 4 < cadence)
            cost = skipped + LOST * (beats - 1) + LATE * rest * share + taken
        if cost < after.cost:
            after = Choice(one, cost, beats, pause)
    track["left_out"] += LIKE if like else UNLIKE
    put_choices(track, size, time, cadence, in_time, late, after)
    # The last packet ends the cheapest path if it is on the beat and no path was left in doubt.
    track["best"] = I(-1)
    sure = like and in_time.path >= 0 and in_time.cost < after.cost
    if sure and in_time.cost + DOUBT < late.cost and 4 * abs(since - cadence) < cadence:
        best, _ = cheapest(track)
        if best >= 0 and I(track["paths"][best]["time"]) == time:
            track["best"] = best


@inlined
def continue_best(track: Any, size: int, time: int, cadence: int) -> bool:
    """Continue only the cheapest path if a packet like audio is on its beat; else return False."""
    best = I(track["best"])
    if best < 0 or not is_like(track, size):
        return False
    path = track["paths"][best]
    early = time - I(path["time"]) - cadence
    if 4 * abs(early) >= cadence or 4 * abs(I(path["lag"]) + early) >= cadence:
        return False
    advance(path, time, cadence, I(1), False)
    learn_size(track, size)
    track["left_out"] += LIKE
    path["time"], path["size"], path["left_out"] = time, size, track["left_out"]
    return True


@inlined
def cost_of_size(like: bool, on_beat: bool) -> float:
    """Return the cost of taking a packet as audio, of a size that is like the audio or not."""
    if like:
        return 0.0
    return UNLIKE_ON_BEAT if on_beat else UNLIKE_OFF_BEAT


@inlined
def cost_of_next_beat(skipped: float, shift: float, behind: float, taken: float) -> float:
    """Return the cost of a path with a packet on its next beat.

    skipped, taken: of the path so far, and of the packet's size; shift: beats by which the packet
    comes later than the one before; behind: beats by which it is behind the beat.
    """
    if shift >= 0:
        cost = skipped + min(LATE * shift, MOST) + taken
    else:
        under = max(-behind, 0.0)
        cost = skipped + CATCH_UP * (-shift - under) + EARLY * under + taken
    return cost + min(CARRIED * behind, MOST) if behind > 0.0 else cost


@inlined
def put_choices(
    track: Any, size: int, time: int, cadence: int, in_time: Choice, late: Choice, after: Choice
) -> None:
    """Put the paths that a packet continues, or a new one if it continues none."""
    paths = track["paths"]
    if in_time.path >= 0:
        if abs(time - I(paths[in_time.path]["time"]) - cadence) * 5 < cadence:
            learn_size(track, size)
        lengthen(paths[in_time.path], track["next"], time, cadence, in_time)
    if late.path >= 0:
        lengthen(paths[late.path], track["late"], time, cadence, late)
    if after.path >= 0:
        lengthen(paths[after.path], track["after"], time, cadence, after)
        put_path(track, track["after"], size, time, after.cost)
    if late.path >= 0:
        put_path(track, track["late"], size, time, late.cost)
    if in_time.path >= 0:
        put_path(track, track["next"], size, time, in_time.cost)
    if in_time.path < 0 and after.path < 0 and late.path < 0:
        clear_path(track["next"])
        track["next"]["audio"] = 1
        put_path(track, track["next"], size, time, 0.0)


@inlined
def lengthen(path: Any, new: Any, time: int, cadence: int, choice: Choice) -> None:
    """Copy a path, and add a packet at `time` to the copy."""
    copy_path(path, new)
    advance(new, time, cadence, choice.beats, choice.pause)


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
def cheapest(track: Any) -> tuple[int, float]:
    """Return the cheapest path and its cost, -1 and 1e9 if there is none."""
    best, least = I(-1), 1e9
    for one in range(PATHS):
        path = track["paths"][one]
        if I(path["time"]):
            cost = path["cost"] + (track["left_out"] - path["left_out"])
            if cost < least:
                best, least = I(one), cost
    return best, least


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
def is_like(track: Any, size: int) -> bool:
    """Return whether a size is like that of the last audio packets."""
    return bool(abs(size - track["mean"]) <= 2.5 * track["spread"] + 6)


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
    """Take the counts of the second from the cheapest path, and clear those of all paths."""
    paths = track["paths"]
    best, least = cheapest(track)
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
        path["cost"] += left_out - path["left_out"] - least
        path["left_out"] = 0
        path["audio"] = path["spoken"] = path["missing"] = 0
        path["longest"] = 0
    track["left_out"] = 0
