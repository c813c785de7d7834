# SPDX-License-Identifier: BSD-3-Clause
"""Measures of an evaluation from the rows of classified flows, with n and intervals.

Built on `metrics`. Undefined values are None.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from midcall.apps import FIVE
from midcall.experiments.accuracy import traffic_kinds
from midcall.experiments.measure import metrics
from midcall.experiments.measure.intervals import (
    FEWEST,
    RESAMPLES,
    Interval,
    by_group,
    clopper_pearson,
    cluster_bootstrap,
    derived_seed,
    interval_of_groups,
    ratio,
    share_interval,
)
from midcall.experiments.measure.metrics import claims_call, family, named
from midcall.experiments.results.schema import CALL_ROLES

Row = Mapping[str, Any]
Table = dict[str, Any]

#: Shares of calls among flows for which precision is derived, by the suffix of their column.
BASE_RATES = {"01": 0.001, "1": 0.01, "10": 0.1}
#: Upper bounds of the bins of the calibration table.
BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
#: Apps with fewer flows do not count in the second macro-F1.
ENOUGH = 5


def outcome(row: Row) -> str:
    """Return a flow's outcome."""
    return metrics.outcome(row["truth_app"], row["truth_role"], row["truth_confidence"], row)


def judged(row: Row, claim: Row) -> dict[str, Any]:
    """Return the row as if the claim were the verdict; an unscored row stays unscored."""
    result = {**row, **claim}
    if row["outcome"] != "unscored":
        result["outcome"] = outcome(result)
    return result


def call_counts(rows: Sequence[Row]) -> Table:
    """Return tp, fp, fn, F1 and balanced accuracy of "call or not".

    Positive are media and set-up flows, negative are innocent flows.
    """
    calls, quiet = metrics.call_flows(rows), metrics.quiet_flows(rows)
    tp = sum(claims_call(row) for row in calls)
    fp = sum(row["outcome"] == "false_call" for row in quiet)
    fn = len(calls) - tp
    f1 = ratio(2 * tp, 2 * tp + fp + fn) if calls else None
    recall, specificity = ratio(tp, len(calls)), ratio(len(quiet) - fp, len(quiet))
    balanced = None if recall is None or specificity is None else (recall + specificity) / 2
    return {"call_tp": tp, "call_fp": fp, "call_fn": fn, "call_f1": f1, "balanced": balanced}


def octets(rows: Sequence[Row], seed: int, name: str) -> Table:
    """Return the bytes of call flows, those of flows named right, and the interval of the share.

    Bytes are on the wire, after the disturbance; capture groups are resampled.
    """
    sizes: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for row in metrics.call_flows(rows):
        sizes[row["group"]] += row["octets"]
        hits[row["group"]] += row["octets"] if row["outcome"] == "right" else 0
    groups = sorted(sizes)
    low, high = cluster_bootstrap(
        [hits[group] for group in groups],
        [sizes[group] for group in groups],
        derived_seed(seed, "bytes", name),
    ) or (None, None)
    return {
        "bytes": sum(sizes.values()),
        "bytes_right": sum(hits.values()),
        "bytes_low": low,
        "bytes_high": high,
    }


def roles(rows: Sequence[Row]) -> Table:
    """Return how many of the flows named right have the right role: media, set-up or control."""
    right = [row for row in metrics.call_flows(rows, metrics.SCORED_ROLES)
             if row["outcome"] == "right"]  # fmt: skip
    return {
        "role_n": len(right),
        "role_right": sum(row["role"] == row["truth_role"] for row in right),
    }


def calls(rows: Sequence[Row]) -> Table:
    """Return counts of calls: with a flow named right, with media named right, with a wrong name.

    A call in several captures of a group counts once. Intervals are exact, because calls are
    independent (flows of one call are not); None below ten calls.
    """
    outcome_of: dict[tuple[str, str], list[bool]] = {}
    media_right: dict[tuple[str, str], bool] = {}
    for row in metrics.call_flows(rows, metrics.SCORED_ROLES):
        if not row["truth_call"]:
            continue
        call = (row["group"], row["truth_call"])
        right, wrong = row["outcome"] == "right", row["outcome"] == "other_call"
        entry = outcome_of.setdefault(call, [False, False])
        entry[0], entry[1] = entry[0] or right, entry[1] or wrong
        if row["truth_role"] == "media":
            media_right[call] = media_right.get(call, False) or right
    right_calls = sum(right for right, _ in outcome_of.values())
    right_media = sum(media_right.values())
    low, high = share_interval(right_calls, len(outcome_of)) or (None, None)
    media_low, media_high = share_interval(right_media, len(media_right)) or (None, None)
    return {
        "calls": len(outcome_of),
        "calls_right": right_calls,
        "calls_low": low,
        "calls_high": high,
        "calls_wrong": sum(wrong for _, wrong in outcome_of.values()),
        "media_calls": len(media_right),
        "media_calls_right": right_media,
        "media_calls_low": media_low,
        "media_calls_high": media_high,
    }


