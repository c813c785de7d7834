# SPDX-License-Identifier: BSD-3-Clause
"""The open set: what an engine says of an app whose fingerprints were taken out of it.

The unknown flows are the app's own, as the engine without that app sees them. Against them stand
two other sets, as the whole engine sees them: innocent flows (does it still look like a call?) and
flows of the apps that stayed (can a threshold on the confidence keep the unknown ones out?).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.experiments.measure import metrics
from midcall.experiments.measure.intervals import (
    FEWEST,
    RESAMPLES,
    Interval,
    derived_seed,
    share_interval,
)
from midcall.experiments.measure.metrics import NAMELESS, NO_APP, claims_call, family, named

Row = Mapping[str, Any]
Table = dict[str, Any]

#: The line that holds every app's flows.
ALL = "all"
#: Of the known apps' flows, the share that a threshold must let through.
KEPT = 0.95


def outcome(row: Row) -> str:
    """Return what became of a flow whose app the engine does not know.

    other_app: certainly named as another app; nameless: a call without a name; unsure; quiet.
    """
    certain = row["verdict"] == "certain" and named(row["app"])
    if certain and row["role"] not in ("messaging", "other"):
        return "nameless" if row["app"] == NAMELESS else "other_app"
    return "unsure" if row["verdict"] == "unsure" else "quiet"


def call_score(row: Row) -> float:
    """Return how much a verdict says of a call: 1 to 2 certain, 0 to 1 unsure, 0 nothing."""
    stated = float(row["confidence"] or 0.0)
    if claims_call(row):
        return 1.0 + stated
    quiet = row["role"] in ("messaging", "other")
    return stated if row["verdict"] == "unsure" and not quiet else 0.0


def name_score(row: Row) -> float:
    """Return how much a verdict says of one named app's call; 0 where it names none."""
    return call_score(row) if row["app"] != NAMELESS else 0.0


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float | None:
    """Return the area under the ROC curve (ties count half), None where a side is empty.

    It is the chance that a flow of the first kind scores above one of the second (Mann-Whitney).
    """
    if not len(positive) or not len(negative):
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left").sum()
    upto = np.searchsorted(ordered, positive, "right").sum()
    return float((below + upto) / 2 / (len(positive) * len(negative)))


