# SPDX-License-Identifier: BSD-3-Clause
"""The result files of a run: schemas and writers, the contract between the runner and the report.

Every table is written twice, as Parquet (typed) and as CSV (for people and spreadsheets).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

_TEXT, _FLAG, _INT, _REAL = pa.string(), pa.bool_(), pa.int64(), pa.float64()

#: Table name -> column name -> Arrow type, in the order of the file.
COLUMNS: dict[str, dict[str, Any]] = {
    "flows": {
        "capture": _TEXT,
        "sha256": _TEXT,
        "synthetic": _FLAG,
        "added": _FLAG,
        "year": _INT,
        "group": _TEXT,
        "innocent": _FLAG,
        "frame": _INT,
        "proto": _TEXT,
        "src_ip": _TEXT,
        "src_port": _INT,
        "dst_ip": _TEXT,
        "dst_port": _INT,
        "packets": _INT,
        "bytes": _INT,
        "first_ts": _REAL,
        "last_ts": _REAL,
        "verdict": _TEXT,
        "app": _TEXT,
        "family": _TEXT,
        "role": _TEXT,
        "confidence": _REAL,
        "packets_to_verdict": _INT,
        "ms_to_verdict": _REAL,
        "evidence": _TEXT,
        "truth_app": _TEXT,
        "truth_role": _TEXT,
        "truth_call": _TEXT,
        "truth_confidence": _TEXT,
        "outcome": _TEXT,
    },
    "calls": {
        "capture": _TEXT,
        "capture_year": _INT,
        "group": _TEXT,
        "app": _TEXT,
        "kind": _TEXT,
        "call": _TEXT,
        "synthetic": _FLAG,
        "added": _FLAG,
        "later_client": _FLAG,
        "operator": _TEXT,
        "hypothesis": _TEXT,
        "hypothesis_title": _TEXT,
        "access": _TEXT,
        "date": _TEXT,
        "documented": _FLAG,
        "verdict": _TEXT,
        "blocked": _FLAG,
        "usable": _FLAG,
        "rule": _TEXT,
        "grade": _TEXT,
        "packets_to_block": _INT,
        "ms_to_block": _REAL,
        "media_sent": _INT,
        "media_delivered": _INT,
        "media_control": _INT,
        "media_lost": _REAL,
        "recognised": _FLAG,
        "reason": _TEXT,
    },
    "collateral": {
        "operator": _TEXT,
        "hypothesis": _TEXT,
        "access": _TEXT,
        "date": _TEXT,
        "protocol": _TEXT,
        "flows": _INT,
        "hit": _INT,
        "bytes": _INT,
        "bytes_hit": _INT,
        "groups": _INT,
        "low": _REAL,
        "high": _REAL,
        "all_low": _REAL,
        "all_high": _REAL,
    },
    "cells": {
        "operator": _TEXT,
        "hypothesis": _TEXT,
        "access": _TEXT,
        "date": _TEXT,
        "status": _TEXT,
        "error": _TEXT,
        "key": _TEXT,
        "seconds": _REAL,
    },
    "latency": {
        "path": _TEXT,
        "percentile": _REAL,
        "ns_per_packet": _REAL,
        "batch": _INT,
        "n": _INT,
    },
    "throughput": {
        "path": _TEXT,
        "file": _TEXT,
        "packets": _INT,
        "bytes": _INT,
        "seconds": _REAL,
        "packets_per_s": _REAL,
        "bytes_per_s": _REAL,
    },
}

#: The same for other people's calls, and for mixes of traffic.
_PLACE = dict.fromkeys(("operator", "hypothesis", "access", "date"), _TEXT)
BYSTANDERS: dict[str, dict[str, Any]] = {
    "bystander_calls": {
        **_PLACE,
        "app": _TEXT,
        **dict.fromkeys(("calls", "blocked", "degraded", "seconds", "seconds_lost"), _INT),
    },
    "mixes": {
        **_PLACE,
        "share": _REAL,
        "protocol": _TEXT,
        **dict.fromkeys(("flows_per_million", "flows_low", "flows_high"), _REAL),
        **dict.fromkeys(("bytes_per_million", "bytes_low", "bytes_high"), _REAL),
        "of_hits": _REAL,
        "groups": _INT,
    },
}

#: The same for timelines of calls that a rule touched: packets by slot of each direction.
TIMELINES: dict[str, dict[str, Any]] = {
    "timelines": {
        **dict.fromkeys(("operator", "hypothesis", "hypothesis_title"), _TEXT),
        **dict.fromkeys(("access", "date", "places", "grade"), _TEXT),
        **dict.fromkeys(("capture", "call", "app", "kind"), _TEXT),
        "synthetic": _FLAG,
        "verdict": _TEXT,
        "blocked": _FLAG,
        **dict.fromkeys(("rule", "direction"), _TEXT),
        **dict.fromkeys(("seconds", "recognised_s", "spoke_s", "media_lost"), _REAL),
        **dict.fromkeys(("mos", "mos_low", "mos_high", "mos_control"), _REAL),
        **dict.fromkeys(("delay_ms", "delay_control_ms", "jitter_ms"), _REAL),
        **dict.fromkeys(("due", "sent", "came", "struck"), _INT),
        **dict.fromkeys(("due_slots", "sent_slots", "came_slots", "struck_slots"), _TEXT),
    }
}

#: The same for calls in other dresses: what rules made of them, and what a dress costs.
_DRESS = {
    "dress": _TEXT,
    "sort": _TEXT,
    "capture": _TEXT,
    "synthetic": _FLAG,
    "app": _TEXT,
    "kind": _TEXT,
}
DRESSED: dict[str, dict[str, Any]] = {
    "dressed": {
        **_DRESS,
        **dict.fromkeys(("operator", "hypothesis", "access", "date", "call", "verdict"), _TEXT),
        "blocked": _FLAG,
        "rule": _TEXT,
        "media_lost": _REAL,
        "mos": _REAL,
    },
    "dress_costs": {
        **_DRESS,
        "call": _TEXT,
        **dict.fromkeys(("bytes_plain", "bytes", "packets", "packets_added"), _INT),
        **dict.fromkeys(("setup_ms", "delay_ms", "mos"), _REAL),
    },
}

#: The same for the localiser's benchmark.
LOCALISED: dict[str, dict[str, Any]] = {
    "laws": {
        "law": _INT,
        "title": _TEXT,
        "captures": _INT,
        "cases": _INT,
        "broken": _INT,
        "counterexample": _TEXT,
    },
    "localise": {
        "set": _TEXT,
        "rule": _TEXT,
        "kind": _TEXT,
        "noise": _REAL,
        "outcome": _TEXT,
        "recovered": _FLAG,
        "complete": _FLAG,
        "tests": _INT,
        "tests_blocked": _INT,
        "tests_wrong": _INT,
        "tests_missed": _INT,
        "sets_same": _FLAG,
        "questions": _INT,
        "probes": _INT,
        "packets": _INT,
        "octets": _INT,
        "found": _TEXT,
        "cause": _TEXT,
    },
}

#: The same for the tables of an evaluation.
EVALUATED: dict[str, dict[str, Any]] = {
    "evaluation": {
        "column": _TEXT,
        "title": _TEXT,
        "engine": _TEXT,
        "synthetic": _FLAG,
        **dict.fromkeys(("n", "right", "other_call", "unsure", "missed"), _INT),
        "low": _REAL,
        "high": _REAL,
        "clusters": _INT,
        "lead_low": _REAL,
        "lead_high": _REAL,
        "five_n": _INT,
        "five_right": _INT,
        "macro_f1": _REAL,
        "macro_f1_apps": _INT,
        "macro_f1_often": _REAL,
        "macro_f1_often_apps": _INT,
        **dict.fromkeys(("call_tp", "call_fp", "call_fn"), _INT),
        "call_f1": _REAL,
        "balanced": _REAL,
        "innocent": _INT,
        "false_calls": _INT,
        "false_per_million": _REAL,
        **dict.fromkeys(("precision_01", "precision_1", "precision_10"), _REAL),
        "role_n": _INT,
        "role_right": _INT,
        "calls": _INT,
        "calls_right": _INT,
        "calls_low": _REAL,
        "calls_high": _REAL,
        "calls_wrong": _INT,
        "media_calls": _INT,
        "media_calls_right": _INT,
        "media_calls_low": _REAL,
        "media_calls_high": _REAL,
        "bytes": _INT,
        "bytes_right": _INT,
        "bytes_low": _REAL,
        "bytes_high": _REAL,
        "bare": _INT,
        "bare_honest": _INT,
        **dict.fromkeys(("waits", "p50", "p95", "p99"), _INT),
        **dict.fromkeys(("ms_p50", "ms_p95", "ms_p99"), _REAL),
        **dict.fromkeys(("short", "absent"), _INT),
    },
    "evaluation_apps": {
        "column": _TEXT,
        "engine": _TEXT,
        "synthetic": _FLAG,
        "app": _TEXT,
        "role": _TEXT,
        **dict.fromkeys(("n", "right", "other_call", "unsure", "missed"), _INT),
        "low": _REAL,
        "high": _REAL,
        "clusters": _INT,
    },
    "evaluation_innocent": {
        "column": _TEXT,
        "engine": _TEXT,
        "synthetic": _FLAG,
        "kind": _TEXT,
        "flows": _INT,
        "hits": _INT,
        "per_million": _REAL,
    },
    "evaluation_open": {
        "app": _TEXT,
        **dict.fromkeys(("n", "nameless", "unsure", "quiet", "other_app"), _INT),
        "named": _TEXT,
        "clean": _INT,
        "clusters": _INT,
        "low": _REAL,
        "high": _REAL,
        "call_auroc": _REAL,
        "call_auroc_low": _REAL,
        "call_auroc_high": _REAL,
        "innocent": _INT,
        "known_auroc": _REAL,
        "known_auroc_low": _REAL,
        "known_auroc_high": _REAL,
        "known": _INT,
        "limit": _REAL,
        "kept": _INT,
        "rejected": _INT,
    },
    "evaluation_flows": {
        "column": _TEXT,
        "capture": _TEXT,
        "synthetic": _FLAG,
        "group": _TEXT,
        "frame": _INT,
        "proto": _TEXT,
        "packets": _INT,
        "octets": _INT,
        "truth_app": _TEXT,
        "truth_role": _TEXT,
        "truth_call": _TEXT,
        "why": _TEXT,
        "left": _TEXT,
        "bare": _FLAG,
        "verdict": _TEXT,
        "app": _TEXT,
        "role": _TEXT,
        "confidence": _REAL,
        "packets_to_verdict": _INT,
        "ms_to_verdict": _REAL,
        "evidence": _TEXT,
        "outcome": _TEXT,
    },
}

#: The same for the tables of a live run.
LIVE: dict[str, dict[str, Any]] = {
    "live_calls": {
        **dict.fromkeys(("operator", "hypothesis", "access", "date"), _TEXT),
        **dict.fromkeys(("capture", "call", "app", "kind"), _TEXT),
        "synthetic": _FLAG,
        "verdict": _TEXT,
        "virtual": _TEXT,
        "agree": _FLAG,
        "cause": _TEXT,
        "packets": _INT,
        "proven": _INT,
        "play": _TEXT,
    },
    "live_bench": {
        **dict.fromkeys(("path", "what", "frames"), _TEXT),
        **dict.fromkeys(("pps", "trial"), _INT),
        "seconds": _REAL,
        **dict.fromkeys(("sent", "lost"), _INT),
        "offered": _FLAG,
        "n": _INT,
        **dict.fromkeys(("p50_us", "p99_us", "p999_us"), _REAL),
    },
}

#: The same for live calls of programs.
_CALLED = {
    **dict.fromkeys(("operator", "hypothesis", "access", "date", "hypothesis_title"), _TEXT),
    **dict.fromkeys(("plan", "caller", "media", "path"), _TEXT),
    "repeat": _INT,
}
_WAY = {
    **dict.fromkeys(("sent", "arrived"), _INT),
    **dict.fromkeys(("loss", "delay_ms", "jitter_ms"), _REAL),
    **dict.fromkeys(("mos", "mos_low", "mos_high", "mos_control"), _REAL),
    **dict.fromkeys(("heard_s", "heard_control_s", "concealed", "frozen_s"), _REAL),
    **dict.fromkeys(("counted_by", "slots", "control_slots"), _TEXT),
}
CALLED: dict[str, dict[str, Any]] = {
    "program_calls": {
        **_CALLED,
        **dict.fromkeys(("security", "program", "verdict"), _TEXT),
        "blocked": _FLAG,
        **dict.fromkeys(("rule", "reason"), _TEXT),
        "connected": _FLAG,
        **dict.fromkeys(("connected_s", "connected_control_s"), _REAL),
        **dict.fromkeys(("carried", "carried_control"), _TEXT),
        "met": _INT,
        "replay": _TEXT,
        "replay_blocked": _FLAG,
        "replay_reason": _TEXT,
        **dict.fromkeys(("agree", "agree_blocked"), _FLAG),
        "seconds": _REAL,
        "error": _TEXT,
        **{f"{way}_{name}": kind for way in ("up", "down") for name, kind in _WAY.items()},
    },
    "program_states": {
        **_CALLED,
        "end": _TEXT,
        "at_s": _REAL,
        **dict.fromkeys(("kind", "word"), _TEXT),
    },
}


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as the Arrow table of that name; a row must have exactly its columns."""
    known = COLUMNS | TIMELINES | BYSTANDERS | DRESSED | LOCALISED | EVALUATED | LIVE | CALLED
    columns = known[name]
    for row in rows:
        if row.keys() != columns.keys():
            odd = sorted(row.keys() ^ columns.keys())
            raise ValueError(f"{name}: a row has other columns than the schema: {', '.join(odd)}")
    data = {column: [row[column] for row in rows] for column in columns}
    return pa.table(data, schema=pa.schema(list(columns.items())))


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `name`.parquet and `name`.csv into the run's folder."""
    made = table(name, rows)
    pyarrow.parquet.write_table(made, folder / f"{name}.parquet", compression="zstd")
    pyarrow.csv.write_csv(made, folder / f"{name}.csv")


def read_table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table of a run's folder."""
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys (equal values, equal bytes), through a temporary file."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one, the whole new one, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


#: Grades whose evidence is packets: measurements, captures, developers' reverse engineering.
PACKET_GRADES = frozenset("AB")
