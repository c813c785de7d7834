# SPDX-License-Identifier: BSD-3-Clause
"""Metrics: what each flow's verdict is worth against its truth, and the counts made of it.

The unit is the flow as the truth knows it (one 5-tuple of one capture). Only flows whose label is
of high or medium confidence are scored. Skype and Teams share one stack and count as one family.
A certain claim in the roles messaging or other is not a claim of a call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from midcall.apps import FIVE
from midcall.classifier.state.verdicts import APPS, MADE_BY
from midcall.experiments.measure.intervals import (
    clopper_pearson,
    clustered_interval,
    derived_seed,
    quantile,
    ratio,
)

Row = Mapping[str, Any]

CALL_ROLES = ("media", "setup")
SCORED_ROLES = ("media", "setup", "control")
QUIET_ROLES = ("other", "messaging", "none")
SCORED_CONFIDENCE = ("high", "medium")
OUTCOMES = ("right", "other_call", "unsure", "missed")
#: What a verdict says of a call whose app no octet tells, and what the truth says of a call that
#: belongs to no named app.
NAMELESS, NO_APP = "rtc", "other-rtc"
#: Names of makers, and the apps whose stack each may be.
MAKERS = {APPS[maker]: tuple(APPS[app] for app in apps) for maker, apps in MADE_BY.items()}
_FAMILY = {"teams": "skype", "microsoft": "skype"}
_RANK = {"certain": 2, "unsure": 1}


def family(app: str) -> str:
    """Return the class an app is scored in: Skype, Teams and their maker's name are one."""
    return _FAMILY.get(app, app)


def judge_name(said: str, truth: str) -> str:
    """Return right, unsure or other_call for the name that a certain call is given.

    A call without a name is unsure, right where the call belongs to no named app. A maker of
    several apps is unsure for its own, wrong for others.
    """
    if said == NAMELESS:
        return "right" if truth == NO_APP else "unsure"
    if family(said) == family(truth):
        return "right"
    return "unsure" if truth in MAKERS.get(said, ()) else "other_call"


def named(app: str | None) -> bool:
    """Tell whether the app column holds an app at all."""
    return bool(app) and app != "none"


def claims_call(row: Row) -> bool:
    """Tell whether the verdict is a certain claim of a call of some app."""
    loud = row["verdict"] == "certain" and row["role"] not in ("messaging", "other")
    return loud and named(row["app"])


def rank(row: Row) -> tuple[int, int]:
    """Return the strength of a row, to pick among one flow's: its verdict, then its packets."""
    return _RANK.get(row["verdict"], 0), int(row["packets"] or 0)


def call_outcome(truth_app: str, row: Row) -> str:
    """Return the outcome of a flow that does belong to a call of `truth_app`."""
    if claims_call(row):
        return judge_name(row["app"], truth_app)
    quiet = row["role"] in ("messaging", "other")
    return "unsure" if row["verdict"] in ("certain", "unsure") and not quiet else "missed"


def outcome(truth_app: str, truth_role: str, confidence: str, row: Row) -> str:
    """Return right, other_call, unsure, missed, false_call, quiet or unscored for one flow."""
    if confidence not in SCORED_CONFIDENCE:
        return "unscored"
    if truth_role in QUIET_ROLES:
        return "false_call" if claims_call(row) else "quiet"
    if truth_role in SCORED_ROLES:
        return call_outcome(truth_app, row)
    return "unscored"


def tally(rows: Iterable[Row]) -> dict[str, int]:
    """Count the outcomes of call flows: n, right, other_call, unsure, missed."""
    counts = Counter(row["outcome"] for row in rows)
    return {"n": sum(counts[name] for name in OUTCOMES)} | {name: counts[name] for name in OUTCOMES}


def call_flows(rows: Iterable[Row], roles: Sequence[str] = CALL_ROLES) -> list[Row]:
    """Return the scored flows of calls in the given roles."""
    return [row for row in rows if row["outcome"] in OUTCOMES and row["truth_role"] in roles]


def quiet_flows(rows: Iterable[Row]) -> list[Row]:
    """Return the scored flows that belong to no call."""
    return [row for row in rows if row["outcome"] in ("quiet", "false_call")]


def right_share(rows: Sequence[Row], seed: int, name: str) -> dict[str, Any]:
    """Return n, right, clusters and the bootstrapped interval of the share that is right."""
    hits: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[row["group"]] += 1
        hits[row["group"]] += row["outcome"] == "right"
    groups = sorted(sizes)
    span = clustered_interval(
        [hits[group] for group in groups],
        [sizes[group] for group in groups],
        derived_seed(seed, "right_share", name),
    )
    n, right = sum(sizes.values()), sum(hits.values())
    return {
        "n": n,
        "right": right,
        "share": ratio(right, n),
        "interval": span,
        "clusters": len(groups),
    }


def by_app_and_role(rows: Sequence[Row], seed: int) -> dict[str, dict[str, Any]]:
    """Return app -> role -> outcome counts with the share's interval, sorted by name."""
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in call_flows(rows, SCORED_ROLES):
        cells[row["truth_app"], row["truth_role"]].append(row)
    table: dict[str, dict[str, Any]] = {}
    for app, role in sorted(cells):
        held = cells[app, role]
        share = right_share(held, seed, f"{app}/{role}")
        table.setdefault(app, {})[role] = tally(held) | {
            "share": share["share"],
            "interval": share["interval"],
            "clusters": share["clusters"],
        }
    return table


