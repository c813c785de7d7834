# SPDX-License-Identifier: BSD-3-Clause
"""The quality of the calls of a live play while it runs, as one line every few seconds.

Which media packets were lost is known, because the lab plays both ends. Frame rate and jitter are
estimated (midcall.classifier.quality) from sizes and times of those that came in. The ends' records
are read between two turns: nothing is done per packet of the box or of the ends.
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

#: Seconds between two lines, and after which a packet that has not come in counts as lost.
EVERY, LATE = 2, 1
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
        since, until = self.next - EVERY, self.next
        if clock < (until + LATE) * SECOND:
            return
        self.next += EVERY
        played = self.played[:used]
        came = (played["stamp"] >= 0) & ~self.taken[:used]
        new = np.flatnonzero(came & (played["packet"] >= 0))
        self.taken[new] = True
        self.feed(new[np.argsort(played["stamp"][new], kind="stable")])
        rows = np.concatenate([*self.parts, np.zeros(0, ROW)])
        ordered = rows[np.lexsort((rows["second"], -rows["up"], rows["flow"]))]
        text = line(estimate(ordered), since, until, self.lost(played, since, until))
        if text:
            self.say(text)

    def lost(self, played: Records, since: int, until: int) -> float:
        """Return the share of the media sent from second `since` to `until` that did not come in.

        NaN if none was sent.
        """
        media = (played["packet"] >= 0) & (self.place[played["packet"]] >= 0)
        sent = media & (played["left"] >= since * SECOND) & (played["left"] < until * SECOND)
        return float(np.mean(played["stamp"][sent] < 0)) if sent.any() else np.nan

    def feed(self, new: Numbers) -> None:
        """Measure sendings that came in: rows of `played`, in order of their arrival."""
        packet = self.played["packet"][new]
        new, packet = (one[self.place[packet] >= 0] for one in (new, packet))
        rows = np.zeros(len(new) + 1, ROW)
        times = self.played["stamp"][new].copy()
        arrays = rows, self.sizes[packet], self.octets[packet], times
        used = measure_many(self.tracks, self.place[packet], *arrays)
        self.parts.append(rows[:used].copy())


def line(quality: Quality, since: int, until: int, lost: float) -> str:
    """Return the quality of the seconds from `since` to `until` as one line, "" for no media.

    lost: share of the media packets sent then that did not come in, NaN for none sent. The other
    values are means over the seconds and directions in which they are known.
    """
    own = (quality.second >= since) & (quality.second < until)
    if not own.any() and np.isnan(lost):
        return ""
    jitter, rate = quality.jitter_ms[own], quality.frame_rate[own]
    heard = set(zip(quality.flow[own].tolist(), quality.up[own].tolist(), strict=True))
    plural = "s" * (len(heard) != 1)
    words = [f"{since}-{until} s: {len(heard)} direction{plural} of media heard"]
    for name, values, unit in (
        ("loss", np.array([100 * lost]), " %"),
        ("frame rate", rate, ""),
        ("MOS", mos_by_second(np.full(len(jitter), lost), jitter), ""),
    ):
        if not np.isnan(values).all():
            words.append(f"{name} {float(np.nanmean(values)):.1f}{unit}")
    return ", ".join(words)
