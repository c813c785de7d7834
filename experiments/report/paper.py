# SPDX-License-Identifier: BSD-3-Clause
"""Files of a run for papers and repositories: figures, a LaTeX table, report.md.

Everything is written next to report.html from the same values of the run's result files; every
figure is on the page, too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report import charts
from midcall.experiments.report.front import Front
from midcall.experiments.report.sections.answer import (
    Answer,
    AppHeadings,
    evidence,
    sentences,
)
from midcall.locations import TEMPLATES

MARKDOWN, LATEX = "report.md", "main-result.tex"


def write_figure(folder: Path, chart: charts.Chart) -> None:
    """Write a chart to figures/<name>.csv, .svg and .png of a run's folder."""
    path = folder / "figures" / f"{chart.name}.csv"
    path.parent.mkdir(exist_ok=True)
    columns = [key for key in chart.rows[0] if not key.startswith(("tip", "short", "rank"))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(chart.rows)
    path.with_suffix(".svg").write_text(chart.alone, encoding="utf-8")
    path.with_suffix(".png").write_bytes(chart.png)


def write(folder: Path, view: Mapping[str, object], figures: Sequence[charts.Chart]) -> None:
    """Write report.md and main-result.tex into a run's folder; view: the values of the page."""
    (folder / MARKDOWN).write_text(markdown(view, figures), encoding="utf-8")
    (folder / LATEX).write_text(latex(cast("Answer", view["answer"])), encoding="utf-8")


# ---- report.md


def markdown(view: Mapping[str, object], figures: Sequence[charts.Chart]) -> str:
    """Return the report as Markdown; all text is escaped."""
    engine = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escaped,
        autoescape=False,
    )
    for name in formatting.FILTERS:
        engine.filters[name] = getattr(formatting, name)
    engine.globals |= {
        "plural": formatting.plural,
        "rate": rate,
        "struck": struck,
        "outcome": outcome,
        "empty": situations.Tally(),
        "where": where,
    }
    first = cast("Front", view["front"])
    return engine.get_template(MARKDOWN).render(
        view,
        figures=figures,
        sentences=sentences(first["base"].ledes, first["kind"].picture),
        evidence=evidence(*first["base"].rules),
    )


def escaped(value: object) -> object:
    """Return text for Markdown, escaped and on one line; any other value unchanged."""
    if not isinstance(value, str):
        return value
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\|`*\[\]])", r"\\\1", text)


def rate(part: int, whole: int) -> str:
    """Return a share with its exact 95 % interval; none in n bounds the rate by 3/n."""
    if not whole:
        return "n/a (0 flows)"
    if not part:
        return f"under {formatting.percent(3 / whole)} (3/n)"
    return f"{formatting.percent(part / whole)} ({formatting.span(clopper_pearson(part, whole))})"


def struck(hits: situations.Hits) -> str:
    """Return the share of innocent flows hit, with its interval, if any."""
    if not hits.hit or not hits.tested:
        return rate(hits.hit, hits.tested)
    share = formatting.percent(hits.hit / hits.tested)
    return f"{share} ({formatting.span(hits.interval)})" if hits.interval else share


def outcome(tally: situations.Tally) -> str:
    """Return the outcome of some calls as text: "2 of 2, never connects"."""
    if not tally.n:
        return "not testable" if tally.invalid else "–"
    if not tally.ok + tally.blocked:
        return f"? of {tally.n}"
    words = f"{tally.blocked} of {tally.n}"
    if tally.reason:
        words += f", {formatting.verdict_name(tally.reason)}"
    return words + (f" ({tally.inconclusive} cannot tell)" if tally.inconclusive else "")


def where(situation: situations.Situation) -> str:
    """Return a situation's places as text."""
    return "; ".join(f"{names}: {networks}" for names, networks in situation.label)


# ---- the main result in LaTeX


SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "“": "``", "”": "''", "\n": " ",
}  # fmt: skip


def tex(words: str) -> str:
    """Return text escaped for LaTeX."""
    return "".join(SPECIAL.get(letter, letter) for letter in words)


def latex(answer: Answer) -> str:
    """Return the main result as a LaTeX table (package booktabs): hypotheses by app.

    A cell is k/n calls blocked, with "+u" for u of the n for which the hypothesis is inconclusive;
    the last column is innocent flows hit, with the 95 % interval (capture groups resampled). One
    table per entry of the answer (operators where they block most).
    """
    tables = [_table(lede, answer["columns"]) for lede in answer["ledes"] if lede.lines]
    head = "% Made by midcall from a run's result files. Needs \\usepackage{booktabs}.\n"
    return head + "\n".join(tables or ["% No real call took part in this run.\n"])


def _table(lede: situations.Hardest, columns: Sequence[AppHeadings]) -> str:
    apps = [column["app"] for column in columns]
    heads = [
        "Hypothesis",
        *(tex(formatting.app_name(app)) for app in apps),
        "All",
        "Innocent flows",
    ]
    rows = [_line(line, apps) for line in lede.lines]
    names = tex(formatting.listed(map(formatting.operator_name, lede.operators)))
    places = tex(where(lede.situation))
    caption = (
        f"{names}: real calls blocked under each hypothesis of how calls were matched, k/n, where "
        f"most is blocked ({places}). $+u$: of the $n$, $u$ about which it cannot tell. $^h$: no "
        "packet evidence stands behind the rule. Innocent "
        "flows hit with the 95\\,\\% interval, capture groups resampled."
    )
    body = " \\\\\n".join(" & ".join(cells) for cells in (heads, *rows))
    first, rest = body.split(" \\\\\n", 1)
    return (
        "\\begin{table}\n\\centering\\small\n"
        f"\\caption{{{caption}}}\n"
        f"\\begin{{tabular}}{{l{'c' * (len(apps) + 1)}r}}\n\\toprule\n"
        f"{first} \\\\\n\\midrule\n{rest} \\\\\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _line(line: situations.Line, apps: Sequence[str]) -> list[str]:
    cells = []
    for app in apps:
        tallies = [tally for column, tally in line.tallies.items() if column.app == app]
        cells.append(
            _counts(
                sum(tally.blocked for tally in tallies),
                sum(tally.n for tally in tallies),
                sum(tally.inconclusive for tally in tallies),
            )
        )
    total, hits = line.total, line.hits
    price = "not measured"
    if hits:
        price = f"{formatting.count(hits.hit)}/{formatting.count(hits.flows)}, {tex(struck(hits))}"
    mark = "" if not line.hypothetical else "$^h$"
    return [
        tex(line.title) + mark,
        *cells,
        _counts(total.blocked, total.n, total.inconclusive),
        price,
    ]


def _counts(blocked: int, n: int, unknown: int) -> str:
    if not n:
        return "--"
    return f"{blocked}/{n}" + (f" $+{unknown}$" if unknown else "")