def auroc_interval(
    positive: Sequence[tuple[str, float]], negative: Sequence[tuple[str, float]], seed: int
) -> Interval | None:
    """Return the 95 % interval of the area, capture groups resampled; None below ten a side.

    Scores come with their group. Of two groups the sum of won pairs is computed once; a resample
    weighs them by how often both were drawn.
    """
    sides = [by_group(positive), by_group(negative)]
    if min(len(side) for side in sides) < FEWEST:
        return None
    names = sorted(set(sides[0]) | set(sides[1]))
    won = np.zeros((len(names), len(names)))
    sizes = np.zeros((2, len(names)))
    for at, name in enumerate(names):
        for side in (0, 1):
            sizes[side, at] = len(sides[side].get(name, ()))
        for other, rival in enumerate(names):
            ours, theirs = sides[0].get(name), sides[1].get(rival)
            if ours is not None and theirs is not None:
                won[at, other] = (auroc(ours, theirs) or 0.0) * len(ours) * len(theirs)
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(names), (RESAMPLES, len(names)))
    drawn = np.stack([np.bincount(pick, minlength=len(names)) for pick in picks]).astype(float)
    pairs = (drawn @ sizes[0]) * (drawn @ sizes[1])
    top = np.einsum("ij,jk,ik->i", drawn, won, drawn)
    values = top[pairs > 0] / pairs[pairs > 0]
    if not len(values):
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def by_group(scores: Sequence[tuple[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Return group -> its scores."""
    held: dict[str, list[float]] = {}
    for group, score in scores:
        held.setdefault(group, []).append(score)
    return {group: np.array(found) for group, found in held.items()}


def rejection(known: NDArray[np.float64], unknown: NDArray[np.float64]) -> Table:
    """Return the threshold that KEPT of the known flows reach, and the unknown ones below it.

    Where fewer of the known flows have a name at all, the threshold lets through all that have
    one; `kept` says how many. None where no known flow has a name.
    """
    named_ones = np.sort(known[known > 0])[::-1]
    if not len(named_ones):
        return {"limit": None, "kept": None, "rejected": None}
    need = min(int(np.ceil(KEPT * len(known))), len(named_ones))
    limit = float(named_ones[need - 1])
    kept, rejected = int((known >= limit).sum()), int((unknown < limit).sum())
    return {"limit": limit, "kept": kept, "rejected": rejected}


def line(app: str, rows: Sequence[Row], closed: Sequence[Row], seed: int) -> Table:
    """Return what became of an app's flows without its fingerprints; named: what they were called.

    closed: every flow under the whole engine. clean: capture groups without a flow that is named
    as another app, of `clusters`; their share has an exact interval from ten groups on.
    """
    flows = metrics.call_flows(rows, metrics.SCORED_ROLES)
    found = [(row, outcome(row)) for row in flows]
    counts = Counter(word for _, word in found)
    wrong = Counter(row["app"] for row, word in found if word == "other_app")
    groups = {row["group"] for row in flows}
    clean = groups - {row["group"] for row, word in found if word == "other_app"}
    low, high = share_interval(len(clean), len(groups)) or (None, None)
    return {
        "app": app,
        "n": len(flows),
        "nameless": counts["nameless"],
        "unsure": counts["unsure"],
        "quiet": counts["quiet"],
        "other_app": counts["other_app"],
        "named": ", ".join(f"{name} {n}" for name, n in sorted(wrong.items())),
        "clean": len(clean),
        "clusters": len(groups),
        "low": low,
        "high": high,
        **against_innocents(app, flows, metrics.quiet_flows(closed), seed),
        **against_known(app, flows, known_flows(app, closed), seed),
    }


def known_flows(app: str, closed: Sequence[Row]) -> list[Row]:
    """Return the call flows of apps with a name that stayed, as the whole engine sees them."""
    return [
        row
        for row in metrics.call_flows(closed, metrics.SCORED_ROLES)
        if family(row["truth_app"]) not in (app, NO_APP)
    ]


def against_innocents(app: str, unknown: Sequence[Row], quiet: Sequence[Row], seed: int) -> Table:
    """Return the area of call or not: flows of the unknown app against innocent ones."""
    calls = [(row["group"], call_score(row)) for row in unknown]
    rest = [(row["group"], call_score(row)) for row in quiet]
    span = auroc_interval(calls, rest, derived_seed(seed, "open", "call", app))
    low, high = span or (None, None)
    return {
        "call_auroc": auroc(values(calls), values(rest)),
        "call_auroc_low": low,
        "call_auroc_high": high,
        "innocent": len(quiet),
    }


def against_known(app: str, unknown: Sequence[Row], known: Sequence[Row], seed: int) -> Table:
    """Return the area of known or not, and what a threshold rejects where it keeps 95 %."""
    ours = [(row["group"], name_score(row)) for row in known]
    rest = [(row["group"], name_score(row)) for row in unknown]
    span = auroc_interval(ours, rest, derived_seed(seed, "open", "known", app))
    low, high = span or (None, None)
    return {
        "known_auroc": auroc(values(ours), values(rest)),
        "known_auroc_low": low,
        "known_auroc_high": high,
        "known": len(known),
        **rejection(values(ours), values(rest)),
    }


def values(scores: Sequence[tuple[str, float]]) -> NDArray[np.float64]:
    """Return scores without their groups."""
    return np.array([score for _, score in scores], np.float64)


def lines(unknown: Mapping[str, Sequence[Row]], closed: Sequence[Row], seed: int) -> list[Table]:
    """Return a line per app left out, and one of all their flows."""
    out = [line(app, unknown[app], closed, seed) for app in sorted(unknown)]
    if out:
        every = [row for held in unknown.values() for row in held]
        out.append(line(ALL, every, closed, seed))
    return out
