# SPDX-License-Identifier: BSD-3-Clause
"""Dose and response: what loss, a rate limit and jitter do to the calls of each app.

The media flows of real captures are replayed in virtual time through a box with one rule for UDP,
at several doses. The estimator then measures what arrives, when it arrives, as a capture behind the
box would show it. The share of packets that did not arrive is known from the replay and stands next
to it. A replay does not adapt: an app that lowers its rate under loss does better than its replay.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.truth.catalogue import load
from midcall.classifier.call_quality import Meter
from midcall.classifier.engine import Engine
from midcall.classifier.quality.estimate import estimate
from midcall.classifier.state.verdicts import MEDIA
from midcall.errors import CaptureError, ClassifierError, ExperimentError
from midcall.experiments.measure.intervals import derived_seed
from midcall.testbed.assess.mos_by_second import mos_by_second
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.simulator import simulate

SEED = 20160105
#: The doses of each mechanism: share of packets lost; rate limit as a share of the call's own rate
#: in its larger direction; standard deviation of the delay in ms.
DOSES: dict[str, tuple[float, ...]] = {
    "loss": (0.0, 0.01, 0.02, 0.05, 0.10, 0.20),
    "rate": (2.0, 1.0, 0.8, 0.6, 0.4, 0.2),
    "jitter": (0.0, 5.0, 10.0, 20.0, 40.0, 80.0),
}
#: Mean delay of the jitter rule, in ms; bucket of the rate limit, in bytes.
DELAY, BUCKET = 100.0, 4000
#: Calls of an app, at most; seconds of a call that are replayed; packets that it has at least.
CALLS, SECONDS, FEWEST = 6, 30, 400


class Response(NamedTuple):
    """The quality of one call under a dose; None where it is unknown.

    lost: share of packets that did not arrive, from the replay; known: share of the seconds of
    media in which the estimator knows the loss; loss, mos: their means in these; frame_rate: mean
    of the seconds of video.
    """

    app: str
    capture: str
    mechanism: str
    dose: float
    lost: float
    known: float | None
    loss: float | None
    mos: float | None
    frame_rate: float | None


def rule(mechanism: str, dose: float, kbit: float) -> Policy:
    """Return the policy of a dose; kbit: the call's own rate, in kbit/s."""
    about: dict[str, object] = {
        "name": mechanism, "match": {"protocol": "udp"}, "scope": "packet",
        "grade": "D", "source": "a dose", "hypothesis": True,
    }  # fmt: skip
    if mechanism == "loss":
        about |= {"act": "loss", "loss": dose}
    elif mechanism == "rate":
        about |= {"act": "police", "rate_kbit": max(dose * kbit, 1.0), "bucket_bytes": BUCKET}
    else:
        about |= {"act": "delay", "delay_ms": DELAY, "jitter_ms": dose}
    return Policy((Rule.model_validate(about),))


def media_of(packets: Packets) -> tuple[Packets, float]:
    """Return the first SECONDS of a capture's UDP media flows, and their rate in kbit/s."""
    engine = Engine()
    meter = Meter(engine)
    numbers = meter.feed(packets)
    flows = engine.tables.flows
    own = (numbers >= 0) & (flows["role"][np.maximum(numbers, 0)] == MEDIA)
    own &= flows["proto"][np.maximum(numbers, 0)] == 17
    if not own.any():
        return packets.take(slice(0, 0)), 0.0
    own &= packets.time < packets.time[own][0] + SECONDS * 1_000_000_000
    chosen = packets.take(np.flatnonzero(own))
    seconds = max(float(chosen.time[-1] - chosen.time[0]) / 1e9, 1.0)
    sides = [float(chosen.wire[meter.ups[own] == way].sum()) for way in (0, 1)]
    return chosen, max(sides) * 8 / 1000 / seconds


