# SPDX-License-Identifier: BSD-3-Clause
"""How a run is made: what its command line says beside the spec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TextIO


class Options(NamedTuple):
    """How a run is made; none of it but the backend changes a result that is not about time.

    jobs: processes, 0 for as many as pay; cells: the cache of simulations, None for the user's;
    backend: virtual, live or auto, None as the spec says; cluster: a Dask scheduler that plays the
    cells, or "local".
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
    """Return how many processes to use: one per core this process may run on, at most 8."""
    return min(len(os.sched_getaffinity(0)), 8)
