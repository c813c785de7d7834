# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a run's tables: of its calls and of the grid's cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from midcall.captures.truth.calls import Call
from midcall.experiments.cells import offline
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.cells.virtual_cell import Outcome
from midcall.experiments.measure import inferred_call
from midcall.experiments.results import schema
from midcall.experiments.spec import corpus as corpora
from midcall.experiments.spec.corpus import Corpus, Item, capture_year, later_client
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec

Row = dict[str, Any]


def call_rows(
    spec: Spec,
    grid: Sequence[Cell],
    held: Corpus,
    seen: dict[str, offline.Seen],
    outcomes: dict[int, Outcome],
) -> list[Row]:
    """Return the rows of calls.parquet, in the order of the grid, then of captures."""
    return [
        _call_row(spec, grid[at], item, call, entry, seen[entry["sha256"]].recognised[call.id])
        for at, item, call, entry in corpora.counted(held, spec.apps, outcomes)
    ]


def _call_row(spec: Spec, cell: Cell, item: Item, call: Call, entry: Row, recognised: bool) -> Row:
    verdict = {key: value for key, value in entry.items() if key not in ("sha256", "call")}
    if call.note in inferred_call.NOTES:
        verdict["reason"] = f"{verdict['reason']} ({call.note})"
    place = {**cell.place(), "hypothesis_title": cell.title, "documented": cell.documented}
    row = {
        **call_facts(spec, item, call),
        **place,
        **verdict,
        "grade": cell.grade(entry["rule"]),
        "recognised": recognised,
    }
    return {column: row[column] for column in schema.COLUMNS["calls"]}


def call_facts(spec: Spec, item: Item, call: Call) -> Row:
    """Return what is known of a call whatever happens to it."""
    return {
        "capture": item.capture.name,
        "capture_year": capture_year(item.capture, call),
        "group": item.capture.group,
        "app": call.app,
        "kind": call.kind,
        "call": call.id,
        "synthetic": item.capture.synthetic,
        "added": item.capture.added,
        "later_client": later_client(item.capture, call, spec),
    }


def cell_rows(grid: Sequence[Cell], played: Played) -> list[Row]:
    """Return the rows of cells.parquet, one per cell of the grid."""
    rows = []
    for at, cell in enumerate(grid):
        status = "reused" if at in played.reused else "failed" if at in played.errors else "done"
        outcome = played.outcomes.get(at, {})
        rows.append(
            {
                **cell.place(),
                "status": status if cell.documented else "undocumented",
                "error": played.errors.get(at),
                "key": outcome.get("key"),
                "seconds": outcome.get("seconds"),
            }
        )
    return rows


def recognised_rows(spec: Spec, held: Corpus, seen: dict[str, offline.Seen]) -> list[Row]:
    """Return one row per distinct call of the run: whether it was recognised."""
    holders = corpora.holders(held.items)
    return [
        call_facts(spec, item, call) | {"recognised": seen[item.capture.sha256].recognised[call.id]}
        for item in held.items
        for call in item.calls
        if corpora.stands_for(holders, item, call)
    ]
