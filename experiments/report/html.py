# SPDX-License-Identifier: BSD-3-Clause
"""The report: one HTML file with the results of a run, made from the run's result files alone.

`render` reads the run's folder and writes `report.html` into it, with the files for papers and
repositories (see paper), such as the rows of each chart. It computes no verdict and no accuracy:
those are in the files. Everything that comes from a capture (names, evidence, host names) is
escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report import charts, paper, reaction
from midcall.experiments.report.sections import SECTIONS
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
        "failed": [row for row in run["cells"] if row["status"] == "failed"],
        "files": sorted(path.name for path in run.folder.iterdir() if path.suffix == ".csv"),
    }
    for _, part in built:
        view |= part
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
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in formatting.FILTERS:
        engine.filters[name] = getattr(formatting, name)
    engine.globals |= {
        "plural": formatting.plural,
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
    view, figures = page(findings, evaluated)
    for chart in figures:
        paper.write_figure(run, chart)
    paper.write(run, view, figures)
    text = environment().get_template("report.html").render(view)
    path = run / "report.html"
    path.write_text(text, encoding="utf-8")
    return path
