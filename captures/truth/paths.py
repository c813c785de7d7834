# SPDX-License-Identifier: BSD-3-Clause
"""Folders of truth: the paths of catalogues, labels and calls, in the order they are read.

Four homes have the same layout (catalogue.toml, labels/, calls/): the committed truth of other
people's captures, the project's own samples, recordings of real programs in the lab, and the user's
captures, which git ignores.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from midcall.locations import CAPTURES


class Home(NamedTuple):
    """One home of truth; `files` is the folder of its captures (None: they are obtained)."""

    name: str
    folder: Path
    files: Path | None

    @property
    def catalogue(self) -> Path:
        """Return the path of this home's table of captures."""
        return self.folder / "catalogue.toml"

    @property
    def labels(self) -> Path:
        """Return the folder of per-flow truth."""
        return self.folder / "labels"

    @property
    def calls(self) -> Path:
        """Return the folder of call descriptions."""
        return self.folder / "calls"


def committed() -> Home:
    """Return the home of the catalogued captures of other people."""
    return Home("committed", CAPTURES, None)


def samples() -> Home:
    """Return the home of the captures this project made itself."""
    return Home("samples", CAPTURES / "samples", CAPTURES / "samples")


def recorded() -> Home:
    """Return the home of the captures of real programs that were recorded in the lab."""
    return Home("recorded", CAPTURES / "recorded", CAPTURES / "recorded")


def local() -> Home:
    """Return the user's home: MIDCALL_LOCAL, else `captures/local` of a checkout.

    For an installed package it is the user's data folder.
    """
    folder = Path(os.environ.get("MIDCALL_LOCAL") or default_local())
    return Home("local", folder, folder / "pcaps")


def default_local() -> Path:
    """Return the default folder of the user's captures."""
    if (CAPTURES.parent / "pyproject.toml").is_file():
        return CAPTURES / "local"
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local/share")
    return Path(home) / "midcall" / "captures"


def homes(with_local: bool = True) -> list[Home]:
    """Return all homes, the user's last."""
    ours = [committed(), samples(), recorded()]
    return [*ours, local()] if with_local else ours


def shown(path: Path) -> str:
    """Return a path as messages print it: relative to the checkout if it is inside."""
    try:
        return path.resolve().relative_to(CAPTURES.parent).as_posix()
    except ValueError:
        return str(path)
