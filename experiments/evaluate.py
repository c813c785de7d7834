# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: every capture under every disturbance, judged beside baselines and peers.

Per capture and column (experiments.disturb) the engine reads the disturbed packets from nothing; a
flow of the truth is met again through its packets, never through its address. Real captures alone
enter the table; synthetic ones have rows of their own, flagged.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from captures.errors import CaptureError
from captures.pcap import read_with_notices, write_pcap
from classifier.verdicts import APPS
from experiments import baselines, measures, metrics, offline, peers, provenance, results, runner
from experiments import spec as specs
from experiments import tree as trees
from experiments.corpus import Corpus, Item
from experiments.disturb import COLUMNS, Column, Disturbed, disturb, unscored
from experiments.progress import Progress
from experiments.spec import Spec
from testbed.survey import Survey, survey

Row = dict[str, Any]
#: Column name -> rows, one per scored flow of the truth.
Rows = dict[str, list[Row]]

OURS = "midcall"
ORIGINAL = COLUMNS[0].name
#: The engine name of the tree that was trained and judged on one random split.
OPTIMISTIC = "tree, optimistic (leaks)"


class Options(NamedTuple):
    """How an evaluation is made; none of it changes a figure.

    jobs: peers' processes at once, 0 for one per core.
    """

    corpus: Path | None = None
    jobs: int = 0
    runs: Path = Path("runs")
    stream: TextIO | None = None


class Finished(NamedTuple):
    """What an evaluation left behind."""

    folder: Path
    summary: dict[str, Any]
    page: Path


class Truth(NamedTuple):
    """The truth of one flow; `flow` is its number in the survey, -1 where no packet is one."""

    flow: int
    frame: int
    proto: str
    app: str
    role: str
    call: str | None
    confidence: str


class Ward(NamedTuple):
    """The peer that takes part, or why none does, and what went wrong with it."""

    peer: peers.Peer | None
    reason: str
    failures: list[str]


def evaluate(name: str, options: Options) -> Finished:
    """Evaluate over the captures of a spec by name or path; returns the folder of results.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for what a user can mend.
    """
    log = runner.Log()
    spec, raw = specs.load(name)
    held = runner.obtain(spec, runner.Options(options.corpus, stream=options.stream))
    peer, reason = peers.find()
    ward = Ward(peer, reason, [])
    rows, unknown = look(held, spec, options, ward, log)
    tables, told = tabulate(spec, rows, unknown, ward)
    folder = write(spec, raw, options, held, tables, told, log)
    from experiments.evaluation import render

    return Finished(folder, told, render(folder))


def look(
    held: Corpus, spec: Spec, options: Options, ward: Ward, log: runner.Log
) -> tuple[Rows, dict[str, list[Row]]]:
    """Return the rows per column, and per app those of the engine without that app."""
    rows: Rows = {column.name: [] for column in COLUMNS}
    unknown: dict[str, list[Row]] = {}
    jobs = options.jobs or runner.default_jobs()
    with (
        Progress("captures", len(held.items), stream=options.stream, log=log) as bar,
        tempfile.TemporaryDirectory(prefix="midcall-") as folder,
        ThreadPoolExecutor(jobs) as pool,
    ):
        warm_up(bar)
        looker = Looker(spec.seed, ward, Path(folder), pool)
        for item in held.items:
            looker.look(item, rows, unknown)
            bar.step(item.capture.name)
    for line in ward.failures:
        log(f"peer: {line}")
    return rows, unknown


def warm_up(bar: Progress) -> None:
    """Compile the packet path where that was never done, as one process of all."""
    from captures.compiled import compile_lock
    from testbed.virtual import warm_up as compile_all

    with compile_lock() as cold:
        if cold:
            print("compiling the packet path, once", file=bar.stream, flush=True)
            compile_all()


