# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: every capture under every disturbance, compared with baselines and peers.

Classifiers that the user gives (`Options.classifiers`) are asked and judged as peers are.

It is a part of every run (`within`), in which peers classify only the undisturbed captures, and a
command (`midcall evaluate`), in which they classify every disturbance. Figures are of real captures
only; synthetic ones have separate, flagged rows.
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
from midcall.experiments.accuracy.measure_flows import (
    ORIGINAL,
    FlowClassifier,
    PeerSelection,
    Row,
    Rows,
)
from midcall.experiments.accuracy.peers import given as given_classifiers
from midcall.experiments.accuracy.peers.cache import Answers, cache_folder
from midcall.experiments.accuracy.peers.given import Given
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
#: The engine name of the tree that was trained and tested on one random split.
OPTIMISTIC = "tree, optimistic (leaks)"
#: Batches of crafted flows for which one more process pays off.
WORTH = 8
#: Errors of one classifier that are logged; summary.json has all.
LOGGED = 10


class Options(NamedTuple):
    """Options of an evaluation.

    jobs: processes of one peer at once, 0 for one per core; peers: "all", "none" or names with
    commas; flows: innocent flows of the regression count, 0 for none; classifiers: of the user,
    each a command "NAME=COMMAND {capture}" (NAME= may be left out) or what
    `experiments.accuracy.classifier` returns; seconds: the time limit of a command for one file.
    """

    corpus: Path | None = None
    jobs: int = 0
    runs: Path = Path("runs")
    stream: TextIO | None = None
    peers: str = "all"
    flows: int = regression.FLOWS
    classifiers: Sequence[str | Given] = ()
    seconds: float = given_classifiers.TIMEOUT


class Finished(NamedTuple):
    """Results of an evaluation: its folder, summary.json, and its page."""

    folder: Path
    summary: dict[str, Any]
    page: Path


class Made(NamedTuple):
    """Results of an evaluation: its tables, and the block "evaluation" of summary.json."""

    tables: dict[str, list[Row]]
    evaluation: dict[str, Any]


class Work(NamedTuple):
    """The input of an evaluation; flows: of the regression count; jobs: processes."""

    spec: Spec
    corpus: Corpus
    ward: PeerSelection
    flows: int
    jobs: int
    stream: TextIO | None


def evaluate(name: str, options: Options) -> Finished:
    """Evaluate on the captures of a spec, by name or path; returns the folder of results.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for errors that a user can
    correct.
    """
    log = Log()
    names = peers.chosen(options.peers)
    given = given_classifiers.chosen(options.classifiers, options.seconds)
    spec, raw = specs.load(name)
    atomic_folder.require(options.runs)
    corpus = obtain(spec, options.corpus, options.stream)
    jobs = options.jobs or default_jobs()
    taking_part = ward(names)._replace(given=given)
    made = evaluated(Work(spec, corpus, taking_part, options.flows, jobs, options.stream), log)
    document = {
        "schema": 1,
        "spec": {"name": spec.name, "title": spec.title, "seed": spec.seed},
        "evaluation": made.evaluation,
        "machine": provenance.machine(),
    }
    folder, page = write(spec, raw, options, corpus, made.tables, document, log)
    return Finished(folder, document, page)


def within(spec: Spec, corpus: Corpus, jobs: int, stream: TextIO | None, log: Log) -> Made | None:
    """Evaluate as a part of a run, on at most `jobs` processes; None if the spec disables it."""
    settings = spec.evaluation
    if not settings.enabled:
        return None
    taking_part = ward(settings.peers, (ORIGINAL,))
    return evaluated(Work(spec, corpus, taking_part, settings.flows, jobs, stream), log)


