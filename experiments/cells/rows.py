# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the tables `calls` and `cells`."""

from __future__ import annotations

from collections.abc import Sequence

from midcall.captures.truth.calls import Call
from midcall.experiments.cells import offline
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.measure import inferred_call
from midcall.experiments.results.tables import (
    CallEntry,
    CallFacts,
    CallRow,
    CellOutcome,
    CellRow,
    RecognisedCall,
)
from midcall.experiments.spec import corpus as corpora
from midcall.experiments.spec.corpus import Corpus, Item, capture_year, later_client
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec


def call_rows(
    spec: Spec,
    grid: Sequence[Cell],
    captures: Corpus,
    seen: dict[str, offline.ClassifiedCapture],
    outcomes: dict[int, CellOutcome],
) -> list[CallRow]:
    """Return the rows of calls.parquet, in the order of the grid, then of captures.

    seen: the verdicts of the engine by a capture's sha256; outcomes: by position in the grid.
    """
    return [
        _call_row(spec, grid[at], item, call, entry, seen[entry["sha256"]].recognised[call.id])
        for at, item, call, entry in corpora.counted(captures, spec.apps, outcomes)
    ]


def _call_row(
    spec: Spec, cell: Cell, item: Item, call: Call, entry: CallEntry, recognised: bool
) -> CallRow:
    noted = call.note in inferred_call.NOTES
    return {
        **call_facts(spec, item, call),
        **cell.place(),
        "hypothesis_title": cell.title,
        "documented": cell.documented,
        "verdict": entry["verdict"],
        "blocked": entry["blocked"],
        "usable": entry["usable"],
        "rule": entry["rule"],
        "grade": cell.grade(entry["rule"]),
        "packets_to_block": entry["packets_to_block"],
        "ms_to_block": entry["ms_to_block"],
        "media_sent": entry["media_sent"],
        "media_delivered": entry["media_delivered"],
        "media_control": entry["media_control"],
        "media_lost": entry["media_lost"],
        "recognised": recognised,
        "reason": f"{entry['reason']} ({call.note})" if noted else entry["reason"],
    }


def call_facts(spec: Spec, item: Item, call: Call) -> CallFacts:
    """Return the columns of a call that do not depend on its outcome."""
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


def cell_rows(grid: Sequence[Cell], played: Played) -> list[CellRow]:
    """Return the rows of cells.parquet, one per cell of the grid."""
    rows: list[CellRow] = []
    for at, cell in enumerate(grid):
        status = "reused" if at in played.reused else "failed" if at in played.errors else "done"
        outcome = played.outcomes.get(at)
        rows.append(
            {
                **cell.place(),
                "status": status if cell.documented else "undocumented",
                "error": played.errors.get(at),
                "key": outcome.get("key") if outcome else None,
                "seconds": outcome.get("seconds") if outcome else None,
            }
        )
    return rows


def recognised_rows(
    spec: Spec, captures: Corpus, seen: dict[str, offline.ClassifiedCapture]
) -> list[RecognisedCall]:
    """Return one row per distinct call of the run: whether it was recognised."""
    holders = corpora.counting_capture(captures.items)
    return [
        {
            **call_facts(spec, item, call),
            "recognised": seen[item.capture.sha256].recognised[call.id],
        }
        for item in captures.items
        for call in item.calls
        if corpora.counts_in(holders, item, call)
    ]
