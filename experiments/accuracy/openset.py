# SPDX-License-Identifier: BSD-3-Clause
"""Open-set accuracy: verdicts on an app whose fingerprints were removed from the engine.

The unknown flows are those of the app, classified by the engine without it. They are compared with
two other sets, classified by the whole engine: innocent flows (are the unknown flows still
recognised as calls?) and flows of the remaining apps (can a threshold on the confidence reject the
unknown flows?).
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

#: The name of the line of all apps together.
ALL = "all"
#: The share of the known apps' flows that a threshold must accept.
KEPT = 0.95


def outcome(row: Row) -> str:
    """Return the outcome of a flow whose app the engine does not know.

    other_app: certain, with another app's name; nameless: a call without a name; unsure; quiet.
    """
    certain = row["verdict"] == "certain" and named(row["app"])
    if certain and row["role"] not in ("messaging", "other"):
        return "nameless" if row["app"] == NAMELESS else "other_app"
    return "unsure" if row["verdict"] == "unsure" else "quiet"


def call_score(row: Row) -> float:
    """Return the score of a verdict as a call: 1 to 2 certain, 0 to 1 unsure, 0 no call."""
    stated = float(row["confidence"] or 0.0)
    if claims_call(row):
        return 1.0 + stated
    quiet = row["role"] in ("messaging", "other")
    return stated if row["verdict"] == "unsure" and not quiet else 0.0


def name_score(row: Row) -> float:
    """Return the score of a verdict as a call of a named app; 0 without a name."""
    return call_score(row) if row["app"] != NAMELESS else 0.0


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float | None:
    """Return the area under the ROC curve (ties count half), None if a side is empty.

    It is the probability that a positive flow scores above a negative one (Mann-Whitney).
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

    Arguments are (group, score). The number of won pairs of two groups is computed once; a resample
    weights it by how often both groups were drawn.
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
    values: dict[str, list[float]] = {}
    for group, score in scores:
        values.setdefault(group, []).append(score)
    return {group: np.array(group_scores) for group, group_scores in values.items()}


def rejection(known: NDArray[np.float64], unknown: NDArray[np.float64]) -> Table:
    """Return the threshold that KEPT of the known flows reach, and the unknown flows below it.

    If fewer of the known flows have a name, the threshold accepts all that have one; `kept` is
    their number. Values are None if no known flow has a name.
    """
    named_ones = np.sort(known[known > 0])[::-1]
    if not len(named_ones):
        return {"limit": None, "kept": None, "rejected": None}
    need = min(int(np.ceil(KEPT * len(known))), len(named_ones))
    limit = float(named_ones[need - 1])
    accepted, rejected = int((known >= limit).sum()), int((unknown < limit).sum())
    return {"limit": limit, "kept": accepted, "rejected": rejected}


def line(app: str, rows: Sequence[Row], closed: Sequence[Row], seed: int) -> Table:
    """Return the outcomes of an app's flows without its fingerprints; named: the wrong names.

    closed: every flow, classified by the whole engine. clean: capture groups without a flow that is
    named as another app, of `clusters`; from ten groups on, the share has an exact interval.
    """
    flows = metrics.call_flows(rows, metrics.SCORED_ROLES)
    outcomes = [(row, outcome(row)) for row in flows]
    counts = Counter(word for _, word in outcomes)
    wrong = Counter(row["app"] for row, word in outcomes if word == "other_app")
    groups = {row["group"] for row in flows}
    clean = groups - {row["group"] for row, word in outcomes if word == "other_app"}
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
    """Return the call flows of the other named apps, classified by the whole engine."""
    return [
        row
        for row in metrics.call_flows(closed, metrics.SCORED_ROLES)
        if family(row["truth_app"]) not in (app, NO_APP)
    ]


def against_innocents(app: str, unknown: Sequence[Row], quiet: Sequence[Row], seed: int) -> Table:
    """Return the AUROC of call or not: flows of the unknown app against innocent flows."""
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
    """Return the AUROC of known or not, and what a threshold that accepts 95 % rejects."""
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
    """Return a line per app left out, and one for all their flows."""
    out = [line(app, unknown[app], closed, seed) for app in sorted(unknown)]
    if out:
        every = [row for app_rows in unknown.values() for row in app_rows]
        out.append(line(ALL, every, closed, seed))
    return out
