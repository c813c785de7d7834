# SPDX-License-Identifier: BSD-3-Clause
"""The cells of a grid, played: finished simulations of captures are reused; the others run in this
process, in several processes, or on a cluster. A simulation that fails becomes an error; the others
continue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from midcall.experiments.cells import virtual_cell as simulate
from midcall.experiments.cells.live_cell import LiveBench
from midcall.experiments.cells.virtual_cell import Bench, Outcome, Unit
from midcall.experiments.jobs import workers
from midcall.experiments.jobs.progress import Log, Progress
from midcall.experiments.measure import timelines
from midcall.experiments.spec import backends
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.options import Options, default_jobs
from midcall.experiments.spec.spec import Spec

#: Seconds of work below which no more processes are started: each loads everything again.
SERIAL_LIMIT_S = 8.0


class Played(NamedTuple):
    """Outcomes and errors of the cells of a grid, by position in the grid."""

    outcomes: dict[int, Outcome]
    reused: set[int]
    errors: dict[int, str]


def bench_of(spec: Spec, items: Sequence[Item], options: Options, log: Log) -> Bench | LiveBench:
    """Return the bench that plays the cells: the virtual one or the live one."""
    if spec.backend == backends.LIVE:
        return LiveBench(items, spec.seed, spec.link, spec.seconds, spec.middlebox, log)
    folder = options.cells or simulate.cache_folder()
    return Bench(items, spec.seed, folder, spec.link, spec.seconds)


def grid_units(
    grid: Sequence[Cell], bench: Bench | LiveBench, reuse: bool = True
) -> dict[int, Unit]:
    """Return the unit behind each documented cell, by its position in the grid.

    Cells with equal rules in force on one access network have one unit. reuse: with the shares of
    the cache; live plays are never cached.
    """
    known: dict[tuple[str, str], Unit] = {}
    units = {}
    for at, cell in enumerate(grid):
        if cell.documented:
            place = simulate.policy_text(cell.policy), cell.access
            if place not in known:
                known[place] = bench.unit(cell.policy, cell.access, reuse)
            units[at] = known[place]
    return units


def simulate_all(
    grid: Sequence[Cell], bench: Bench | LiveBench, options: Options, log: Log
) -> Played:
    """Play every documented cell of a grid."""
    units = grid_units(grid, bench, not options.force)
    distinct = {unit.key: unit for unit in units.values()}
    ready: dict[str, Outcome] = {}
    if isinstance(bench, Bench):
        whole = [unit for unit in distinct.values() if unit.ready and not bench.missing(unit)]
        ready = {unit.key: bench.assembled(unit, {}) for unit in whole}
    todo = [unit for key, unit in distinct.items() if key not in ready]
    log(f"cells: {len(grid)}, simulations: {len(todo)} to do, {len(ready)} reused")
    order = sorted(todo, key=lambda unit: (unit.access, unit.key))
    notice = reuse_line(bench, order, len(distinct)) if isinstance(bench, Bench) else ""
    done, failed = simulate_units(bench, order, options, log, notice)
    outcomes = ready | done
    return Played(
        {at: outcomes[unit.key] for at, unit in units.items() if unit.key in outcomes},
        {at for at, unit in units.items() if unit.key in ready},
        {at: failed[unit.key] for at, unit in units.items() if unit.key in failed},
    )


def reuse_line(bench: Bench, units: Sequence[Unit], distinct: int) -> str:
    """Return in one sentence what the simulations to do reuse, "" where they reuse nothing.

    units: those to do; distinct: how many simulations the grid has.
    """
    if not any(unit.ready for unit in units):
        return ""
    lacks = [{item.capture.sha256 for item in bench.missing(unit)} for unit in units]
    captures, new = len(bench.items), len(lacks[0])
    if any(one != lacks[0] for one in lacks):
        parts, todo = captures * len(units), sum(map(len, lacks))
        return f"{parts - todo:,} of {parts:,} simulations of a capture are reused"
    what, them = ("1 new capture", "it") if new == 1 else (f"{new} new captures", "them")
    return (
        f"{what}: {len(units)} of {distinct} simulations need {them}, "
        f"{captures - new} captures reused"
    )


def simulate_units(
    bench: Bench | LiveBench, units: Sequence[Unit], options: Options, log: Log, notice: str = ""
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Return outcome by key, and error by key, of the units, on as many processes as asked for.

    notice: a line that is printed first. Live plays are made one after the other: each needs all
    cores of the machine.
    """
    jobs = min(options.jobs or default_jobs(), len(units))
    limit = 0.0 if options.jobs else SERIAL_LIMIT_S
    done: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    with Progress("simulations", len(units), stream=options.stream, log=log) as bar:
        if notice:
            bar.say(notice)
        if isinstance(bench, Bench) and options.cluster and units:
            from midcall.experiments.cells import remote_cells

            work = remote_cells.simulations(bench, units, options.cluster, bar.say)
        elif jobs <= 1 or isinstance(bench, LiveBench):
            if isinstance(bench, LiveBench):
                bench.say = bar.say
            work = workers.run_here(bench.outcome, units)
        else:
            work = _together(bench, units, jobs, limit)
        for unit, outcome, error in work:
            if outcome is not None:
                done[unit.key] = outcome
                if isinstance(bench, LiveBench) and (words := timelines.heard(outcome)):
                    rule = unit.policy.name if unit.policy else "no rule"
                    bar.say(f"{unit.access}, {rule}: {words}")
            else:
                failed[unit.key] = error
                log(f"failed: {error}")
            bar.step(f"{unit.access} {unit.key[:8]}")
    return done, failed


Work = Iterator[tuple[Unit, Outcome | None, str]]


_BENCH: Bench | None = None


def _begin_worker(
    items: Sequence[Item], seed: int, folder: Path | None, link: str, seconds: float | None
) -> None:
    """Set up a worker process: it ignores Ctrl-C and ends with its parent."""
    global _BENCH  # noqa: PLW0603 - one bench per worker process, opened once
    workers.set_up_worker()
    _BENCH = Bench(items, seed, folder, link, seconds)


def _work(unit: Unit) -> Outcome:
    if _BENCH is None:
        raise RuntimeError("the worker has no bench")
    return _BENCH.outcome(unit)


def _together(bench: Bench, units: Sequence[Unit], jobs: int, limit: float) -> Work:
    """Do units on processes, yielded as they finish.

    The first is done in this process, so that one process compiles. The time of the second predicts
    that of the rest; processes are started if it is longer than `limit` seconds.
    """
    yield from workers.run_here(bench.outcome, units[:1])
    rest, begin = units[1:], time.monotonic()
    if limit and rest:
        yield from workers.run_here(bench.outcome, rest[:1])
        rest = rest[1:]
        if (time.monotonic() - begin) * len(rest) <= limit:
            yield from workers.run_here(bench.outcome, rest)
            return
    arguments = (bench.items, bench.seed, bench.folder, bench.link, bench.seconds)
    yield from workers.run_in_pool(_work, rest, jobs, _begin_worker, arguments)
