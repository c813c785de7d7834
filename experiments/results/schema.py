# SPDX-License-Identifier: BSD-3-Clause
"""The result files of a run: schemas and writers, the contract between the runner and the report.

Every table is written twice, as Parquet (typed) and as CSV (for people and spreadsheets).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TypeVar, cast, get_args, get_type_hints

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from midcall.experiments.results import dictionary, tables

#: A row of one table (tables).
R = TypeVar("R")

#: Arrow type of each type of a column.
ARROW = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}

Columns = dict[str, dict[str, pa.DataType]]


def columns(*names: str) -> Columns:
    """Return table name -> column name -> Arrow type of some tables, in the order of the file."""
    return {
        name: {column: arrow(kind) for column, kind in get_type_hints(tables.ROWS[name]).items()}
        for name in names
    }


def arrow(kind: object) -> pa.DataType:
    """Return the Arrow type of a column: of `int` and `int | None` alike, any column can be null.

    Raises KeyError for a type that is not in ARROW.
    """
    (known,) = {*(get_args(kind) or (kind,))} - {NoneType}
    return ARROW[known]


#: The tables of every run.
COLUMNS = columns("flows", "calls", "collateral", "cells", "latency", "throughput")
#: Calls that were no target, and mixes of traffic.
BYSTANDERS = columns("bystander_calls", "mixes")
#: Timelines of calls that a rule touched: packets by slot of each direction.
TIMELINES = columns("timelines")
#: Calls as ladders of packets.
LADDERS = columns("ladders")
#: Calls in disguises and control arms: verdicts under each rule set, and costs.
DRESSED = columns("dressed", "dress_costs")
#: The laws of verdicts, and the localiser's benchmark.
LOCALISED = columns("laws", "localise")
#: Statements of users on incidents, and policies probed in virtual time and live.
PROBED = columns("workarounds", "probe_pairs")
#: The tables of an evaluation.
EVALUATED = columns(
    "evaluation", "evaluation_apps", "evaluation_innocent", "evaluation_open", "evaluation_flows"
)
#: The tables of a live run.
LIVE = columns("live_calls", "live_bench")
#: The tables of live calls of programs.
CALLED = columns("program_calls", "program_states")
#: The name of each table by its rows.
NAMES = {row: name for name, row in tables.ROWS.items()}


def table(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return rows as the Arrow table of that name.

    Raises ValueError for a row whose columns are not exactly those of the table.
    """
    known = (
        COLUMNS
        | TIMELINES
        | LADDERS
        | BYSTANDERS
        | DRESSED
        | LOCALISED
        | PROBED
        | EVALUATED
        | LIVE
        | CALLED
    )
    types = known[name]
    for row in rows:
        if row.keys() != types.keys():
            odd = sorted(row.keys() ^ types.keys())
            raise ValueError(f"{name}: a row has other columns than the schema: {', '.join(odd)}")
    values = {column: [row[column] for row in rows] for column in types}
    return pa.table(values, schema=pa.schema(list(types.items())))


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write `name`.parquet and `name`.csv into the run's folder."""
    whole = table(name, rows)
    pyarrow.parquet.write_table(whole, folder / f"{name}.parquet", compression="zstd")
    pyarrow.csv.write_csv(whole, folder / f"{name}.csv")


def write_tables(folder: Path, written: tables.Tables) -> None:
    """Write every table of a run into its folder, and the schema of their rows (schema.json)."""
    for name, rows in written.items():
        write_table(folder, name, cast("Sequence[Mapping[str, object]]", rows))
    write_schema(folder, written)


def write_schema(folder: Path, names: Iterable[str]) -> None:
    """Write schema.json: the JSON Schema of a row of each of some tables."""
    write_json(folder / dictionary.FILE, dictionary.json_schema(names))


def read_table(folder: Path, name: str) -> list[dict[str, object]]:
    """Return the rows of a table of a run's folder."""
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(
        folder / f"{name}.parquet"
    ).to_pylist()
    return rows


def rows_of(folder: Path, kind: type[R]) -> list[R]:
    """Return the rows of a table of a run's folder; kind: the TypedDict of the table, in tables."""
    return cast("list[R]", read_table(folder, NAMES[kind]))


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys (equal values, equal bytes), through a temporary file."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one, the whole new one, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


#: Roles of flows that count as flows of a call.
CALL_ROLES = ("media", "setup")
#: Outcomes of flows that belong to no call.
INNOCENT_OUTCOMES = ("quiet", "false_call")
#: Grades whose evidence is packets: measurements, captures, developers' reverse engineering.
PACKET_GRADES = frozenset("AB")
