# SPDX-License-Identifier: BSD-3-Clause
"""The runner: from a spec to a folder of results, and the five lines a person reads at the end.

Steps: obtain captures, classify all of them offline, simulate what the grid's cells need (on
several processes, reusing what is finished), time the offline path alone on the machine, write.
A cell that fails is a row of cells.csv; the others go on.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from captures.calls import Call
from experiments import (
    aa,
    backends,
    busiest,
    bystanders,
    disguise,
    live_summary,
    metrics,
    offline,
    provenance,
    reaction,
    recorded,
    results,
    shelf,
    simulate,
    summary,
    timelines,
    timing,
    workers,
)
from experiments import corpus as corpora
from experiments import spec as specs
from experiments.corpus import Corpus, Item, capture_year, later_client
from experiments.errors import ExperimentError
from experiments.grid import Cell, cells, load_operators
from experiments.live import LiveBench
from experiments.livecalls import run as livecalls
from experiments.localiser import ordered
from experiments.progress import Fetching, Progress
from experiments.simulate import Bench, Outcome, Unit
from experiments.spec import Spec

Row = dict[str, Any]

#: What a run's folder shows people.
REPORT = "report.html"
#: Seconds of work below which starting more processes (which load all anew) does not pay.
PATIENCE = 8.0


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


class Finished(NamedTuple):
    """What a run left behind."""

    folder: Path
    summary: dict[str, Any]
    failed: int
    report: Path


class Log:
    """The run's log: lines with the seconds since its begin, kept for run.log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._begin = time.monotonic()

    def __call__(self, line: str) -> None:
        """Add one line."""
        self.lines.append(f"{time.monotonic() - self._begin:8.2f} s  {line}")


def default_jobs() -> int:
    """Return how many processes to use: one per core this process may run on, at most 8."""
    return min(len(os.sched_getaffinity(0)), 8)


def run(name: str, options: Options) -> Finished:
    """Run a spec by name or path; returns the folder of results.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for what a user can mend.
    """
    from experiments import evaluate

    log = Log()
    spec, raw = specs.load(name)
    shelf.require(options.runs)
    liked = specs.find(name).parent / spec.reaction if spec.reaction else None
    if liked is not None:
        reaction.read(liked)  # what is wrong with it is told before the work
    chosen = backends.choose(spec, options.backend)
    spec = spec.model_copy(update={"backend": chosen.backend})
    if options.cluster and chosen.backend == backends.LIVE:
        raise ExperimentError("--cluster plays in virtual time only: leave --backend live out")
    if chosen.why:
        print(chosen.why, file=options.stream or sys.stderr, flush=True)
        log(chosen.why)
    grid = cells(spec, load_operators(spec))
    held = obtain(spec, options)
    for notice in held.notices:
        log(f"notice: {notice}")
    for one in held.missing:
        log(f"missing: {one['capture']}: {one['reason']}")
    seen = examine(held, options, log)
    held = with_flows(held, seen)
    bench = bench_of(spec, in_grid(held, spec), options, log)
    outcomes, reused, errors = simulate_all(spec, grid, bench, options, log)
    tables = {
        "flows": offline.shown([row for one in seen.values() for row in one.rows], options.reveal),
        "calls": call_rows(spec, grid, held, seen, outcomes),
        "collateral": bystanders.hit_rows(spec.seed, grid, outcomes),
        "cells": cell_rows(grid, outcomes, reused, errors),
        "timelines": timelines.rows(grid, held, spec.apps, outcomes),
        "bystander_calls": bystanders.call_rows(grid, held, outcomes),
        "mixes": bystanders.mix_rows(spec, grid, held, outcomes),
    }
    dressed = dress_up(spec, grid, held, tables["collateral"], options, log)
    evaluated = evaluate.within(spec, held, options, log)
    boxes = None
    if spec.localise is not None:
        where = ordered.Where(options.corpus, options.stream, log=log)
        boxes = ordered.localised(spec, where, options.reveal)
        if spec.localise.planted:
            tables["localise"] = ordered.benchmark(spec, where)
    measured = measure(spec, held, seen, log)
    tables |= {"latency": measured.latency, "throughput": measured.throughput}
    told = summarise(spec, raw, held, seen, tables, measured)
    if dressed is not None:
        tables |= dressed.tables
        told["disguises"] = dressed.summary
        for error in dressed.errors:
            log(f"failed: {error}")
    told |= recorded.beside(spec)
    if evaluated is not None:
        tables |= evaluated.tables
        told["evaluation"] = evaluated.told
    if isinstance(bench, LiveBench):
        shown = live_summary.summarise(spec, grid, held, bench, outcomes, options.runs)
        tables |= shown.tables
        told["live"] = shown.told
    called, words = livecalls.within(spec, grid, options.stream, log)
    tables |= called
    told |= words
    nulls = aa.pooled(options.runs)
    if nulls is not None:
        told["aa"] = nulls
    folder = write(spec, raw, options, held, tables, told, log, boxes, liked)
    shelf.point_latest(options.runs, folder)
    failed = sum(bool(row["error"]) for row in tables["cells"])
    failed += len(dressed.errors) if dressed is not None else 0
    return Finished(folder, told, failed, folder / REPORT)


