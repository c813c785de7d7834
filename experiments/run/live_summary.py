# SPDX-License-Identifier: BSD-3-Clause
"""Further results of a live run: parity with virtual time, proofs, timing, live bench figures.

The block is `live` of summary.json. The tables are `live_calls` (a row per call and cell, with the
verdict live and in virtual time) and `live_bench` (every trial of the newest live bench).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.experiments.bench import live as bench_live
from midcall.experiments.cells.live_cell import LiveBench, Play
from midcall.experiments.cells.virtual_cell import Outcome
from midcall.experiments.results.provenance import code_digest
from midcall.experiments.spec import corpus
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import Spec

Row = dict[str, Any]

#: The name of the load under which the latency of the replayed captures is reported.
REPLAY = "replay"


class Shown(NamedTuple):
    """Results that a live run adds: `live` of summary.json, and tables by name."""

    live: Row
    tables: dict[str, list[Row]]


def summarise(
    spec: Spec,
    grid: Sequence[Cell],
    captures: Corpus,
    bench: LiveBench,
    outcomes: Mapping[int, Outcome],
    runs: Path,
) -> Shown:
    """Return the results that a live run adds, with the newest live bench below `runs`."""
    rows = call_rows(spec, grid, captures, outcomes)
    measured = bench_live.latest(runs)
    live = {
        "parity": parity(rows),
        "fates": fates(bench.played),
        "replay_error_us": percentiles([play.error_us for play in bench.played]),
        "latency_us": latency(bench.played),
        "loss_free_pps": {},
        "plays": len(bench.played),
        "seconds_cut": spec.seconds,
        "seconds": round(sum(play.seconds for play in bench.played), 1),
        "middlebox": spec.middlebox,
        "counters": counters(bench.played),
        "bench": None,
    }
    if measured is not None:
        join(live, measured)
    return Shown(live, {"live_calls": rows, "live_bench": bench_rows(measured)})


def call_rows(
    spec: Spec, grid: Sequence[Cell], captures: Corpus, outcomes: Mapping[int, Outcome]
) -> list[Row]:
    """Return one row per cell and call: verdict live and in virtual time, cause, proven packets."""
    return [
        {
            **grid[at].place(),
            "capture": item.capture.name,
            "call": call.id,
            "app": call.app,
            "kind": call.kind,
            "synthetic": item.capture.synthetic,
            "verdict": entry["verdict"],
            "virtual": entry["twin"],
            "agree": None if entry["twin"] is None else entry["twin"] == entry["verdict"],
            "cause": entry["cause"],
            "packets": entry["packets"],
            "proven": entry["proven"],
            "play": outcomes[at]["key"][:8],
        }
        for at, item, call, entry in corpus.counted(captures, spec.apps, outcomes)
    ]


def parity(rows: Sequence[Row]) -> Row:
    """Return in how many cells, and for how many calls, the verdict is that of virtual time.

    Cells with the same rules share a play; `calls` counts each call once per play.
    """
    compared = [row for row in rows if row["agree"] is not None]
    cells: dict[tuple[str, ...], bool] = {}
    calls: dict[tuple[str, ...], bool] = {}
    for row in compared:
        place = (row["operator"], row["hypothesis"], row["access"], row["date"])
        cells[place] = cells.get(place, True) and row["agree"]
        calls[row["play"], row["capture"], row["call"]] = row["agree"]
    return {
        "cells": len(cells),
        "agree": sum(cells.values()),
        "calls": len(calls),
        "calls_agree": sum(calls.values()),
    }


def fates(played: Sequence[Play]) -> Row:
    """Return the packets sent, and those whose fate the tap traces confirm, over all plays."""
    return {key: sum(play.fates[key] for play in played) for key in ("packets", "proven")}


def percentiles(parts: Sequence[NDArray[np.float64]]) -> Row:
    """Return p50, p99, p99.9 (µs) and n over several arrays; None without values."""
    whole = np.concatenate(parts) if parts else np.zeros(0)
    row: Row = {"n": len(whole)}
    for name, share in (("p50", 50), ("p99", 99), ("p999", 99.9)):
        row[name] = round(float(np.percentile(whole, share)), 2) if len(whole) else None
    return row


def latency(played: Sequence[Play]) -> Row:
    """Return, per path, the latency that the box added to packets that no rule delayed."""
    paths = dict.fromkeys(play.path for play in played)
    return {
        path: {REPLAY: percentiles([play.added_us for play in played if play.path == path])}
        for path in paths
    }


def counters(played: Sequence[Play]) -> dict[str, int]:
    """Return every counter summed over all plays."""
    total: Counter[str] = Counter()
    for play in played:
        total.update(play.counters)
    return dict(sorted(total.items()))


# ---- the live bench


def join(live: Row, measured: Row) -> None:
    """Add the figures of a live bench to a run's, with its time, machine and code."""
    figures = measured["summary"]["live"]
    for path, loads in figures["latency_us"].items():
        live["latency_us"].setdefault(path, {}).update(loads)
    live["loss_free_pps"] = figures["loss_free_pps"]
    live["bench"] = {
        "ended": measured["ended"],
        "same_code": measured["code"]["digest"] == code_digest(),
        "machine": measured["machine"],
        "frames": measured["options"]["frames"],
        "trials": measured["options"]["trials"],
        "trial_seconds": measured["options"]["seconds"],
        "rfc2544": measured["options"]["seconds"] >= 60,
        **{
            key: figures[key]
            for key in (
                "loss_free_limit", "loss_free_by_frames", "share_of_kernel", "delay_error_us",
                "police", "shape", "crash", "calls",
            )
        },
        "goals": figures.get("goals", []),  # a result of an older version has none
        "flat_out_pps": figures.get("flat_out_pps", {}),
    }  # fmt: skip


def bench_rows(measured: Row | None) -> list[Row]:
    """Return every trial of a live bench as a row of live_bench."""
    rows = []
    for trial in measured["trials"] if measured else []:
        late = trial["latency_us"]
        rows.append(
            {
                key: trial[key]
                for key in ("path", "what", "frames", "pps", "trial", "seconds", "sent", "lost")
            }
            | {"offered": trial["offered"], "n": late["n"]}
            | {f"{name}_us": late[name] for name in ("p50", "p99", "p999")}
        )
    return rows
