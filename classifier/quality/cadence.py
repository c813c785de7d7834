# SPDX-License-Identifier: BSD-3-Clause
"""The cadence of a direction's audio: how far its packets are apart when they are sent.

A cadence is found from the commonest gap, or from the mean of some gaps where jitter hides it, and
checked once a second: a network delays packets, but the mean gap of a second stays near the
cadence. Packets that are no audio make the mean smaller, lost packets make it larger. Packets of
less than half the mean size stay out of it where most gaps fit without them. Where jitter hides the
gaps, the mean gap of the last seconds alone tells the cadence.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.classifier.quality.tracks import CADENCES

MS = 1_000_000
#: A gap fits a cadence if it differs by at most this share (percent) of it; their mean: this share.
FITS, MEAN_FITS = 15, 7
#: Gaps longer than this (ns) are pauses or stalls.
LONG = 130 * MS
#: Equal gaps in a row after which the cadence changes: to a shorter one, to a longer one.
SHORTER, LONGER = 4, 6
#: Gaps that must fit before a cadence is known; else the mean of so many gaps counts.
FEWEST, MEAN_OF = 5.0, 24
#: The mean gap of a second is between these shares (percent) of the cadence; gaps it is made of, at
#: least; seconds in a row in which it is not, after which the cadence changes: the mean is between
#: these shares of the new one.
LEAST_MEAN, MOST_MEAN, FEWEST_GAPS, WRONG = 69, 130, 8, 2
LEAST_NEW, MOST_NEW = 80, 112
#: Where jitter hides the cadence: shares (percent) of it that the mean gap of the last seconds has
#: at least, and at most where it is not one of the common ones (ms); seconds in a row.
LEAST_SLOW, MOST_SLOW, COMMON, SLOW = 92, 104, (20, 40, 60), 3
#: Part of the gaps of a second that fit the cadence, from which it is right whatever the mean is,
#: if the jitter is below this part of the cadence.
REGULAR, CALM = 2, 3
#: Share of the counts of gaps that is kept at each gap; gaps after which `steady` is half new.
KEPT, STEADY = 0.98, 30
#: Share of gaps that fit the cadence, from which jitter does not hide it.
STEADY_LEAST = 0.35
#: Beats after which `orderly` is half new; what it is when a cadence is set.
ORDERLY, ORDERLY_FIRST = 50, 0.7


@kernel
def cadence_bin(gap: int, fits: int) -> int:
    """Return the position in CADENCES that a gap (ns) fits within `fits` percent, -1 for none."""
    for place in range(len(CADENCES)):
        beat = CADENCES[place] * MS
        if abs(gap - beat) * 100 <= fits * beat:
            return place
    return -1


@kernel
def learn_cadence(track: Any, gap: int) -> None:
    """Learn the cadence from a gap (ns) that does not fit it, or while it is unknown."""
    if gap > LONG:
        track["run"] = track["summed"] = track["sum"] = 0
        return
    place = cadence_bin(gap, FITS)
    if I(track["cadence"]):
        change_cadence(track, place)
        return
    track["all_gaps"] = track["all_gaps"] * KEPT + 1.0
    for one in range(len(CADENCES)):
        track["gaps"][one] = track["gaps"][one] * KEPT
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
def change_cadence(track: Any, place: int) -> None:
    """Change the cadence after some gaps in a row that fit another one, `place`; -1: none."""
    if place < 0:
        track["run"] = 0
        return
    if place == I(track["run_bin"]):
        track["run"] += 1
    else:
        track["run_bin"], track["run"] = place, 1
    beat, cadence = CADENCES[place] * 1000, I(track["cadence"])
    if beat == cadence or I(track["run"]) < (SHORTER if beat < cadence else LONGER):
        return
    if I(track["mean_gap"]) == 0 or is_between(track, beat):
        set_cadence(track, beat, 0.5)


@inlined
def is_calm(track: Any) -> bool:
    """Return whether the jitter is so small that gaps tell the cadence."""
    return CALM * I(track["jitter"]) < 16000 * I(track["cadence"])


@inlined
def is_between(track: Any, cadence: int) -> bool:
    """Return whether the mean gap is near a cadence (µs)."""
    mean, beat = 100 * I(track["mean_gap"]), 1000 * cadence
    return LEAST_MEAN * beat <= mean <= MOST_MEAN * beat


@kernel
def set_cadence(track: Any, cadence: int, steady: float) -> None:
    """Set the cadence (µs) and the share of gaps that fit it so far; the beat starts again."""
    track["cadence"] = cadence
    track["steady"] = steady
    track["orderly"] = ORDERLY_FIRST
    track["missing"] = track["run"] = track["last"] = track["other"] = 0
    track["periods"] = track["groups"] = 0


@kernel
def check_cadence(track: Any) -> None:
    """At the end of a second, follow how many gaps fit the cadence, and correct a wrong one."""
    fitting, gaps = I(track["fitting"]), I(track["fitting"]) + I(track["unfit"])
    if gaps:
        track["steady"] += (fitting / gaps - track["steady"]) * gaps / (gaps + STEADY)
    heard = I(track["spoken"])
    whole = heard + I(track["extra"]) + max(I(track["missing"]), 0)
    if I(track["cadence"]) and whole:
        track["orderly"] += (heard / whole - track["orderly"]) * whole / (whole + ORDERLY)
    track["extra"] = 0
    if I(track["cadence"]) and gaps >= FEWEST_GAPS and I(track["long_gaps"]) == 0:
        sent = gaps
        if REGULAR * fitting >= gaps and is_calm(track):  # so beats without a packet are lost
            sent += max(I(track["missing"]), 0)
        mean = (I(track["seen"]) - I(track["checked"])) // sent
        track["mean_gap"] = mean
        track["wrong"] = 0 if is_between(track, I(track["cadence"])) else I(track["wrong"]) + 1
        if I(track["wrong"]) >= WRONG:
            correct_cadence(track, mean)
        follow_mean(track, mean)
    track["fitting"] = track["unfit"] = track["long_gaps"] = 0
    track["checked"] = track["seen"]


@kernel
def follow_mean(track: Any, mean: int) -> None:
    """Set the longest cadence that the mean gap (ns) of the last seconds is not below.

    Only where jitter hides the cadence: lost packets make the mean gap longer, and few packets that
    are no audio make it shorter.
    """
    slow = I(track["slow_mean"])
    slow = slow + (mean - slow) // 4 if slow else mean
    track["slow_mean"] = slow
    best = I(0)
    for one in CADENCES:
        percent = 100 * slow // (one * MS)
        if percent >= LEAST_SLOW and (one in COMMON or percent <= MOST_SLOW):
            best = I(one * 1000)
    hidden = not is_calm(track) and track["steady"] < STEADY_LEAST
    other = hidden and best > 0 and best != I(track["cadence"])
    track["other"] = I(track["other"]) + 1 if other else 0
    if I(track["other"]) >= SLOW:
        set_cadence(track, best, 0.2)


@kernel
def correct_cadence(track: Any, mean: int) -> None:
    """Set the longest cadence that a mean gap (ns) is near; none: leave it as it is."""
    for place in range(len(CADENCES) - 1, -1, -1):
        beat = CADENCES[place] * MS
        if LEAST_NEW * beat <= 100 * mean <= MOST_NEW * beat:
            if beat != 1000 * I(track["cadence"]):
                set_cadence(track, CADENCES[place] * 1000, 0.2)
            track["wrong"] = 0
            return