def bare(rows: Sequence[Row]) -> Table:
    """Return how many call flows without their name are bare, and how many of them are honest.

    A bare flow has no byte specific to an app. It is honest if the verdict is a call or unsure, and
    names no other app.
    """
    bare_rows = [row for row in metrics.call_flows(rows, metrics.SCORED_ROLES) if row["bare"]]
    return {
        "bare": len(bare_rows),
        "bare_honest": sum(row["outcome"] == "unsure" for row in bare_rows),
    }


def summary(rows: Sequence[Row], seed: int, name: str) -> Table:
    """Return one line of the table: all measures of one engine under one disturbance."""
    call_rows = metrics.call_flows(rows)
    share = metrics.right_share(call_rows, seed, name)
    low, high = share["interval"] or (None, None)
    table = metrics.f1_counts(rows)
    macro = metrics.macro_f1(table, lambda app: True)
    often = metrics.macro_f1(table, lambda app: table[app]["tp"] + table[app]["fn"] >= ENOUGH)
    five = [row for row in call_rows if row["truth_app"] in FIVE]
    alarms, waits = metrics.false_calls(rows), metrics.waits(rows)
    line = {
        **metrics.tally(call_rows),
        "low": low,
        "high": high,
        "clusters": share["clusters"],
        "five_n": len(five),
        "five_right": sum(row["outcome"] == "right" for row in five),
        "macro_f1": macro["value"],
        "macro_f1_apps": macro["apps"],
        "macro_f1_often": often["value"],
        "macro_f1_often_apps": often["apps"],
        **call_counts(rows),
        "innocent": alarms["flows"],
        "false_calls": alarms["hits"],
        "false_per_million": per_million(alarms["interval"]),
        **roles(rows),
        **calls(rows),
        **octets(rows, seed, name),
        **bare(rows),
        "waits": waits["packets"]["n"],
        **{key: waits["packets"][key] for key in ("p50", "p95", "p99")},
        **{f"ms_{key}": waits["ms"][key] for key in ("p50", "p95", "p99")},
        "short": sum(row["why"] == "short" for row in rows),
        "absent": sum(row["why"] == "absent" for row in rows),
    }
    floors = {f"precision_{entry['key']}": entry["precision"] for entry in precision_at(line)}
    return line | floors


def innocents(rows: Sequence[Row]) -> list[Table]:
    """Return per kind of innocent traffic: flows, those called a call, and a bound of the rate.

    The bound (95 %) is over recordings, because flows of one recording are not independent. The
    last lines are all kinds together, and calls of apps other than the five; there a hit is a flow
    named as one of the five.
    """
    quiet = metrics.quiet_flows(rows)
    kinds: defaultdict[str, list[Row]] = defaultdict(list)
    for row in quiet:
        kinds[traffic_kinds.kind(row)].append(row)
    others = [row for row in metrics.call_flows(rows) if family(row["truth_app"]) not in FIVE]
    lines = [
        *((kind, flows, is_false_call) for kind, flows in sorted(kinds.items())),
        (traffic_kinds.ALL, quiet, is_false_call),
        (traffic_kinds.OTHER_CALLS, others, is_named_as_one_of_five),
    ]
    return [innocent(kind, flows, is_hit) for kind, flows, is_hit in lines if flows]


def is_false_call(row: Row) -> bool:
    """Return whether an innocent flow was certainly called a call."""
    return bool(row["outcome"] == "false_call")


def is_named_as_one_of_five(row: Row) -> bool:
    """Return whether a flow of another app's call was named as a call of one of the five."""
    return row["outcome"] == "other_call" and family(row["app"]) in FIVE


def innocent(kind: str, flows: Sequence[Row], is_hit: Callable[[Row], bool]) -> Table:
    """Return flows, hits and the bound of their rate for a kind of traffic."""
    sizes, hits = by_group(flows, is_hit)
    return {
        "kind": kind,
        "flows": sizes.total(),
        "hits": hits.total(),
        "per_million": per_million(interval_of_groups(sizes, hits, derived_seed(0, "per_million"))),
    }


