# SPDX-License-Identifier: BSD-3-Clause
"""Metrics: the outcome of each flow's verdict against its truth, and counts of outcomes.

The unit is the flow of the truth (one 5-tuple of one capture). Only flows whose label is
of high or medium confidence are scored. Skype and Teams share one stack and count as one family.
A certain claim in the roles messaging or other is not a claim of a call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from midcall.apps import FIVE
from midcall.classifier.state.verdicts import APPS, MADE_BY
from midcall.experiments.measure.intervals import (
    by_group,
    clopper_pearson,
    derived_seed,
    interval_of_groups,
    quantile,
    ratio,
)
from midcall.experiments.results.schema import CALL_ROLES, INNOCENT_OUTCOMES
from midcall.experiments.results.tables import (
    Accuracy,
    Confused,
    FalseCalls,
    FlowRow,
    MacroF1,
    NameCounts,
    Outcomes,
    OutcomeShare,
    Quantiles,
    RightShare,
    Waits,
)

#: A flow with a verdict, a truth and an outcome: a row of `flows`, or one of an evaluation, whose
#: further columns are not typed.
Scored = FlowRow | Mapping[str, Any]
Row = TypeVar("Row", bound=Scored)

SCORED_ROLES = ("media", "setup", "control")
QUIET_ROLES = ("other", "messaging", "none")
SCORED_CONFIDENCE = ("high", "medium")
OUTCOMES = ("right", "other_call", "unsure", "missed")
#: The app of a verdict on a call whose app no octet identifies; the app of a true call that
#: belongs to no named app.
NAMELESS, NO_APP = "rtc", "other-rtc"
#: Names of makers, and the apps whose stack each may be.
MAKERS = {APPS[maker]: tuple(APPS[app] for app in apps) for maker, apps in MADE_BY.items()}
_FAMILY = {"teams": "skype", "microsoft": "skype"}
_RANK = {"certain": 2, "unsure": 1}


def family(app: str) -> str:
    """Return the class an app is scored in: Skype, Teams and their maker's name are one."""
    return _FAMILY.get(app, app)


def judge_name(app: str, truth: str) -> str:
    """Return right, unsure or other_call for the app of a certain verdict on a call.

    A call without a name is unsure, right where the call belongs to no named app. A maker of
    several apps is unsure for its own, wrong for others.
    """
    if app == NAMELESS:
        return "right" if truth == NO_APP else "unsure"
    if family(app) == family(truth):
        return "right"
    return "unsure" if truth in MAKERS.get(app, ()) else "other_call"


def named(app: str | None) -> bool:
    """Return whether the value of an app column is an app."""
    return bool(app) and app != "none"


def claims_call(row: Scored) -> bool:
    """Return whether the verdict is a certain claim of a call of some app."""
    of_call = row["verdict"] == "certain" and row["role"] not in ("messaging", "other")
    return bool(of_call) and named(row["app"])


def rank(row: Scored) -> tuple[int, int]:
    """Return the strength of one of a flow's records: its verdict, then its packets."""
    return _RANK.get(row["verdict"], 0), int(row["packets"] or 0)


def call_outcome(truth_app: str, row: Scored) -> str:
    """Return the outcome of a flow that does belong to a call of `truth_app`."""
    if claims_call(row):
        return judge_name(row["app"], truth_app)
    quiet = row["role"] in ("messaging", "other")
    return "unsure" if row["verdict"] in ("certain", "unsure") and not quiet else "missed"


def outcome(truth_app: str, truth_role: str, confidence: str, row: Scored) -> str:
    """Return right, other_call, unsure, missed, false_call, quiet or unscored for one flow."""
    if confidence not in SCORED_CONFIDENCE:
        return "unscored"
    if truth_role in QUIET_ROLES:
        return "false_call" if claims_call(row) else "quiet"
    if truth_role in SCORED_ROLES:
        return call_outcome(truth_app, row)
    return "unscored"


