# SPDX-License-Identifier: BSD-3-Clause
"""Options of a run: its command line, apart from the spec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TextIO


class Options(NamedTuple):
    """Options of a run; only the backend changes results other than timings.

    jobs: processes, 0 for `default_jobs`; cells: the cache of simulations, None for the user's
    cache; backend: virtual, live or auto, None for the spec's; cluster: the address of a Dask
    scheduler that computes the cells, or "local".
    """

    corpus: Path | None = None
    force: bool = False
    reveal: bool = False
    jobs: int = 0
    runs: Path = Path("runs")
    cells: Path | None = None
    stream: TextIO | None = None
    backend: str | None = None
    cluster: str | None = None


def default_jobs() -> int:
    """Return the number of processes: one per core that this process may use, at most 8."""
    return min(len(os.sched_getaffinity(0)), 8)