def f1_counts(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return per app tp, fp, fn, precision, recall and F1 over scored call flows.

    Closed set: the call flows of every app (a call of no named app has no name to be right about,
    but its flows can be falsely named). Skype and Teams are one class.
    """
    flows = call_flows(rows)
    said = [(family(row["truth_app"]), family(row["app"] or ""), row["outcome"]) for row in flows]
    table = {}
    for app in sorted({truth for truth, _, _ in said} - {NO_APP}):
        tp = sum(truth == app and out == "right" for truth, _, out in said)
        fn = sum(truth == app and out != "right" for truth, _, out in said)
        fp = sum(truth != app and out == "other_call" and word == app for truth, word, out in said)
        table[app] = {
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, tp + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
        }
    return table


def macro_f1(table: Mapping[str, Mapping[str, Any]], keep: Callable[[str], bool]) -> dict[str, Any]:
    """Return the mean F1 over the apps kept, and how many they are (None for none)."""
    values = [entry["f1"] for app, entry in table.items() if keep(app) and entry["f1"] is not None]
    return {"value": ratio(sum(values), len(values)), "apps": len(values)}


def quiet_kind(row: Row) -> str:
    """Name the kind of innocent flow: of an innocent capture, a chat, or beside a call."""
    if row["truth_call"] is None and row["truth_app"] == "none" and row["innocent"]:
        return "innocent captures"
    return "messaging flows" if row["truth_role"] == "messaging" else "other flows of call captures"


def false_calls(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how many innocent flows were certainly called a call, and what that bounds."""
    flows = quiet_flows(rows)
    hits = [row for row in flows if row["outcome"] == "false_call"]
    kinds: dict[str, list[int]] = {}
    for row in flows:
        entry = kinds.setdefault(quiet_kind(row), [0, 0])
        entry[0] += 1
        entry[1] += row["outcome"] == "false_call"
    five = sum(family(row["app"]) in FIVE for row in hits)
    sizes = Counter(row["group"] for row in flows)
    struck = Counter(row["group"] for row in hits)
    groups = sorted(sizes)
    seed = derived_seed(0, "false_calls")
    span = clustered_interval([struck[g] for g in groups], [sizes[g] for g in groups], seed)
    alone = clopper_pearson(len(hits), len(flows))
    return {
        "flows": len(flows),
        "hits": len(hits),
        "groups": len(groups),
        "groups_hit": len(struck),
        "five_hits": five,
        "per_million": ratio(1e6 * len(hits), len(flows)),
        "upper_per_million": None if span is None else 1e6 * span[1],
        "independent_upper_per_million": None if alone is None else 1e6 * alone[1],
        "upper_method": "95 %; flows of one recording are not independent: exact by recordings",
        "by_kind": [
            {"kind": kind, "flows": n, "hits": k} for kind, (n, k) in sorted(kinds.items())
        ],
    }


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Return the flows of calls without those that another file of the same session holds again.

    Two captures of one group can hold the same call, one a reduced copy of the other: the same
    protocol and endpoints in the same group count once (the weaker outcome is kept).
    """
    weakest = ("missed", "other_call", "unsure", "right")
    kept: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        ends = sorted([(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])])
        key = (row["group"], row["proto"], *ends)
        have = kept.get(key)
        if have is None or weakest.index(row["outcome"]) < weakest.index(have["outcome"]):
            kept[key] = row
    return list(kept.values())


def confusion(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return truth x said counts over scored call flows, with "unsure" and "missed" columns."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in call_flows(rows):
        said = row["app"] if row["outcome"] in ("right", "other_call") else row["outcome"]
        counts[row["truth_app"], said] += 1
    return [{"truth": truth, "said": said, "n": n} for (truth, said), n in sorted(counts.items())]


def waits(rows: Sequence[Row]) -> dict[str, Any]:
    """Return packets and milliseconds to a right verdict over call flows: n, p50, p95, p99."""
    right = [row for row in call_flows(rows) if row["outcome"] == "right"]
    out: dict[str, Any] = {}
    for name, column in (("packets", "packets_to_verdict"), ("ms", "ms_to_verdict")):
        values = [row[column] for row in right if row[column] is not None]
        out[name] = {"n": len(values)} | {
            f"p{round(100 * q)}": quantile(values, q) for q in (0.5, 0.95, 0.99)
        }
    return out


def accuracy(rows: Sequence[Row], seed: int, copies: Collection[str] = ()) -> dict[str, Any]:
    """Return the accuracy block of summary.json over the given (real) flows.

    `copies` names the captures that hold the call of another one again.
    """
    table = f1_counts(rows)
    five = f1_counts([row for row in rows if row["truth_app"] != "teams"])
    macro = macro_f1(table, lambda app: True)
    mission = [row for row in call_flows(rows) if row["truth_app"] in FIVE]
    single = distinct(mission)
    own = [row for row in mission if row["capture"] not in copies]
    return {
        "apps": by_app_and_role(rows, seed),
        "by_app": table,
        "macro_f1": macro["value"],
        "macro_f1_apps": macro["apps"],
        "macro_f1_five": macro_f1(five, lambda app: app in FIVE),
        "macro_f1_at_least_5_flows": macro_f1(
            table, lambda app: table[app]["tp"] + table[app]["fn"] >= 5
        ),
        "five": right_share(mission, seed, "five"),
        "five_without_copies": right_share(own, seed, "five_without_copies"),
        "five_distinct": right_share(single, seed, "five_distinct"),
        "all": right_share(call_flows(rows), seed, "all"),
        "confusion": confusion(rows),
        "false_calls": false_calls(rows),
    }
