# SPDX-License-Identifier: BSD-3-Clause
"""Notes: the state of a flow while it is inspected, freed when the flow is settled.

Notes are kept in a pool apart from the flow records, so that a packet of a settled flow reads only
its 128-byte record. When the pool is full, a clock hand selects a note. Its flow is settled with
the evidence so far, and counted (METER_RECYCLED).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midcall.captures.jit.kernel import I, kernel
from midcall.classifier.state.features import KEPT
from midcall.classifier.state.flow_table import (
    METER_FREE,
    METER_NOTE_HAND,
    METER_NOTES,
    Numbers,
    Records,
)

TRACKS = 4
#: Payloads that fit a candidate from which no other app replaces it.
SETTLED_HITS = 3

NOTE = np.dtype(
    [
        ("flow", "i8"),  # the flow it belongs to, -1: free
        ("free", "u4"),  # entry of the list of free notes
        ("hello", "u2"),  # buffer of a hello in pieces, 0: none
        ("greets", "u2"),  # pieces that were read, or GREETED of classifier.hellos
        ("traits", "i8"),  # union of the STUN traits seen
        ("first_time", "i8"),
        ("tag", "i8"),  # hash of the first 16 payload octets
        # RTP tracks, one per synchronisation source
        ("rtp_first_time", "i8", (TRACKS,)),
        ("rtp_first_stamp", "u4", (TRACKS,)),
        ("rtp_ssrc", "u4", (TRACKS,)),
        ("rtp_stamp", "u4", (TRACKS,)),
        ("rtp_sequence", "u2", (TRACKS,)),
        ("rtp_run", "u1", (TRACKS,)),  # consistent successors
        ("rtp_type", "u1", (TRACKS,)),  # payload type, 255: track unused
        ("rtcp_ssrc", "u4"),
        ("seen", "u2"),  # payloads inspected
        ("stun", "u2"),
        ("rtcp", "u2"),
        ("rtcp_same", "u1"),  # RTCP reports of one source
        ("tags", "u1"),  # payloads that began like the first
        ("pings", "u1"),
        ("hits", "u1"),  # payloads that fit the candidate below
        ("candidate", "u1"),  # app number of a proprietary framing under test
        ("sides", "u1"),  # 1: it fitted upwards, 2: downwards
        ("word", "u4"),  # a value to compare with, by candidate
        ("other", "u4"),
        ("moments", "u4", (KEPT,)),  # of the first UDP payloads, microseconds since first_time
        ("sizes", "u2", (KEPT,)),  # their bytes on the wire
        ("ways", "i8"),  # bit i is 1 where payload i went up
    ]
)
assert NOTE.itemsize % 8 == 0  # else every other note is misaligned, which is slow


@kernel
def clear(note: Any, number: int, time: int) -> None:
    """Initialise a note for a flow; number: the flow's; time: of its first packet, in ns."""
    note["flow"] = number
    note["traits"] = note["tag"] = 0
    note["first_time"] = time
    for track in range(TRACKS):
        note["rtp_run"][track] = 0
        note["rtp_type"][track] = 255
        note["rtp_ssrc"][track] = 0
    note["rtcp_ssrc"] = note["seen"] = note["stun"] = note["rtcp"] = note["rtcp_same"] = 0
    note["tags"] = note["pings"] = note["hits"] = note["candidate"] = note["sides"] = 0
    note["word"] = note["other"] = note["hello"] = note["greets"] = note["ways"] = 0


@kernel
def take_note(notes: Records, meter: Numbers) -> int:
    """Return the number of a free note, -1 when all are in use."""
    free = I(meter[METER_FREE])
    if free:
        meter[METER_FREE] = free - 1
        return I(notes[free - 1]["free"])
    used = I(meter[METER_NOTES])
    if used < len(notes):
        meter[METER_NOTES] = used + 1
        return used
    return -1


@kernel
def give_back(notes: Records, meter: Numbers, number: int) -> None:
    """Return a note to the pool."""
    free = I(meter[METER_FREE])
    notes[number]["flow"] = -1
    notes[free]["free"] = number
    meter[METER_FREE] = free + 1


@kernel
def next_victim(notes: Records, meter: Numbers) -> int:
    """Return the number of the note at the clock hand (all are in use); advances the hand."""
    hand = I(meter[METER_NOTE_HAND])
    meter[METER_NOTE_HAND] = (hand + 1) % len(notes)
    return hand


@kernel
def may_replace_candidate(note: Any, app: int) -> bool:
    """Return whether a first weak sign of an app may replace the note's candidate.

    It may not if payloads fitted another app's framing SETTLED_HITS times already.
    """
    return bool(note["candidate"] == app or note["candidate"] == 0 or note["hits"] < SETTLED_HITS)
