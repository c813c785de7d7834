# SPDX-License-Identifier: BSD-3-Clause
"""How right the loss of `midcall quality` is on made-up audio: beats, jitter and pauses of no app.

The constants of the estimator were chosen on captures. These streams are none of them: each is a
minute of audio packets on a beat, with sizes of a codec of constant or of variable rate, with or
without pauses (comfort noise, and one packet each 400 ms), random delays, and two kinds of other
packets. Packets are dropped at random. Scored as in quality_scores: windows of 5 s with at least
1 % of loss, right within one point. Everything here is synthetic.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.quality.estimate import estimate
from midcall.classifier.quality.meter import close_all
from midcall.classifier.quality.tracks import ROW, no_tracks
from midcall.experiments.accuracy.quality_scores import WINDOW, WINDOW_PACKETS
from midcall.testbed.live.replay.heard import measure_many

SEED = 42
LENGTH = 60_000.0
BEATS = (20, 40, 60)
#: Mean of the exponential delays in ms, and the part of a delay that the next packet has too.
DELAYS = ((0.5, 0.0), (2.0, 0.0), (5.0, 0.0), (5.0, 0.9), (10.0, 0.9))
LOSSES, REPEATS = (0.01, 0.02, 0.05, 0.1), 3
#: Bytes of comfort noise, and of audio of constant rate; ms between packets in a pause.
NOISE, CONSTANT, REFRESH = 30, 172, 400
#: Other packets: ms from one to the next, ms by which they are late at most, their sizes.
OTHERS = ((2500, 1000, (60, 84, 104)), (1000, 400, (76, 96)))

Floats = NDArray[np.float64]
Sizes = NDArray[np.int64]


class Kind(NamedTuple):
    """A kind of stream: ms of a beat, whether sizes vary, the delays, whether it pauses."""

    beat: int
    varies: bool
    delay: tuple[float, float]
    pauses: bool


def stream(kind: Kind, rng: np.random.Generator) -> tuple[Floats, Sizes]:
    """Return the arrival times (ms) and payload bytes of a minute of audio."""
    count = int(LENGTH / kind.beat)
    sizes = np.full(count, float(CONSTANT))
    if kind.varies:
        steps, size = rng.normal(0, 6, count), 90.0
        for i in range(count):
            size += steps[i] + (90 - size) * 0.1
            sizes[i] = min(max(size, 50), 160)
    sent, at, speaks = np.ones(count, bool), 0, True
    while kind.pauses and at < count:
        length = int(rng.uniform(1000, 4000) if speaks else rng.uniform(500, 3000)) // kind.beat
        if not speaks:
            sent[at : at + length] = False
            sent[at : at + length : REFRESH // kind.beat] = True
            sizes[at : at + length] = NOISE
        at, speaks = at + length, not speaks
    mean, kept = kind.delay
    delays, delay = rng.exponential(mean, count), 0.0
    for i in range(count):
        delay = kept * delay + delays[i] * (1 - kept) ** 0.5
        delays[i] = delay
    times = np.maximum.accumulate(np.arange(count) * kind.beat + delays)
    return times[sent], sizes[sent].astype(np.int64)


def others(rng: np.random.Generator) -> tuple[Floats, Sizes]:
    """Return the times (ms) and payload bytes of packets that are no audio."""
    times, sizes = [], []
    for every, late, kinds in OTHERS:
        begun = np.arange(0, LENGTH, every)
        times.append(begun + rng.uniform(0, late, len(begun)))
        sizes.append(rng.choice(kinds, len(begun)))
    return np.concatenate(times), np.concatenate(sizes).astype(np.int64)


def losses(times: Floats, sizes: Sizes) -> dict[int, float]:
    """Return second -> estimated loss of one direction, of the seconds that have one."""
    order = np.argsort(times, kind="stable")
    ns, octets = (times[order] * 1e6).astype(np.int64), sizes[order]
    tracks, rows = no_tracks(1), np.zeros(len(ns) + 2, ROW)
    tracks["flow"] = 1
    places = np.zeros(len(ns), np.int64)
    used = measure_many(tracks, places, rows, octets, octets + 28, ns)
    quality = estimate(rows[: close_all(tracks, len(tracks), rows, used)])
    known = ~np.isnan(quality.loss)
    return dict(zip(quality.second[known].tolist(), quality.loss[known].tolist(), strict=True))


def right(kind: Kind, rng: np.random.Generator) -> list[bool]:
    """Return for each window with losses whether the estimate is right within one point."""
    found = []
    for share, _ in product(LOSSES, range(REPEATS)):
        times, sizes = stream(kind, rng)
        lost = rng.random(len(times)) < share
        more, more_sizes = others(rng)
        ours = losses(
            np.concatenate([times[~lost], more]), np.concatenate([sizes[~lost], more_sizes])
        )
        window = times // (1000 * WINDOW)
        for number in range(1, int(LENGTH / 1000 / WINDOW) - 1):
            own = window == number
            true = float(lost[own].mean()) if own.sum() >= WINDOW_PACKETS else 0.0
            seconds = range(number * WINDOW, (number + 1) * WINDOW)
            values = [ours[second] for second in seconds if second in ours]
            if true >= 0.01:
                found.append(bool(values) and abs(float(np.mean(values)) - true) <= 0.01)
    return found


def main() -> None:
    """Print the shares as JSON: python -m midcall.experiments.accuracy.quality_made_up."""
    rng = np.random.default_rng(SEED)
    table: defaultdict[str, list[bool]] = defaultdict(list)
    for beat, varies, delay, pauses in product(BEATS, (False, True), DELAYS, (False, True)):
        hits = right(Kind(beat, varies, delay, pauses), rng)
        little = "little jitter" if delay[0] <= 2 else "more jitter"
        for name in ("all", f"{beat} ms, {'pauses' if pauses else 'no pause'}, {little}"):
            table[name] += hits
    shares = {name: (len(hits), round(sum(hits) / len(hits), 3)) for name, hits in table.items()}
    print(json.dumps(shares, indent=1))


if __name__ == "__main__":
    main()
