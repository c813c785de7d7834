# SPDX-License-Identifier: BSD-3-Clause
"""Live calls of a run: made if its spec requests them and this machine can, else the reason is
logged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from midcall.experiments.jobs.progress import Progress
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec


def within(
    spec: Spec, grid: Sequence[Cell], stream: TextIO | None, log: Callable[[str], None]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Return the tables of a run's live calls and its part of the summary.

    Both are empty if the spec requests none; if a program or root is missing there are no tables,
    and `programs.lacking` of the summary lists what is missing.
    """
    programs = spec.programs
    if programs is None:
        return {}, {}
    from midcall.experiments.livecalls import arm, tables

    if lacks := arm.lacking(programs):
        line = f"live calls skipped: {'; '.join(lacks)}"
        print(line, file=stream or sys.stderr, flush=True)
        log(line)
        return {}, {"programs": {"lacking": lacks}}
    with Progress("live calls", arm.count(programs, grid), stream=stream, log=log) as bar:
        live = tables.live_call_tables(list(arm.results(programs, grid, spec.seed, bar.step)))
    for one in live.summary["failed"]:
        log(
            f"live call failed: {one['plan']}, {one['access']}, {one['hypothesis']}: {one['error']}"
        )
    return live.tables, {"programs": live.summary}
