# SPDX-License-Identifier: BSD-3-Clause
"""The localiser: the conditions found of each box, with octets marked, and planted rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypedDict

from midcall.experiments.measure.formatting import N_, gettext, written
from midcall.experiments.measure.hexdump import rows
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Document, NoiseLine

#: Octets of a mark in the table of boxes; the dumps below it have all.
LONGEST = 8
#: Number of tints of marks.
TINTS = 3
#: Names of the sets of planted rules.
SETS = {
    "listed": N_("rules on the list"),
    "drawn": N_("rules drawn by chance"),
    "outsider": N_("rules of another author"),
    "outsider-second": N_("rules of a second author"),
    "outsider-third": N_("rules of a third author"),
}


#: Units of windows; see experiments.localise.document.
UNITS = ("packets", "loaded", "bytes", "seconds")


class SetLine(NoiseLine):
    """Planted rules of one set at one share of wrong answers."""

    set: str


class Mark(TypedDict):
    """Octets of a packet that decide; more keys are for the template."""

    at: int
    length: int
    caption: str


class Cell(NamedTuple):
    """One octet, or successive octets of one mark: text, and its mark's tint (-1: none)."""

    text: str
    tint: int
    caption: str


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where the spec asks for no localisation."""
    by_noise = benchmark(run)
    if not by_noise and not run.localised:
        return None
    return {
        "localised": {
            "boxes": [box(one) for one in run.localised if one["blocked"]],
            "passed": [one for one in run.localised if not one["blocked"]],
            "by_noise": by_noise,
            "missed": [row for row in run["localise"] if not row["recovered"]],
        }
    }


def benchmark(run: Findings) -> list[SetLine]:
    """Return one line per set of planted rules and share of wrong answers."""
    sets: dict[str, list[NoiseLine]] = {
        "listed": run.at("localise", "by_noise") or [],
        **(run.at("localise", "sets") or {}),
    }
    return [
        {**line, "set": gettext(SETS.get(word, word))}
        for word, lines in sets.items()
        for line in lines
    ]


def box(document: Document) -> Document:
    """Return the document of one box, its packets with rows of marked octets."""
    clauses = [
        {
            **one,
            "packets": [packet(two) for two in one["packets"]],
            "limits": list(limits(one)),
            "deciding": list(deciding(one)),
        }
        for one in document["clauses"]
    ]
    return {**document, "clauses": clauses}


def deciding(clause: Document) -> Iterator[tuple[str, str]]:
    """Yield the octets that decide in the first packet of a clause, as hex, and what they are."""
    for one in clause["packets"][:1]:
        octets = one["hex"].split(" ")
        for mark in one["marks"]:
            own = octets[mark["at"] : mark["at"] + mark["length"]]
            yield " ".join(own[:LONGEST]) + (" …" if len(own) > LONGEST else ""), mark["caption"]


def limits(clause: Document) -> Iterator[dict[str, str]]:
    """Yield the windows that limit a clause: their start, and ranges as text."""
    for window in clause["windows"]:
        spans = {unit: span(window[unit]) for unit in UNITS}
        if any(window[unit] for unit in UNITS):
            yield {"since": window["since"], **spans}


def span(ends: Sequence[float | None] | None) -> str:
    """Return a range as text."""
    if ends is None:
        return gettext("any")
    low, high = ends
    least, most = written(f"{low or 0:g}"), written(f"{high or 0:g}")
    if high is None:
        return gettext("%(low)s or more") % {"low": least}
    if not low:
        return gettext("up to %(high)s") % {"high": most}
    return gettext("%(low)s to %(high)s") % {"low": least, "high": most}


def packet(document: Document) -> Document:
    """Return a packet with the rows of its octets that have a mark."""
    marks: list[Mark] = document["marks"]
    spans = [(mark["at"], mark["length"]) for mark in marks]
    return {
        **document,
        "rows": [
            {"at": row.at, "cells": list(runs(row.cells, row.marked, marks))}
            for row in rows(document["hex"].split(" "), spans, document["payload_at"])
        ],
        "legend": [{**mark, "tint": number % TINTS} for number, mark in enumerate(marks)],
    }


def runs(cells: Sequence[str], marked: Sequence[int], marks: Sequence[Mark]) -> Iterator[Cell]:
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
