# SPDX-License-Identifier: BSD-3-Clause
"""Accuracy: how well the box sees, by app and role, and what it takes for a call by mistake."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report import charts
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]

OUTCOMES = ("right", "unsure", "other_call", "missed")


def build(run: Findings) -> Table:
    """Return what the section shows."""
    return {"accuracy": accuracy(run)}


def accuracy(run: Findings) -> Table:
    """Return accuracy by app and role, confusion, false calls, and the flows that went wrong."""
    scored = [row for row in run["flows"] if situations.in_headline(row)]
    table = _accuracy_rows(run, scored)
    wrong = [row for row in scored if row["outcome"] in ("missed", "other_call", "unsure")]
    return {
        "rows": table,
        "chart": outcomes_chart(table),
        "by_app": run.at("accuracy", "by_app") or {},
        "confusion": confusion(run.at("accuracy", "confusion") or []),
        "false_calls": run.at("accuracy", "false_calls"),
        "wrong": wrong,
        "alarms": [row for row in scored if row["outcome"] == "false_call"],
        "headline": run.at("accuracy", "five") or run.at("accuracy", "all"),
        "distinct": run.at("accuracy", "five_without_copies")
        or run.at("accuracy", "five_distinct"),
        "baselines": run.at("accuracy", "baselines") or [],
        "made": [
            {"app": app, "role": role, **entry}
            for app, roles in (run.at("accuracy", "synthetic", "apps") or {}).items()
            for role, entry in roles.items()
        ],
        "recorded": run.at("recorded"),
        "macro_f1": run.at("accuracy", "macro_f1"),
        "macro_f1_apps": run.at("accuracy", "macro_f1_apps"),
        "macro_f1_five": run.at("accuracy", "macro_f1_five"),
    }


def _accuracy_rows(run: Findings, flows: Sequence[Row]) -> list[Table]:
    """Return a row per app and role of summary.json, with the sessions that are wholly right."""
    sessions: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in flows:
        if row["outcome"] in OUTCOMES:
            held = sessions[str(row["truth_app"]), str(row["truth_role"])]
            session = situations.session_of(row)
            held[session] = held.get(session, True) and row["outcome"] == "right"
    apps = run.at("accuracy", "apps") or {}
    order = sorted(apps, key=lambda app: situations.column_rank(situations.Column(app, "", False)))
    rows = []
    for app in order:
        for role, entry in apps[app].items():
            whole = sessions.get((app, role), {})
            good = sum(whole.values())
            rows.append(
                {
                    "app": app,
                    "role": role,
                    "sessions": len(whole),
                    "sessions_right": good,
                    "sessions_interval": clopper_pearson(good, len(whole)),
                    **entry,
                }
            )
    return rows


def outcomes_chart(table: Sequence[Row]) -> charts.Chart | None:
    """Return the stacked bars of outcomes, None without scored flows."""
    rows = []
    for entry in table:
        label = f"{formatting.app_name(entry['app'])} {entry['role']}"
        for rank, name in enumerate(OUTCOMES):
            words = formatting.OUTCOME_NAMES[name]
            tip = f"{label}: {entry[name]} of {formatting.plural(entry['n'], 'flow')} {words}"
            rows.append(
                {
                    "label": label,
                    "outcome": words,
                    "n": entry[name],
                    "rank": rank,
                    "tip": tip,
                    "app": entry["app"],
                }
            )
    if not rows:
        return None
    told = "; ".join(
        f"{formatting.app_name(entry['app'])} {entry['role']} "
        f"{entry['right']} of {entry['n']} right"
        for entry in table
    )
    order = [formatting.OUTCOME_NAMES[name] for name in OUTCOMES]
    return charts.outcomes(rows, order, f"Stacked bars, one per app and role. {told}.")


def confusion(entries: Sequence[Row]) -> Table | None:
    """Return the confusion matrix: truths as rows, what was said as columns, unknown ones last."""
    if not entries:
        return None
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        counts[entry["truth"], entry["said"]] += entry["n"]

    def rank(app: str) -> tuple[Any, ...]:
        return situations.column_rank(situations.Column(app, "", False))

    last = ("unsure", "missed")
    truths = sorted({truth for truth, _ in counts}, key=rank)
    apps = sorted({said for _, said in counts} - set(last), key=rank)
    return {
        "said": [*apps, *last],
        "rows": [
            {
                "truth": truth,
                "n": sum(counts[truth, said] for said in (*apps, *last)),
                "cells": [(said, counts[truth, said]) for said in (*apps, *last)],
            }
            for truth in truths
        ],
    }
