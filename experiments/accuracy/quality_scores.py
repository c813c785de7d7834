# SPDX-License-Identifier: BSD-3-Clause
"""How right `midcall quality` is, second by second, against RTP headers; with published heuristics.

For every capture with clear RTP the estimate is compared with experiments.measure.rtp_truth.
Nothing is fitted here, so the figures of one repository or one app do not depend on the others;
but the constants of the estimator were chosen by hand on captures of this corpus, so the figures
are optimistic for other captures. Intervals resample whole repositories (groups of captures).

Baselines, on the same seconds (Sharma et al., IMC 2023, "IP/UDP heuristic", and gaps):

- size jump: packets above VIDEO_LEAST bytes; a packet whose size differs by more than 2 bytes from
  each of the last LOOK_BACK such packets begins a frame.
- gap: packets above VIDEO_LEAST bytes; a gap of more than 12 ms begins a frame.
- loss: whether the estimate is nearer to the truth than the constant answer 0 is.

Losses are also injected: packets of a capture are dropped at random, one by one or in bursts of two
on average, before the estimate and the truth see them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.truth.catalogue import load
from midcall.classifier.call_quality import Meter
from midcall.classifier.engine import Engine
from midcall.classifier.quality.estimate import MEDIA_KINDS, Quality, estimate
from midcall.errors import CaptureError, ClassifierError, ExperimentError
from midcall.experiments.measure import rtp_truth
from midcall.experiments.measure.intervals import cluster_bootstrap, derived_seed
from midcall.experiments.measure.rtp_truth import TrueSecond
from midcall.testbed.assess.mos_by_second import mos_by_second

SEED = 20230601
#: Payload bytes above which the published heuristic takes a packet for video; packets it looks
#: back.
VIDEO_LEAST, LOOK_BACK = 450, 3
#: Seconds of a window of loss and MOS; packets of audio that it has at least.
WINDOW, WINDOW_PACKETS = 5, 20
#: A window's audio begins and ends at most this long (ns) after its begin and before its end.
SECOND = rtp_truth.SECOND
EDGE = 500_000_000
#: Share of a window's packets that are one beat apart, by their timestamps: it has a cadence.
ON_BEAT = 0.9
#: Injected losses: share, mean length of a burst.
INJECTED = ((0.01, 1.0), (0.02, 1.0), (0.05, 1.0), (0.10, 1.0), (0.05, 2.0))


class Hit(NamedTuple):
    """One scored second or window: what is scored, whose, whether it was right."""

    metric: str
    group: str
    app: str
    right: bool


class Direction(NamedTuple):
    """One direction of a flow: its truth by second, and the packets that the baselines read."""

    flow: int
    up: int
    heard: list[rtp_truth.Stream]
    truth: dict[int, TrueSecond]
    time: NDArray[np.int64]
    size: NDArray[np.int64]


def measured(packets: Packets) -> tuple[Quality, list[Direction], int]:
    """Return the estimate of every flow of a capture, its directions with truth, and its start."""
    engine = Engine()
    meter = Meter(engine, every=True)
    numbers = meter.feed(packets)
    first = engine.flows()["first_record"]
    flow = np.where(numbers >= 0, first[np.maximum(numbers, 0)], -1)
    sizes = rtp_truth.payload_sizes(packets)
    found = []
    fields = rtp_truth.headers(packets, flow, meter.ups)
    for number, way, heard in rtp_truth.directions(fields):
        own = (flow == number) & (meter.ups == way) & (sizes > 0)
        truth = rtp_truth.seconds(heard, meter.start)
        found.append(Direction(number, way, heard, truth, packets.time[own], sizes[own]))
    return estimate(meter.rows()), found, meter.start


def rows_of(quality: Quality, one: Direction) -> dict[int, int]:
    """Return second -> row of a direction."""
    own = np.flatnonzero((quality.flow == one.flow) & (quality.up == one.up))
    return {int(quality.second[row]): int(row) for row in own}


def jumps(one: Direction, start: int) -> dict[int, int]:
    """Return second -> frames of the published size heuristic."""
    video = one.size > VIDEO_LEAST
    size, begins = one.size[video], np.zeros(int(video.sum()), bool)
    for i in range(len(size)):
        before = size[max(i - LOOK_BACK, 0) : i]
        begins[i] = bool(np.all(np.abs(before - size[i]) > 2))
    return by_second(one.time[video][begins], start)


def gaps(one: Direction, start: int) -> dict[int, int]:
    """Return second -> frames that gaps of more than 12 ms begin."""
    time = one.time[one.size > VIDEO_LEAST]
    begins = np.ones(len(time), bool)
    begins[1:] = np.diff(time) > 12_000_000
    return by_second(time[begins], start)


def by_second(time: NDArray[np.int64], start: int) -> dict[int, int]:
    """Return second -> count of some times (ns)."""
    seconds, counts = np.unique((time - start) // SECOND, return_counts=True)
    return dict(zip(seconds.tolist(), counts.tolist(), strict=True))


def score(packets: Packets, group: str, app: str) -> Iterator[Hit]:
    """Yield the scores of one capture as it is."""
    quality, found, start = measured(packets)
    for one in found:
        rows, by_jump, by_gap = rows_of(quality, one), jumps(one, start), gaps(one, start)
        for second, true in one.truth.items():
            row = rows.get(second)
            if true.frame_rate is not None:
                ours = 0.0 if row is None else float(np.nan_to_num(quality.frame_rate[row]))
                for name, value in (
                    ("frame rate", ours),
                    ("frame rate, size jump", by_jump.get(second, 0)),
                    ("frame rate, gap", by_gap.get(second, 0)),
                ):
                    yield Hit(name, group, app, bool(abs(value - true.frame_rate) <= 2))
            if row is not None and quality.media[row] >= 0:
                kind = MEDIA_KINDS[quality.media[row]].replace("screen", "video")
                yield Hit("media", group, app, kind == true.media)
            if true.silent is not None:
                ours_silent = row is not None and bool(quality.silent[row] == 1.0)
                outcome = ("n", "p")[ours_silent] + ("n", "p")[true.silent]
                yield Hit(f"silence {outcome}", group, app, ours_silent == true.silent)
        if any(not stream.video for stream in one.heard):
            inside = {second for second, true in one.truth.items() if true.silent is not None}
            for second in rows.keys() - inside:
                if quality.silent[rows[second]] == 1.0:
                    yield Hit("silence outside", group, app, False)
        yield from windows(quality, one, rows, start, group, app, "")


def windows(
    quality: Quality,
    one: Direction,
    rows: dict[int, int],
    start: int,
    group: str,
    app: str,
    suffix: str,
) -> Iterator[Hit]:
    """Yield the scores of loss and MOS in windows of WINDOW seconds with a cadence."""
    audio = [stream for stream in one.heard if not stream.video]
    if not audio:
        return
    stream = max(audio, key=lambda each: len(each.time))
    step = np.diff(stream.stamp)
    ahead = np.maximum(np.diff(stream.sequence), 1)
    beat = int(np.median(step // ahead)) if len(step) else 0
    fits = np.concatenate((np.ones(1, bool), step == beat * ahead))
    window = (stream.time - start) // SECOND // WINDOW
    for number in np.unique(window).tolist():
        own = window == number
        if own.sum() < WINDOW_PACKETS or fits[own].mean() < ON_BEAT:
            continue
        first, last = (int(stream.time[own][i] - start) % (WINDOW * SECOND) for i in (0, -1))
        if first > EDGE or last < WINDOW * SECOND - EDGE:  # the call begins or ends in it
            continue
        sequence = stream.sequence[own]
        loss = 1 - len(np.unique(sequence)) / float(sequence.max() - sequence.min() + 1)
        inside = [rows[s] for s in range(number * WINDOW, (number + 1) * WINDOW) if s in rows]
        known = [row for row in inside if not np.isnan(quality.loss[row])]
        ours = float(np.mean(quality.loss[known])) if known else None
        if loss >= 0.01:
            near = ours is not None and abs(ours - loss) <= 0.01
            yield Hit(f"loss{suffix}", group, app, near)
            if ours is not None:
                nearer = abs(ours - loss) < loss
                yield Hit(f"loss, nearer than always 0{suffix}", group, app, nearer)
                yield Hit(f"loss, where known{suffix}", group, app, abs(ours - loss) <= 0.01)
        elif ours is not None:
            yield Hit(f"no loss{suffix}", group, app, ours <= 0.01 + loss)
        seconds = range(number * WINDOW, (number + 1) * WINDOW)
        values = [one.truth[second].jitter_ms for second in seconds if second in one.truth]
        jitter = [value for value in values if value is not None]
        if known and jitter:
            true = mos_by_second(np.array([loss]), np.array([float(np.mean(jitter))]))[0]
            guess = mos_by_second(
                np.array([ours]), np.array([np.nanmean(quality.jitter_ms[known])])
            )
            yield Hit(f"MOS{suffix}", group, app, abs(float(guess[0]) - float(true)) <= 0.3)


def dropped(packets: Packets, share: float, burst: float, seed: int) -> Packets:
    """Return packets without a random share of them, lost in bursts of a mean length."""
    rng = np.random.default_rng(seed)
    draws = rng.random(packets.total)
    if burst <= 1:
        return packets.take(np.flatnonzero(draws >= share))
    begin, end = share / (burst * (1 - share)), 1 / burst
    lost, losing = np.zeros(packets.total, bool), False
    for i, draw in enumerate(draws.tolist()):
        losing = draw >= end if losing else draw < begin
        lost[i] = losing
    return packets.take(np.flatnonzero(~lost))


def injected(packets: Packets, name: str, group: str, app: str) -> Iterator[Hit]:
    """Yield the scores of loss and MOS of one capture with injected losses."""
    for share, burst in INJECTED:
        seed = derived_seed(SEED, name, f"{share} {burst}")
        quality, found, start = measured(dropped(packets, share, burst, seed))
        for one in found:
            rows = rows_of(quality, one)
            yield from windows(quality, one, rows, start, group, app, ", injected")


def scores(corpus: Path, say: Any = None) -> list[Hit]:
    """Return the scores of all real captures of the catalogue that the folder holds."""
    catalogue = load(local=False)
    obtained = obtain(catalogue, corpus=corpus)
    hits: list[Hit] = []
    for capture in sorted(catalogue.captures, key=lambda one: one.name):
        if capture.ours or capture.copy_of or capture.sha256 not in obtained.paths:
            continue
        try:
            packets, _ = read_with_notices(Path(obtained.paths[capture.sha256]))
            own = list(score(packets, capture.group, capture.app))
            if own:  # RTP is clear
                own += injected(packets, capture.name, capture.group, capture.app)
        except (CaptureError, ClassifierError):
            continue
        hits += own
        if say is not None:
            say(capture.name)
    if not hits:
        raise ExperimentError(f"{corpus}: no capture of the catalogue is in this folder")
    return hits


def table(hits: list[Hit]) -> dict[str, Any]:
    """Return the share of right seconds or windows of each metric, with an interval, and by app.

    silence: seconds by estimate and truth (p: silent, n: not); outside: seconds that are estimated
    silent before the first or after the last audio packet of their direction, where the truth says
    nothing.
    """
    result: dict[str, Any] = {}
    names = sorted({hit.metric for hit in hits if not hit.metric.startswith("silence")})
    for name in names:
        mine = [hit for hit in hits if hit.metric == name]
        result[name] = {
            **shares(mine, name),
            "by_app": by(mine, "app"),
            "by_group": by(mine, "group"),
        }
    silent = {
        key: sum(hit.metric == f"silence {key}" for hit in hits)
        for key in ("pp", "pn", "np", "outside")
    }
    both = 2 * silent["pp"] + silent["pn"] + silent["np"]
    result["silence"] = {**silent, "f1": 2 * silent["pp"] / both if both else None}
    return result


def shares(hits: list[Hit], name: str) -> dict[str, Any]:
    """Return n, the share that is right, and its interval over groups."""
    groups = sorted({hit.group for hit in hits})
    right = [sum(hit.right for hit in hits if hit.group == group) for group in groups]
    total = [sum(hit.group == group for hit in hits) for group in groups]
    interval = cluster_bootstrap(right, total, derived_seed(SEED, name))
    return {
        "n": len(hits),
        "groups": len(groups),
        "share": sum(right) / len(hits),
        "interval": interval,
    }


def by(hits: list[Hit], field: str) -> dict[str, tuple[int, float]]:
    """Return (n, share that is right) for each app or group."""
    values = sorted({getattr(hit, field) for hit in hits})
    own = {value: [hit.right for hit in hits if getattr(hit, field) == value] for value in values}
    return {value: (len(right), sum(right) / len(right)) for value, right in own.items()}


def main() -> None:
    """Print the table of a corpus folder as JSON: python -m ....quality_scores FOLDER."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m midcall.experiments.accuracy.quality_scores FOLDER")
    print(json.dumps(table(scores(Path(sys.argv[1]))), indent=1))


if __name__ == "__main__":
    main()