class Looker:
    """Looks at one capture after the other under every column."""

    def __init__(self, seed: int, ward: Ward, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.seed, self.ward, self.folder, self.pool = seed, ward, folder, pool

    def look(self, item: Item, rows: Rows, unknown: dict[str, list[Row]]) -> None:
        """Add the rows of one capture."""
        packets, _ = read_with_notices(item.path)
        held = survey(packets)
        known = truths(item, held)
        if not known:
            return
        made = {
            column.name: disturb(column, held, self.seed, item.capture.sha256) for column in COLUMNS
        }
        fresh = {
            column.name: column_rows(item, held, known, column, made[column.name])
            for column in COLUMNS
        }
        if self.ward.peer is not None:
            self.ask_peer(self.ward.peer, made, fresh)
        for name, held_rows in fresh.items():
            rows[name] += held_rows
        if not item.capture.synthetic:
            for app, found in open_rows(item, held, known, made[ORIGINAL]):
                unknown.setdefault(app, []).extend(found)

    def ask_peer(self, peer: peers.Peer, made: Mapping[str, Disturbed], fresh: Rows) -> None:
        """Put the peer's claim into the rows of every column that disturbs packets."""
        asked = [column.name for column in COLUMNS if not column.engine]
        work = {name: self.pool.submit(self.labels, peer, name, made[name]) for name in asked}
        for name, future in work.items():
            found, reason = future.result()
            if reason:
                capture = fresh[name][0]["capture"]
                self.ward.failures.append(f"{peer.name}: {capture}, {name}: {reason}")
            for row in fresh[name]:
                label = found.get(row["key"], "") if row["key"] else ""
                row["claims"][peer.name] = peers.claim(label, 17 if row["proto"] == "udp" else 6)

    def labels(
        self, peer: peers.Peer, name: str, after: Disturbed
    ) -> tuple[dict[peers.Key, str], str]:
        """Write the packets to a file and return what the peer says of its flows."""
        path = self.folder / f"{name}.pcap"
        try:
            write_pcap(path, after.packets)
        except CaptureError:  # of several link types
            return {}, "a pcap file holds one link type, this capture has several"
        return peers.label_flows(peer, path, self.folder)


# ---- rows


def truths(item: Item, held: Survey) -> list[Truth]:
    """Return the truth of every flow that may be scored."""
    flows = held.flows
    if item.innocent:
        wanted = {6: "tcp", 17: "udp"}
        return [
            Truth(at, int(flow["first_record"]) + 1, wanted[int(flow["proto"])],
                  "none", "other", None, "high")
            for at, flow in enumerate(flows)
            if int(flow["proto"]) in wanted
        ]  # fmt: skip
    number = held.facts["flow"]
    return [
        Truth(
            int(number[label.frame - 1]) if 0 < label.frame <= len(number) else -1,
            label.frame,
            label.proto,
            label.app,
            label.role,
            label.call or None,
            label.confidence,
        )
        for label in item.labels
        if label.scored
    ]


def met(held: Survey, after: Disturbed, numbers: NDArray[np.int64]) -> dict[int, list[int]]:
    """Return flow of the survey -> flows of the engine in which its packets went."""
    pairs = np.stack((held.facts["flow"][after.origin], numbers), 1)
    found: dict[int, list[int]] = {}
    for flow, number in np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0).tolist():
        found.setdefault(flow, []).append(number)
    return found


def column_rows(
    item: Item, held: Survey, known: Sequence[Truth], column: Column, after: Disturbed
) -> list[Row]:
    """Return the rows of one capture under one column, with the claims of simple rules."""
    said, numbers = offline.classify_packets(after.packets, item.capture.name, column.engine)
    streams = baselines.rtp_flows(after.packets, numbers, len(said))
    places = met(held, after, numbers)
    why = unscored(column, held, after)
    seen = payloads(held, after)
    rows = []
    for truth in known:
        flows = places.get(truth.flow, [])
        row = flow_row(item, truth, [said[at] for at in flows], why.get(truth.flow, ""))
        row["strict_rtp"] = any(bool(streams[at]) for at in flows)
        row["features"] = trees.features(*seen(truth.flow))
        row["claims"] = {name: rule(row) for name, rule in baselines.RULES.items()}
        rows.append(row)
    return rows


Numbers = NDArray[np.int64]


