# SPDX-License-Identifier: BSD-3-Clause
"""The nearest known words to a mistyped one: what every "did you mean" is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Known words that a hint lists at most, and words that `closest` returns at most.
LISTED, CLOSEST = 40, 3


def closest(word: str, known: Iterable[str], most: int = CLOSEST) -> list[str]:
    """Return the known words that are close to `word` (ratio from 0.6), the closest first."""
    folded = {name.lower(): name for name in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower(), sorted(folded), n=most, cutoff=0.6)
    return [folded[name] for name in found]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word closest to `word`, or None where none is close (ratio under 0.6)."""
    return next(iter(closest(word, known, 1)), None)


def hint(word: str, known: Iterable[str]) -> str:
    """Return "did you mean NAME?", or what is known where nothing is close.

    Of more than LISTED known words only their number is stated.
    """
    names = sorted(known)
    best = nearest(word, names)
    if best is not None:
        return f"did you mean {best}?"
    if len(names) > LISTED:
        return f"none of {len(names)} known names is close to it"
    return f"known: {', '.join(names)}" if names else "none is known"
