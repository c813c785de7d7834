# SPDX-License-Identifier: BSD-3-Clause
"""Frame boundaries of video, from sizes and times, counted by several rules at the same time.

An encoder's packetiser splits a frame into packets of nearly equal size (the difference is at most
one or two bytes in libwebrtc and in Zoom), so a change of size begins a frame (Sharma et al., IMC
2023). This fails for packetisers that fill packets up to the MTU, for forward error correction
(packets that are 10 to 40 bytes longer, at the end of a frame) and for successive frames of equal
size. Gaps fail for paced senders. Every rule is counted; the estimate chooses between them.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined

#: Bytes by which packets of a frame differ in size.
EQUAL = 2
#: Error correction makes the last packets of a frame longer by a number of bytes that stays the
#: same (Teams 16, WhatsApp 26, Zoom 32): the range of it, how often it must occur, the longest gap
#: in µs.
LONGER_LEAST, LONGER_MOST, LONGER_HITS, LONGER_GAP = 8, 48, 3, 25_000
#: µs: packets in a burst; those of a frame are at most so many bytes shorter, or LONGER_MOST
#: longer.
BACK_TO_BACK, SHORTER = 2_000, 12
#: µs: the shortest gap that begins a frame where packets are filled up to the MTU.
GAP = 5_000
#: Two intervals between frames that gaps begin are alike if they differ by less than this part.
ALIKE = 4
#: Some packetisers make the first packet of a frame longer (WhatsApp): by at most so many bytes,
#: how often it must occur, the longest gap after it in µs.
LEAD_MOST, LEAD_HITS, LEAD_GAP = 200, 4, 15_000
#: Bound of an interval between frames, in µs.
LONGEST = 400_000
#: Frames that may follow at once after a frame that came late, in thousandths; and the least
#: credit.
MOST_CREDIT, LEAST_CREDIT = 3_000, 500


@inlined
def observe_frames(frames: Any, counts: Any, limit: int, size: int, time: int) -> None:
    """Count a packet of `size` payload bytes at `time` (ns) in a tracker of packets above `limit`.

    frames: FRAMES; counts: COUNTS of the current second.
    """
    if size <= limit:
        return
    counts["packets"] += 1
    if frames["last_time"] == 0:
        frames["interval"], frames["inside"] = 40_000, 2_000
        frames["begin"] = frames["last_time"] = frames["gap_begin"] = time
        frames["size"] = size
        counts["jumps"] += 1
        counts["frames"] += 1
        counts["gaps"] += 1
        return
    gap = (time - I(frames["last_time"])) // 1000
    step = size - I(frames["size"])
    equal = -EQUAL <= step <= EQUAL
    interval = I(frames["interval"])
    burst = gap < BACK_TO_BACK
    longer = is_longer(frames, step, gap, interval)
    if gap > GAP:
        apart = min((time - I(frames["gap_begin"])) // 1000, LONGEST)
        before = I(frames["gap_interval"])
        counts["gaps"] += 1
        counts["regular"] += 1 if ALIKE * abs(apart - before) <= before else 0
        frames["gap_begin"], frames["gap_interval"] = time, apart
    counts["equal"] += 1 if equal else 0
    counts["jumps"] += 0 if equal else 1
    begins = not equal and not longer and not is_lead(frames, step, gap)
    if burst:
        near = -SHORTER <= step <= LONGER_MOST
        counts["bursts"] += 1
        counts["mixed"] += 1 if begins and not near else 0
        begins = begins and not near
    since = min((time - I(frames["begin"])) // 1000, LONGEST)
    if 10 * since < 3 * interval:  # too early, unless an earlier frame came late
        begins = begins and I(frames["credit"]) >= LEAST_CREDIT
    after_pause = equal and 10 * gap > 7 * interval and 2 * gap > 5 * I(frames["inside"]) + 5_000
    if begins or after_pause:
        counts["frames"] += 1
        credit = I(frames["credit"]) // 2 + 1000 * since // max(interval, 1_000) - 1000
        frames["credit"] = min(max(credit, 0), MOST_CREDIT)
        frames["interval"] = interval + (since - interval) // 8
        frames["begin"] = time
    elif equal or longer:
        inside = I(frames["inside"])
        frames["inside"] = max(min(gap, 100_000), inside - inside // 32)
    frames["last_time"] = time
    frames["size"] = size


@inlined
def is_lead(frames: Any, step: int, gap: int) -> bool:
    """Return whether the last packet is the longer first one of a frame; learn whether one is."""
    if I(frames["begin"]) != I(frames["last_time"]) or gap >= LEAD_GAP:
        return False
    lead = -LEAD_MOST <= step < -SHORTER
    known = I(frames["lead"]) >= LEAD_HITS
    if lead:
        frames["lead"] = min(I(frames["lead"]) + 1, 8)
    elif I(frames["lead"]) > 0:
        frames["lead"] -= 1
    return lead and known


@inlined
def is_longer(frames: Any, step: int, gap: int, interval: int) -> bool:
    """Return whether error correction makes a packet longer; learn by how many bytes."""
    if not LONGER_LEAST <= step <= LONGER_MOST or gap >= min(LONGER_GAP, 6 * interval // 10):
        return False
    hits = I(frames["longer_hits"])
    if abs(step - I(frames["longer"])) <= 1:
        frames["longer_hits"] = min(hits + 1, 8)
        return hits >= LONGER_HITS
    if hits == 0:
        frames["longer"] = step
    else:
        frames["longer_hits"] = hits - 1
    return False
