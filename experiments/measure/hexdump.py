# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a hex dump: 16 octets as text, and the mark of each octet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

WIDTH = 16


class Row(NamedTuple):
    """Up to 16 octets as text from offset `at`; marked: the mark of each octet, -1 for none."""

    at: int
    cells: list[str]
    marked: list[int]


def rows(
    cells: Sequence[str], marks: Sequence[tuple[int, int]], start: int, shown: int = 1
) -> list[Row]:
    """Return the rows with a mark (offset, octets), and those of `shown` octets from `start` on."""
    owner = [-1] * len(cells)
    for number, (at, length) in enumerate(marks):
        for o in range(at, min(at + length, len(cells))):
            owner[o] = number if owner[o] < 0 else owner[o]
    wanted = {o // WIDTH for o, mark in enumerate(owner) if mark >= 0}
    wanted |= {o // WIDTH for o in range(start, min(start + shown, len(cells)))}
    spans = [slice(row * WIDTH, (row + 1) * WIDTH) for row in sorted(wanted)]
    return [Row(span.start, list(cells[span]), owner[span]) for span in spans]


def separators(marked: Sequence[int]) -> list[str]:
    """Return the text before each cell of a row and after the last one: brackets around marks."""
    edges = [-1, *marked, -1]
    text = []
    for before, after in pairwise(edges):
        if before == after:
            text.append(" ")
        elif before >= 0 and after >= 0:
            text.append("|")
        else:
            text.append("[" if after >= 0 else "]")
    return text