def obtain(spec: Spec, options: Options) -> Corpus:
    """Obtain the captures of a spec, telling how far downloads are."""
    fetching = Fetching(options.stream)
    try:
        return corpora.gather(spec, options.corpus, fetching)
    finally:
        fetching.close()


# ---- classification


def examine(held: Corpus, options: Options, log: Log) -> dict[str, offline.Seen]:
    """Classify every capture; return sha256 -> what was seen."""
    from captures.compiled import compile_lock
    from testbed.virtual import warm_up

    seen: dict[str, offline.Seen] = {}
    with Progress("captures", len(held.items), stream=options.stream, log=log) as bar:
        for item in held.items:
            if not seen:
                with compile_lock() as cold:
                    if cold:
                        print("compiling the packet path, once", file=bar.stream, flush=True)
                    seen[item.capture.sha256] = offline.examine(item)
                    if cold:
                        warm_up()
            else:
                seen[item.capture.sha256] = offline.examine(item)
            for notice in seen[item.capture.sha256].notices:
                log(f"warning: {notice}")
            bar.step(item.capture.name)
    return seen


def with_flows(held: Corpus, seen: dict[str, offline.Seen]) -> Corpus:
    """Return the corpus with flows in every call, found where nobody named them."""
    items = [busiest.with_flows(item, seen[item.capture.sha256].rows) for item in held.items]
    return held._replace(items=items)


# ---- simulation


def stands_for(holders: dict[str, str], item: Item, call: Call) -> bool:
    """Tell whether this capture is the one in which the call is counted."""
    return holders[corpora.identity(item.capture, call)] == item.capture.sha256


def in_grid(held: Corpus, spec: Spec) -> list[Item]:
    """Return the items whose calls or bystanders the grid needs, each call in one item only."""
    holders = corpora.holders(held.items)
    return [
        item
        for item in held.items
        if any(call.app in spec.apps and stands_for(holders, item, call) for call in item.calls)
        or (item.innocent and not item.capture.synthetic)
        or bystanding(holders, item, spec)
    ]


def bystanding(holders: dict[str, str], item: Item, spec: Spec) -> bool:
    """Tell whether a capture takes part for calls that nobody aims at: of other apps, and neither
    invented nor the user's.

    A live play is as long as its longest capture, so it leaves them out.
    """
    wanted = spec.captures.innocents == "all" and spec.backend != backends.LIVE
    lent = wanted and not (item.capture.synthetic or item.capture.added)
    return lent and any(stands_for(holders, item, call) for call in item.calls)


def bench_of(spec: Spec, items: Sequence[Item], options: Options, log: Log) -> Bench | LiveBench:
    """Return what plays the cells: the virtual bench or the live one."""
    if spec.backend == backends.LIVE:
        return LiveBench(items, spec.seed, spec.link, spec.seconds, spec.middlebox, log)
    folder = options.cells or simulate.cache_folder()
    return Bench(items, spec.seed, folder, spec.link, spec.seconds)


