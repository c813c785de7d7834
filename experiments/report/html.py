# SPDX-License-Identifier: BSD-3-Clause
"""The report: an HTML file per language with a run's results, made from its result files alone.

`render` reads the run's folder and writes `report.html` (English), `report.fr.html` and
`report.ar.html` into it, with the files for papers and repositories (see paper), such as the rows
of each chart. The values of the page are made once; what they say is put into words when a page is
rendered, in its language. It computes no verdict and no accuracy:
those are in the files. Everything that comes from a capture (names, evidence, host names) is
escaped by the template engine.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report import charts, paper, reaction
from midcall.experiments.report.front import front
from midcall.experiments.report.language import PAGES, TRANSLATED, Page, language
from midcall.experiments.report.sections import SECTIONS, Section, priced
from midcall.experiments.report.sections.answer import Answer, price_rows, sentence
from midcall.experiments.results import reader
from midcall.experiments.results.reader import Findings
from midcall.locations import TEMPLATES

#: Longest list in the page; a note of the page refers to the CSV for the rest.
LONGEST = 400


def page(
    run: Findings, evaluated: Mapping[str, object] | None = None
) -> tuple[dict[str, object], list[charts.Chart]]:
    """Return the values of the template, and the charts among them.

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
        "failed": [row for row in run["cells"] if row["status"] == "failed"],
        "files": sorted(path.name for path in run.folder.iterdir() if path.suffix == ".csv"),
    }
    for _, part in built:
        view |= part
    view["front"] = front(run, cast(Answer, view["answer"]))
    return view, [chart for _, part in built for chart in drawn(part)]


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
    engine.filters["operator_title"] = operator_title
    for name in formatting.FILTERS:
        engine.filters[name] = getattr(formatting, name)
    engine.globals |= {
        "plural": formatting.plural,
        "counted": formatting.counted,
        "of": formatting.of,
        "message": formatting.gettext,
        "sentence": sentence,
        "places_and_dates": places_and_dates,
        "drawn": in_words,
        "words": {},
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


def operator_title(operator: str, names: Mapping[str, str]) -> str:
    """Return the name of an operator from its policy file, else a name made of its id."""
    return names.get(operator) or formatting.operator_name(operator)


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
    view, figures = page(findings, evaluated)
    for chart in figures:
        paper.write_figure(run, chart)
    paper.write(run, view, figures)
    engine = environment()
    parts = english_parts(engine, view)
    for page_of in PAGES:
        text = written(engine, view | {"parts": parts}, page_of)
        (run / page_of.file).write_text(text, encoding="utf-8")
    return run / PAGES[0].file


def english_parts(engine: Environment, view: Mapping[str, object]) -> dict[str, Markup]:
    """Return the sections that are in English on every page: id -> HTML."""
    values = {**view, "pieces": engine.get_template("pieces.html").make_module(dict(view))}
    sections = [section for section in SECTIONS if section in cast(list[Section], view["sections"])]
    return {
        section.id: Markup(engine.get_template(f"{section.id}.html").render(values))
        for section in sections
        if section.id not in TRANSLATED
    }


def written(engine: Environment, view: Mapping[str, object], page_of: Page) -> str:
    """Return the page in one language; view: the values of the template, the same for all."""
    with formatting.speaking(language(page_of.code)):
        words = {} if page_of.code == "en" else dict(drawn_words(view))
        return engine.get_template("report.html").render(
            view, page=page_of, pages=PAGES, words=words
        )


def drawn_words(view: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield English text of the drawings of the first screens, and the same in the language."""
    answer = cast(Answer, view["answer"])
    for name, _ in charts.PRICE:
        yield name, formatting.gettext(name)
    nobody: Sequence[str] = ()
    drawings: list[tuple[list[tuple[situations.Line, Sequence[str]]], str]] = [
        (price_rows(answer["ledes"]), ""),
        *(
            ([(line, nobody) for line in one["situation"].lines], one["app"])
            for one in cast(list[priced.Variant], view["priced"])
        ),
    ]
    for lines, app in drawings:
        with formatting.speaking(formatting.ENGLISH):
            english = [priced.row(line, operators, app) for line, operators in lines]
            text = priced.words(english)
        local = [priced.row(line, operators, app) for line, operators in lines]
        yield text, priced.words(local)
        for before, after in zip(english, local, strict=True):
            yield before["short_calls"], after["short_calls"]
            yield before["short_flows"], after["short_flows"]
            yield before["tip_calls"], after["tip_calls"]
            yield before["tip_flows"], after["tip_flows"]


def in_words(picture: str, words: Mapping[str, str]) -> Markup:
    """Return our own SVG, unescaped; words: English text in it -> the same in the language."""
    if not words:
        return Markup(picture)
    rtl = formatting.spoken().rtl

    def replaced(found: re.Match[str]) -> str:
        text = words.get(html.unescape(found[2]))
        if text is None:
            return found[0]
        return found[1] + html.escape(f"\u2067{text}\u2069" if rtl else text)

    return Markup(re.sub(r'(>|data-tip="|aria-label=")([^<>"]+)', replaced, picture))


def places_and_dates(label: str) -> str:
    """Return the networks and dates of a situation's label, "3G on 20 Jan; ...", in words."""
    parts = [part.partition(" on ") for part in label.split("; ")]
    words = formatting.gettext("%(networks)s on %(dates)s")
    return formatting.gettext("; ").join(
        words % {"networks": networks, "dates": dates} for networks, _, dates in parts
    )
