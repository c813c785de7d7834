# SPDX-License-Identifier: BSD-3-Clause
"""Start-up: what `midcall classify` takes on a file of one packet, warm and the first time ever."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from tests.bench.tools import run

#: Seconds in which everything must be compiled.
COMPILING = 900
#: What the command is called with, as the program that is installed would.
PROGRAM = (sys.executable, "-m", "midcall.experiments.cli.app", "classify")


def start_up(file: Path, repeats: int, folder: Path) -> dict[str, float]:
    """Return the seconds of the command on a tiny file.

    `warm_seconds`: the median with machine code that was kept; `first_seconds`: with an empty cache
    in the folder, so everything that classifying needs is compiled.
    """
    command = [*PROGRAM, str(file), "--format", "csv", "-o", str(folder / "flows.csv")]
    run(command, None, COMPILING)
    warm = statistics.median(run(command)[0] for _ in range(repeats))
    first, _ = run(command, {"XDG_CACHE_HOME": str(folder / "cache")}, COMPILING)
    return {"warm_seconds": round(warm, 3), "first_seconds": round(first, 1)}