def payloads(held: Survey, after: Disturbed) -> Callable[[int], tuple[Numbers, Numbers, Numbers]]:
    """Return what gives sizes, times and directions of a flow's first payload packets."""
    facts = held.facts[after.origin]
    payload = np.flatnonzero((facts["size"] > 0) & (facts["flow"] >= 0))
    order = payload[np.argsort(facts["flow"][payload], kind="stable")]
    flow = facts["flow"][order]

    def of(number: int) -> tuple[Numbers, Numbers, Numbers]:
        first, last = np.searchsorted(flow, (number, number + 1))
        which = order[first : min(last, first + trees.PACKETS)]
        return facts["size"][which], after.packets.time[which], facts["up"][which]

    return of


def flow_row(item: Item, truth: Truth, said: Sequence[Row], why: str) -> Row:
    """Return one flow's truth beside the strongest record that the engine has of it."""
    capture = item.capture
    none = dict.fromkeys(("src_ip", "src_port", "dst_ip", "dst_port", "confidence"))
    waits = dict.fromkeys(("packets_to_verdict", "ms_to_verdict"))
    blank: Row = {**offline.SILENT, **none, **waits, "evidence": "no flow in the engine's table"}
    best = max(said, key=metrics.rank) if said else blank
    row = {
        **{name: best[name] for name in blank},
        "key": key_of(best, truth.proto),
        "capture": capture.name,
        "synthetic": capture.synthetic,
        "group": capture.group,
        "innocent": item.innocent,
        "frame": truth.frame,
        "proto": truth.proto,
        "truth_app": truth.app,
        "truth_role": truth.role,
        "truth_call": truth.call,
        "truth_confidence": truth.confidence,
        "why": why,
    }
    row["outcome"] = "unscored" if why else measures.outcome(row)
    return row


