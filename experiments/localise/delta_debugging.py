# SPDX-License-Identifier: BSD-3-Clause
"""Reduction of a list to the items that a test needs (delta debugging).

Parts of decreasing size (halves, quarters and so on) are removed, after Zeller and Hildebrandt,
"Simplifying and isolating failure-inducing input", IEEE Transactions on Software Engineering 28
(2002). The result is sufficient and 1-minimal: without any one of its items the test fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def needed(items: Sequence[T], test: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return a 1-minimal part of a list that passes a test which the whole list passes."""
    remaining = list(items)
    size = max(len(remaining) // 2, 1)
    while remaining:
        before = len(remaining)
        at = 0
        while at < len(remaining):
            rest = remaining[:at] + remaining[at + size :]
            if test(rest):
                remaining = rest
            else:
                at += size
        if size == 1 and len(remaining) == before:
            break
        size = max(size // 2, 1) if size > 1 else 1
    return remaining


def shortest_prefix(items: Sequence[T], test: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return a prefix that passes a test which the whole list passes; it is the shortest if every
    longer prefix passes, too."""
    low, high = 0, len(items)
    while high - low > 1:
        middle = (low + high) // 2
        if test(items[:middle]):
            high = middle
        else:
            low = middle
    return list(items[:high])
