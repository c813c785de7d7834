# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a hex view: 16 octets as text, and which mark each stands in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

WIDTH = 16


class Row(NamedTuple):
    """Up to 16 octets as text from offset `at`; `marked` says which mark each is in, -1: none."""

    at: int
    cells: list[str]
    marked: list[int]


def rows(cells: Sequence[str], marks: Sequence[tuple[int, int]], start: int) -> list[Row]:
    """Return the rows that hold a mark (where, how many), and the one in which `start` stands."""
    owner = [-1] * len(cells)
    for number, (at, length) in enumerate(marks):
        for o in range(at, min(at + length, len(cells))):
            owner[o] = number if owner[o] < 0 else owner[o]
    wanted = {o // WIDTH for o, mark in enumerate(owner) if mark >= 0}
    if start < len(cells):
        wanted.add(start // WIDTH)
    spans = [slice(row * WIDTH, (row + 1) * WIDTH) for row in sorted(wanted)]
    return [Row(span.start, list(cells[span]), owner[span]) for span in spans]


def separators(marked: Sequence[int]) -> list[str]:
    """Return what stands before each cell of a row and behind its last: brackets around marks."""
    edges = [-1, *marked, -1]
    told = []
    for before, here in pairwise(edges):
        if before == here:
            told.append(" ")
        elif before >= 0 and here >= 0:
            told.append("|")
        else:
            told.append("[" if here >= 0 else "]")
    return told