def tally(rows: Iterable[Scored]) -> Outcomes:
    """Count the outcomes of call flows: n, right, other_call, unsure, missed."""
    counts = Counter(row["outcome"] for row in rows)
    return {
        "n": sum(counts[name] for name in OUTCOMES),
        "right": counts["right"],
        "other_call": counts["other_call"],
        "unsure": counts["unsure"],
        "missed": counts["missed"],
    }


def call_flows(rows: Iterable[Row], roles: Sequence[str] = CALL_ROLES) -> list[Row]:
    """Return the scored flows of calls in the given roles."""
    return [row for row in rows if row["outcome"] in OUTCOMES and row["truth_role"] in roles]


def quiet_flows(rows: Iterable[Row]) -> list[Row]:
    """Return the scored flows that belong to no call."""
    return [row for row in rows if row["outcome"] in INNOCENT_OUTCOMES]


def right_share(rows: Sequence[Scored], seed: int, name: str) -> RightShare:
    """Return n, right, clusters and the bootstrapped interval of the share that is right."""
    sizes, hits = by_group(rows, lambda row: row["outcome"] == "right")
    span = interval_of_groups(sizes, hits, derived_seed(seed, "right_share", name))
    n, right = sum(sizes.values()), sum(hits.values())
    return {
        "n": n,
        "right": right,
        "share": ratio(right, n),
        "interval": span,
        "clusters": len(sizes),
    }


def by_app_and_role(rows: Sequence[Scored], seed: int) -> dict[str, dict[str, OutcomeShare]]:
    """Return app -> role -> outcome counts with the share's interval, sorted by name."""
    cells: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    for row in call_flows(rows, SCORED_ROLES):
        cells[row["truth_app"] or "", row["truth_role"] or ""].append(row)
    table: dict[str, dict[str, OutcomeShare]] = {}
    for app, role in sorted(cells):
        flows = cells[app, role]
        share = right_share(flows, seed, f"{app}/{role}")
        table.setdefault(app, {})[role] = {
            **tally(flows),
            "share": share["share"],
            "interval": share["interval"],
            "clusters": share["clusters"],
        }
    return table


def f1_counts(rows: Sequence[Scored]) -> dict[str, NameCounts]:
    """Return per app tp, fp, fn, precision, recall and F1 over scored call flows.

    Closed set: the call flows of every app (a call of no named app has no name to be right about,
    but its flows can be falsely named). Skype and Teams are one class.
    """
    verdicts = [
        (family(row["truth_app"] or ""), family(row["app"] or ""), row["outcome"])
        for row in call_flows(rows)
    ]
    table: dict[str, NameCounts] = {}
    for app in sorted({truth for truth, _, _ in verdicts} - {NO_APP}):
        tp = sum(truth == app and out == "right" for truth, _, out in verdicts)
        fn = sum(truth == app and out != "right" for truth, _, out in verdicts)
        fp = sum(
            truth != app and out == "other_call" and name == app for truth, name, out in verdicts
        )
        table[app] = {
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, tp + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
        }
    return table


def macro_f1(table: Mapping[str, NameCounts], keep: Callable[[str], bool]) -> MacroF1:
    """Return the mean F1 (None for no app) and the number of the apps that `keep` accepts."""
    values = [entry["f1"] for app, entry in table.items() if keep(app) and entry["f1"] is not None]
    return {"value": ratio(sum(values), len(values)), "apps": len(values)}


def quiet_kind(row: Scored) -> str:
    """Return the kind of an innocent flow: of an innocent capture, a chat, or in a call capture."""
    if row["truth_call"] is None and row["truth_app"] == "none" and row["innocent"]:
        return "innocent captures"
    return "messaging flows" if row["truth_role"] == "messaging" else "other flows of call captures"