def respond(packets: Packets, kbit: float, mechanism: str, dose: float) -> Response:
    """Return the response of a call's packets to a dose; app and capture are left empty."""
    policy = rule(mechanism, dose, kbit) if dose else None
    played = simulate(packets, (), [], policy, "fibre", derived_seed(SEED, mechanism, f"{dose}"))
    came = played.usable
    arrived = np.flatnonzero(came >= 0)
    arrived = arrived[np.argsort(came[arrived], kind="stable")]
    heard = packets.take(arrived)._replace(time=came[arrived])
    meter = Meter(Engine(model=None), every=True)
    meter.feed(heard)
    quality = estimate(meter.rows())
    lost = 1 - len(arrived) / max(int(played.fates["sent"].sum()), 1)
    mos = mos_by_second(quality.loss, quality.jitter_ms)
    seen = quality.frame_rate[quality.frame_rate > 0]
    known = mean((~np.isnan(quality.loss[quality.media >= 0])).astype(np.float64))
    loss = mean(quality.loss)
    return Response("", "", mechanism, dose, lost, known, loss, mean(mos), mean(seen))


def mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float | None:
    """Return the mean of the known values, None without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def responses(corpus: Path) -> Iterator[Response]:
    """Yield the responses of real calls of the catalogue that a folder holds.

    Raises ExperimentError for a folder without any.
    """
    catalogue = load(local=False)
    paths = obtain(catalogue, corpus=corpus).paths
    taken: dict[str, int] = defaultdict(int)
    for capture in sorted(catalogue.captures, key=lambda one: one.name):
        if capture.ours or capture.copy_of or capture.sha256 not in paths:
            continue
        if taken[capture.app] >= CALLS:
            continue
        try:
            packets, kbit = media_of(read_with_notices(Path(paths[capture.sha256]))[0])
        except (CaptureError, ClassifierError):
            continue
        if packets.total < FEWEST:
            continue
        taken[capture.app] += 1
        for mechanism, doses in DOSES.items():
            for dose in doses:
                found = respond(packets, kbit, mechanism, dose)
                yield found._replace(app=capture.app, capture=capture.name)
    if not taken:
        raise ExperimentError(f"{corpus}: no call of the catalogue is in this folder")


def curves(found: list[Response]) -> list[dict[str, object]]:
    """Return one row per app, mechanism and dose: the number of calls, and means over them."""
    groups: dict[tuple[str, str, float], list[Response]] = defaultdict(list)
    for one in found:
        groups[one.app, one.mechanism, one.dose].append(one)
    rows: list[dict[str, object]] = []
    for (app, mechanism, dose), own in sorted(groups.items()):
        row: dict[str, object] = {"app": app, "mechanism": mechanism, "dose": dose}
        row["calls"] = len(own)
        for name in ("lost", "known", "loss", "mos", "frame_rate"):
            values = [getattr(one, name) for one in own if getattr(one, name) is not None]
            row[name] = round(float(np.mean(values)), 4) if values else None
        rows.append(row)
    return rows


def main() -> None:
    """Write curves.csv, calls.csv and curves.svg into a folder: ... quality_dose FOLDER OUT."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m midcall.experiments.accuracy.quality_dose FOLDER OUT")
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    found = list(responses(Path(sys.argv[1])))
    rows = curves(found)
    for name, lines in (("calls", [one._asdict() for one in found]), ("curves", rows)):
        with (out / f"{name}.csv").open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    (out / "curves.svg").write_text(picture(rows))


def picture(rows: list[dict[str, object]]) -> str:
    """Return an SVG: a panel per mechanism, a line per app; MOS, or frame rate under a limit."""
    import altair as alt
    import vl_convert

    panels = []
    for mechanism, title, response, words in (
        ("loss", "share of packets lost", "mos", "MOS"),
        ("rate", "limit, as a share of the call's own rate", "frame_rate", "frames per second"),
        ("jitter", "jitter in ms", "mos", "MOS"),
    ):
        own = [row for row in rows if row["mechanism"] == mechanism and row[response] is not None]
        scale = alt.Scale(domain=[1, 4.5]) if response == "mos" else alt.Scale(zero=True)
        base = alt.Chart(alt.Data(values=own)).encode(
            x=alt.X("dose:Q", title=title),
            y=alt.Y(f"{response}:Q", title=words, scale=scale),
            color=alt.Color("app:N"),
        )
        panels.append((base.mark_line() + base.mark_circle()).properties(width=220, height=220))
    return str(vl_convert.vegalite_to_svg(alt.hconcat(*panels).to_json()))


if __name__ == "__main__":
    main()