def ward(names: Sequence[str], columns: Sequence[str] | None = None) -> PeerSelection:
    """Return the installed peers of these names, and why the others do not take part."""
    peer_of = {name: peers.find(name) for name in names}
    available = [peer for peer, _ in peer_of.values() if peer is not None]
    absent = {name: reason for name, (peer, reason) in peer_of.items() if peer is None}
    absent |= {name: "was not asked to" for name in peers.NAMES if name not in names}
    return PeerSelection(available, absent, {}, Answers(cache_folder()), columns)


def evaluated(work: Work, log: Log) -> Made:
    """Classify every capture and make the tables; count crafted flows in other processes."""
    warm_up(work.stream or sys.stderr)
    original = Original(work.corpus.items if work.flows else [], packets_of)
    parts = regression.parts(original, work.flows, work.spec.seed)
    processes = min(work.jobs - 1, len(parts) // WORTH)
    with workers.run_in_background(regression.counted, parts, processes) as made:
        rows, unknown = classify_all(work, log)
        tables = tabulate(work.spec, rows, unknown, work.ward)
        evaluation = evaluation_block(work, rows, tables)
        if work.flows:
            evaluation["regression"] = counted(work, original, made, log)
    log_failures(work.ward, log)
    return Made(tables, evaluation)


def log_failures(taking_part: PeerSelection, log: Log) -> None:
    """Log what went wrong with each peer, and the first LOGGED errors of each given classifier."""
    given = {one.name for one in taking_part.given}
    for name, sentences in taking_part.failures.items():
        kind, most = ("classifier", LOGGED) if name in given else ("peer", len(sentences))
        for sentence in sentences[:most]:
            log(f"{kind} {name}: {sentence}")
        if len(sentences) > most:
            log(f"{kind} {name}: {len(sentences) - most} more errors are in summary.json")


def classify_all(work: Work, log: Log) -> tuple[Rows, dict[str, list[Row]]]:
    """Return the rows per column, and per app the rows of the engine without that app."""
    rows: Rows = {column.name: [] for column in COLUMNS}
    unknown: dict[str, list[Row]] = {}
    with (
        Progress("evaluation", len(work.corpus.items), stream=work.stream, log=log) as bar,
        tempfile.TemporaryDirectory(prefix="midcall-") as folder,
    ):
        classifier = FlowClassifier(work.spec.seed, work.ward, Path(folder), work.jobs)
        try:
            for item in work.corpus.items:
                classifier.look(item, rows, unknown)
                bar.step(item.capture.name)
        finally:
            classifier.close()
    return rows, unknown


def warm_up(stream: TextIO) -> None:
    """Compile the packet path if it was never compiled, in one process at a time."""
    from midcall.captures.jit.kernel import compile_lock
    from midcall.testbed.replay.simulator import warm_up as compile_all

    with compile_lock() as cold:
        if cold:
            print("compiling the packet path, once", file=stream, flush=True)
            compile_all()


def counted(work: Work, original: Original, crafted_counts: Iterable[list[Row]], log: Log) -> Row:
    """Return the regression count, with progress per tenth.

    crafted_counts: the counts of its crafted batches.
    """
    with Progress("innocent flows, tenths", 10, stream=work.stream, log=log) as bar:

        def progress(total: int) -> None:
            for _ in range(bar.done, min(10, 10 * total // work.flows)):
                bar.step(f"{total} innocent flows")

        return regression.run(original, work.flows, work.spec.seed, crafted_counts, progress)


def packets_of(item: Item) -> Packets:
    """Return the packets of a capture, even if its file is cut."""
    return read_with_notices(item.path)[0]


# ---- tables


def engines(
    rows: Rows, seed: int, given: Sequence[str] = ()
) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield column, engine and the rows with that engine's verdicts.

    given: names of the user's classifiers.
    """
    trees_per_group = trees.TreePerGroup(rows[ORIGINAL], seed)
    for column in COLUMNS:
        own = rows[column.name]
        yield column.name, OURS, own
        for name in (*given, *baselines.RULES, *peers.NAMES):
            if own and all(name in row["claims"] for row in own):
                yield column.name, name, [scores.judged(row, row["claims"][name]) for row in own]
        if column.packets:
            yield column.name, "tree", judged_all(own, trees_per_group.judge(own))
        if column.name == ORIGINAL:
            yield column.name, OPTIMISTIC, judged_all(own, trees.leaks(own, seed))


def judged_all(rows: Sequence[Row], claims: Sequence[Row]) -> list[Row]:
    """Return the rows with each verdict replaced by a claim."""
    return [scores.judged(row, claim) for row, claim in zip(rows, claims, strict=True)]


#: Columns that baselines and peers do not have: time to verdict, role, confidence.
NOT_GIVEN: Row = dict.fromkeys(("p50", "p95", "p99", "ms_p50", "ms_p95", "ms_p99"))
NOT_GIVEN |= dict.fromkeys(("waits", "role_n", "role_right", "bare", "bare_honest"), 0)


def tabulate(
    spec: Spec, rows: Rows, unknown: Mapping[str, list[Row]], chosen: PeerSelection
) -> dict[str, list[Row]]:
    """Return the tables of the results."""
    lines, apps, quiet = [], [], []
    titles = {column.name: column.title for column in COLUMNS}
    given = [one.name for one in chosen.given]
    for column, engine, judged in engines(rows, spec.seed, given):
        for synthetic in (False, True):
            selected = [row for row in judged if counts_among(row, synthetic)]
            if not selected:
                continue
            name = f"{column}/{engine}/{synthetic}"
            own = [row for row in rows[column] if counts_among(row, synthetic)]
            ahead = None if engine == OURS else scores.lead(own, selected, spec.seed, name)
            low, high = ahead or (None, None)
            place = {"column": column, "engine": engine, "synthetic": synthetic}
            line = scores.summary(selected, spec.seed, name) | (NOT_GIVEN if engine != OURS else {})
            lines.append({**place, "title": titles[column], "lead_low": low, "lead_high": high,
                          **line})  # fmt: skip
            apps += app_lines(selected, spec.seed, place)
            quiet += [{**place, **row} for row in scores.innocents(selected)]
    closed = [row for row in rows[ORIGINAL] if in_headline(row)]
    return {
        "evaluation": ordered("evaluation", lines),
        "evaluation_apps": ordered("evaluation_apps", apps),
        "evaluation_innocent": ordered("evaluation_innocent", quiet),
        "evaluation_open": ordered("evaluation_open", openset.lines(unknown, closed, spec.seed)),
        "evaluation_flows": ordered("evaluation_flows", flow_lines(rows)),
    }


def counts_among(row: Row, synthetic: bool) -> bool:
    """Return whether a row counts among synthetic captures, or among real ones."""
    return bool(row["synthetic"]) if synthetic else in_headline(row)


def ordered(name: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the columns of the named table, in its order."""
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
        for name, column_rows in rows.items()
        for row in column_rows
        if row["outcome"] != "quiet"
        and (row["truth_role"] in metrics.SCORED_ROLES or row["outcome"] == "false_call")
    ]


def evaluation_block(work: Work, rows: Rows, tables: Mapping[str, list[Row]]) -> dict[str, Any]:
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
    """Return the figures of the early model's card, None if they are of another model.

    They are not measured by this evaluation but by `midcall train`, with groups left out.
    """
    try:
        figures: Row = json.loads(
            inference.SHIPPED.with_suffix(".json").read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return None
    return figures if figures.get("model") == model_card.digest(inference.shipped()) else None


def peer_lines(taking_part: PeerSelection) -> list[Row]:
    """Return a line per peer: its version and options, or why it took no part.

    The user's classifiers come first; they have `given`.
    """
    available = {peer.name: peer for peer in taking_part.peers}
    given = [
        {
            "name": one.name,
            "title": one.name,
            "version": one.version,
            "how": one.how,
            "reason": "",
            "everywhere": True,
            "failures": taking_part.failures.get(one.name, []),
            "given": True,
        }
        for one in taking_part.given
    ]
    return given + [
        {
            "name": name,
            "title": peers.TITLES[name],
            "version": available[name].version if name in available else None,
            "how": available[name].how if name in available else None,
            "reason": taking_part.absent.get(name, ""),
            "everywhere": taking_part.columns is None,
            "failures": sorted(taking_part.failures.get(name, [])),
            "given": False,
        }
        for name in peers.NAMES
    ]


def write(
    spec: Spec,
    raw: bytes,
    options: Options,
    corpus: Corpus,
    tables: Mapping[str, list[Row]],
    document: dict[str, Any],
    log: Log,
) -> tuple[Path, Path]:
    """Write every file of the evaluation; return its folder and page.

    The folder gets its name only when it is complete.
    """
    from midcall.experiments.report.evaluation import render

    now = datetime.datetime.now(datetime.UTC)
    manifest = origin(spec, raw, corpus, {}, now)
    name = f"{now:%Y%m%dT%H%M%SZ}-evaluate-{manifest['inputs'][:8]}"
    folder = atomic_folder.free_folder(options.runs, name)
    with atomic_folder.whole_folder(folder) as partial:
        (partial / "spec.toml").write_bytes(raw)
        for name, rows in tables.items():
            schema.write_table(partial, name, rows)
        schema.write_schema(partial, tables)
        schema.write_json(partial / "provenance.json", manifest)
        schema.write_json(partial / "summary.json", document)
        (partial / "run.log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
        page = render(partial)
    return folder, folder / page.name


def lines(document: Mapping[str, Any]) -> list[str]:
    """Return the printed summary: a line per disturbance, the open set, the regression count."""
    out = []
    for row in document["evaluation"]["columns"]:
        if row["engine"] == OURS:
            macro = "n/a" if row["macro_f1"] is None else f"{row['macro_f1']:.3f}"
            out.append(
                f"{row['title']:<32} {row['right']:>3} of {row['n']:>3} flows named right, "
                f"{row['other_call']} as another app, macro-F1 {macro}; "
                f"{row['false_calls']} of {row['innocent']} innocent flows taken for a call"
            )
    per_app = [row for row in document["evaluation"]["open_set"] if row["app"] != openset.ALL]
    flows, wrong = (sum(row[name] for row in per_app) for name in ("n", "other_app"))
    out += given_lines(document["evaluation"])
    out.append(f"an app that the box does not know: {wrong} of {flows} flows named as another app")
    count = document["evaluation"].get("regression")
    if count:
        out.append(
            f"{count['calls']} of {count['flows']} crafted or re-addressed innocent flows taken "
            f"for a call ({count['note'].split(':')[0]})"
        )
    return out


def given_lines(block: Mapping[str, Any]) -> list[str]:
    """Return the printed lines of the user's classifiers: as captured, the worst, its errors."""
    out = []
    for one in block.get("peers") or []:
        if not one.get("given"):
            continue
        rows = [row for row in block["columns"] if row["engine"] == one["name"]]
        first = [row for row in rows if row["column"] == ORIGINAL]
        worst = min(rows, key=lambda row: row["right"] / max(row["n"], 1), default=None)
        for row in first:
            out.append(
                f"{one['name']}, as captured: {row['right']} of {row['n']} flows named right, "
                f"{row['other_call']} as another app; {row['false_calls']} of {row['innocent']} "
                "innocent flows taken for a call"
            )
        if worst is not None and worst["column"] != ORIGINAL:
            out.append(
                f"{one['name']}, fewest: {worst['right']} of {worst['n']} flows named right under "
                f"“{worst['title']}”"
            )
        if one["failures"]:
            files = len(one["failures"])
            out.append(f"{one['name']}: errors in {files} files; the first: {one['failures'][0]}")
    return out