def unit_keys(spec: Spec, grid: Sequence[Cell], items: Sequence[Item]) -> dict[int, str]:
    """Return the key of the simulation behind each cell, by its position in the grid."""
    return {
        at: simulate.unit_key(cell.policy, cell.access, spec.seed, items, spec.link, spec.seconds)
        for at, cell in enumerate(grid)
        if cell.documented
    }


def simulate_all(
    spec: Spec, grid: Sequence[Cell], bench: Bench | LiveBench, options: Options, log: Log
) -> tuple[dict[int, Outcome], set[int], dict[int, str]]:
    """Return outcomes, reused cells and errors, each by the cell's position in the grid."""
    keys = unit_keys(spec, grid, bench.items)
    ready = {}
    if isinstance(bench, Bench) and not options.force:
        found = {key: simulate.cached(bench.folder, key) for key in set(keys.values())}
        ready = {key: outcome for key, outcome in found.items() if outcome is not None}
    units = {
        key: Unit(key, grid[at].policy, grid[at].access)
        for at, key in keys.items()
        if key not in ready
    }
    log(f"cells: {len(grid)}, simulations: {len(units)} to do, {len(ready)} reused")
    order = sorted(units.values(), key=lambda unit: (unit.access, unit.key))
    done, failed = simulate_units(bench, order, options, log)
    outcomes = {at: (ready | done)[key] for at, key in keys.items() if key in ready or key in done}
    errors = {at: failed[key] for at, key in keys.items() if key in failed}
    return outcomes, {at for at, key in keys.items() if key in ready}, errors


