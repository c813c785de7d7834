# SPDX-License-Identifier: BSD-3-Clause
"""The runner: from a spec to a folder of results, and the five lines a person reads at the end.

Steps: obtain captures, classify all of them offline, simulate what the grid's cells need (on
several processes, reusing what is finished), time the offline path alone on the machine, write.
A cell that fails is a row of cells.csv; the others go on.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.accuracy import run as evaluate
from midcall.experiments.cells import offline, recorded, virtual_cell
from midcall.experiments.cells import rows as table_rows
from midcall.experiments.cells import run_cells as play
from midcall.experiments.cells.live_cell import LiveBench
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.cells.virtual_cell import Bench
from midcall.experiments.jobs.progress import Log, Progress
from midcall.experiments.livecalls import run as livecalls
from midcall.experiments.measure import collateral as bystanders
from midcall.experiments.measure import inferred_call, metrics, summary, timelines, timing
from midcall.experiments.proofs import null_tests, verdict_laws
from midcall.experiments.proofs.localiser import spec_run
from midcall.experiments.report import reaction, reliability_results
from midcall.experiments.results import atomic_folder, provenance, schema
from midcall.experiments.run import evasion_results, live_summary
from midcall.experiments.spec import backends, copies
from midcall.experiments.spec import corpus as corpora
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.grid import Cell, cells, load_operators
from midcall.experiments.spec.manifest import origin, policy_files
from midcall.experiments.spec.options import Options, default_jobs
from midcall.experiments.spec.spec import Spec

Row = dict[str, Any]
Tables = dict[str, list[Row]]

#: What a run's folder shows people.
REPORT = "report.html"


class Finished(NamedTuple):
    """What a run left behind."""

    folder: Path
    summary: dict[str, Any]
    failed: int
    report: Path


class Work(NamedTuple):
    """A run under way: what is asked, what takes part, and what the box saw of it.

    liked: a series of public reaction; seen: by a capture's sha256.
    """

    spec: Spec
    raw: bytes
    liked: Path | None
    options: Options
    log: Log
    grid: list[Cell]
    held: Corpus
    seen: dict[str, offline.Seen]


def run(name: str, options: Options) -> Finished:
    """Run a spec by name or path; returns the folder of results.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for what a user can mend.
    """
    work = begun(name, options)
    spec, log = work.spec, work.log
    bench = play.bench_of(spec, corpora.in_grid(work.held, spec), options, log)
    played = play.simulate_all(spec, work.grid, bench, options, log)
    tables = tabulate(work, played)
    dressed = dress_up(work, tables["collateral"])
    jobs = options.jobs or default_jobs()
    evaluated = evaluate.within(spec, work.held, jobs, options.stream, log)
    boxes = localised(work, tables)
    if spec.laws:
        tables["laws"] = tried(work)
    measured = measure(work)
    tables |= {"latency": measured.latency, "throughput": measured.throughput}
    told = summarise(work, tables, measured)
    for more, words in beside(work, dressed, evaluated, bench, played):
        tables |= more
        told |= words
    folder = write(work, tables, told, boxes)
    atomic_folder.point_latest(options.runs, folder)
    failed = sum(bool(row["error"]) for row in tables["cells"])
    failed += len(dressed.errors) if dressed is not None else 0
    return Finished(folder, told, failed, folder / REPORT)


def begun(name: str, options: Options) -> Work:
    """Read the spec, obtain its captures and classify them."""
    log = Log()
    spec, raw = specs.load(name)
    atomic_folder.require(options.runs)
    liked = specs.find(name).parent / spec.reaction if spec.reaction else None
    if liked is not None:
        reaction.read(liked)  # what is wrong with it is told before the work
    spec = on_backend(spec, options, log)
    grid = cells(spec, load_operators(spec))
    held = corpora.obtain(spec, options.corpus, options.stream)
    for notice in held.notices:
        log(f"notice: {notice}")
    for one in held.missing:
        log(f"missing: {one['capture']}: {one['reason']}")
    seen = examine(held, options, log)
    return Work(spec, raw, liked, options, log, grid, with_flows(held, seen), seen)


def on_backend(spec: Spec, options: Options, log: Log) -> Spec:
    """Return the spec with the backend that it is played on."""
    chosen = backends.choose(spec, options.backend)
    if options.cluster and chosen.backend == backends.LIVE:
        raise ExperimentError("--cluster plays in virtual time only: leave --backend live out")
    if chosen.why:
        print(chosen.why, file=options.stream or sys.stderr, flush=True)
        log(chosen.why)
    return spec.model_copy(update={"backend": chosen.backend})


def tabulate(work: Work, played: Played) -> Tables:
    """Return the tables of what was seen, and of what became of calls and others in the grid."""
    spec, grid, held, seen = work.spec, work.grid, work.held, work.seen
    outcomes = played.outcomes
    flows = [row for one in seen.values() for row in one.rows]
    return {
        "flows": offline.shown(flows, work.options.reveal),
        "calls": table_rows.call_rows(spec, grid, held, seen, outcomes),
        "collateral": bystanders.hit_rows(spec.seed, grid, outcomes),
        "cells": table_rows.cell_rows(grid, played),
        "timelines": timelines.rows(grid, held, spec.apps, outcomes),
        "bystander_calls": bystanders.call_rows(grid, held, outcomes),
        "mixes": bystanders.mix_rows(spec, grid, held, outcomes),
    }


def localised(work: Work, tables: Tables) -> dict[str, Any] | None:
    """Return what boxes were found to decide by, None for none asked; tables gets the benchmark."""
    spec, options = work.spec, work.options
    if spec.localise is None:
        return None
    where = spec_run.Where(options.corpus, options.stream, log=work.log)
    boxes = spec_run.localised(spec, where, options.reveal)
    if spec.localise.planted:
        tables["localise"] = spec_run.benchmark(spec, where)
    return boxes


def beside(
    work: Work,
    dressed: evasion_results.Told | None,
    evaluated: evaluate.Made | None,
    bench: Bench | LiveBench,
    played: Played,
) -> Iterator[tuple[Tables, dict[str, Any]]]:
    """Yield what stands beside the grid: (tables, blocks of summary.json) of each part."""
    spec, options = work.spec, work.options
    if dressed is not None:
        for error in dressed.errors:
            work.log(f"failed: {error}")
        yield dressed.tables, {"disguises": dressed.summary}
    yield {}, recorded.beside(spec)
    if evaluated is not None:
        yield evaluated.tables, {"evaluation": evaluated.told}
    if isinstance(bench, LiveBench):
        shown = live_summary.summarise(
            spec, work.grid, work.held, bench, played.outcomes, options.runs
        )
        yield shown.tables, {"live": shown.told}
    yield livecalls.within(spec, work.grid, options.stream, work.log)
    nulls = null_tests.pooled(options.runs)
    if nulls is not None:
        yield {}, {"aa": nulls}
    proven = reliability_results.pooled(options.runs)
    if proven is not None:
        yield {}, {"proofs": proven}


def examine(held: Corpus, options: Options, log: Log) -> dict[str, offline.Seen]:
    """Classify every capture; return sha256 -> what was seen."""
    from midcall.captures.jit.kernel import compile_lock
    from midcall.testbed.replay.simulator import warm_up

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
    """Return the corpus with the flows of added calls, found where nobody described them, and with
    added copies of a capture in that one's session."""
    packets = {sha256: one.packets for sha256, one in seen.items()}
    items = []
    for item in copies.one_session(held.items, packets):
        own = seen[item.capture.sha256]
        for row in own.rows:
            row["group"] = item.capture.group
        items.append(inferred_call.with_flows(item, own.rows, own.packets))
    return held._replace(items=items)


