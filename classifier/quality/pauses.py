# SPDX-License-Identifier: BSD-3-Clause
"""Pauses of a direction's audio (discontinuous transmission): what a codec sends in them.

In a pause a codec sends packets of comfort noise, then nothing for a time that stays the same, and
so on until speech goes on: libopus one packet each 400 ms, which many senders precede by a packet
of background noise; others one each 100 ms. So a pause has groups of `group` packets, a beat apart,
and `period` beats from the last packet of a group to the first one of the next. Both are learned
from pauses, by majority votes; a shorter gap is no vote against a known period, because speech can
end a pause at any time. A gap after such a packet tells which packets of the pause are lost: those
that were expected before the packet that ended it. A shorter gap is lost packets only if the packet
before it is not the last one of its group.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel

#: Packets of comfort noise differ by at most this many bytes and have at most this share (percent)
#: of the mean size; pauses that must follow them before their size is known, and that are kept.
NOISE, NOISE_SHARE, NOISE_KNOWN, NOISE_MOST = 4, 80, 2, 8
#: Votes from which `period` and `group` are known, and that are kept; packets of a group, at most;
#: beats of the shortest and of the longest period.
KNOWN, VOTES, LARGEST, SHORTEST_PERIOD, LONGEST_PERIOD = 2, 8, 6, 4, 100
#: Periods of a gap up to which packets are lost in a pause; in a longer one the sender stopped.
PERIODS = 2


@inlined
def is_small(track: Any, size: int) -> bool:
    """Return whether a size can be that of comfort noise."""
    return bool(100 * size <= NOISE_SHARE * track["mean"])


@inlined
def is_noise(track: Any, size: int) -> bool:
    """Return whether a size is that of comfort noise."""
    return I(track["pauses"]) >= NOISE_KNOWN and abs(size - I(track["noise"])) <= NOISE


@inlined
def is_within_pause(track: Any, size: int) -> bool:
    """Return whether a packet after a long gap can be one of a pause, by its size."""
    after = is_noise(track, I(track["before"])) or I(track["place"]) > 0
    return bool(after and I(track["noise"]) - NOISE <= size <= track["mean"])


@kernel
def is_first_noise(track: Any, size: int, time: int, cadence: int) -> bool:
    """Return whether a packet on the beat in a pause is comfort noise whose size is not known yet.

    It is if a packet of about the same size came before it, also on the beat and in a pause.
    """
    if I(track["pauses"]) >= NOISE_KNOWN or not is_small(track, size):
        return False
    alike = abs(size - I(track["maybe"])) <= 2 * NOISE
    apart = time - I(track["maybe_time"])
    track["maybe"], track["maybe_time"] = size, time
    return alike and SHORTEST_PERIOD * cadence <= apart <= LONGEST_PERIOD * cadence


@inlined
def is_periodic(track: Any) -> bool:
    """Return whether it is known what the codec sends in a pause."""
    return I(track["periods"]) >= KNOWN and I(track["groups"]) >= KNOWN


@inlined
def is_due_in_pause(track: Any, size: int, beats: int) -> bool:
    """Return whether a packet `beats` beats after the last one begins a group of a pause."""
    return is_periodic(track) and beats == I(track["period"]) and is_within_pause(track, size)


@inlined
def is_repeated(track: Any, beats: int) -> bool:
    """Return whether a gap is as long as the one before it, with a few packets between them."""
    return I(track["place"]) > 0 and I(track["periods"]) > 0 and beats == I(track["period"])


@inlined
def is_inside_group(track: Any) -> bool:
    """Return whether the next packet of a pause is due a beat after the last one."""
    return is_periodic(track) and 0 < I(track["place"]) < I(track["group"])


@kernel
def learn_noise(track: Any, size: int) -> None:
    """Learn the size of comfort noise from a small packet before a long gap."""
    if abs(size - I(track["noise"])) <= NOISE:
        track["pauses"] = min(I(track["pauses"]) + 1, NOISE_MOST)
    elif I(track["pauses"]) > 0:
        track["pauses"] -= 1
    else:
        track["noise"], track["pauses"] = size, 1


@kernel
def learn_period(track: Any, beats: int) -> None:
    """Learn the period, and the size of a group, from a long gap of `beats` beats."""
    if beats > LONGEST_PERIOD:
        return
    if beats < I(track["period"]) and I(track["periods"]) >= KNOWN:
        return  # speech ended the pause
    if beats != I(track["period"]):
        if I(track["periods"]) > 0:
            track["periods"] -= 1
        else:
            track["period"], track["periods"] = beats, 1
        return
    track["periods"] = min(I(track["periods"]) + 1, VOTES)
    place = I(track["place"])
    if place == 0:
        return
    if place == I(track["group"]):
        track["groups"] = min(I(track["groups"]) + 1, VOTES)
    elif I(track["groups"]) > 0:
        track["groups"] -= 1
    else:
        track["group"], track["groups"] = place, 1


@inlined
def follow_group(track: Any) -> None:
    """Follow a packet a beat after one of a pause; more of them than a group has are speech."""
    track["place"] += 1
    most = I(track["group"]) if I(track["groups"]) >= KNOWN else LARGEST
    if I(track["place"]) > most:
        track["place"] = 0


@kernel
def lost_in_pause(track: Any, beats: int) -> int:
    """Return the packets of a pause that are lost in a gap of `beats` beats; sets `place`."""
    group, place, period = I(track["group"]), I(track["place"]), I(track["period"])
    if not is_periodic(track) or beats > PERIODS * period:
        track["place"] = 1 if beats == period else 0
        return I(0)
    begun = is_noise(track, I(track["before"])) or I(track["pauses"]) < NOISE_KNOWN
    if begun or beats == period:
        place = group
    if place > 0:
        return expected(track, beats, place)
    return 1 + expected(track, beats - 1, group)  # the first packet of the pause is lost, too


@inlined
def expected(track: Any, beats: int, place: int) -> int:
    """Return how many packets of a pause are due in less than `beats` beats; sets `place`.

    place: of the packet before them in its group. The packet that comes then is one of the pause if
    it is due; else it is speech, and `place` becomes 0.
    """
    count, at = I(0), I(0)
    while True:
        if place < I(track["group"]):
            at, place = at + 1, place + 1
        else:
            at, place = at + I(track["period"]), I(1)
        if at >= beats:
            break
        count += 1
    track["place"] = place if at == beats else 0
    return count
