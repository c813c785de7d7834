# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: every capture under every disturbance, judged beside baselines and peers.

It is a part of every run (`within`), where peers are asked about the captures as they are, and a
command of its own (`midcall evaluate`), where they are asked about every disturbance. Real captures
alone enter the tables; synthetic ones have rows of their own, flagged.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.classifier.statistical import inference
from midcall.experiments.accuracy import baseline_tree as trees
from midcall.experiments.accuracy import model_card, openset, peers, regression, scores
from midcall.experiments.accuracy.innocent_batches import Original
from midcall.experiments.accuracy.measure_flows import ORIGINAL, Looker, Row, Rows, Ward
from midcall.experiments.accuracy.peers.cache import Answers, cache_folder
from midcall.experiments.accuracy.perturb import COLUMNS, ELSEWHERE
from midcall.experiments.jobs import workers
from midcall.experiments.jobs.progress import Log, Progress
from midcall.experiments.measure import baselines, metrics
from midcall.experiments.measure.situations import in_headline
from midcall.experiments.results import atomic_folder, provenance, schema
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Corpus, Item, obtain
from midcall.experiments.spec.manifest import origin
from midcall.experiments.spec.options import default_jobs
from midcall.experiments.spec.spec import Spec

OURS = "midcall"
#: The engine name of the tree that was trained and judged on one random split.
OPTIMISTIC = "tree, optimistic (leaks)"
#: Batches of crafted flows that are worth a process of their own.
WORTH = 8


class Options(NamedTuple):
    """How an evaluation is made.

    jobs: processes of one peer at once, 0 for one per core; peers: "all", "none" or names with
    commas; flows: innocent flows of the regression count, 0 for none.
    """

    corpus: Path | None = None
    jobs: int = 0
    runs: Path = Path("runs")
    stream: TextIO | None = None
    peers: str = "all"
    flows: int = regression.FLOWS


class Finished(NamedTuple):
    """What an evaluation left behind."""

    folder: Path
    summary: dict[str, Any]
    page: Path


class Made(NamedTuple):
    """What an evaluation found: its tables, and the block "evaluation" of summary.json."""

    tables: dict[str, list[Row]]
    told: dict[str, Any]


class Work(NamedTuple):
    """What is to be evaluated, and how; jobs: processes."""

    spec: Spec
    held: Corpus
    ward: Ward
    flows: int
    jobs: int
    stream: TextIO | None


def evaluate(name: str, options: Options) -> Finished:
    """Evaluate over the captures of a spec by name or path; returns the folder of results.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for what a user can mend.
    """
    log = Log()
    wanted = peers.chosen(options.peers)
    spec, raw = specs.load(name)
    atomic_folder.require(options.runs)
    held = obtain(spec, options.corpus, options.stream)
    jobs = options.jobs or default_jobs()
    made = evaluated(Work(spec, held, ward(wanted), options.flows, jobs, options.stream), log)
    told = {
        "schema": 1,
        "spec": {"name": spec.name, "title": spec.title, "seed": spec.seed},
        "evaluation": made.told,
        "machine": provenance.machine(),
    }
    folder, page = write(spec, raw, options, held, made.tables, told, log)
    return Finished(folder, told, page)


def within(spec: Spec, held: Corpus, jobs: int, stream: TextIO | None, log: Log) -> Made | None:
    """Evaluate as a part of a run, on at most `jobs` processes; None where the spec wants none."""
    wanted = spec.evaluation
    if not wanted.enabled:
        return None
    chosen = ward(wanted.peers, (ORIGINAL,))
    return evaluated(Work(spec, held, chosen, wanted.flows, jobs, stream), log)


def ward(names: Sequence[str], columns: Sequence[str] | None = None) -> Ward:
    """Return the peers of that name that are here, and why the others are not."""
    found = {name: peers.find(name) for name in names}
    here = [peer for peer, _ in found.values() if peer is not None]
    absent = {name: reason for name, (peer, reason) in found.items() if peer is None}
    absent |= {name: "was not asked to" for name in peers.NAMES if name not in names}
    return Ward(here, absent, {}, Answers(cache_folder()), columns)


