# SPDX-License-Identifier: BSD-3-Clause
"""The captures of the catalogue that are on this machine."""

from __future__ import annotations

from pathlib import Path

from midcall.captures.fetch.fetch import obtain
from midcall.captures.truth.catalogue import load


def captures_here(corpus: Path | None = None) -> list[str]:
    """Return the names of every catalogued capture that is here, sorted; nothing is fetched."""
    catalogue = load()
    paths = obtain(catalogue, corpus=corpus, offline=True).paths
    return sorted(one.name for one in catalogue.captures if one.sha256 in paths)