def dress_up(work: Work, collateral: Sequence[Row]) -> evasion_results.Told | None:
    """Play the calls in other dresses where the spec asks for it."""
    spec, options = work.spec, work.options
    some = corpora.calls_of(work.held.items, spec.apps)
    return evasion_results.dress_up(
        spec,
        work.grid,
        some,
        collateral,
        options.cells or virtual_cell.cache_folder(),
        options.jobs or default_jobs(),
        options.force,
        lambda n: Progress("dresses", n, stream=options.stream, log=work.log),
    )


def measure(work: Work) -> timing.Measured:
    """Time the offline path on a mix of the real captures, of synthetic ones where none is real."""
    facts = corpora.headline(work.held.items)
    chosen, wanted = facts or work.held.items, work.spec.timing
    name = f"mix of {len(chosen)} {'real' if facts else 'synthetic'} captures"
    work.log(f"timing: {name}")
    parts = [work.seen[item.capture.sha256].packets for item in chosen]
    return timing.measure(parts, wanted.packets, wanted.seconds, name)


def tried(work: Work) -> list[Row]:
    """Return the table `laws`: the laws of verdicts, tried on every capture with a call."""
    held = [item for item in work.held.items if item.calls]
    with Progress("laws", len(held), stream=work.options.stream, log=work.log) as bar:
        return verdict_laws.tried(held, work.spec.seed, bar.step)


