# SPDX-License-Identifier: BSD-3-Clause
"""State of the quality estimator: one record per direction of a flow, and one row per second.

A track has a fixed size, so the memory of a flow is bounded. Nothing in it is read from a payload:
a packet is its direction, its payload bytes on the wire (from the IP and UDP or TCP headers) and
its time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tracks = NDArray[np.void]
Rows = NDArray[np.void]

#: Payload bytes above which a packet can be video; one frame tracker for each. Audio of a call is
#: at most about 300 bytes where video runs beside it, RTCP and STUN mostly below 130.
LIMITS = (130, 305)
#: Packet intervals that audio codecs use, in ms.
CADENCES = (10, 20, 30, 40, 60, 80, 100, 120)

#: Slots of a track's tables of sizes (audio.slot_of).
SIZES = 256

#: A frame tracker: packets above one size limit, split into frames.
FRAMES = np.dtype(
    [
        ("last_time", "i8"),  # ns, 0: none
        ("begin", "i8"),  # ns, when the current frame began
        ("interval", "i4"),  # µs between frames, moving average
        ("inside", "i4"),  # µs between packets of a frame, decaying maximum
        ("size", "i4"),  # payload bytes of the last packet
        ("longer", "i4"),  # bytes by which error correction makes packets longer ...
        ("longer_hits", "i4"),  # ... and how often it did
        ("lead", "i4"),  # how often the first packet of a frame was longer than the second
        ("credit", "i4"),  # thousandths of frames that are due since a late one
        ("gap_begin", "i8"),  # ns, the last packet after a gap ...
        ("gap_interval", "i4"),  # µs from the one before to it
    ]
)

#: What one frame tracker counted in a second.
COUNTS = np.dtype(
    [
        ("packets", "i4"),
        ("jumps", "i4"),  # packets whose size differs by more than 2 bytes from the one before
        ("frames", "i4"),  # frames that begin, by sizes
        ("gaps", "i4"),  # frames that begin, by gaps
        ("bursts", "i4"),  # packets that follow the one before at once
        ("mixed", "i4"),  # ... with another size
        ("equal", "i4"),  # packets of the same size as the one before
        ("regular", "i4"),  # frames that begin by gaps, about as long after the last as that one
    ]
)

#: Decaying sums over the last seconds: the counters above, and the share kept each second.
RECENT = (
    "packets", "small", "large", "huge", "equal", "bursts", "mixed", "spoken", "frames", "seconds",
    "gaps", "regular",
)  # fmt: skip
PACKETS, SMALL, LARGE, HUGE, EQUALS, BURSTS, MIXED, SPOKEN, FRAME_COUNT, SECONDS = range(10)
GAPS, REGULAR = range(10, 12)
KEPT = 0.75

TRACK = np.dtype(
    [
        ("flow", "i8"),  # 1 + number of the flow's first packet in the capture, 0: a free track
        ("second", "i8"),  # the current second, counted from the start
        ("until", "i8"),  # ns, its end; 0: there is none
        ("packets", "i4"),  # of the current second
        ("octets", "i8"),  # IP bytes of the current second
        ("huge", "i4"),  # packets of the current second that are longer than audio
        ("video", "i4"),  # 1: the last seconds had video
        ("frames", FRAMES, (len(LIMITS),)),
        ("counts", COUNTS, (len(LIMITS),)),
        ("recent", "f8", (len(RECENT),)),
        # audio: the beat
        ("cadence", "i4"),  # µs, 0: unknown
        ("audio", "i4"),  # audio packets of the current second ...
        ("spoken", "i4"),  # ... those that do not follow a pause, or are comfort noise
        ("missing", "i4"),  # beats without a packet, less those whose packets came late
        ("due", "i8"),  # ns, when the next audio packet is expected
        ("last", "i8"),  # ns, the last audio packet, 0: none yet
        ("seen", "i8"),  # ns, the last packet that can be audio, 0: none
        ("longer_seen", "i8"),  # ns, the last one of at least half the mean size, 0: none
        ("jitter", "i8"),  # ns, 16-fold (RFC 3550, appendix A.8)
        ("longest", "i8"),  # ns, the longest gap that ended in the current second
        ("before", "i4"),  # payload bytes of the last audio packet
        ("on_time", "i4"),  # 1: the last packet that can be audio came a beat after the one before
        ("fitting", "i4"),  # gaps of the current second that fit the cadence ...
        ("unfit", "i4"),  # ... and that do not
        ("late", "i4"),  # beats without a packet whose packets may still come ...
        ("counted", "i4"),  # ... how many of them count as missing ...
        ("given_up", "i4"),  # ... and packets on the beat until they are given up
        ("off", "i8"),  # ns, by which the last audio packet came after it was due, below 0: before
        ("paused", "i4"),  # beats of a last gap that may be a pause or a stall
        ("doubts", "i4"),  # gaps of the current second that may be pauses or outages
        ("since", "i8"),  # ns, when the last long gap ended, or the audio began
        ("stray", "i4"),  # packets of other sizes than the audio, decaying
        ("unlike", "i4"),  # bytes of the last audio packet if its size was unlike the audio, else 0
        ("filler", "i4"),  # packets since the last audio packet that may be audio after all
        # audio: sizes
        ("mean", "f8"),  # payload bytes, moving average ...
        ("spread", "f8"),  # ... and mean deviation
        ("noise", "i4"),  # payload bytes before pauses, of comfort noise ...
        ("pauses", "i4"),  # ... and how often a pause followed them
        ("maybe", "i4"),  # payload bytes of the last packet that may be comfort noise ...
        ("maybe_time", "i8"),  # ... and its time, ns
        ("period", "i4"),  # beats from one group of packets of a pause to the next ...
        ("periods", "i4"),  # ... and votes for it
        ("group", "i4"),  # packets of such a group ...
        ("groups", "i4"),  # ... and votes for it
        ("place", "i4"),  # of the last packet in its group, 0: none of a pause
        ("paused_at", "i8"),  # ns, the packet before a pause that one packet ended, 0: none
        ("halved", "i4"),  # seconds since `counted_sizes` was halved
        ("sized", "i4"),  # packets of the last seconds ...
        ("counted_sizes", "u1", (SIZES,)),  # ... by size
        ("off_beat", "i1", (SIZES,)),  # how much packets of a size are off the beat
        # audio: how the cadence is learned
        ("gaps", "f8", (len(CADENCES),)),  # decaying count of gaps near each cadence
        ("all_gaps", "f8"),
        ("run_bin", "i4"),  # cadence of the last gaps ...
        ("run", "i4"),  # ... and how many in a row had it
        ("summed", "i4"),  # gaps of a mean ...
        ("sum", "i8"),  # ... and their sum, ns
        ("steady", "f8"),  # decaying share of gaps that fit the cadence
        ("extra", "i4"),  # packets of the current second for which no beat was free
        ("orderly", "f8"),  # decaying share of beats with a packet, of those and extra packets
        ("checked", "i8"),  # ns, `seen` at the end of the last second; at first the first packet
        ("long_gaps", "i4"),  # gaps of the current second that are longer than any cadence
        ("mean_gap", "i8"),  # ns, of the last second without such a gap
        ("slow_mean", "i8"),  # ns, its moving average
        ("other", "i4"),  # seconds in a row in which that tells another cadence
        ("wrong", "i4"),  # seconds in a row whose mean gap is far from the cadence
    ]
)

#: A second of a direction, as it was measured; estimate.py makes the columns from it.
ROW = np.dtype(
    [
        ("flow", "i8"),
        ("up", "i1"),
        ("second", "i8"),
        ("video", "i1"),  # 1: the last seconds had video
        ("idle", "i4"),  # seconds without any packet that follow
        ("packets", "i4"),
        ("octets", "i8"),
        ("counts", COUNTS, (len(LIMITS),)),
        ("recent", "f8", (len(RECENT),)),  # decaying sums, this second included
        ("cadence", "i4"),
        ("steady", "f8"),  # share of the last gaps that fit the cadence
        ("orderly", "f8"),  # share of the last beats that had a packet, of beats and extra packets
        ("even", "i1"),  # 1: the mean gap is near the cadence
        ("audio", "i4"),
        ("spoken", "i4"),
        ("missing", "i4"),
        ("doubts", "i4"),
        ("longest", "i8"),
        ("jitter", "i8"),  # ns
    ]
)


def no_tracks(count: int) -> Tracks:
    """Return TRACK[2 * count], free tracks of `count` flows: up at 2 n, down at 2 n + 1.

    All are zeros, so memory is used when a track is.
    """
    return np.zeros(2 * count, TRACK)
