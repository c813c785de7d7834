# SPDX-License-Identifier: BSD-3-Clause
"""Dose and response: what loss, a rate limit and jitter do to the calls of each app.

The media flows of captures are replayed in virtual time through a box with one rule for UDP, at
several doses. The estimator then measures what arrives, when it arrives, as a capture behind the
box would show it. The share of packets that did not arrive is known from the replay and stands next
to it. A replay does not adapt: an app that lowers its rate under loss does better than its replay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.classifier.call_quality import Meter
from midcall.classifier.engine import Engine
from midcall.classifier.quality.estimate import SCREEN_RATE, VIDEO, estimate
from midcall.classifier.state.verdicts import MEDIA
from midcall.errors import CaptureError, ClassifierError
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.spec import Spec
from midcall.testbed.assess.mos_by_second import mos_by_second
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.simulator import simulate

#: The doses of each mechanism: share of packets lost; rate limit as a share of the call's own rate
#: in its larger direction; standard deviation of the delay in ms.
DOSES: dict[str, tuple[float, ...]] = {
    "loss": (0.0, 0.01, 0.02, 0.05, 0.10, 0.20),
    "rate": (2.0, 1.0, 0.8, 0.6, 0.4, 0.2),
    "jitter": (0.0, 5.0, 10.0, 20.0, 40.0, 80.0),
}
#: Mean delay of the jitter rule, in ms; bucket of the rate limit, in bytes.
DELAY, BUCKET = 100.0, 4000
#: Packets that a call has at least.
FEWEST = 400
#: Share of the seconds with a known loss that must still have one, for a MOS to be compared.
ENOUGH = 0.6


class Response(NamedTuple):
    """The quality of one call under a dose; None where it is unknown.

    lost: share of packets that did not arrive, from the replay; known: share of the seconds of
    media in which the estimator knows the loss; loss, mos: their means in these; frame_rate: mean
    of the seconds of video (a screen is none).
    """

    app: str
    capture: str
    synthetic: bool
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


def media_of(packets: Packets, seconds: int = 30) -> tuple[Packets, float]:
    """Return the first seconds of a capture's UDP media flows, and their rate in kbit/s."""
    engine = Engine()
    meter = Meter(engine)
    numbers = meter.feed(packets)
    flows = engine.tables.flows
    own = (numbers >= 0) & (flows["role"][np.maximum(numbers, 0)] == MEDIA)
    own &= flows["proto"][np.maximum(numbers, 0)] == UDP
    if not own.any():
        return packets.take(slice(0, 0)), 0.0
    own &= packets.time < packets.time[own][0] + seconds * 1_000_000_000
    chosen = packets.take(np.flatnonzero(own))
    length = max(float(chosen.time[-1] - chosen.time[0]) / 1e9, 1.0)
    sides = [float(chosen.wire[meter.ups[own] == way].sum()) for way in (0, 1)]
    return chosen, max(sides) * 8 / 1000 / length


def respond(packets: Packets, kbit: float, mechanism: str, dose: float, seed: int = 0) -> Response:
    """Return the response of a call's packets to a dose; app and capture are left empty."""
    policy = rule(mechanism, dose, kbit) if dose else None
    played = simulate(packets, (), [], policy, "fibre", derived_seed(seed, mechanism, f"{dose}"))
    came = played.usable
    arrived = np.flatnonzero(came >= 0)
    arrived = arrived[np.argsort(came[arrived], kind="stable")]
    heard = packets.take(arrived)._replace(time=came[arrived])
    meter = Meter(Engine(model=None), every=True)
    meter.feed(heard)
    quality = estimate(meter.rows())
    lost = 1 - len(arrived) / max(int(played.fates["sent"].sum()), 1)
    mos = mos_by_second(quality.loss, quality.jitter_ms)
    seen = quality.frame_rate[quality.media == VIDEO]
    known = mean((~np.isnan(quality.loss[quality.media >= 0])).astype(np.float64))
    loss = mean(quality.loss)
    return Response("", "", False, mechanism, dose, lost, known, loss, mean(mos), mean(seen))


def mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float | None:
    """Return the mean of the known values, None without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def responses(
    items: Sequence[Item], calls: int, seconds: int, seed: int
) -> Iterator[tuple[str, list[Response]]]:
    """Yield the name of each capture that is measured, and its responses to all doses.

    calls: captures of an app, at most; seconds: how much of each is replayed.
    """
    taken: dict[tuple[bool, str], int] = defaultdict(int)
    for item in items:
        one = item.capture
        if not item.calls or one.copy_of or taken[one.synthetic, one.app] >= calls:
            continue
        try:
            packets, kbit = media_of(read_with_notices(item.path)[0], seconds)
        except (CaptureError, ClassifierError):
            continue
        if packets.total < FEWEST:
            continue
        taken[one.synthetic, one.app] += 1
        yield (
            one.name,
            [
                each._replace(app=one.app, capture=one.name, synthetic=one.synthetic)
                for mechanism, doses in DOSES.items()
                for each in comparable([respond(packets, kbit, mechanism, x, seed) for x in doses])
            ],
        )


def comparable(own: Sequence[Response]) -> Iterator[Response]:
    """Yield a call's responses to rising doses without values of other seconds or of no video.

    The MOS is the mean of the seconds whose loss is known. Where they are fewer than ENOUGH of
    those under the first dose, the others may be those that were hit. A stream with fewer than
    SCREEN_RATE frames a second under the first dose is no video.
    """
    first = own[0]
    film = first.frame_rate is not None and first.frame_rate >= SCREEN_RATE
    for one in own:
        same = one.known is not None and one.known >= ENOUGH * (first.known or 0.0)
        yield one._replace(
            loss=one.loss if same else None,
            mos=one.mos if same else None,
            frame_rate=one.frame_rate if film else None,
        )


def within(spec: Spec, items: Sequence[Item], step: Callable[[str], None]) -> dict[str, Any]:
    """Return the block `quality_dose` of summary.json, {} where the spec does not ask for it.

    curves: as `curves`; calls: a Response for each call and dose; seconds: of each call.
    """
    plan = spec.quality
    if plan is None:
        return {}
    found: list[Response] = []
    for name, own in responses(items, plan.calls, plan.seconds, spec.seed):
        found += own
        step(name)
    calls = [one._asdict() for one in found]
    return {"quality_dose": {"curves": curves(found), "calls": calls, "seconds": plan.seconds}}


def curves(found: list[Response]) -> list[dict[str, object]]:
    """Return one row per app, mechanism and dose: the number of calls, and means over them."""
    groups: dict[tuple[bool, str, str, float], list[Response]] = defaultdict(list)
    for one in found:
        groups[one.synthetic, one.app, one.mechanism, one.dose].append(one)
    rows: list[dict[str, object]] = []
    for (synthetic, app, mechanism, dose), own in sorted(groups.items()):
        row: dict[str, object] = {"app": app, "synthetic": synthetic, "mechanism": mechanism}
        row |= {"dose": dose, "calls": len(own)}
        for name in ("lost", "known", "loss", "mos", "frame_rate"):
            values = [getattr(one, name) for one in own if getattr(one, name) is not None]
            row[name] = round(float(np.mean(values)), 4) if values else None
        rows.append(row)
    return rows