def key_of(row: Row, proto: str) -> peers.Key | None:
    """Return the key under which a peer knows the flow; None where the engine has no flow."""
    number = {"tcp": 6, "udp": 17}.get(proto)
    if row["src_ip"] is None or number is None:
        return None
    ends = ((row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"]))
    return number, frozenset(peers.end(address, port) for address, port in ends)


def open_rows(
    item: Item, held: Survey, known: Sequence[Truth], after: Disturbed
) -> Iterator[tuple[str, list[Row]]]:
    """Yield each app of the capture with its flows as an engine without that app sees them."""
    families = {metrics.family(truth.app) for truth in known if truth.role in metrics.SCORED_ROLES}
    for app in sorted(families - {measures.NAMELESS, "none"}):
        switches = {"without": APPS.index(app)}
        said, numbers = offline.classify_packets(after.packets, item.capture.name, switches)
        places = met(held, after, numbers)
        yield (
            app,
            [
                flow_row(item, truth, [said[at] for at in places.get(truth.flow, [])], "")
                for truth in known
                if metrics.family(truth.app) == app
            ],
        )


# ---- tables


def engines(rows: Rows, seed: int, ward: Ward) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield column, engine and the rows as that engine judged them."""
    forester = trees.Forester(rows[ORIGINAL], seed)
    for column in COLUMNS:
        held = rows[column.name]
        yield column.name, OURS, held
        for name in (*baselines.RULES, *([ward.peer.name] if ward.peer else [])):
            if all(name in row["claims"] for row in held):
                yield column.name, name, [measures.judged(row, row["claims"][name]) for row in held]
        if not column.engine:
            yield column.name, "tree", judged_all(held, forester.judge(held))
        if column.name == ORIGINAL:
            yield column.name, OPTIMISTIC, judged_all(held, trees.leaks(held, seed))


def judged_all(rows: Sequence[Row], claims: Sequence[Row]) -> list[Row]:
    """Return rows with a claim each in the place of the verdict."""
    return [measures.judged(row, claim) for row, claim in zip(rows, claims, strict=True)]


def tabulate(
    spec: Spec, rows: Rows, unknown: Mapping[str, list[Row]], ward: Ward
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Return the tables of the results and summary.json."""
    lines, apps = [], []
    titles = {column.name: column.title for column in COLUMNS}
    for column, engine, judged in engines(rows, spec.seed, ward):
        for synthetic in (False, True):
            held = [row for row in judged if row["synthetic"] == synthetic]
            if not held:
                continue
            name = f"{column}/{engine}/{synthetic}"
            ours = [row for row in rows[column] if row["synthetic"] == synthetic]
            ahead = None if engine == OURS else measures.lead(ours, held, spec.seed, name)
            low, high = ahead or (None, None)
            place = {"column": column, "engine": engine, "synthetic": synthetic}
            line = measures.summary(held, spec.seed, name)
            if engine != OURS:
                line |= {"waits": 0, "p50": None, "p95": None, "role_n": 0, "role_right": 0}
            lines.append({**place, "title": titles[column], "lead_low": low, "lead_high": high,
                          **line})  # fmt: skip
            apps += app_lines(held, spec.seed, place)
    tables = {
        "evaluation": ordered("evaluation", lines),
        "evaluation_apps": ordered("evaluation_apps", apps),
        "evaluation_open": measures.open_lines(unknown),
        "evaluation_flows": ordered("evaluation_flows", flow_lines(rows)),
    }
    return tables, summarise(spec, rows, tables, ward)


def ordered(name: str, rows: Sequence[Row]) -> list[Row]:
    """Return rows with the columns of the table of that name, in its order."""
    return [{column: row[column] for column in results.EVALUATED[name]} for row in rows]


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


def summarise(
    spec: Spec, rows: Rows, tables: Mapping[str, list[Row]], ward: Ward
) -> dict[str, Any]:
    """Return summary.json (schema 1)."""
    real = [row for row in rows[ORIGINAL] if not row["synthetic"]]
    lines = [row for row in tables["evaluation"] if not row["synthetic"]]
    engine = {row["column"]: row for row in lines if row["engine"] == OURS}
    return {
        "schema": 1,
        "spec": {"name": spec.name, "title": spec.title, "seed": spec.seed},
        "evaluation": {
            "columns": lines,
            "synthetic": [row for row in tables["evaluation"] if row["synthetic"]],
            "open_set": tables["evaluation_open"],
            "calibration": measures.calibration(real),
            "coverage_risk": measures.coverage_risk(real),
            "precision": measures.precision_at(engine[ORIGINAL]) if ORIGINAL in engine else [],
            "peer": {
                "name": ward.peer.name if ward.peer else "ndpi",
                "version": ward.peer.version if ward.peer else None,
                "reason": ward.reason,
                "failures": ward.failures,
            },
        },
        "machine": provenance.machine(),
    }


def write(
    spec: Spec,
    raw: bytes,
    options: Options,
    held: Corpus,
    tables: Mapping[str, list[Row]],
    told: dict[str, Any],
    log: runner.Log,
) -> Path:
    """Write every file of the evaluation; the folder appears when it is whole."""
    now = datetime.datetime.now(datetime.UTC)
    origin = runner.provenance_of(spec, raw, held, now)
    name = f"{now:%Y%m%dT%H%M%SZ}-evaluate-{origin['inputs'][:8]}"
    folder = runner.free_folder(options.runs, name)
    with runner.whole_folder(folder) as fresh:
        (fresh / "spec.toml").write_bytes(raw)
        for name, rows in tables.items():
            results.write_table(fresh, name, rows)
        results.write_json(fresh / "provenance.json", origin)
        results.write_json(fresh / "summary.json", told)
        (fresh / "run.log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    return folder


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return what a person reads at the end: one line per disturbance, and the open set."""
    out = []
    for row in told["evaluation"]["columns"]:
        if row["engine"] == OURS:
            macro = "n/a" if row["macro_f1"] is None else f"{row['macro_f1']:.3f}"
            out.append(
                f"{row['title']:<32} {row['right']:>3} of {row['n']:>3} flows named right, "
                f"{row['other_call']} as another app, macro-F1 {macro}; "
                f"{row['false_calls']} of {row['innocent']} innocent flows taken for a call"
            )
    per_app = [row for row in told["evaluation"]["open_set"] if row["app"] != measures.ALL]
    flows, wrong = (sum(row[name] for row in per_app) for name in ("n", "other_app"))
    out.append(f"an app that the box does not know: {wrong} of {flows} flows named as another app")
    return out