def simulate_units(
    bench: Bench | LiveBench, units: Sequence[Unit], options: Options, log: Log
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Return outcome by key, and error by key, of the units, on as many processes as asked for.

    Live plays are made one after the other: each wants the machine's cores for itself.
    """
    jobs = min(options.jobs or default_jobs(), len(units))
    patience = 0.0 if options.jobs else PATIENCE
    done: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    with Progress("simulations", len(units), stream=options.stream, log=log) as bar:
        if isinstance(bench, Bench) and options.cluster and units:
            from experiments import spread

            work = spread.simulations(bench, units, options.cluster, bar.say)
        elif jobs <= 1 or isinstance(bench, LiveBench):
            work = workers.alone(bench.outcome, units)
        else:
            work = _together(bench, units, jobs, patience)
        for unit, outcome, error in work:
            if outcome is not None:
                done[unit.key] = outcome
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
    """Set up a worker process: Ctrl-C is the parent's business, and its end is ours."""
    global _BENCH  # noqa: PLW0603 - one bench per worker process, opened once
    workers.obey()
    _BENCH = Bench(items, seed, folder, link, seconds)


def _work(unit: Unit) -> Outcome:
    if _BENCH is None:
        raise RuntimeError("the worker has no bench")
    return _BENCH.outcome(unit)


def _together(bench: Bench, units: Sequence[Unit], jobs: int, patience: float) -> Work:
    """Do units on processes, yielded as they finish.

    The first is done here, so that one process compiles. The second tells how long the rest would
    take here; processes are started where that is longer than `patience` seconds.
    """
    yield from workers.alone(bench.outcome, units[:1])
    rest, begin = units[1:], time.monotonic()
    if patience and rest:
        yield from workers.alone(bench.outcome, rest[:1])
        rest = rest[1:]
        if (time.monotonic() - begin) * len(rest) <= patience:
            yield from workers.alone(bench.outcome, rest)
            return
    given = (bench.items, bench.seed, bench.folder, bench.link, bench.seconds)
    yield from workers.together(_work, rest, jobs, _begin_worker, given)


def dress_up(
    spec: Spec,
    grid: Sequence[Cell],
    held: Corpus,
    collateral: Sequence[Row],
    options: Options,
    log: Log,
) -> disguise.Told | None:
    """Play the calls in other dresses where the spec asks for it."""
    holders = corpora.holders(held.items)
    some = [
        (item, ids)
        for item in held.items
        if (
            ids := [
                call.id
                for call in item.calls
                if call.app in spec.apps and stands_for(holders, item, call)
            ]
        )
    ]
    return disguise.dress_up(
        spec,
        grid,
        some,
        collateral,
        options.cells or simulate.cache_folder(),
        options.jobs or default_jobs(),
        options.force,
        lambda n: Progress("dresses", n, stream=options.stream, log=log),
    )


# ---- rows


def call_rows(
    spec: Spec,
    grid: Sequence[Cell],
    held: Corpus,
    seen: dict[str, offline.Seen],
    outcomes: dict[int, Outcome],
) -> list[Row]:
    """Return the rows of calls.parquet, in the order of the grid, then of captures."""
    return [
        _call_row(spec, grid[at], item, call, entry, seen[entry["sha256"]].recognised[call.id])
        for at, item, call, entry in corpora.counted(held, spec.apps, outcomes)
    ]


def _call_row(spec: Spec, cell: Cell, item: Item, call: Call, entry: Row, recognised: bool) -> Row:
    verdict = {key: value for key, value in entry.items() if key not in ("sha256", "call")}
    if call.note == busiest.NOTE:
        verdict["reason"] = f"{verdict['reason']} ({busiest.NOTE})"
    place = {**cell.place(), "hypothesis_title": cell.title, "documented": cell.documented}
    row = {
        **call_facts(spec, item, call),
        **place,
        **verdict,
        "grade": cell.grade(entry["rule"]),
        "recognised": recognised,
    }
    return {column: row[column] for column in results.COLUMNS["calls"]}


def call_facts(spec: Spec, item: Item, call: Call) -> Row:
    """Return what is known of a call whatever happens to it."""
    return {
        "capture": item.capture.name,
        "capture_year": capture_year(item.capture, call),
        "group": item.capture.group,
        "app": call.app,
        "kind": call.kind,
        "call": call.id,
        "synthetic": item.capture.synthetic,
        "added": item.capture.added,
        "later_client": later_client(item.capture, call, spec),
    }


def cell_rows(
    grid: Sequence[Cell], outcomes: dict[int, Outcome], reused: set[int], errors: dict[int, str]
) -> list[Row]:
    """Return the rows of cells.parquet, one per cell of the grid."""
    rows = []
    for at, cell in enumerate(grid):
        status = "reused" if at in reused else "failed" if at in errors else "done"
        outcome = outcomes.get(at, {})
        rows.append(
            {
                **cell.place(),
                "status": status if cell.documented else "undocumented",
                "error": errors.get(at),
                "key": outcome.get("key"),
                "seconds": outcome.get("seconds"),
            }
        )
    return rows


def measure(spec: Spec, held: Corpus, seen: dict[str, offline.Seen], log: Log) -> timing.Measured:
    """Time the offline path on a mix of the real captures, of synthetic ones where none is real."""
    facts = corpora.headline(held.items)
    chosen = facts or held.items
    name = f"mix of {len(chosen)} {'real' if facts else 'synthetic'} captures"
    log(f"timing: {name}")
    parts = [seen[item.capture.sha256].packets for item in chosen]
    return timing.measure(parts, spec.timing.packets, spec.timing.seconds, name)


# ---- summary and files


def proven(spec: Spec) -> dict[str, Any]:
    """Return `conformance` of summary.json where the spec asks for it, else nothing."""
    if not spec.conformance:
        return {}
    from experiments import conformance

    return {"conformance": conformance.counts(conformance.outcomes())}


def recognised_rows(spec: Spec, held: Corpus, seen: dict[str, offline.Seen]) -> list[Row]:
    """Return one row per distinct call of the run: whether it was recognised."""
    holders = corpora.holders(held.items)
    return [
        call_facts(spec, item, call) | {"recognised": seen[item.capture.sha256].recognised[call.id]}
        for item in held.items
        for call in item.calls
        if stands_for(holders, item, call)
    ]


def summarise(
    spec: Spec,
    raw: bytes,
    held: Corpus,
    seen: dict[str, offline.Seen],
    tables: dict[str, list[Row]],
    measured: timing.Measured,
) -> dict[str, Any]:
    """Return summary.json (schema 1)."""
    flows = [row for one in seen.values() for row in one.rows]
    calls = tables["calls"]
    notices = [notice for one in seen.values() for notice in one.notices]
    copies = corpora.copies(held.items)
    return {
        "schema": summary.SCHEMA,
        "spec": {
            "name": spec.name,
            "title": spec.title,
            "question": spec.question,
            "seed": spec.seed,
            "sha256": provenance.sha256(raw),
            "scenario_year": spec.scenario_year,
            "backend": spec.backend,
            "seconds": spec.seconds,
            "dates": [{"date": day.date.isoformat(), "label": day.label} for day in spec.dates],
        },
        "captures": {
            **corpora.tally(held.items),
            "missing": len(held.missing),
            "missing_list": held.missing,
            "cut": len(notices),
            "copies": copies,
        },
        "warnings": notices,
        "accuracy": summary.accuracy(flows, recognised_rows(spec, held, seen), spec.seed, copies),
        "verdict": metrics.waits(summary.real(flows)),
        "calls": [{key: row[key] for key in summary.CALL_KEYS} for row in calls],
        "mission": summary.mission(calls),
        "operators": summary.operators(calls),
        "collateral": summary.collateral(tables["collateral"]) | bystanders.told(tables),
        "cells": summary.cell_counts(tables["cells"]),
        "intervals": summary.intervals_note(),
        **proven(spec),
        **({"localise": summary.localise(tables["localise"])} if "localise" in tables else {}),
        **measured.summary,
        "machine": provenance.machine(),
    }


def write(
    spec: Spec,
    raw: bytes,
    options: Options,
    held: Corpus,
    tables: dict[str, list[Row]],
    told: dict[str, Any],
    log: Log,
    boxes: dict[str, Any] | None,
    liked: Path | None,
) -> Path:
    """Write every file of the run; the folder appears under its name only when it is whole.

    boxes: what boxes were found to decide by (experiments.localiser.ordered), None for none asked;
    liked: a series of public reaction. Results are kept though the report cannot be drawn.
    """
    now = datetime.datetime.now(datetime.UTC)
    origin = provenance_of(spec, raw, held, now)
    name = f"{now:%Y%m%dT%H%M%SZ}-{spec.name}-{origin['inputs'][:8]}"
    folder = shelf.free_folder(options.runs, name)
    with shelf.whole_folder(folder) as fresh:
        (fresh / "spec.toml").write_bytes(raw)
        for name, rows in tables.items():
            results.write_table(fresh, name, rows)
        results.write_json(fresh / "provenance.json", origin)
        results.write_json(fresh / "summary.json", told)
        if boxes is not None:
            results.write_json(fresh / "localised.json", boxes)
        log(f"results: {folder.name}")
        (fresh / "run.log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
        trouble = shelf.drawn(lambda: render(fresh, liked))
    if trouble is not None:
        raise trouble
    return folder


def provenance_of(spec: Spec, raw: bytes, held: Corpus, now: datetime.datetime) -> dict[str, Any]:
    """Return provenance.json; `inputs` is the sha256 of all that decides the results."""
    takes = {item.capture.name: item.capture.sha256 for item in held.items}
    code = provenance.code_digest((*provenance.CELL_PACKAGES, "experiments"))
    inputs = repr((provenance.sha256(raw), spec.backend, code, sorted(takes.items())))
    return {
        "schema": 1,
        "inputs": provenance.sha256(inputs.encode()),
        "made": now.isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "spec": {"name": spec.name, "sha256": provenance.sha256(raw), "seed": spec.seed},
        "backend": spec.backend,
        "code": {"digest": code, **provenance.git_state()},
        "versions": {"midcall": provenance.midcall_version(), **provenance.library_versions()},
        "machine": provenance.machine(),
        "captures": takes,
        "missing": held.missing,
    }


def render(folder: Path, liked: Path | None) -> Path:
    """Draw the report of a run's folder, with a series of public reaction where one is given."""
    from experiments.report import render as draw

    return draw(folder, liked)
