# SPDX-License-Identifier: BSD-3-Clause
"""The report: an HTML file per language with a run's results, made from its result files alone.

`render` reads the run's folder and writes `report.html` (English), `report.fr.html` and
`report.ar.html` into it, with the files for papers and repositories (see paper), such as the rows
of each chart. The values of the page are made for each language, because they hold words. It
computes no verdict and no accuracy: those are in the files. Everything that comes from a capture
(names, evidence, host names) is escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report import charts, paper, reaction
from midcall.experiments.report.fragments import Fragments, Layout, Macros
from midcall.experiments.report.front import Front, front, kind_of, short_names, views_of
from midcall.experiments.report.language import PAGES, Page, language
from midcall.experiments.report.sections import SECTIONS
from midcall.experiments.report.sections.answer import (
    evidence,
    of_mechanisms,
    of_operators,
    sentence,
)
from midcall.experiments.report.views import Views
from midcall.experiments.results import reader
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CellRow
from midcall.locations import TEMPLATES

#: Longest list in the page; a note of the page refers to the CSV for the rest.
LONGEST = 400


def page(
    run: Findings, views: Views, evaluated: Mapping[str, object] | None = None
) -> tuple[dict[str, object], list[charts.Chart]]:
    """Return the values of the template in the language spoken now, and the charts among them.

    evaluated: the values of the page of the run's evaluation, None where the run had none.
    """
    built = [
        (section, values) for section in SECTIONS if (values := section.build(run)) is not None
    ]
    view: dict[str, object] = {
        "title": str(run.spec.get("title") or run.spec.get("name") or run.folder.name),
        "question": str(run.spec.get("question") or ""),
        "run": run.folder.name,
        "sections": [section for section, _ in built],
        "evaluated": evaluated,
        "cells_n": len(run["cells"]),
        "titles_of": {section.id: section.title for section in SECTIONS},
        "failed": failures(run),
        "files": sorted(path.name for path in run.folder.iterdir() if path.suffix == ".csv"),
        "front": front(run, views, kind_of(run)),
    }
    for _, part in built:
        view |= part
    return view, [chart for _, part in built for chart in drawn(part)]


def failures(run: Findings) -> list[tuple[str, list[CellRow]]]:
    """Return the failed cells of a run by the text of their error."""
    by_error: dict[str, list[CellRow]] = {}
    for row in run["cells"]:
        if row["status"] == "failed":
            by_error.setdefault(str(row["error"] or ""), []).append(row)
    return list(by_error.items())


def drawn(value: object) -> list[charts.Chart]:
    """Return the charts among the values of a section, in order, at any depth."""
    if isinstance(value, charts.Chart):
        return [value]
    if isinstance(value, dict):
        return [chart for inner in value.values() for chart in drawn(inner)]
    if isinstance(value, list):
        return [chart for inner in value for chart in drawn(inner)]
    return []


def environment() -> Environment:
    """Return the template engine: everything escaped, an unknown name is an error."""
    engine = Environment(
        loader=FileSystemLoader(TEMPLATES),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install = engine.install_gettext_callables  # type: ignore[attr-defined]  # of the extension
    install(formatting.gettext, formatting.ngettext, newstyle=True)
    for name in formatting.FILTERS:
        engine.filters[name] = getattr(formatting, name)
    engine.globals |= {
        "plural": formatting.plural,
        "counted": formatting.counted,
        "of": formatting.of,
        "message": formatting.gettext,
        "sentence": sentence,
        "words_of_operators": of_operators,
        "words_of_mechanisms": of_mechanisms,
        "words_of_evidence": evidence,
        "drawn": Markup,
        "share": formatting.share,
        "outcome_names": formatting.OUTCOME_NAMES,
        "clopper_pearson": clopper_pearson,
        "heat": heat,
        "inline": inline,
        "longest": LONGEST,
        "hypothetical": situations.hypothetical,
        "empty": situations.Tally(),
    }
    return engine


def heat(part: int, whole: int) -> str:
    """Return the class of a heat-map cell: h0 (none) to h5 (all)."""
    return f"h{0 if not part else max(1, min(5, round(5 * part / whole)))}"


def inline(name: str) -> Markup:
    """Return a style sheet or script of the templates' folder, unescaped: it is part of Midcall."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def render(run: Path, liked: Path | None = None) -> Path:
    """Write report.html, report.md, a LaTeX table and figures into a run's folder; return its path.

    liked: a CSV of public reaction (see reaction), copied into the folder and drawn from then on.
    Raises ExperimentError where the folder is no finished run or a file of it is damaged.
    """
    findings = reader.read(run)
    if liked is not None:
        reaction.keep(liked, run)
    evaluated = None
    if findings.at("evaluation") is not None:  # it has a page of its own
        from midcall.experiments.report import evaluation

        evaluated = evaluation.view(run)
        own_page = evaluation.write(run, evaluated)
        if findings.at("cells") is None:  # there was no run around it
            return own_page
    views = views_of(findings)
    layout = Layout(views)
    engine = environment()
    with formatting.naming_operators(short_names(views.files)):
        for page_of in PAGES:
            with formatting.speaking(language(page_of.code)):
                view, figures = page(findings, views, evaluated)
                if page_of.code == formatting.ENGLISH.code:
                    for chart in figures:
                        paper.write_figure(run, chart)
                    paper.write(run, view, figures)
                text = written(engine, view, page_of, layout)
                (run / page_of.file).write_text(text, encoding="utf-8")
    return run / PAGES[0].file


def written(engine: Environment, view: Mapping[str, object], page_of: Page, layout: Layout) -> str:
    """Return the page in the language spoken now; view: the values of the template."""
    macros = engine.get_template("views.html").make_module(dict(view))
    fragments = Fragments(layout, cast(Macros, macros))
    return engine.get_template("report.html").render(
        view,
        page=page_of,
        pages=PAGES,
        slots=fragments.base(),
        table=fragments.table() if cast(Front, view["front"])["filters"] else "",
    )
