# SPDX-License-Identifier: BSD-3-Clause
"""The answer: the sentences of the first screen, and the table of outcomes in the details."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TypedDict

from midcall.apps import FIVE
from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.formatting import gettext
from midcall.experiments.measure.situations import Hardest, Line
from midcall.experiments.report import charts
from midcall.experiments.report.sections import priced
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CallRow

#: A part of a sentence: its weight ("", "who" or "hot"), and its text.
Part = tuple[str, str]


class Heading(TypedDict):
    """A column of the outcome table, with its calls, independent sessions and years."""

    key: situations.Column
    calls: int
    sessions: int
    years: str
    added: int


class AppHeadings(TypedDict):
    """The columns of an app."""

    app: str
    columns: list[Heading]


class Gap(TypedDict):
    """Operators without a documented service on some access networks."""

    operators: list[str]
    accesses: list[str]


class Answer(TypedDict):
    """The values of the section; `made_`: of synthetic calls."""

    calls: list[CallRow]
    columns: list[AppHeadings]
    situations: list[situations.Situation]
    made_columns: list[AppHeadings]
    made_situations: list[situations.Situation]
    ledes: list[Hardest]
    gaps: list[Gap]
    recorded: int


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    values = answer(run)
    return {"answer": values, "price": price_chart(values["ledes"])}


def answer(run: Findings) -> Answer:
    """Return outcome tables of real and synthetic calls, and operators where they block most."""
    calls = situations.documented(run["calls"])
    real = [row for row in calls if situations.in_headline(row)]
    synthetic = [row for row in calls if row.get("synthetic")]
    groups = situations.situations(real, run["collateral"])
    return {
        "calls": real,
        "columns": headings(real, run.spec.get("apps") or []),
        "situations": groups,
        "made_columns": headings(synthetic, []),
        "made_situations": situations.situations(synthetic, run["collateral"]),
        "ledes": situations.hardest(groups),
        "gaps": _gaps(run),
        "recorded": run.at("captures", "recorded") or 0,
    }


# ---- sentences


def sentences(ledes: Sequence[Hardest], picture: str) -> list[list[Part]]:
    """Return the sentences of the answer; picture: a key of views.PICTURES."""
    if picture and ledes:
        return [(of_operators if picture == "operators" else of_mechanisms)(ledes)]
    return [sentence(one) for one in ledes]


def evidence(rules: int, packets: int, operators: int, invented: bool) -> str:
    """Return the sentence about the evidence of a run's rules, "" where it has none.

    packets: rules that rest on measurements or packets; invented: the rules are of no operator.
    """
    if not rules:
        return ""
    if invented:
        return gettext("These rules are building blocks: no operator is known to use them.")
    if not packets:
        return formatting.ngettext(
            "No rule of this run rests on packets of the operator.",
            "No rule of this run rests on packets of the operators.",
            operators,
        )
    every = formatting.counted("%(num)s rule", "%(num)s rules", rules)
    words = gettext("%(packets)s of %(rules)s rest on measurements or packets.")
    return words % {"packets": formatting.count(packets), "rules": every}


def sentence(lede: Hardest) -> list[Part]:
    """Return a sentence about operators where they block most, in parts."""
    most, least = lede.most, lede.least
    names = ("who", formatting.listed(map(formatting.operator_name, lede.operators)))
    if most is None:
        words = gettext("%(who)s: no hypothesis can be judged with the real calls of this run.")
        words_of = parts(words, who=names)
    elif not most.total.blocked:
        words = gettext(
            "%(who)s: every real call gets through under any hypothesis that can be judged."
        )
        if most.total.ok < most.total.n:
            words = gettext(
                "%(who)s: no real call is blocked under any hypothesis that can be judged."
            )
        words_of = parts(words, who=names)
    else:
        words = gettext("If %(who)s matched calls by “%(how)s”, %(hot)s real calls fail%(more)s.")
        words_of = [
            *parts(words, who=names, how=("", most.title), hot=blocked(most), more=more(most)),
            *([("", " " + _mildest(least))] if least else []),
        ]
    return [*words_of, *unclear(lede.unclear)]


def of_operators(ledes: Sequence[Hardest]) -> list[Part]:
    """Return one sentence about many operators: how many block anything, and which most."""
    if len(ledes) == len(ledes[0].operators) == 1:
        return sentence(ledes[0])
    acting = [one for one in ledes if one.most and one.most.total.blocked]
    n = sum(len(one.operators) for one in ledes)
    some = sum(len(one.operators) for one in acting)
    if not acting:
        words = gettext("%(n)s: no rule that can be judged blocks a real call of this run.")
        return parts(words, n=("who", _operators(n)))
    worst = max(acting, key=lambda one: one.most.total.blocked if one.most else 0)
    line = worst.most
    assert line is not None
    words = gettext(
        "The rules of %(some)s of %(n)s block real calls of this run. Most are blocked by %(who)s, "
        "“%(how)s”: %(hot)s real calls fail%(more)s."
    )
    return parts(
        words,
        some=("who", formatting.count(some)),
        n=("", _operators(n)),
        who=("who", formatting.listed(map(formatting.operator_name, worst.operators))),
        how=("", line.title),
        hot=blocked(line),
        more=more(line),
    )


def _operators(n: int) -> str:
    return formatting.counted("%(num)s operator", "%(num)s operators", n)


def of_mechanisms(ledes: Sequence[Hardest]) -> list[Part]:
    """Return one sentence about hypotheses that are of no operator."""
    lines = [line for one in ledes for line in one.lines]
    lines.sort(key=lambda line: (-line.total.blocked, line.hits.hit if line.hits else 0))
    rules = formatting.counted("%(num)s rule", "%(num)s rules", len(lines))
    some = [line for line in lines if line.total.blocked]
    if not some:
        words = gettext("None of %(rules)s blocks a real call of this run.")
        return [*parts(words, rules=("who", rules)), *unsure(lines)]
    words = gettext(
        "%(some)s of %(rules)s block real calls. “%(how)s” blocks most: %(hot)s real calls "
        "fail%(more)s."
    )
    return [
        *parts(
            words,
            some=("who", formatting.count(len(some))),
            rules=("", rules),
            how=("", lines[0].title),
            hot=blocked(lines[0]),
            more=more(lines[0]),
        ),
        *unsure(lines),
    ]


def unsure(lines: Sequence[Line]) -> list[Part]:
    """Return the sentence about those hypotheses that are inconclusive for some call."""
    n = sum(line.total.inconclusive > 0 for line in lines)
    if not n:
        return []
    words = formatting.counted(
        "%(num)s of them cannot be judged for some calls: their recordings hold nothing to match.",
        "%(num)s of them cannot be judged for some calls: their recordings hold nothing to match.",
        n,
    )
    return [("", f" {words}")]


def unclear(n: int) -> list[Part]:
    """Return the sentence about hypotheses that are inconclusive for some call, if there are."""
    if not n:
        return []
    words = formatting.counted(
        "%(num)s more hypothesis cannot be judged for some calls: their recordings hold nothing "
        "to match.",
        "%(num)s more hypotheses cannot be judged for some calls: their recordings hold nothing "
        "to match.",
        n,
    )
    return [("", f" {words}")]


def blocked(line: Line) -> Part:
    """Return "8 of 9"."""
    return "hot", formatting.of(line.total.blocked, line.total.n)


def more(line: Line) -> Part:
    """Return what follows a count of failed calls: quality, calls not judged, innocent flows."""
    total, hits = line.total, line.hits
    quality = gettext("no call at all")
    if total.unusable > total.blocked:
        quality = formatting.counted(
            "no call at all; %(num)s if calls of unusable quality count, too",
            "no call at all; %(num)s if calls of unusable quality count, too",
            total.unusable,
        )
    words = f" ({quality})"
    if total.inconclusive:
        unknown = formatting.counted(
            "%(num)s cannot be judged", "%(num)s cannot be judged", total.inconclusive
        )
        words += f" ({unknown})"
    if hits:
        words += gettext(", and %(hit)s of %(flows)s innocent flows are hit") % {
            "hit": formatting.count(hits.hit), "flows": formatting.count(hits.flows),
        }  # fmt: skip
    return "", words


def _mildest(line: Line) -> str:
    """Return the sentence about the hypothesis that blocks least."""
    words = ""
    if line.hits:
        words = formatting.counted(
            ", and %(num)s innocent flow is hit", ", and %(num)s innocent flows are hit",
            line.hits.hit,
        )  # fmt: skip
    message = gettext("If by “%(how)s”, %(calls)s fail%(more)s.")
    calls = formatting.of(line.total.blocked, line.total.n)
    return message % {"how": line.title, "calls": calls, "more": words}


def parts(message: str, **values: Part) -> list[Part]:
    """Return a message in parts; values: the part for each %(name)s in it."""
    split = re.split(r"%\((\w+)\)s", message)
    words_of = [values[words] if at % 2 else ("", words) for at, words in enumerate(split)]
    return [part for part in words_of if part[1]]


# ---- the table of outcomes


def headings(calls: Sequence[CallRow], wanted: Sequence[str]) -> list[AppHeadings]:
    """Return the outcome table's columns by app; an app of the spec without a call has none."""
    by_app: dict[str, list[Heading]] = {app: [] for app in FIVE if app in wanted}
    for column in situations.columns(calls):
        rows = [row for row in calls if situations.column_of(row) == column]
        years = sorted({int(year) for row in rows if (year := row.get("capture_year"))})
        by_app.setdefault(column.app, []).append(
            {
                "key": column,
                "calls": len(situations.distinct_calls(rows)),
                "sessions": len({situations.session_of(row) for row in rows}),
                "years": "–".join(dict.fromkeys(str(year) for year in (*years[:1], *years[-1:]))),
                "added": len(situations.distinct_calls([row for row in rows if row.get("added")])),
            }
        )
    return [{"app": app, "columns": columns} for app, columns in by_app.items()]


def _gaps(run: Findings) -> list[Gap]:
    """Return access networks on which operators have no documented service, alike ones joined."""
    bare: dict[str, dict[str, None]] = defaultdict(dict)
    for square in situations.calendar(run["calls"], run["cells"]):
        if not square.documented:
            bare[square.operator][square.access] = None
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for operator, accesses in bare.items():
        alike[tuple(accesses)].append(operator)
    return [{"operators": names, "accesses": list(accesses)} for accesses, names in alike.items()]


def price_chart(hardest: Sequence[Hardest]) -> charts.Chart | None:
    """Return the chart of calls blocked and innocent flows hit, where operators block most."""
    rows = [
        priced.row(line, one.operators if len(hardest) > 1 else ())
        for one in hardest
        for line in one.lines
    ]
    return charts.price(rows, priced.words(rows)) if rows else None
