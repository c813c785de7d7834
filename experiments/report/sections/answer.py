# SPDX-License-Identifier: BSD-3-Clause
"""The answer: who could call whom, under which hypothesis, and who else is hit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from midcall.apps import FIVE
from midcall.experiments.measure import formatting
from midcall.experiments.measure import situations as mission
from midcall.experiments.report import charts
from midcall.experiments.report.sections import priced
from midcall.experiments.report.sections.calendar import calendar
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]


def build(run: Findings) -> Table:
    """Return what the section shows."""
    told = answer(run)
    return {
        "answer": told,
        "price": price_chart(told["ledes"]),
        "priced": list(priced.variants(told["situations"])),
    }


def answer(run: Findings) -> Table:
    """Return the mission: calendar, situations of real and synthetic calls, the ledes."""
    calls = mission.documented(run["calls"])
    real = [row for row in calls if mission.in_headline(row)]
    yours = [row for row in calls if row.get("added") and not row.get("synthetic")]
    made = [row for row in calls if row.get("synthetic")]
    situations = mission.situations(real, run["collateral"])
    told = ledes(situations)
    return {
        "calls": real,
        "yours": ledes(mission.situations(yours, run["collateral"])),
        "yours_n": len(mission.distinct_calls(yours)),
        "operators": list(dict.fromkeys(str(row["operator"]) for row in [*real, *made])),
        "columns": headings(real, run.spec.get("apps") or []),
        "situations": situations,
        "made_columns": headings(made, []),
        "made_situations": mission.situations(made, run["collateral"]),
        "calendar": calendar(run),
        "ledes": told,
        "apps": by_app(told, real, run.spec.get("apps") or []),
        "gaps": _gaps(run),
        "calls_n": len(mission.distinct_calls(real)),
        "sessions_n": len({mission.session_of(row) for row in real}),
        "recorded": run.at("captures", "recorded") or 0,
    }


def ledes(situations: Sequence[mission.Situation]) -> list[Table]:
    """Return, for operators where they block most, the harshest and the mildest hypothesis.

    Operators that block most in one and the same situation share an entry. The mildest is chosen
    among hypotheses that can tell about every call.
    """
    hardest: dict[int, list[str]] = defaultdict(list)
    operators = [operator for situation in situations for operator in situation.operators]
    for operator in dict.fromkeys(operators):
        own = [at for at, held in enumerate(situations) if operator in held.operators]
        hardest[max(own, key=lambda at: situations[at].most)].append(operator)
    return [_lede(situations[at], held) for at, held in hardest.items()]


def _lede(situation: mission.Situation, operators: Sequence[str]) -> Table:
    lines = sorted(situation.lines, key=lambda line: -line.total.blocked)
    told = [line for line in lines if line.total.ok + line.total.blocked]
    whole = [line for line in told if not line.total.inconclusive]
    lede: Table = {
        "situation": situation,
        "operators": list(operators),
        "most": told[0] if told else None,
        "least": whole[-1] if whole and whole[-1] is not told[0] else None,
        "unclear": len(lines) - len(whole),
        "lines": lines,
    }
    return lede | {"sentence": sentence(lede)}


def sentence(lede: Row) -> list[tuple[str, str]]:
    """Return a lede as a sentence in parts: (its weight, "" or "who" or "hot"; its text)."""
    most, least = lede["most"], lede["least"]
    names = ("who", formatting.listed(map(formatting.operator_name, lede["operators"])))
    if most is None:
        parts = [names, ("", ": no hypothesis can be judged with the real calls of this run.")]
    elif not most.total.blocked:
        what = "every real call gets through" if most.total.ok == most.total.n else (
            "no real call is blocked")  # fmt: skip
        parts = [names, ("", f": {what} under any hypothesis that can be judged.")]
    else:
        parts = [("", "If "), names, *_harshest(most)]
        if least:
            total, hits = least.total, least.hits
            words = f" If by “{least.title}”, {total.blocked} of {total.n} fail"
            if hits:
                flows = formatting.plural(hits.hit, "innocent flow is", "innocent flows are")
                words += f", and {flows} hit"
            parts.append(("", f"{words}."))
    if lede["unclear"]:
        unknown = formatting.plural(
            lede["unclear"],
            "more hypothesis cannot be judged for some calls: their recordings hold",
            "more hypotheses cannot be judged for some calls: their recordings hold",
        )
        parts.append(("", f" {unknown} nothing to match."))
    return parts


def _harshest(line: mission.Line) -> list[tuple[str, str]]:
    total, hits = line.total, line.hits
    unknown = f" ({total.inconclusive} cannot be judged)" if total.inconclusive else ""
    more = " (no call at all)"
    if total.unusable > total.blocked:
        more = f" (no call at all; {total.unusable} if calls of unusable quality count, too)"
    struck = ""
    if hits:
        struck = (
            f", and {formatting.count(hits.hit)} of {formatting.count(hits.flows)} innocent flows"
        )
        struck += " are hit"
    return [
        ("", f" matched calls by “{line.title}”, "),
        ("hot", f"{total.blocked} of {total.n}"),
        ("", f" real calls fail{more}{unknown}{struck}."),
    ]


def by_app(told: Sequence[Row], calls: Sequence[Row], wanted: Sequence[str]) -> list[Table]:
    """Return per app, where operators block most, the fewest and the most of its calls blocked.

    A hypothesis that cannot tell about some call of the app is left out of the range and of
    `hypotheses`, and counted as `unclear`; `blocking` of them block at least one call. An app that
    was asked for without a real call has n = 0.
    """
    lines = [line for lede in told for line in lede["lines"]]
    found = {str(row["app"]) for row in calls}
    order = [app for app in FIVE if app in found or app in wanted]
    return [_app(app, lines) for app in (*order, *sorted(found - set(order)))]


def _app(app: str, lines: Sequence[mission.Line]) -> Table:
    sums = [
        [sum(getattr(tally, name) for column, tally in line.tallies.items() if column.app == app)
         for name in ("blocked", "n", "inconclusive")]
        for line in lines
    ]  # fmt: skip
    clear = [blocked for blocked, n, unknown in sums if n and not unknown]
    words = [
        tally.reason
        for line in sorted(lines, key=lambda line: -line.total.blocked)
        for column, tally in line.tallies.items()
        if column.app == app and tally.reason
    ]
    return {
        "app": app,
        "n": max((n for _, n, _ in sums), default=0),
        "fewest": min(clear, default=0),
        "most": max(clear, default=0),
        "blocking": sum(blocked > 0 for blocked in clear),
        "hypotheses": len(clear),
        "unclear": sum(bool(n and unknown) for _, n, unknown in sums),
        "reason": words[0] if words else None,
    }


def headings(calls: Sequence[Row], wanted: Sequence[str]) -> list[Table]:
    """Return the mission table's columns by app; an app asked for without a call has none."""
    by_app: dict[str, list[Table]] = {app: [] for app in FIVE if app in wanted}
    for column in mission.columns(calls):
        held = [row for row in calls if mission.column_of(row) == column]
        years = sorted({int(row["capture_year"]) for row in held if row.get("capture_year")})
        entry = {
            "key": column,
            "calls": len(mission.distinct_calls(held)),
            "sessions": len({mission.session_of(row) for row in held}),
            "years": "–".join(dict.fromkeys(str(year) for year in (*years[:1], *years[-1:]))),
            "added": len(mission.distinct_calls([row for row in held if row.get("added")])),
        }
        by_app.setdefault(column.app, []).append(entry)
    return [{"app": app, "columns": held} for app, held in by_app.items()]


def _gaps(run: Findings) -> list[Table]:
    """Return access networks on which operators have no documented service, alike ones joined."""
    bare: dict[str, dict[str, None]] = defaultdict(dict)
    for square in mission.calendar(run["calls"], run["cells"]):
        if not square.documented:
            bare[square.operator][square.access] = None
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for operator, held in bare.items():
        alike[tuple(held)].append(operator)
    return [{"operators": names, "accesses": list(held)} for held, names in alike.items()]


def price_chart(told: Sequence[Row]) -> charts.Chart | None:
    """Return the chart of calls blocked beside bystanders hit, where operators block most."""
    rows = [
        priced.row(line, lede["operators"] if len(told) > 1 else [])
        for lede in told
        for line in lede["lines"]
    ]
    return charts.price(rows, priced.words(rows)) if rows else None
