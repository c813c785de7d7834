# SPDX-License-Identifier: BSD-3-Clause
"""Reduction: what of a list is needed, by leaving out halves, quarters and so on (delta debugging).

After Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE Transactions
on Software Engineering 28 (2002). What is returned is sufficient and 1-minimal: without any one of
its items the test fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def needed(items: Sequence[T], test: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return a 1-minimal part of some items that passes a test which all of them pass."""
    held = list(items)
    size = max(len(held) // 2, 1)
    while held:
        before = len(held)
        at = 0
        while at < len(held):
            rest = held[:at] + held[at + size :]
            if test(rest):
                held = rest
            else:
                at += size
        if size == 1 and len(held) == before:
            break
        size = max(size // 2, 1) if size > 1 else 1
    return held


def shortest_prefix(items: Sequence[T], test: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return a prefix that passes a test which all items pass, the shortest if tests never fail
    again once they pass."""
    low, high = 0, len(items)
    while high - low > 1:
        middle = (low + high) // 2
        if test(items[:middle]):
            high = middle
        else:
            low = middle
    return list(items[:high])