def evaluated(work: Work, log: Log) -> Made:
    """Look at every capture and make the tables; innocent flows are crafted beside that."""
    warm_up(work.stream or sys.stderr)
    original = Original(work.held.items if work.flows else [], packets_of)
    parts = regression.parts(original, work.flows, work.spec.seed)
    some = min(work.jobs - 1, len(parts) // WORTH)
    with workers.beside(regression.counted, parts, some) as made:
        rows, unknown = look(work, log)
        tables = tabulate(work.spec, rows, unknown, work.ward)
        told = block(work, rows, tables)
        if work.flows:
            told["regression"] = counted(work, original, made, log)
    for name, sentences in work.ward.failures.items():
        for sentence in sentences:
            log(f"peer {name}: {sentence}")
    return Made(tables, told)


def look(work: Work, log: Log) -> tuple[Rows, dict[str, list[Row]]]:
    """Return the rows per column, and per app those of the engine without that app."""
    rows: Rows = {column.name: [] for column in COLUMNS}
    unknown: dict[str, list[Row]] = {}
    with (
        Progress("evaluation", len(work.held.items), stream=work.stream, log=log) as bar,
        tempfile.TemporaryDirectory(prefix="midcall-") as folder,
    ):
        looker = Looker(work.spec.seed, work.ward, Path(folder), work.jobs)
        try:
            for item in work.held.items:
                looker.look(item, rows, unknown)
                bar.step(item.capture.name)
        finally:
            looker.close()
    return rows, unknown


def warm_up(stream: TextIO) -> None:
    """Compile the packet path where that was never done, as one process of all."""
    from midcall.captures.jit.kernel import compile_lock
    from midcall.testbed.replay.simulator import warm_up as compile_all

    with compile_lock() as cold:
        if cold:
            print("compiling the packet path, once", file=stream, flush=True)
            compile_all()


def counted(work: Work, original: Original, made: Iterable[list[Row]], log: Log) -> Row:
    """Return the regression count, telling every tenth of it; made: of its crafted part."""
    with Progress("innocent flows, tenths", 10, stream=work.stream, log=log) as bar:

        def told(total: int) -> None:
            for _ in range(bar.done, min(10, 10 * total // work.flows)):
                bar.step(f"{total} innocent flows")

        return regression.run(original, work.flows, work.spec.seed, made, told)


def packets_of(item: Item) -> Packets:
    """Return the packets of a capture, cut or not."""
    return read_with_notices(item.path)[0]


# ---- tables


def engines(rows: Rows, seed: int) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield column, engine and the rows as that engine judged them."""
    forester = trees.Forester(rows[ORIGINAL], seed)
    for column in COLUMNS:
        held = rows[column.name]
        yield column.name, OURS, held
        for name in (*baselines.RULES, *peers.NAMES):
            if held and all(name in row["claims"] for row in held):
                yield column.name, name, [scores.judged(row, row["claims"][name]) for row in held]
        if column.packets:
            yield column.name, "tree", judged_all(held, forester.judge(held))
        if column.name == ORIGINAL:
            yield column.name, OPTIMISTIC, judged_all(held, trees.leaks(held, seed))


def judged_all(rows: Sequence[Row], claims: Sequence[Row]) -> list[Row]:
    """Return rows with a claim each in the place of the verdict."""
    return [scores.judged(row, claim) for row, claim in zip(rows, claims, strict=True)]


#: What baselines and peers do not say: when, in which role, with which confidence.
UNSAID: Row = dict.fromkeys(("p50", "p95", "p99", "ms_p50", "ms_p95", "ms_p99"))
UNSAID |= dict.fromkeys(("waits", "role_n", "role_right", "bare", "bare_honest"), 0)


def tabulate(
    spec: Spec, rows: Rows, unknown: Mapping[str, list[Row]], chosen: Ward
) -> dict[str, list[Row]]:
    """Return the tables of the results."""
    lines, apps, quiet = [], [], []
    titles = {column.name: column.title for column in COLUMNS}
    for column, engine, judged in engines(rows, spec.seed):
        for synthetic in (False, True):
            held = [row for row in judged if of_kind(row, synthetic)]
            if not held:
                continue
            name = f"{column}/{engine}/{synthetic}"
            ours = [row for row in rows[column] if of_kind(row, synthetic)]
            ahead = None if engine == OURS else scores.lead(ours, held, spec.seed, name)
            low, high = ahead or (None, None)
            place = {"column": column, "engine": engine, "synthetic": synthetic}
            line = scores.summary(held, spec.seed, name) | (UNSAID if engine != OURS else {})
            lines.append({**place, "title": titles[column], "lead_low": low, "lead_high": high,
                          **line})  # fmt: skip
            apps += app_lines(held, spec.seed, place)
            quiet += [{**place, **row} for row in scores.innocents(held)]
    closed = [row for row in rows[ORIGINAL] if in_headline(row)]
    return {
        "evaluation": ordered("evaluation", lines),
        "evaluation_apps": ordered("evaluation_apps", apps),
        "evaluation_innocent": ordered("evaluation_innocent", quiet),
        "evaluation_open": ordered("evaluation_open", openset.lines(unknown, closed, spec.seed)),
        "evaluation_flows": ordered("evaluation_flows", flow_lines(rows)),
    }


def of_kind(row: Row, synthetic: bool) -> bool:
    """Tell whether a row is counted among synthetic captures, or among real ones."""
    return bool(row["synthetic"]) if synthetic else in_headline(row)


def ordered(name: str, rows: Sequence[Row]) -> list[Row]:
    """Return rows with the columns of the table of that name, in its order."""
    return [{column: row[column] for column in schema.EVALUATED[name]} for row in rows]


def app_lines(rows: Sequence[Row], seed: int, place: Row) -> list[Row]:
    """Return the counts per app and role."""
    out = []
    for app, roles in metrics.by_app_and_role(rows, seed).items():
        for role, cell in roles.items():
            low, high = cell["interval"] or (None, None)
            out.append({**place, "app": app, "role": role, **cell, "low": low, "high": high})
    return out


def flow_lines(rows: Rows) -> list[Row]:
    """Return every flow of a call and every false call, under every column, without addresses."""
    return [
        {**row, "column": name}
        for name, held in rows.items()
        for row in held
        if row["outcome"] != "quiet"
        and (row["truth_role"] in metrics.SCORED_ROLES or row["outcome"] == "false_call")
    ]


def block(work: Work, rows: Rows, tables: Mapping[str, list[Row]]) -> dict[str, Any]:
    """Return the block "evaluation" of summary.json, without the regression count."""
    elsewhere = [row for row in rows[ELSEWHERE] if in_headline(row)]
    lines = [row for row in tables["evaluation"] if not row["synthetic"]]
    engine = {row["column"]: row for row in lines if row["engine"] == OURS}
    return {
        "columns": lines,
        "synthetic": [row for row in tables["evaluation"] if row["synthetic"]],
        "open_set": tables["evaluation_open"],
        "innocents": [
            row
            for row in tables["evaluation_innocent"]
            if row["engine"] == OURS and row["column"] == ORIGINAL and not row["synthetic"]
        ],
        "calibration": scores.calibration(elsewhere),
        "coverage_risk": scores.coverage_risk(elsewhere),
        "precision": scores.precision_at(engine[ORIGINAL]) if ORIGINAL in engine else [],
        "peers": peer_lines(work.ward),
        "early": early_figures(),
        "regression": None,
    }


def early_figures() -> Row | None:
    """Return what the early model's card measured, by left-out groups; None for another model's.

    It is no measurement of this evaluation: `midcall train` made it from its own captures.
    """
    try:
        told: Row = json.loads(inference.SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if told.get("model") == model_card.digest(inference.shipped()) else None


def peer_lines(chosen: Ward) -> list[Row]:
    """Return a line per peer: its version and how it was asked, or why it took no part."""
    here = {peer.name: peer for peer in chosen.peers}
    return [
        {
            "name": name,
            "title": peers.TITLES[name],
            "version": here[name].version if name in here else None,
            "how": here[name].how if name in here else None,
            "reason": chosen.absent.get(name, ""),
            "everywhere": chosen.columns is None,
            "failures": sorted(chosen.failures.get(name, [])),
        }
        for name in peers.NAMES
    ]


def write(
    spec: Spec,
    raw: bytes,
    options: Options,
    held: Corpus,
    tables: Mapping[str, list[Row]],
    told: dict[str, Any],
    log: Log,
) -> tuple[Path, Path]:
    """Write every file of the evaluation; the folder appears when it is whole. Returns its page."""
    from midcall.experiments.report.evaluation import render

    now = datetime.datetime.now(datetime.UTC)
    found = origin(spec, raw, held, {}, now)
    name = f"{now:%Y%m%dT%H%M%SZ}-evaluate-{found['inputs'][:8]}"
    folder = atomic_folder.free_folder(options.runs, name)
    with atomic_folder.whole_folder(folder) as fresh:
        (fresh / "spec.toml").write_bytes(raw)
        for name, rows in tables.items():
            schema.write_table(fresh, name, rows)
        schema.write_json(fresh / "provenance.json", found)
        schema.write_json(fresh / "summary.json", told)
        (fresh / "run.log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
        page = render(fresh)
    return folder, folder / page.name


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return what a person reads at the end: a line per disturbance, the open set, the count."""
    out = []
    for row in told["evaluation"]["columns"]:
        if row["engine"] == OURS:
            macro = "n/a" if row["macro_f1"] is None else f"{row['macro_f1']:.3f}"
            out.append(
                f"{row['title']:<32} {row['right']:>3} of {row['n']:>3} flows named right, "
                f"{row['other_call']} as another app, macro-F1 {macro}; "
                f"{row['false_calls']} of {row['innocent']} innocent flows taken for a call"
            )
    per_app = [row for row in told["evaluation"]["open_set"] if row["app"] != openset.ALL]
    flows, wrong = (sum(row[name] for row in per_app) for name in ("n", "other_app"))
    out.append(f"an app that the box does not know: {wrong} of {flows} flows named as another app")
    count = told["evaluation"].get("regression")
    if count:
        out.append(
            f"{count['calls']} of {count['flows']} crafted or re-addressed innocent flows taken "
            f"for a call ({count['note'].split(':')[0]})"
        )
    return out
