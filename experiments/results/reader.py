# SPDX-License-Identifier: BSD-3-Clause
"""Findings: the result files of one run, read back for the report.

A run's folder is the contract between the runner and the report: spec.toml, provenance.json,
summary.json and one Parquet file (with its CSV twin) per table. A table that was not written is
empty; a file that is damaged is an error.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from midcall.errors import ExperimentError

Table = dict[str, Any]

TABLES = (
    "flows", "calls", "timelines", "collateral", "bystander_calls", "mixes", "cells", "latency",
    "throughput", "dressed", "dress_costs", "live_calls", "live_bench", "localise", "laws",
    "program_calls", "program_states",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What the run's folder holds. A table that is not there is empty.

    localised: what boxes were found to decide by, documents of experiments.localise.document.
    """

    folder: Path
    spec: Table
    spec_text: str
    provenance: Table
    summary: Table
    tables: Mapping[str, list[Table]]
    localised: list[Table]

    def __getitem__(self, name: str) -> list[Table]:
        """Return the rows of a table."""
        return self.tables[name]

    def at(self, *keys: str) -> Any:
        """Return what summary.json holds under nested keys, None where some key is missing."""
        value: Any = self.summary
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read(folder: Path) -> Findings:
    """Read a run's folder; raises ExperimentError for one that is none, or a damaged file."""
    if not folder.is_dir():
        raise ExperimentError(f"{folder}: no such run folder (run an experiment first)")
    if not (folder / "summary.json").is_file():
        raise ExperimentError(
            f"{folder}: holds no summary.json, so it is no finished run (run the experiment again)"
        )
    spec_text = _text(folder / "spec.toml")
    try:
        spec = tomllib.loads(spec_text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{folder / 'spec.toml'}: no valid TOML: {error}") from error
    return Findings(
        folder,
        spec,
        spec_text,
        _json(folder / "provenance.json"),
        _json(folder / "summary.json"),
        {name: _rows(folder, name) for name in TABLES},
        _json(folder / "localised.json").get("boxes", []),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> Table:
    """Return a JSON object; a missing file is an empty one."""
    try:
        value = json.loads(_text(path) or "{}")
    except json.JSONDecodeError as error:
        raise ExperimentError(f"{path}: no valid JSON: {error} (run again)") from error
    if not isinstance(value, dict):
        raise ExperimentError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _rows(folder: Path, name: str) -> list[Table]:
    """Return a table's rows, from Parquet or else from its CSV twin."""
    for path, reader in (
        (folder / f"{name}.parquet", pyarrow.parquet.read_table),
        (folder / f"{name}.csv", pyarrow.csv.read_csv),
    ):
        if path.is_file():
            try:
                rows: list[Table] = reader(path).to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise ExperimentError(f"{path}: cannot be read: {error} (run again)") from error
            return rows
    return []