def false_calls(rows: Sequence[Scored]) -> FalseCalls:
    """Return the innocent flows that were certainly called a call, and bounds of their rate."""
    flows = quiet_flows(rows)
    hits = [row for row in flows if row["outcome"] == "false_call"]
    kinds: dict[str, list[int]] = {}
    for row in flows:
        entry = kinds.setdefault(quiet_kind(row), [0, 0])
        entry[0] += 1
        entry[1] += row["outcome"] == "false_call"
    five = sum(family(row["app"]) in FIVE for row in hits)
    sizes, hit = by_group(flows, lambda row: row["outcome"] == "false_call")
    alone = clopper_pearson(len(hits), len(flows))
    return {
        "flows": len(flows),
        "hits": len(hits),
        "groups": len(sizes),
        "groups_hit": sum(map(bool, hit.values())),
        "five_hits": five,
        "per_million": ratio(1e6 * len(hits), len(flows)),
        "interval": interval_of_groups(sizes, hit, derived_seed(0, "false_calls")),
        "independent_upper_per_million": None if alone is None else 1e6 * alone[1],
        "interval_method": "95 %; flows of one recording are not independent: exact by recordings",
        "by_kind": [
            {"kind": kind, "flows": n, "hits": k} for kind, (n, k) in sorted(kinds.items())
        ],
    }


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Return the flows of calls, each once where several files of a session contain it.

    Two captures of one group can contain the same call, one a reduced copy of the other: the same
    protocol and endpoints in the same group count once (the weaker outcome is kept).
    """
    weakest = ("missed", "other_call", "unsure", "right")
    kept: dict[tuple[object, ...], Row] = {}
    for row in rows:
        ends = [(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])]
        key = (row["group"], row["proto"], *sorted(cast("list[tuple[str, int]]", ends)))
        other = kept.get(key)
        if other is None or weakest.index(row["outcome"]) < weakest.index(other["outcome"]):
            kept[key] = row
    return list(kept.values())


def confusion(rows: Sequence[Scored]) -> list[Confused]:
    """Return counts of truth x verdict over scored call flows, with verdicts unsure and missed."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in call_flows(rows):
        verdict = row["app"] if row["outcome"] in ("right", "other_call") else row["outcome"]
        counts[row["truth_app"] or "", verdict] += 1
    return [
        {"truth": truth, "said": verdict, "n": n} for (truth, verdict), n in sorted(counts.items())
    ]


def waits(rows: Sequence[Scored]) -> Waits:
    """Return packets and milliseconds to a right verdict over call flows: n, p50, p95, p99."""
    right = [row for row in call_flows(rows) if row["outcome"] == "right"]
    return {
        "packets": quantiles([row["packets_to_verdict"] for row in right]),
        "ms": quantiles([row["ms_to_verdict"] for row in right]),
    }


def quantiles(values: Sequence[float | None]) -> Quantiles:
    """Return n, p50, p95 and p99 of the values that are not None."""
    known = [value for value in values if value is not None]
    return {
        "n": len(known),
        "p50": quantile(known, 0.5),
        "p95": quantile(known, 0.95),
        "p99": quantile(known, 0.99),
    }


def accuracy(rows: Sequence[FlowRow], seed: int, copies: Collection[str] = ()) -> Accuracy:
    """Return the accuracy block of summary.json over the given (real) flows.

    copies: names of the captures that contain the call of another one again.
    """
    table = f1_counts(rows)
    five = f1_counts([row for row in rows if row["truth_app"] != "teams"])
    macro = macro_f1(table, lambda app: True)
    of_five = [row for row in call_flows(rows) if row["truth_app"] in FIVE]
    single = distinct(of_five)
    own = [row for row in of_five if row["capture"] not in copies]
    return {
        "apps": by_app_and_role(rows, seed),
        "by_app": table,
        "macro_f1": macro["value"],
        "macro_f1_apps": macro["apps"],
        "macro_f1_five": macro_f1(five, lambda app: app in FIVE),
        "macro_f1_at_least_5_flows": macro_f1(
            table, lambda app: table[app]["tp"] + table[app]["fn"] >= 5
        ),
        "five": right_share(of_five, seed, "five"),
        "five_without_copies": right_share(own, seed, "five_without_copies"),
        "five_distinct": right_share(single, seed, "five_distinct"),
        "all": right_share(call_flows(rows), seed, "all"),
        "named": {
            app: right_share(own, seed, f"named/{app}")
            for app in sorted({row["truth_app"] or "" for row in call_flows(rows)})
            if (own := [row for row in call_flows(rows) if row["truth_app"] == app])
        },
        "confusion": confusion(rows),
        "false_calls": false_calls(rows),
    }
