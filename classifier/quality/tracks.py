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

#: Sizes that are remembered to recognise comfort noise.
SLOTS = 6
#: Explanations of the last packets that are followed at the same time.
PATHS = 9

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
        ("credit", "i4"),  # thousandths of frames that are due since a late one
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
    ]
)

#: A path: audio packets up to one packet, and what they explain in the current second.
PATH = np.dtype(
    [
        ("time", "i8"),  # ns, of its last packet; 0: no path
        ("lag", "i8"),  # ns behind the beat
        ("jitter", "i8"),  # ns, 16-fold (RFC 3550, appendix A.8)
        ("longest", "i8"),  # ns, the longest gap
        ("cost", "f8"),
        ("left_out", "f8"),  # the track's sum when the packet came
        ("size", "i4"),
        ("missing", "i4"),
        ("audio", "i4"),
        ("spoken", "i4"),  # audio packets that do not follow a pause
    ]
)

#: Decaying sums over the last seconds: the counters above, and the share kept each second.
RECENT = (
    "packets", "small", "large", "huge", "equal", "bursts", "mixed", "spoken", "frames", "seconds"
)  # fmt: skip
PACKETS, SMALL, LARGE, HUGE, EQUALS, BURSTS, MIXED, SPOKEN, FRAME_COUNT, SECONDS = range(10)
KEPT = 0.75

TRACK = np.dtype(
    [
        ("flow", "i8"),  # number of the flow's first packet in the capture, -1: a free track
        ("second", "i8"),  # the current second, counted from the start; -1: none
        ("packets", "i4"),  # of the current second
        ("octets", "i8"),  # IP bytes of the current second
        ("huge", "i4"),  # packets of the current second that are longer than audio
        ("video", "i4"),  # 1: the last seconds had video
        ("frames", FRAMES, (len(LIMITS),)),
        ("counts", COUNTS, (len(LIMITS),)),
        ("recent", "f8", (len(RECENT),)),
        # audio
        ("cadence", "i4"),  # µs, 0: unknown
        ("gaps", "f8", (len(CADENCES),)),  # decaying count of gaps near each cadence
        ("all_gaps", "f8"),
        ("run_bin", "i4"),  # cadence of the last gaps ...
        ("run", "i4"),  # ... and how many in a row had it
        ("summed", "i4"),  # gaps of a mean ...
        ("sum", "i8"),  # ... and their sum, ns
        ("steady", "f8"),  # decaying share of gaps that fit the cadence
        ("seen", "i8"),  # ns, the last packet that can be audio, 0: none
        ("heard", "i8"),  # ns, the same, before the cadence is known
        ("paths", PATH, (PATHS,)),
        ("best", "i4"),  # the path that the next packet continues if it is on the beat; -1: none
        ("cheapest", "i4"),  # the path that was put last
        ("next", PATH),  # scratch
        ("late", PATH),
        ("after", PATH),
        ("left_out", "f8"),  # cost of leaving out all packets of the second
        ("noise", "i4"),  # payload bytes of comfort noise, 0: unknown
        ("noise_size", "i4", (SLOTS,)),  # payload bytes of the last packets ...
        ("noise_time", "i8", (SLOTS,)),  # ... ns, when the last one of that size came
        ("noise_hits", "i4", (SLOTS,)),  # ... and how many came in time, in a row
        ("low", "f8"),  # payload bytes of audio, decaying minimum and maximum
        ("high", "f8"),
        ("mean", "f8"),  # ... moving average and mean deviation
        ("spread", "f8"),
        ("jitter", "i8"),
        ("audio", "i4"),  # audio packets of the current second
        ("spoken", "i4"),
        ("missing", "i4"),
        ("longest", "i8"),  # ns, the longest gap that ended in the current second
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
        ("audio", "i4"),
        ("spoken", "i4"),
        ("missing", "i4"),
        ("longest", "i8"),
        ("jitter", "i8"),  # ns
    ]
)


def no_tracks(count: int) -> Tracks:
    """Return TRACK[2 * count], free tracks of `count` flows: up at 2 n, down at 2 n + 1."""
    tracks = np.zeros(2 * count, TRACK)
    tracks["flow"] = tracks["second"] = tracks["best"] = -1
    return tracks