def proven(spec: Spec) -> dict[str, Any]:
    """Return `conformance` of summary.json where the spec asks for it, else nothing."""
    if not spec.conformance:
        return {}
    from midcall.experiments.tools import conformance_text

    return {"conformance": conformance_text.counts(conformance_text.outcomes())}


def summarise(work: Work, tables: Tables, measured: timing.Measured) -> dict[str, Any]:
    """Return summary.json (schema 1)."""
    spec, held, seen = work.spec, work.held, work.seen
    flows = [row for one in seen.values() for row in one.rows]
    calls = tables["calls"]
    notices = [notice for one in seen.values() for notice in one.notices]
    copied = corpora.copies(held.items)
    recognised = table_rows.recognised_rows(spec, held, seen)
    return {
        "schema": summary.SCHEMA,
        "spec": {
            "name": spec.name,
            "title": spec.title,
            "question": spec.question,
            "seed": spec.seed,
            "sha256": provenance.sha256(work.raw),
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
            "copies": copied,
        },
        "warnings": notices,
        "accuracy": summary.accuracy(flows, recognised, spec.seed, copied),
        "verdict": metrics.waits(summary.real(flows)),
        "calls": [{key: row[key] for key in summary.CALL_KEYS} for row in calls],
        "mission": summary.mission(calls),
        "operators": summary.operators(calls),
        "yours": summary.yours(calls),
        "collateral": summary.collateral(tables["collateral"]) | bystanders.told(tables),
        "cells": summary.cell_counts(tables["cells"]),
        "intervals": summary.intervals_note(),
        **proven(spec),
        **({"localise": summary.localise(tables["localise"])} if "localise" in tables else {}),
        **({"laws": summary.laws(tables["laws"])} if "laws" in tables else {}),
        **measured.summary,
        "machine": provenance.machine(),
    }


def write(work: Work, tables: Tables, told: dict[str, Any], boxes: dict[str, Any] | None) -> Path:
    """Write every file of the run; the folder appears under its name only when it is whole.

    boxes: what boxes were found to decide by (experiments.localise.spec_run), None for none asked.
    Results are kept though the report cannot be drawn.
    """
    now = datetime.datetime.now(datetime.UTC)
    policies = policy_files(work.spec)
    found = origin(work.spec, work.raw, work.held, policies, now)
    name = f"{now:%Y%m%dT%H%M%SZ}-{work.spec.name}-{found['inputs'][:8]}"
    folder = atomic_folder.free_folder(work.options.runs, name)
    with atomic_folder.whole_folder(folder) as fresh:
        (fresh / "spec.toml").write_bytes(work.raw)
        for file, data in policies.items():
            target = fresh / "policies" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for name, rows in tables.items():
            schema.write_table(fresh, name, rows)
        schema.write_json(fresh / "provenance.json", found)
        schema.write_json(fresh / "summary.json", told)
        if boxes is not None:
            schema.write_json(fresh / "localised.json", boxes)
        work.log(f"results: {folder.name}")
        (fresh / "run.log").write_text("\n".join(work.log.lines) + "\n", encoding="utf-8")
        trouble = atomic_folder.drawn(lambda: render(fresh, work.liked))
    if trouble is not None:
        raise trouble
    return folder


def render(folder: Path, liked: Path | None) -> Path:
    """Draw the report of a run's folder, with a series of public reaction where one is given."""
    from midcall.experiments.report.html import render as draw

    return draw(folder, liked)
