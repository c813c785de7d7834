# SPDX-License-Identifier: BSD-3-Clause
"""The page of an evaluation: how the box sees under disturbance, from its result files alone.

`render` reads the tables and summary.json of an evaluation's folder and writes `evaluation.html`
into it. It judges nothing: what it adds are shares of counts that stand in the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from midcall.errors import ExperimentError
from midcall.experiments.measure import formatting
from midcall.experiments.measure.intervals import ratio
from midcall.experiments.report import charts, html, paper
from midcall.experiments.results import reader

Row = Mapping[str, Any]

OURS, ORIGINAL, ELSEWHERE = "midcall", "original", "elsewhere"
#: The disturbance that leaves no flow its name: its flows are in no list.
PAYLOADLESS = "payloadless"
#: Engines drawn in the chart beside ours, where they were asked about every disturbance.
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


def table(run: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table; raises ExperimentError where it is damaged."""
    path = run / f"{name}.parquet"
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ExperimentError(f"{path}: cannot be read: {error} (evaluate again)") from error
    return rows


Versions = Mapping[str, str]


def versions(told: Row) -> dict[str, str]:
    """Return peer -> version of those that took part."""
    return {row["name"]: row["version"] for row in told.get("peers") or [] if row["version"]}


def engine_name(name: str, known: Versions) -> str:
    """Return an engine's name as people write it, a peer's with its version."""
    words = ENGINE_NAMES.get(name, name)
    return f"{words} {known[name]}" if name in known else words


def drawn(lines: Sequence[Row]) -> list[str]:
    """Return the engines of the chart: ours, and DRAWN ones judged in most disturbances."""
    places: dict[str, int] = {}
    for line in lines:
        places[line["engine"]] = places.get(line["engine"], 0) + 1
    most = places.get(OURS, 0) / 2
    return [OURS, *(name for name in DRAWN if places.get(name, 0) > most)]


def chart(lines: Sequence[Row], known: Versions) -> charts.Chart | None:
    """Draw the share named right under each disturbance."""
    rows = []
    wanted = drawn(lines)
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


def matrix(lines: Sequence[Row], known: Versions) -> dict[str, Any]:
    """Return engines as columns, disturbances as rows, a line of counts (or None) in each cell.

    An engine that was judged as captured alone has no column.
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


def beside(lines: Sequence[Row], told: Row) -> list[dict[str, Any]]:
    """Return the table of baselines and peers, as captured: ours first, absent peers last."""
    known = versions(told)
    rows = [
        {**line, "name": engine_name(line["engine"], known), "absent": ""}
        for line in lines
        if line["column"] == ORIGINAL
    ]
    return rows + [
        {"name": row["title"], "absent": row["reason"]}
        for row in told.get("peers") or []
        if not row["version"]
    ]


def by_app(apps: Sequence[Row], lines: Sequence[Row]) -> dict[str, Any]:
    """Return apps and roles as rows, disturbances as columns, over our own counts."""
    titles = {line["column"]: line["title"] for line in lines if line["column"] != PAYLOADLESS}
    held = [row for row in apps if row["engine"] == OURS and not row["synthetic"]]
    cells = {(row["app"], row["role"], row["column"]): row for row in held}
    places = sorted({(row["app"], row["role"]) for row in held})
    return {
        "titles": list(titles.values()),
        "rows": [(app, role, [cells.get((app, role, column)) for column in titles])
                 for app, role in places],
    }  # fmt: skip


def nameless(flows: Sequence[Row], lines: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the flows of real calls that got no right name, each once, with where that was.

    Places with the same outcome, the same words and the same remains stand together.
    """
    titles = {line["column"]: line["title"] for line in lines}
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in flows:
        if row["synthetic"] or row["outcome"] not in ("unsure", "missed", "other_call"):
            continue
        if row["column"] == PAYLOADLESS:
            continue
        entry = found.setdefault((row["capture"], row["frame"]), {**row, "where": {}})
        said = f"{row['verdict'] or 'nothing'}, {formatting.app_name(row['app'])}"
        place = (row["outcome"], said, bool(row["bare"]))
        held = entry["where"].setdefault(place, {"left": row["left"], "titles": []})
        held["titles"].append(titles[row["column"]])
    everywhere = [title for column, title in titles.items() if column != PAYLOADLESS]
    for entry in found.values():
        entry["where"] = [
            {"outcome": outcome, "said": said, "bare": bare, "left": held["left"],
             "places": places(held["titles"], everywhere)}
            for (outcome, said, bare), held in entry["where"].items()
        ]  # fmt: skip
    return [found[place] for place in sorted(found)]


def bare(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the flows in which, somewhere, no byte of an app is left; with those places alone."""
    kept = ({**row, "where": [one for one in row["where"] if one["bare"]]} for row in rows)
    return [row for row in kept if row["where"]]


def told_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the flows that are not bare somewhere, with those places alone."""
    kept = ({**row, "where": [one for one in row["where"] if not one["bare"]]} for row in rows)
    return [row for row in kept if row["where"]]


def places(held: Sequence[str], everywhere: Sequence[str]) -> str:
    """Return disturbances in words: "as captured and 5 % lost", "all but ...", "everywhere"."""
    rest = [lowered(title) for title in everywhere if title not in held]
    if not rest:
        return "everywhere"
    if len(rest) <= 4 < len(held):
        return f"everywhere but: {formatting.listed(rest)}"
    return formatting.listed(lowered(title) for title in held)


def lowered(title: str) -> str:
    """Return a title as it stands within a sentence."""
    return title[:1].lower() + title[1:]


def view(run: Path) -> dict[str, Any]:
    """Return everything that the template shows; the report shows a part of it."""
    known = reader.read(run)
    told = known.at("evaluation") or {}
    lines = table(run, "evaluation")
    real = [line for line in lines if not line["synthetic"]]
    ours = [line for line in real if line["engine"] == OURS]
    unnamed = nameless(table(run, "evaluation_flows"), real)
    return {
        "title": str(known.spec.get("title") or known.spec.get("name") or run.name),
        "run": run.name,
        "told": told,
        "ours": ours,
        "first": next((line for line in ours if line["column"] == ORIGINAL), None),
        "elsewhere": next((line for line in ours if line["column"] == ELSEWHERE), None),
        "chart": chart(real, versions(told)),
        "matrix": matrix(real, versions(told)),
        "beside": beside(real, told),
        "apps": by_app(table(run, "evaluation_apps"), real),
        "open_set": table(run, "evaluation_open"),
        "innocents": told.get("innocents") or [],
        "regression": told.get("regression"),
        "early": (told.get("early") or {}).get("rows") or [],
        "bare": bare(unnamed),
        "nameless": told_of(unnamed),
        "synthetic": [line for line in lines if line["synthetic"] and line["engine"] == OURS],
        "captures": len(known.provenance.get("captures") or {}),
        "files": sorted(path.name for path in run.iterdir() if path.suffix == ".csv"),
    }


def render(run: Path) -> Path:
    """Write evaluation.html (and figures/*.csv) into an evaluation's folder; returns its path."""
    return write(run, view(run))


def write(run: Path, held: Mapping[str, Any]) -> Path:
    """Write the page of a view."""
    if held["chart"] is not None:
        paper.write_figure(run, held["chart"])
    text = html.environment().get_template("evaluation.html").render(held)
    path = run / "evaluation.html"
    path.write_text(text, encoding="utf-8")
    return path
