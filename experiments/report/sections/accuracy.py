# SPDX-License-Identifier: BSD-3-Clause
"""Accuracy: outcomes of call flows by app and role, confusion, and false calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, TypedDict

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.formatting import gettext
from midcall.experiments.measure.intervals import Interval, clopper_pearson
from midcall.experiments.report import charts
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Confused, FlowRow, OutcomeShare

OUTCOMES: tuple[Literal["right", "unsure", "other_call", "missed"], ...] = (
    "right", "unsure", "other_call", "missed",
)  # fmt: skip


class AccuracyLine(OutcomeShare):
    """Outcomes of the flows of an app and role, and the sessions that are wholly right."""

    app: str
    role: str
    sessions: int
    sessions_right: int
    sessions_interval: Interval | None


class ConfusionLine(TypedDict):
    """The call flows of an app: n in all, and those of each verdict."""

    truth: str
    n: int
    cells: list[tuple[str, int]]


class Confusion(TypedDict):
    """The confusion matrix: verdicts as columns, true apps as rows."""

    said: list[str]
    rows: list[ConfusionLine]


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    return {"accuracy": accuracy(run)}


def accuracy(run: Findings) -> dict[str, object]:
    """Return accuracy by app and role, confusion, false calls, and the flows that are wrong."""
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
        "not_replayed": run.at("accuracy", "not_replayed"),
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


def _accuracy_rows(run: Findings, flows: Sequence[FlowRow]) -> list[AccuracyLine]:
    """Return a row per app and role of summary.json, with the sessions that are wholly right."""
    sessions: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in flows:
        if row["outcome"] in OUTCOMES:
            right = sessions[str(row["truth_app"]), str(row["truth_role"])]
            session = situations.session_of(row)
            right[session] = right.get(session, True) and row["outcome"] == "right"
    apps: dict[str, dict[str, OutcomeShare]] = run.at("accuracy", "apps") or {}
    order = sorted(apps, key=app_rank)
    rows: list[AccuracyLine] = []
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


def app_rank(app: str) -> tuple[int, str, int, str, bool]:
    """Return the sort key of an app: the five apps first."""
    return situations.column_rank(situations.Column(app, "", False))


def outcomes_chart(table: Sequence[AccuracyLine]) -> charts.Chart | None:
    """Return the stacked bars of outcomes, None without scored flows."""
    rows: list[charts.OutcomeBar] = []
    for entry in table:
        label = label_of(entry)
        for rank, name in enumerate(OUTCOMES):
            words = gettext(formatting.OUTCOME_NAMES[name])
            flows = formatting.counted("%(num)s flow", "%(num)s flows", entry["n"])
            tip = f"{label}: {formatting.of(formatting.count(entry[name]), flows)}, {words}"
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
    text = gettext("; ").join(
        gettext("%(label)s: %(counts)s right")
        % {"label": label_of(entry), "counts": formatting.of(entry["right"], entry["n"])}
        for entry in table
    )
    order = [gettext(formatting.OUTCOME_NAMES[name]) for name in OUTCOMES]
    words = gettext("Stacked bars, one per app and role. %(text)s.") % {"text": text}
    return charts.outcomes(rows, order, words)


def label_of(line: AccuracyLine) -> str:
    """Return the app and the role of a line, "WhatsApp media"."""
    names = {"app": formatting.app_name(line["app"]), "role": formatting.role_name(line["role"])}
    return gettext("%(app)s %(role)s") % names


def confusion(entries: Sequence[Confused]) -> Confusion | None:
    """Return the confusion matrix: true apps as rows, verdicts as columns, unknown ones last."""
    if not entries:
        return None
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        counts[entry["truth"], entry["said"]] += entry["n"]
    last = ("unsure", "missed")
    truths = sorted({truth for truth, _ in counts}, key=app_rank)
    apps = sorted({verdict for _, verdict in counts} - set(last), key=app_rank)
    return {
        "said": [*apps, *last],
        "rows": [
            {
                "truth": truth,
                "n": sum(counts[truth, verdict] for verdict in (*apps, *last)),
                "cells": [(verdict, counts[truth, verdict]) for verdict in (*apps, *last)],
            }
            for truth in truths
        ],
    }
