# SPDX-License-Identifier: BSD-3-Clause
"""The runner: from a spec to a folder of results and the five lines printed at the end.

Steps: obtain captures, classify all of them offline, simulate the grid's cells (on several
processes, reusing finished simulations), time the offline path with no other work, write.
A cell that fails is a row of cells.csv; the others continue.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from midcall.errors import ExperimentError
from midcall.experiments.accuracy import quality_dose
from midcall.experiments.accuracy import run as evaluate
from midcall.experiments.cells import offline, recorded, virtual_cell
from midcall.experiments.cells import rows as table_rows
from midcall.experiments.cells import run_cells as play
from midcall.experiments.cells.live_cell import LiveBench
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.cells.virtual_cell import Bench
from midcall.experiments.engines import matrix
from midcall.experiments.jobs.progress import Log, Progress
from midcall.experiments.livecalls import run as livecalls
from midcall.experiments.measure import collateral as bystanders
from midcall.experiments.measure import inferred_call, metrics, summary, timelines, timing
from midcall.experiments.proofs import null_tests, verdict_laws
from midcall.experiments.proofs.localiser import spec_run
from midcall.experiments.proofs.prober import spec_run as prober_run
from midcall.experiments.report import reaction, reliability_results
from midcall.experiments.results import atomic_folder, provenance, schema
from midcall.experiments.results.tables import CollateralRow, LawRow, Tables
from midcall.experiments.run import evasion_results, ladders, live_summary
from midcall.experiments.spec import backends, copies
from midcall.experiments.spec import corpus as corpora
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.grid import Cell, cells, load_operators
from midcall.experiments.spec.manifest import origin, policy_files
from midcall.experiments.spec.options import Options, default_jobs
from midcall.experiments.spec.spec import Spec

#: File name of the report in a run's folder.
REPORT = "report.html"


class Finished(NamedTuple):
    """Results of a run: its folder, summary.json, the number of failed cells, the report."""

    folder: Path
    summary: dict[str, Any]
    failed: int
    report: Path


class Work(NamedTuple):
    """A run in progress: its spec and options, its captures, and their offline classification.

    reaction_file: a series of public reaction; classified: by a capture's sha256.
    """

    spec: Spec
    raw: bytes
    reaction_file: Path | None
    options: Options
    log: Log
    grid: list[Cell]
    corpus: Corpus
    classified: dict[str, offline.ClassifiedCapture]


def run(name: str, options: Options) -> Finished:
    """Run a spec by name or path; returns the folder of results.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for errors that a user can
    correct.
    """
    work = prepared(name, options)
    spec, log = work.spec, work.log
    bench = play.bench_of(spec, corpora.in_grid(work.corpus, spec), options, log)
    played = play.simulate_all(work.grid, bench, options, log)
    tables = tabulate(work, played)
    tables["ladders"] = ladders.rows(work.grid, work.corpus, spec.apps, played, bench, options, log)
    dressed = dress_up(work, tables["collateral"])
    jobs = options.jobs or default_jobs()
    evaluated = evaluate.within(spec, work.corpus, jobs, options.stream, log)
    boxes = localised(work, tables)
    if spec.laws:
        tables["laws"] = law_rows(work)
    measured = measure(work)
    tables["latency"], tables["throughput"] = measured.latency, measured.throughput
    document = summarise(work, tables, measured)
    for extra_tables, block in extra_results(work, dressed, evaluated, bench, played):
        tables |= extra_tables
        document |= block
    proven = matrix.matrix(spec, options.corpus, lambda words: log(f"engines: {words}"))
    document |= proven.block
    folder = write(work, tables, document, boxes, proven.files)
    atomic_folder.point_latest(options.runs, folder)
    failed = sum(bool(row["error"]) for row in tables["cells"])
    failed += len(dressed.errors) if dressed is not None else 0
    return Finished(folder, document, failed, folder / REPORT)


def prepared(name: str, options: Options) -> Work:
    """Read the spec, obtain its captures and classify them."""
    log = Log()
    spec, raw = specs.load(name)
    atomic_folder.require(options.runs)
    reaction_file = specs.find(name).parent / spec.reaction if spec.reaction else None
    if reaction_file is not None:
        reaction.read(reaction_file)  # raises for a wrong file before the work starts
    spec = on_backend(spec, options, log)
    grid = cells(spec, load_operators(spec))
    corpus = corpora.obtain(spec, options.corpus, options.stream)
    for notice in corpus.notices:
        log(f"notice: {notice}")
    for one in corpus.missing:
        log(f"missing: {one['capture']}: {one['reason']}")
    classified = examine(corpus, options, log)
    corpus = with_flows(corpus, classified)
    mark_replayed(spec, corpus, classified)
    return Work(spec, raw, reaction_file, options, log, grid, corpus, classified)


def on_backend(spec: Spec, options: Options, log: Log) -> Spec:
    """Return the spec with the backend of this run; raises ExperimentError."""
    chosen = backends.choose(spec, options.backend)
    if options.cluster and chosen.backend == backends.LIVE:
        raise ExperimentError("--cluster plays in virtual time only: leave --backend live out")
    if chosen.why:
        print(chosen.why, file=options.stream or sys.stderr, flush=True)
        log(chosen.why)
    return spec.model_copy(update={"backend": chosen.backend})


def tabulate(work: Work, played: Played) -> Tables:
    """Return the tables of flows, and of calls and innocent traffic in the cells of the grid."""
    spec, grid, corpus, classified = work.spec, work.grid, work.corpus, work.classified
    outcomes = played.outcomes
    flows = [row for one in classified.values() for row in one.rows]
    return {
        "flows": offline.written_rows(flows, work.options.reveal),
        "calls": table_rows.call_rows(spec, grid, corpus, classified, outcomes),
        "collateral": bystanders.hit_rows(spec.seed, grid, outcomes),
        "cells": table_rows.cell_rows(grid, played),
        "timelines": timelines.rows(grid, corpus, spec.apps, outcomes),
        "bystander_calls": bystanders.call_rows(grid, corpus, outcomes),
        "mixes": bystanders.mix_rows(spec, grid, corpus, outcomes),
    }


def localised(work: Work, tables: Tables) -> dict[str, Any] | None:
    """Return the localisation of boxes, None without one; adds the benchmark to `tables`."""
    spec, options = work.spec, work.options
    if spec.localise is None:
        return None
    where = spec_run.Locations(options.corpus, options.stream, log=work.log)
    boxes = spec_run.localise_spec(spec, where, options.reveal)
    if spec.localise.planted:
        tables["localise"] = spec_run.benchmark(spec, where)
    return boxes


def extra_results(
    work: Work,
    dressed: evasion_results.EvasionResults | None,
    evaluated: evaluate.Made | None,
    bench: Bench | LiveBench,
    played: Played,
) -> Iterator[tuple[Tables, Mapping[str, Any]]]:
    """Yield the results apart from the grid: (tables, blocks of summary.json) of each part."""
    spec, options = work.spec, work.options
    if dressed is not None:
        for error in dressed.errors:
            work.log(f"failed: {error}")
        yield dressed.tables, {"disguises": dressed.summary}
    yield {}, recorded.summary_block(spec)
    yield {}, quality_dose.within(spec, work.corpus.items, lambda name: work.log(f"doses: {name}"))
    if spec.probe is not None:
        probed, block = prober_run.within(
            spec, options.corpus, options.jobs, options.stream, work.log
        )
        yield probed, {"probe": block}
    if evaluated is not None:
        yield cast("Tables", evaluated.tables), {"evaluation": evaluated.evaluation}
    if isinstance(bench, LiveBench):
        shown = live_summary.summarise(
            spec, work.grid, work.corpus, bench, played.outcomes, options.runs
        )
        yield cast("Tables", shown.tables), {"live": shown.live}
    called, block = livecalls.within(spec, work.grid, options.stream, work.log)
    yield cast("Tables", called), block
    nulls = null_tests.pooled(options.runs)
    if nulls is not None:
        yield {}, {"aa": nulls}
    reliability = reliability_results.pooled(options.runs)
    if reliability is not None:
        yield {}, {"proofs": reliability}


def examine(corpus: Corpus, options: Options, log: Log) -> dict[str, offline.ClassifiedCapture]:
    """Classify every capture; return sha256 -> its packets and rows of flows."""
    from midcall.captures.jit.kernel import compile_lock
    from midcall.testbed.replay.simulator import warm_up

    classified: dict[str, offline.ClassifiedCapture] = {}
    with Progress("captures", len(corpus.items), stream=options.stream, log=log) as bar:
        for item in corpus.items:
            if not classified:
                with compile_lock() as cold:
                    if cold:
                        print("compiling the packet path, once", file=bar.stream, flush=True)
                    classified[item.capture.sha256] = offline.examine(item)
                    if cold:
                        warm_up()
            else:
                classified[item.capture.sha256] = offline.examine(item)
            for notice in classified[item.capture.sha256].notices:
                log(f"warning: {notice}")
            bar.step(item.capture.name)
    return classified


def with_flows(corpus: Corpus, classified: dict[str, offline.ClassifiedCapture]) -> Corpus:
    """Return the corpus with inferred flows of added calls, and with copies in one session.

    Flows are inferred for added calls without labels. Added copies of a capture get its session.
    """
    packets = {sha256: one.packets for sha256, one in classified.items()}
    items = []
    for item in copies.one_session(corpus.items, packets):
        result = classified[item.capture.sha256]
        for row in result.rows:
            row["group"] = item.capture.group
        items.append(inferred_call.with_flows(item, result.rows, result.packets))
    return corpus._replace(items=items)


def mark_replayed(
    spec: Spec, corpus: Corpus, classified: dict[str, offline.ClassifiedCapture]
) -> None:
    """Clear the mark of replayed flows in the rows of captures that take no part in the grid."""
    played = {item.capture.sha256 for item in corpora.in_grid(corpus, spec)}
    for sha256, one in classified.items():
        for row in one.rows:
            row["replayed"] = row["replayed"] and sha256 in played


def dress_up(
    work: Work, collateral: Sequence[CollateralRow]
) -> evasion_results.EvasionResults | None:
    """Play the variants of the calls (control arms, disguises) that the spec asks for."""
    spec, options = work.spec, work.options
    some = corpora.calls_of(work.corpus.items, spec.apps)
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
    """Time the offline path on a mix of the real captures, or of all captures if none is real."""
    real = corpora.headline(work.corpus.items)
    chosen, wanted = real or work.corpus.items, work.spec.timing
    name = f"mix of {len(chosen)} {'real' if real else 'synthetic'} captures"
    work.log(f"timing: {name}")
    parts = [work.classified[item.capture.sha256].packets for item in chosen]
    return timing.measure(parts, wanted.packets, wanted.seconds, name)


def law_rows(work: Work) -> list[LawRow]:
    """Return the table `laws`: the laws of verdicts, checked on every capture with a call."""
    with_calls = [item for item in work.corpus.items if item.calls]
    with Progress("laws", len(with_calls), stream=work.options.stream, log=work.log) as bar:
        return verdict_laws.laws_table(with_calls, work.spec.seed, bar.step)


def conformance_block(spec: Spec) -> dict[str, Any]:
    """Return the block `conformance` of summary.json, empty if the spec does not ask for it."""
    if not spec.conformance:
        return {}
    from midcall.experiments.tools import conformance_text

    return {"conformance": conformance_text.counts(conformance_text.outcomes())}


def summarise(work: Work, tables: Tables, measured: timing.Measured) -> dict[str, Any]:
    """Return summary.json (schema 1)."""
    spec, corpus, classified = work.spec, work.corpus, work.classified
    flows = [row for one in classified.values() for row in one.rows]
    calls = tables["calls"]
    notices = [notice for one in classified.values() for notice in one.notices]
    copied = corpora.copies(corpus.items)
    recognised = table_rows.recognised_rows(spec, corpus, classified)
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
            **corpora.tally(corpus.items),
            "missing": len(corpus.missing),
            "missing_list": corpus.missing,
            "cut": len(notices),
            "copies": copied,
        },
        "warnings": notices,
        "accuracy": summary.accuracy(flows, recognised, spec.seed, copied),
        "verdict": metrics.waits(summary.real(flows)),
        "calls": [{key: row[key] for key in summary.CALL_KEYS} for row in calls],
        "mission": summary.outcome_table(calls),
        "operators": summary.operators(calls),
        "yours": summary.added_calls(calls),
        "answer": summary.answer(summary.real(calls), tables["collateral"]),
        "your_answer": summary.answer(
            [row for row in calls if row["added"] and not row["synthetic"]], tables["collateral"]
        ),
        "collateral": {
            **summary.collateral(tables["collateral"]),
            **bystanders.other_costs(tables),
        },
        "cells": summary.cell_counts(tables["cells"]),
        "intervals": summary.intervals_note(),
        **conformance_block(spec),
        **({"localise": summary.localise(tables["localise"])} if "localise" in tables else {}),
        **({"laws": summary.laws(tables["laws"])} if "laws" in tables else {}),
        **measured.summary,
        "machine": provenance.machine(),
    }


def write(
    work: Work,
    tables: Tables,
    document: dict[str, Any],
    boxes: dict[str, Any] | None,
    files: Mapping[str, bytes],
) -> Path:
    """Write every file of the run; the folder gets its name only when it is complete.

    boxes: the localisation of boxes (experiments.proofs.localiser.spec_run), None without one;
    files: more files of the run, by their path. Results are kept even if the report cannot be
    drawn; the error is raised after that.
    """
    now = datetime.datetime.now(datetime.UTC)
    policies = policy_files(work.spec)
    manifest = origin(work.spec, work.raw, work.corpus, policies, now)
    name = f"{now:%Y%m%dT%H%M%SZ}-{work.spec.name}-{manifest['inputs'][:8]}"
    folder = atomic_folder.free_folder(work.options.runs, name)
    with atomic_folder.whole_folder(folder) as partial:
        (partial / "spec.toml").write_bytes(work.raw)
        policy_data = {f"policies/{file}": data for file, data in policies.items()}
        for file, data in {**policy_data, **files}.items():
            target = partial / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        schema.write_tables(partial, tables)
        schema.write_json(partial / "provenance.json", manifest)
        schema.write_json(partial / "summary.json", document)
        if boxes is not None:
            schema.write_json(partial / "localised.json", boxes)
        work.log(f"results: {folder.name}")
        (partial / "run.log").write_text("\n".join(work.log.lines) + "\n", encoding="utf-8")
        error = atomic_folder.drawn(lambda: render(partial, work.reaction_file))
    if error is not None:
        raise error
    return folder


def render(folder: Path, reaction_file: Path | None) -> Path:
    """Draw the report of a run's folder, with a series of public reaction if there is one."""
    from midcall.experiments.report.html import render as draw

    return draw(folder, reaction_file)
