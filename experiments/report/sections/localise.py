# SPDX-License-Identifier: BSD-3-Clause
"""The localiser: what boxes were found to decide by, octets marked, and planted rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from midcall.experiments.measure.hexdump import rows
from midcall.experiments.results.reader import Findings

Table = dict[str, Any]
#: Colours of marks, by turns.
TINTS = 3
#: Sets of planted rules, in the words of a table.
SETS = {"listed": "rules on the list", "drawn": "rules drawn by chance",
        "outsider": "rules of an outsider", "outsider-second": "rules of a second outsider",
        "outsider-third": "rules of a third outsider"}  # fmt: skip


#: What windows count; see experiments.localiser.document.
UNITS = ("packets", "loaded", "bytes", "seconds")


class Cell(NamedTuple):
    """One octet, or octets of one mark in a row: what is shown, and its mark's tint (-1: none)."""

    text: str
    tint: int
    caption: str


def build(run: Findings) -> Table | None:
    """Return what the section shows, None where the spec asks for no localisation."""
    told = benchmark(run)
    if not told and not run.localised:
        return None
    return {
        "localised": {
            "boxes": [box(one) for one in run.localised if one["blocked"]],
            "passed": [one for one in run.localised if not one["blocked"]],
            "by_noise": told,
            "missed": [row for row in run["localise"] if not row["recovered"]],
        }
    }


def benchmark(run: Findings) -> list[Table]:
    """Return one line per set of planted rules and share of wrong answers."""
    sets = {"listed": run.at("localise", "by_noise") or [], **(run.at("localise", "sets") or {})}
    return [{**line, "set": SETS.get(word, word)} for word, held in sets.items() for line in held]


def box(told: Table) -> Table:
    """Return one box as the page shows it: its document, packets with rows of marked octets."""
    clauses = [
        {**one, "packets": [packet(held) for held in one["packets"]], "limits": list(limits(one))}
        for one in told["clauses"]
    ]
    return {**told, "clauses": clauses}


def limits(clause: Table) -> Iterator[Table]:
    """Yield the windows that limit a clause: since what, and ranges in words."""
    for held in clause["windows"]:
        spans = {unit: span(held[unit]) for unit in UNITS}
        if any(held[unit] for unit in UNITS):
            yield {"since": held["since"], **spans}


def span(ends: Sequence[float | None] | None) -> str:
    """Return a range in words."""
    if ends is None:
        return "any"
    low, high = ends
    if high is None:
        return f"{low:g} or more"
    return f"{low:g} to {high:g}" if low else f"up to {high:g}"


def packet(told: Table) -> Table:
    """Return a packet with its octets in rows, as far as they hold a mark."""
    cells, marks = told["hex"].split(" "), told["marks"]
    spans = [(mark["at"], mark["length"]) for mark in marks]
    return {
        **told,
        "rows": [
            {"at": row.at, "cells": list(runs(row.cells, row.marked, marks))}
            for row in rows(cells, spans, told["payload_at"])
        ],
        "legend": [{**mark, "tint": number % TINTS} for number, mark in enumerate(marks)],
    }


def runs(cells: Sequence[str], marked: Sequence[int], marks: Sequence[Table]) -> Iterator[Cell]:
    """Yield the octets of a row, those of one mark together."""
    at = 0
    while at < len(cells):
        end = at + 1
        while end < len(cells) and marked[end] == marked[at]:
            end += 1
        mark = marked[at]
        caption = marks[mark]["caption"] if mark >= 0 else ""
        yield Cell(" ".join(cells[at:end]), mark % TINTS if mark >= 0 else -1, caption)
        at = end
