# SPDX-License-Identifier: BSD-3-Clause
"""The page of an evaluation: accuracy under disturbances, from its result files alone.

`render` reads the tables and summary.json of an evaluation's folder and writes `evaluation.html`
into it. It computes nothing but shares of counts in the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar

import pyarrow as pa

from midcall.errors import ExperimentError
from midcall.experiments.measure import formatting
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.report import charts, html, paper
from midcall.experiments.results import reader, schema
from midcall.experiments.results.tables import (
    Document,
    EvaluationAppRow,
    EvaluationFlowRow,
    EvaluationInnocentRow,
    EvaluationOpenRow,
    EvaluationRow,
    Json,
)

R = TypeVar("R")

OURS, ORIGINAL, ELSEWHERE = "midcall", "original", "elsewhere"
#: The disturbance that removes the evidence of every flow: its flows are in no list.
PAYLOADLESS = "payloadless"
#: Engines drawn in the chart with ours, if they took part in most disturbances.
DRAWN = ("nfstream", "ports")
ENGINE_NAMES = {
    "midcall": "Midcall",
    "null": "says nothing",
    "ports": "ports only",
    "strict-rtp": "strict RTP",
    "tree": "small tree",
    "tree, optimistic (leaks)": "the same tree on a random split: optimistic (leaks)",
    "ndpi": "nDPI",
}


class Matrix(TypedDict):
    """Engines as columns, disturbances as rows, with the counts of each cell."""

    engines: list[str]
    rows: list[tuple[str, list[EvaluationRow | None]]]


class AppMatrix(TypedDict):
    """Apps and roles as rows, disturbances as columns."""

    titles: list[str]
    rows: list[tuple[str, str, list[EvaluationAppRow | None]]]


class AppsCompared(TypedDict):
    """Apps and roles as rows, engines as columns, as captured."""

    engines: list[str]
    rows: list[tuple[str, str, list[EvaluationAppRow | None]]]


class KindsCompared(TypedDict):
    """Kinds of innocent traffic as rows, engines as columns, as captured."""

    engines: list[str]
    rows: list[tuple[str, list[EvaluationInnocentRow | None]]]


class GivenPart(TypedDict):
    """A classifier of the user: its lines per disturbance and its apps, of real captures.

    synthetic: its lines on synthetic captures.
    """

    name: str
    lines: list[EvaluationRow]
    apps: AppMatrix
    synthetic: list[EvaluationRow]


class Where(TypedDict):
    """Disturbances in which a flow has the same outcome, the same verdict and the same remains."""

    outcome: str
    said: str
    bare: bool
    left: str
    places: str


class NamelessFlow(EvaluationFlowRow):
    """A flow without a right name, and the disturbances in which it has none."""

    where: list[Where]


def table(run: Path, kind: type[R]) -> list[R]:
    """Return the rows of a table; raises ExperimentError where it is damaged."""
    path = run / f"{schema.NAMES[kind]}.parquet"
    try:
        return schema.rows_of(run, kind)
    except (pa.ArrowException, OSError) as error:
        raise ExperimentError(f"{path}: cannot be read: {error} (evaluate again)") from error


Versions = Mapping[str, str]


def versions(block: Document) -> dict[str, str]:
    """Return peer -> version of those that took part."""
    peers = [row for row in block.get("peers") or [] if not row.get("given")]
    return {row["name"]: row["version"] for row in peers if row["version"]}


def given(block: Document) -> list[str]:
    """Return the names of the classifiers that the user gave."""
    return [row["name"] for row in block.get("peers") or [] if row.get("given")]


def engine_name(name: str, known: Versions) -> str:
    """Return an engine's name for the page, a peer's with its version."""
    words = ENGINE_NAMES.get(name, name)
    return f"{words} {known[name]}" if name in known else words


def drawn(lines: Sequence[EvaluationRow], first: Sequence[str] = ()) -> list[str]:
    """Return the engines of the chart: ours, and those with most disturbances.

    They are as many as the chart has colours: those of `first`, then those of DRAWN.
    """
    places: dict[str, int] = {}
    for line in lines:
        places[line["engine"]] = places.get(line["engine"], 0) + 1
    most = places.get(OURS, 0) / 2
    others = [name for name in (*first, *DRAWN) if places.get(name, 0) > most]
    return [OURS, *others][: len(charts.SERIES)]


def chart(
    lines: Sequence[EvaluationRow], known: Versions, beside_ours: Sequence[str] = ()
) -> charts.Chart | None:
    """Draw the share named right under each disturbance; beside_ours: engines drawn first."""
    rows: list[charts.DisturbedDot] = []
    wanted = drawn(lines, beside_ours)
    for line in lines:
        share = ratio(line["right"], line["n"])
        if line["engine"] not in wanted or share is None:
            continue
        engine = engine_name(line["engine"], known)
        rows.append(
            {
                "label": line["title"],
                "engine": engine,
                "share": share,
                "low": line["low"] if line["low"] is not None else share,
                "high": line["high"] if line["high"] is not None else share,
                "tip": f"{line['title']}: {engine} {line['right']} of {line['n']}",
            }
        )
    if not rows:
        return None
    first = rows[0]
    text = f"{first['engine']}, as captured: {first['tip'].split(': ')[1]}; one row per disturbance"
    return charts.disturbed(rows, text)


def matrix(lines: Sequence[EvaluationRow], known: Versions) -> Matrix:
    """Return engines as columns, disturbances as rows, a line of counts (or None) in each cell.

    An engine without a line under any disturbance has no column.
    """
    places: dict[str, int] = {}
    for line in lines:
        places[line["engine"]] = places.get(line["engine"], 0) + 1
    engines = [engine for engine, n in places.items() if n > 1]
    by_place = {(line["title"], line["engine"]): line for line in lines}
    titles = list(dict.fromkeys(line["title"] for line in lines))
    return {
        "engines": [engine_name(engine, known) for engine in engines],
        "rows": [(title, [by_place.get((title, engine)) for engine in engines])
                 for title in titles],
    }  # fmt: skip


def comparison(lines: Sequence[EvaluationRow], block: Document) -> list[dict[str, object]]:
    """Return the table of baselines and peers, as captured: ours first, absent peers last.

    Each line has the columns of `evaluation`, its name, and why it is absent ("": it is not).
    """
    known = versions(block)
    rows: list[dict[str, object]] = [
        {**line, "name": engine_name(line["engine"], known), "absent": ""}
        for line in lines
        if line["column"] == ORIGINAL
    ]
    return rows + [
        {"name": row["title"], "absent": row["reason"]}
        for row in block.get("peers") or []
        if not row["version"]
    ]


def by_app(
    apps: Sequence[EvaluationAppRow], lines: Sequence[EvaluationRow], engine: str = OURS
) -> AppMatrix:
    """Return apps and roles as rows, disturbances as columns, over the counts of an engine."""
    titles = {line["column"]: line["title"] for line in lines if line["column"] != PAYLOADLESS}
    ours = [row for row in apps if row["engine"] == engine and not row["synthetic"]]
    cells = {(row["app"], row["role"], row["column"]): row for row in ours}
    places = sorted({(row["app"], row["role"]) for row in ours})
    return {
        "titles": list(titles.values()),
        "rows": [(app, role, [cells.get((app, role, column)) for column in titles])
                 for app, role in places],
    }  # fmt: skip


def apps_compared(apps: Sequence[EvaluationAppRow], known: Versions) -> AppsCompared:
    """Return apps and roles as rows, engines as columns, as captured."""
    own = [row for row in apps if row["column"] == ORIGINAL and not row["synthetic"]]
    engines = list(dict.fromkeys(row["engine"] for row in own))
    cells = {(row["app"], row["role"], row["engine"]): row for row in own}
    return {
        "engines": [engine_name(engine, known) for engine in engines],
        "rows": [(app, role, [cells.get((app, role, engine)) for engine in engines])
                 for app, role in sorted({(row["app"], row["role"]) for row in own})],
    }  # fmt: skip


def kinds_compared(rows: Sequence[EvaluationInnocentRow], known: Versions) -> KindsCompared:
    """Return kinds of innocent traffic as rows, engines as columns, as captured."""
    own = [row for row in rows if row["column"] == ORIGINAL and not row["synthetic"]]
    engines = list(dict.fromkeys(row["engine"] for row in own))
    cells = {(row["kind"], row["engine"]): row for row in own}
    return {
        "engines": [engine_name(engine, known) for engine in engines],
        "rows": [(kind, [cells.get((kind, engine)) for engine in engines])
                 for kind in dict.fromkeys(row["kind"] for row in own)],
    }  # fmt: skip


def given_parts(
    names: Sequence[str], lines: Sequence[EvaluationRow], apps: Sequence[EvaluationAppRow]
) -> list[GivenPart]:
    """Return the part of the page of each classifier that the user gave."""
    parts: list[GivenPart] = []
    for name in names:
        own = [line for line in lines if line["engine"] == name]
        real = [line for line in own if not line["synthetic"]]
        synthetic = [line for line in own if line["synthetic"]]
        parts.append(
            {"name": name, "lines": real, "apps": by_app(apps, real, name), "synthetic": synthetic}
        )
    return parts


def nameless(
    flows: Sequence[EvaluationFlowRow], lines: Sequence[EvaluationRow]
) -> list[NamelessFlow]:
    """Return the flows of real calls without a right name, each once, and the disturbances.

    Disturbances with the same outcome, the same verdict and the same remains are joined.
    """
    titles = {line["column"]: line["title"] for line in lines}
    first: dict[tuple[str, int], EvaluationFlowRow] = {}
    joined: dict[tuple[str, int], dict[tuple[str, str, bool], tuple[str, list[str]]]] = {}
    for row in flows:
        if row["synthetic"] or row["outcome"] not in ("unsure", "missed", "other_call"):
            continue
        if row["column"] == PAYLOADLESS:
            continue
        key = (row["capture"], row["frame"])
        first.setdefault(key, row)
        verdict = f"{row['verdict'] or 'nothing'}, {formatting.app_name(row['app'])}"
        same = (row["outcome"], verdict, bool(row["bare"]))
        group = joined.setdefault(key, {}).setdefault(same, (row["left"], []))
        group[1].append(titles[row["column"]])
    everywhere = [title for column, title in titles.items() if column != PAYLOADLESS]
    return [
        {
            **first[key],
            "where": [
                {
                    "outcome": outcome,
                    "said": verdict,
                    "bare": bare,
                    "left": left,
                    "places": places(own, everywhere),
                }
                for (outcome, verdict, bare), (left, own) in joined[key].items()
            ],
        }
        for key in sorted(first)
    ]


def bare(rows: Sequence[NamelessFlow]) -> list[NamelessFlow]:
    """Return the flows in which, under some disturbance, no byte of an app is left.

    Each has those disturbances alone.
    """
    return only(rows, True)


def told_of(rows: Sequence[NamelessFlow]) -> list[NamelessFlow]:
    """Return the flows that keep bytes of an app under some disturbance, with those alone."""
    return only(rows, False)


def only(rows: Sequence[NamelessFlow], bare: bool) -> list[NamelessFlow]:
    """Return the flows with disturbances that leave no byte of an app, or with the others."""
    kept: list[NamelessFlow] = [
        {**row, "where": [one for one in row["where"] if one["bare"] == bare]} for row in rows
    ]
    return [row for row in kept if row["where"]]


def places(titles: Sequence[str], everywhere: Sequence[str]) -> str:
    """Return disturbances as text: "as captured and 5 % lost", "all but ...", "everywhere"."""
    rest = [lowered(title) for title in everywhere if title not in titles]
    if not rest:
        return "everywhere"
    if len(rest) <= 4 < len(titles):
        return f"everywhere but: {formatting.listed(rest)}"
    return formatting.listed(lowered(title) for title in titles)


def lowered(title: str) -> str:
    """Return a title for the middle of a sentence."""
    return title[:1].lower() + title[1:]


def view(run: Path) -> dict[str, object]:
    """Return the values of the template; the report shows a part of them."""
    findings = reader.read(run)
    block: Json = findings.at("evaluation") or {}
    lines = table(run, EvaluationRow)
    real = [line for line in lines if not line["synthetic"]]
    ours = [line for line in real if line["engine"] == OURS]
    unnamed = nameless(table(run, EvaluationFlowRow), real)
    known, apps = versions(block), table(run, EvaluationAppRow)
    return {
        "title": str(findings.spec.get("title") or findings.spec.get("name") or run.name),
        "run": run.name,
        "block": block,
        "ours": ours,
        "first": next((line for line in ours if line["column"] == ORIGINAL), None),
        "elsewhere": next((line for line in ours if line["column"] == ELSEWHERE), None),
        "chart": chart(real, known, given(block)),
        "matrix": matrix(real, known),
        "comparison": comparison(real, block),
        "apps": by_app(apps, [line for line in real if line["engine"] == OURS]),
        "apps_compared": apps_compared(apps, known),
        "kinds_compared": kinds_compared(table(run, EvaluationInnocentRow), known),
        "given": given_parts(given(block), lines, apps),
        "open_set": table(run, EvaluationOpenRow),
        "innocents": block.get("innocents") or [],
        "regression": block.get("regression"),
        "early": (block.get("early") or {}).get("rows") or [],
        "bare": bare(unnamed),
        "nameless": told_of(unnamed),
        "synthetic": [line for line in lines if line["synthetic"] and line["engine"] == OURS],
        "captures": len(findings.provenance.get("captures") or {}),
        "files": sorted(path.name for path in run.iterdir() if path.suffix == ".csv"),
    }


def render(run: Path) -> Path:
    """Write evaluation.html (and figures/*.csv) into an evaluation's folder; returns its path."""
    return write(run, view(run))


def write(run: Path, values: Mapping[str, object]) -> Path:
    """Write the page; values: of the template."""
    figure = values["chart"]
    if isinstance(figure, charts.Chart):
        paper.write_figure(run, figure)
    text = html.environment().get_template("evaluation.html").render(values)
    path = run / "evaluation.html"
    path.write_text(text, encoding="utf-8")
    return path
