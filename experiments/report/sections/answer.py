# SPDX-License-Identifier: BSD-3-Clause
"""The answer: calls blocked under each hypothesis, and innocent flows hit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TypedDict

from midcall.apps import FIVE
from midcall.experiments.measure import formatting
from midcall.experiments.measure import situations as mission
from midcall.experiments.measure.formatting import gettext
from midcall.experiments.report import charts
from midcall.experiments.report.sections import priced
from midcall.experiments.report.sections.calendar import Calendar, calendar
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CallRow


class Lede(TypedDict):
    """Operators in the situation in which they block most, and its hypotheses.

    most, least: the hypotheses that block most and least; unclear: the number of hypotheses that
    are inconclusive for some call; sentence: its parts, each with a weight ("", "who" or "hot").
    """

    situation: mission.Situation
    operators: list[str]
    most: mission.Line | None
    least: mission.Line | None
    unclear: int
    lines: list[mission.Line]
    sentence: list[tuple[str, str]]


class AppAnswer(TypedDict):
    """The fewest and the most calls of an app that a hypothesis blocks, of n.

    hypotheses: those that are conclusive for all calls of the app; blocking: those of them that
    block some; unclear: the others.
    """

    app: str
    n: int
    fewest: int
    most: int
    reason: str | None
    hypotheses: int
    blocking: int
    unclear: int


class Heading(TypedDict):
    """A column of the outcome table, with its calls, independent sessions and years."""

    key: mission.Column
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
    """The values of the section; `made_`: of synthetic calls, `yours`: of added captures."""

    calls: list[CallRow]
    yours: list[Lede]
    yours_n: int
    operators: list[str]
    columns: list[AppHeadings]
    situations: list[mission.Situation]
    made_columns: list[AppHeadings]
    made_situations: list[mission.Situation]
    calendar: Calendar
    ledes: list[Lede]
    apps: list[AppAnswer]
    gaps: list[Gap]
    calls_n: int
    sessions_n: int
    recorded: int


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    values = answer(run)
    return {
        "answer": values,
        "price": price_chart(values["ledes"]),
        "priced": list(priced.variants(values["situations"])),
    }


def answer(run: Findings) -> Answer:
    """Return the outcome tables: calendar, situations of real and synthetic calls, the ledes."""
    calls = mission.documented(run["calls"])
    real = [row for row in calls if mission.in_headline(row)]
    yours = [row for row in calls if row.get("added") and not row.get("synthetic")]
    synthetic = [row for row in calls if row.get("synthetic")]
    situations = mission.situations(real, run["collateral"])
    hardest = ledes(situations)
    return {
        "calls": real,
        "yours": ledes(mission.situations(yours, run["collateral"])),
        "yours_n": len(mission.distinct_calls(yours)),
        "operators": list(dict.fromkeys(str(row["operator"]) for row in [*real, *synthetic])),
        "columns": headings(real, run.spec.get("apps") or []),
        "situations": situations,
        "made_columns": headings(synthetic, []),
        "made_situations": mission.situations(synthetic, run["collateral"]),
        "calendar": calendar(run),
        "ledes": hardest,
        "apps": by_app(hardest, real, run.spec.get("apps") or []),
        "gaps": _gaps(run),
        "calls_n": len(mission.distinct_calls(real)),
        "sessions_n": len({mission.session_of(row) for row in real}),
        "recorded": run.at("captures", "recorded") or 0,
    }


def ledes(situations: Sequence[mission.Situation]) -> list[Lede]:
    """Return, for operators where they block most, the harshest and the mildest hypothesis.

    Operators that block most in one and the same situation share an entry. The mildest is chosen
    among hypotheses that are conclusive for every call.
    """
    hardest: dict[int, list[str]] = defaultdict(list)
    operators = [operator for situation in situations for operator in situation.operators]
    for operator in dict.fromkeys(operators):
        own = [at for at, one in enumerate(situations) if operator in one.operators]
        hardest[max(own, key=lambda at: situations[at].most)].append(operator)
    return [_lede(situations[at], names) for at, names in hardest.items()]


def _lede(situation: mission.Situation, operators: Sequence[str]) -> Lede:
    lines = sorted(situation.lines, key=lambda line: -line.total.blocked)
    judged = [line for line in lines if line.total.ok + line.total.blocked]
    whole = [line for line in judged if not line.total.inconclusive]
    lede: Lede = {
        "situation": situation,
        "operators": list(operators),
        "most": judged[0] if judged else None,
        "least": whole[-1] if whole and whole[-1] is not judged[0] else None,
        "unclear": len(lines) - len(whole),
        "lines": lines,
        "sentence": [],
    }
    lede["sentence"] = sentence(lede)
    return lede


def sentence(lede: Lede) -> list[tuple[str, str]]:
    """Return a lede as a sentence in parts: (weight: "", "who" or "hot"; text)."""
    most, least = lede["most"], lede["least"]
    names = ("who", formatting.listed(map(formatting.operator_name, lede["operators"])))
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
        words_of = [*_harshest(names, most), *([("", " " + _mildest(least))] if least else [])]
    if lede["unclear"]:
        unknown = formatting.counted(
            "%(num)s more hypothesis cannot be judged for some calls: their recordings hold "
            "nothing to match.",
            "%(num)s more hypotheses cannot be judged for some calls: their recordings hold "
            "nothing to match.",
            lede["unclear"],
        )
        words_of.append(("", f" {unknown}"))
    return words_of


def _harshest(names: tuple[str, str], line: mission.Line) -> list[tuple[str, str]]:
    """Return the sentence about the hypothesis that blocks most; names: of the operators."""
    total, hits = line.total, line.hits
    more = gettext("no call at all")
    if total.unusable > total.blocked:
        more = formatting.counted(
            "no call at all; %(num)s if calls of unusable quality count, too",
            "no call at all; %(num)s if calls of unusable quality count, too",
            total.unusable,
        )
    more = f" ({more})"
    if total.inconclusive:
        unknown = formatting.counted(
            "%(num)s cannot be judged", "%(num)s cannot be judged", total.inconclusive
        )
        more += f" ({unknown})"
    if hits:
        more += gettext(", and %(hit)s of %(flows)s innocent flows are hit") % {
            "hit": formatting.count(hits.hit), "flows": formatting.count(hits.flows),
        }  # fmt: skip
    words = gettext("If %(who)s matched calls by “%(how)s”, %(hot)s real calls fail%(more)s.")
    hot = ("hot", formatting.of(total.blocked, total.n))
    return parts(words, who=names, how=("", line.title), hot=hot, more=("", more))


def _mildest(line: mission.Line) -> str:
    """Return the sentence about the hypothesis that blocks least."""
    more = ""
    if line.hits:
        more = formatting.counted(
            ", and %(num)s innocent flow is hit", ", and %(num)s innocent flows are hit",
            line.hits.hit,
        )  # fmt: skip
    words = gettext("If by “%(how)s”, %(calls)s fail%(more)s.")
    calls = formatting.of(line.total.blocked, line.total.n)
    return words % {"how": line.title, "calls": calls, "more": more}


def parts(message: str, **values: tuple[str, str]) -> list[tuple[str, str]]:
    """Return a message in parts; values: the part for each %(name)s in it."""
    split = re.split(r"%\((\w+)\)s", message)
    words_of = [values[words] if at % 2 else ("", words) for at, words in enumerate(split)]
    return [part for part in words_of if part[1]]


def by_app(
    hardest: Sequence[Lede], calls: Sequence[CallRow], wanted: Sequence[str]
) -> list[AppAnswer]:
    """Return per app, where operators block most, the fewest and the most of its calls blocked.

    A hypothesis that is inconclusive for some call of the app is left out of the range and of
    `hypotheses`, and counted as `unclear`; `blocking` of them block at least one call. An app of
    the spec without a real call has n = 0.
    """
    lines = [line for lede in hardest for line in lede["lines"]]
    present = {str(row["app"]) for row in calls}
    order = [app for app in FIVE if app in present or app in wanted]
    return [_app(app, lines) for app in (*order, *sorted(present - set(order)))]


def _app(app: str, lines: Sequence[mission.Line]) -> AppAnswer:
    sums = [
        (
            sum(tally.blocked for column, tally in line.tallies.items() if column.app == app),
            sum(tally.n for column, tally in line.tallies.items() if column.app == app),
            sum(tally.inconclusive for column, tally in line.tallies.items() if column.app == app),
        )
        for line in lines
    ]
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


def headings(calls: Sequence[CallRow], wanted: Sequence[str]) -> list[AppHeadings]:
    """Return the outcome table's columns by app; an app of the spec without a call has none."""
    by_app: dict[str, list[Heading]] = {app: [] for app in FIVE if app in wanted}
    for column in mission.columns(calls):
        rows = [row for row in calls if mission.column_of(row) == column]
        years = sorted({int(year) for row in rows if (year := row.get("capture_year"))})
        by_app.setdefault(column.app, []).append(
            {
                "key": column,
                "calls": len(mission.distinct_calls(rows)),
                "sessions": len({mission.session_of(row) for row in rows}),
                "years": "–".join(dict.fromkeys(str(year) for year in (*years[:1], *years[-1:]))),
                "added": len(mission.distinct_calls([row for row in rows if row.get("added")])),
            }
        )
    return [{"app": app, "columns": columns} for app, columns in by_app.items()]


def _gaps(run: Findings) -> list[Gap]:
    """Return access networks on which operators have no documented service, alike ones joined."""
    bare: dict[str, dict[str, None]] = defaultdict(dict)
    for square in mission.calendar(run["calls"], run["cells"]):
        if not square.documented:
            bare[square.operator][square.access] = None
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for operator, accesses in bare.items():
        alike[tuple(accesses)].append(operator)
    return [{"operators": names, "accesses": list(accesses)} for accesses, names in alike.items()]


def price_rows(hardest: Sequence[Lede]) -> list[tuple[mission.Line, Sequence[str]]]:
    """Return the hypotheses of the chart, each with the operators that its label names."""
    return [
        (line, lede["operators"] if len(hardest) > 1 else [])
        for lede in hardest
        for line in lede["lines"]
    ]


def price_chart(hardest: Sequence[Lede]) -> charts.Chart | None:
    """Return the chart of calls blocked and innocent flows hit, where operators block most."""
    rows = [priced.row(line, operators) for line, operators in price_rows(hardest)]
    return charts.price(rows, priced.words(rows)) if rows else None