def per_million(span: Sequence[float] | None) -> float | None:
    """Return the upper end of an interval of shares, per million."""
    return None if span is None else 1e6 * span[1]


def lead(ours: Sequence[Row], theirs: Sequence[Row], seed: int, name: str) -> Interval | None:
    """Return the 95 % interval of the difference in the share named right, ours minus theirs.

    Both engines classified the same flows; capture groups are resampled in pairs. None below ten
    groups.
    """
    gain: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for mine, other in zip(metrics.call_flows(ours), metrics.call_flows(theirs), strict=True):
        size[mine["group"]] += 1
        gain[mine["group"]] += (mine["outcome"] == "right") - (other["outcome"] == "right")
    groups = sorted(size)
    if len(groups) < FEWEST:
        return None
    generator = np.random.default_rng(derived_seed(seed, "lead", name))
    picks = generator.integers(0, len(groups), (RESAMPLES, len(groups)))
    top = np.array([gain[group] for group in groups])[picks].sum(axis=1)
    bottom = np.array([size[group] for group in groups])[picks].sum(axis=1)
    low, high = np.quantile(top / bottom, [0.025, 0.975])
    return float(low), float(high)


# ---- confidence


def claim_is_right(row: Row) -> bool:
    """Return whether the claim is right: the app of the call, or only that it is a call."""
    of_call = row["truth_role"] in metrics.SCORED_ROLES
    if row["app"] == metrics.NAMELESS:
        return of_call
    maker = row["truth_app"] in metrics.MAKERS.get(row["app"], ())
    return of_call and (maker or family(row["app"]) == family(row["truth_app"]))


def statements(rows: Sequence[Row]) -> list[Row]:
    """Return the scored flows with a claim: a call, certain or unsure, with a confidence."""
    return [
        row
        for row in rows
        if row["outcome"] != "unscored"
        and row["verdict"] in ("certain", "unsure")
        and row["role"] not in ("messaging", "other")
        and named(row["app"])
        and row["confidence"] is not None
    ]


def calibration(rows: Sequence[Row]) -> Table:
    """Return bins of stated confidence with the share that was right, and the error.

    The error is the mean distance of the two, weighted by n (expected calibration error).
    """
    stated = statements(rows)
    bins, error, low = [], 0.0, 0.0
    for high in BINS:
        inside = [row for row in stated if low < round(row["confidence"], 6) <= high]
        low = high
        if not inside:
            continue
        right = sum(claim_is_right(row) for row in inside)
        mean = sum(row["confidence"] for row in inside) / len(inside)
        error += abs(right / len(inside) - mean) * len(inside)
        span = clopper_pearson(right, len(inside))
        bins.append({"up_to": high, "n": len(inside), "right": right, "said": mean,
                     "interval": span})  # fmt: skip
    return {"n": len(stated), "bins": bins, "error": ratio(error, len(stated))}


def coverage_risk(rows: Sequence[Row]) -> list[Table]:
    """Return one point per stated confidence: flows answered at or above it, and the wrong ones.

    Coverage is over all scored call flows (media and set-up); false calls count as wrong too.
    """
    stated = statements(rows)
    flows = len(metrics.call_flows(rows))
    points = []
    for least in sorted({row["confidence"] for row in stated}, reverse=True):
        answered_rows = [row for row in stated if row["confidence"] >= least]
        wrong = sum(not claim_is_right(row) for row in answered_rows)
        answered = sum(row["truth_role"] in CALL_ROLES for row in answered_rows)
        points.append(
            {
                "confidence": least,
                "answered": answered,
                "flows": flows,
                "coverage": ratio(answered, flows),
                "said": len(answered_rows),
                "wrong": wrong,
                "risk": ratio(wrong, len(answered_rows)),
            }
        )
    return points


def precision_at(line: Row) -> list[Table]:
    """Return the lower bound of the precision of "this is a call" at each base rate.

    Computed from the measured recall and the upper bound of the false-call rate; not an estimate.
    """
    recall = ratio(line["call_tp"], line["call_tp"] + line["call_fn"])
    bound = line["false_per_million"]
    out: list[Table] = []
    for key, share in BASE_RATES.items():
        value = None
        if recall is not None and bound is not None:
            true, false = share * recall, (1 - share) * min(bound / 1e6, 1.0)
            value = ratio(true, true + false)
        out.append({"key": key, "share": share, "recall": recall, "precision": value})
    return out
