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
from typing import Literal, cast, overload

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from midcall.errors import ExperimentError
from midcall.experiments.results.tables import (
    BystanderCallRow,
    CallRow,
    CellRow,
    CollateralRow,
    Document,
    DressCostRow,
    DressedRow,
    FlowRow,
    Json,
    LadderRow,
    LatencyRow,
    LawRow,
    LiveBenchRow,
    LiveCallRow,
    LocaliseRow,
    MixRow,
    ProbePairRow,
    ProgramCallRow,
    ProgramStateRow,
    Tables,
    ThroughputRow,
    TimelineRow,
    WorkaroundRow,
)

#: The names of the tables that the report reads.
TABLES = tuple(Tables.__annotations__)


@dataclass(frozen=True)
class Findings:
    """The contents of a run's folder. A table that was not written is empty.

    localised: the localised boxes, documents of experiments.localise.document.
    """

    folder: Path
    spec: Document
    spec_text: str
    provenance: Document
    summary: Document
    tables: Tables
    localised: list[Document]

    @overload
    def __getitem__(self, name: Literal["flows"]) -> list[FlowRow]: ...

    @overload
    def __getitem__(self, name: Literal["calls"]) -> list[CallRow]: ...

    @overload
    def __getitem__(self, name: Literal["timelines"]) -> list[TimelineRow]: ...

    @overload
    def __getitem__(self, name: Literal["ladders"]) -> list[LadderRow]: ...

    @overload
    def __getitem__(self, name: Literal["collateral"]) -> list[CollateralRow]: ...

    @overload
    def __getitem__(self, name: Literal["bystander_calls"]) -> list[BystanderCallRow]: ...

    @overload
    def __getitem__(self, name: Literal["mixes"]) -> list[MixRow]: ...

    @overload
    def __getitem__(self, name: Literal["cells"]) -> list[CellRow]: ...

    @overload
    def __getitem__(self, name: Literal["latency"]) -> list[LatencyRow]: ...

    @overload
    def __getitem__(self, name: Literal["throughput"]) -> list[ThroughputRow]: ...

    @overload
    def __getitem__(self, name: Literal["dressed"]) -> list[DressedRow]: ...

    @overload
    def __getitem__(self, name: Literal["dress_costs"]) -> list[DressCostRow]: ...

    @overload
    def __getitem__(self, name: Literal["live_calls"]) -> list[LiveCallRow]: ...

    @overload
    def __getitem__(self, name: Literal["live_bench"]) -> list[LiveBenchRow]: ...

    @overload
    def __getitem__(self, name: Literal["localise"]) -> list[LocaliseRow]: ...

    @overload
    def __getitem__(self, name: Literal["laws"]) -> list[LawRow]: ...

    @overload
    def __getitem__(self, name: Literal["workarounds"]) -> list[WorkaroundRow]: ...

    @overload
    def __getitem__(self, name: Literal["probe_pairs"]) -> list[ProbePairRow]: ...

    @overload
    def __getitem__(self, name: Literal["program_calls"]) -> list[ProgramCallRow]: ...

    @overload
    def __getitem__(self, name: Literal["program_states"]) -> list[ProgramStateRow]: ...

    def __getitem__(self, name: str) -> object:
        """Return the rows of a table."""
        return cast("Mapping[str, object]", self.tables)[name]

    def at(self, *keys: str) -> Json:
        """Return the value of summary.json under nested keys, None where some key is missing."""
        value: Json = self.summary
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
        read_json(folder / "provenance.json"),
        read_json(folder / "summary.json"),
        cast("Tables", {name: _rows(folder, name) for name in TABLES}),
        read_json(folder / "localised.json").get("boxes", []),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_json(path: Path) -> Document:
    """Return a JSON object; a missing file is an empty one."""
    try:
        value = json.loads(_text(path) or "{}")
    except json.JSONDecodeError as error:
        raise ExperimentError(f"{path}: no valid JSON: {error} (run again)") from error
    if not isinstance(value, dict):
        raise ExperimentError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _rows(folder: Path, name: str) -> list[dict[str, object]]:
    """Return a table's rows, from Parquet or else from its CSV twin."""
    for path, reader in (
        (folder / f"{name}.parquet", pyarrow.parquet.read_table),
        (folder / f"{name}.csv", pyarrow.csv.read_csv),
    ):
        if path.is_file():
            try:
                rows: list[dict[str, object]] = reader(path).to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise ExperimentError(f"{path}: cannot be read: {error} (run again)") from error
            return rows
    return []
