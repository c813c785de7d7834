# SPDX-License-Identifier: BSD-3-Clause
"""The quality of the calls of a live play while it runs, as one line every few seconds.

It is estimated (midcall.classifier.quality) from the sizes and arrival times of the media packets
that came in at both ends, and reads the ends' records between two turns: nothing is done per packet
of the box or of the ends.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import kernel
from midcall.classifier.quality.estimate import Quality, estimate
from midcall.classifier.quality.meter import measure
from midcall.classifier.quality.tracks import ROW, Rows, Tracks, no_tracks
from midcall.classifier.state.flow_table import Records
from midcall.testbed.assess.mos_by_second import mos_by_second
from midcall.testbed.replay.script import Script
from midcall.testbed.replay.sides import CALLER

Numbers = NDArray[np.int64]

#: Seconds between two lines.
EVERY = 2
SECOND = 1_000_000_000


@kernel
def measure_many(
    tracks: Tracks, places: Numbers, rows: Rows, sizes: Numbers, octets: Numbers, times: Numbers
) -> int:
    """Count packets in their tracks (`places`); returns how many of `rows` are used."""
    used = 0
    for i in range(len(places)):
        used = measure(tracks, places[i], rows, used, sizes[i], octets[i], times[i], 0)
    return used


class Heard:
    """The quality of the media that came in so far.

    script: of the play; played: PLAYED[rows], the ends' records, which the play fills; say: called
    with each line.
    """

    def __init__(self, script: Script, played: Records, say: Callable[[str], None]) -> None:
        """Prepare two tracks per flow of media; compiles."""
        self.played, self.say = played, say
        media = script.media == 1
        flows = np.unique(script.flow[media])
        self.tracks = no_tracks(len(flows))
        self.tracks["flow"] = np.repeat(flows + 1, 2)
        place = 2 * np.searchsorted(flows, script.flow) + (script.side != CALLER)
        self.place = np.where(media, place, -1)
        facts = script.held.facts
        self.sizes, self.octets = facts["size"].copy(), facts["ip_size"].copy()
        self.taken = np.zeros(len(played), bool)
        self.parts: list[Rows] = []
        self.next = EVERY
        self.feed(np.zeros(0, np.int64))

    def look(self, clock: int, used: int) -> None:
        """Say what was heard if a line is due; clock: ns from the run's begin; used: rows."""
        if clock < self.next * SECOND:
            return
        self.next = clock // SECOND // EVERY * EVERY + EVERY
        came = (self.played["stamp"][:used] >= 0) & ~self.taken[:used]
        new = np.flatnonzero(came & (self.played["packet"][:used] >= 0))
        self.taken[new] = True
        self.feed(new[np.argsort(self.played["stamp"][new], kind="stable")])
        rows = np.concatenate([*self.parts, np.zeros(0, ROW)])
        ordered = rows[np.lexsort((rows["second"], -rows["up"], rows["flow"]))]
        text = line(estimate(ordered), clock // SECOND - EVERY)
        if text:
            self.say(text)

    def feed(self, new: Numbers) -> None:
        """Measure sendings that came in: rows of `played`, in order of their arrival."""
        packet = self.played["packet"][new]
        new, packet = (one[self.place[packet] >= 0] for one in (new, packet))
        rows = np.zeros(len(new) + 1, ROW)
        times = self.played["stamp"][new].copy()
        arrays = rows, self.sizes[packet], self.octets[packet], times
        used = measure_many(self.tracks, self.place[packet], *arrays)
        self.parts.append(rows[:used].copy())


def line(quality: Quality, since: int) -> str:
    """Return the quality of the seconds from `since` on as one line, "" where nothing came in.

    The mean over the seconds and directions in which a value is known.
    """
    late = quality.second >= since
    if not late.any():
        return ""
    loss, jitter, rate = quality.loss[late], quality.jitter_ms[late], quality.frame_rate[late]
    heard = set(zip(quality.flow[late].tolist(), quality.up[late].tolist(), strict=True))
    plural = "s" * (len(heard) != 1)
    until = int(quality.second[late].max()) + 1
    words = [f"{since}-{until} s: {len(heard)} direction{plural} of media heard"]
    for name, values, scale, unit in (
        ("loss", loss, 100, " %"),
        ("frame rate", rate, 1, ""),
        ("MOS", mos_by_second(loss, jitter), 1, ""),
    ):
        if not np.isnan(values).all():
            words.append(f"{name} {scale * float(np.nanmean(values)):.1f}{unit}")
    return ", ".join(words)
