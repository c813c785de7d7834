# SPDX-License-Identifier: BSD-3-Clause
"""A run's live calls: made where its spec asks for them and this machine can, else said why not."""

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

    Both are empty where the spec asks for none; where a program or root is missing, no table, and
    `programs.lacking` of the summary says what is missing.
    """
    asked = spec.programs
    if asked is None:
        return {}, {}
    from midcall.experiments.livecalls import arm, tables

    if lacks := arm.lacking(asked):
        line = f"live calls skipped: {'; '.join(lacks)}"
        print(line, file=stream or sys.stderr, flush=True)
        log(line)
        return {}, {"programs": {"lacking": lacks}}
    with Progress("live calls", arm.count(asked, grid), stream=stream, log=log) as bar:
        told = tables.told(list(arm.results(asked, grid, spec.seed, bar.step)))
    for one in told.summary["failed"]:
        log(
            f"live call failed: {one['plan']}, {one['access']}, {one['hypothesis']}: {one['error']}"
        )
    return told.tables, {"programs": told.summary}
