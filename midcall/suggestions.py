# SPDX-License-Identifier: BSD-3-Clause
"""The nearest known word to a mistyped one: what every "did you mean" is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word closest to `word`, or None where none is close (ratio under 0.6)."""
    folded = {name.lower(): name for name in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower(), sorted(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def hint(word: str, known: Iterable[str]) -> str:
    """Return "did you mean NAME?", or the list of what is known where nothing is close."""
    names = sorted(known)
    best = nearest(word, names)
    if best is not None:
        return f"did you mean {best}?"
    return f"known: {', '.join(names)}" if names else "none is known"
