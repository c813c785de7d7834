# SPDX-License-Identifier: BSD-3-Clause
"""The results of a run for programs: tables, summary and provenance, read when first used.

`midcall.run` and `midcall.read` return it (docs/howto/import.md). The report reads a run through
`reader`, which gives lists of rows.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from midcall.errors import ExperimentError
from midcall.experiments.results import dictionary, runs, schema, tables
from midcall.experiments.results.dictionary import Described
from midcall.experiments.results.frame import Frame
from midcall.experiments.results.reader import read_json
from midcall.experiments.results.tables import Document
from midcall.suggestions import hint


class Results:
    """The results in one run's folder.

    `results.calls` and `results["calls"]` are the same table (Frame). A table that the run did not
    write has no rows. docs/reference/data.md lists every column with its unit and meaning.
    """

    if TYPE_CHECKING:
        flows: Frame[tables.FlowRow]
        calls: Frame[tables.CallRow]
        timelines: Frame[tables.TimelineRow]
        ladders: Frame[tables.LadderRow]
        collateral: Frame[tables.CollateralRow]
        bystander_calls: Frame[tables.BystanderCallRow]
        mixes: Frame[tables.MixRow]
        cells: Frame[tables.CellRow]
        latency: Frame[tables.LatencyRow]
        throughput: Frame[tables.ThroughputRow]
        dressed: Frame[tables.DressedRow]
        dress_costs: Frame[tables.DressCostRow]
        live_calls: Frame[tables.LiveCallRow]
        live_bench: Frame[tables.LiveBenchRow]
        localise: Frame[tables.LocaliseRow]
        laws: Frame[tables.LawRow]
        workarounds: Frame[tables.WorkaroundRow]
        probe_pairs: Frame[tables.ProbePairRow]
        program_calls: Frame[tables.ProgramCallRow]
        program_states: Frame[tables.ProgramStateRow]
        evaluation: Frame[tables.EvaluationRow]
        evaluation_apps: Frame[tables.EvaluationAppRow]
        evaluation_innocent: Frame[tables.EvaluationInnocentRow]
        evaluation_open: Frame[tables.EvaluationOpenRow]
        evaluation_flows: Frame[tables.EvaluationFlowRow]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._frames: dict[str, Frame[Any]] = {}

    @property
    def name(self) -> str:
        """Return the name of the run: that of its folder."""
        return self.folder.name

    @property
    def report(self) -> Path:
        """Return the path of the report."""
        return self.folder / "report.html"

    @property
    def tables(self) -> list[str]:
        """Return the names of the tables that the run wrote, sorted."""
        return sorted(name for name in tables.ROWS if self._file(name) is not None)

    @cached_property
    def summary(self) -> Document:
        """Return summary.json; raises ExperimentError for a run that did not finish."""
        return runs.summary(self.folder)

    @cached_property
    def provenance(self) -> Document:
        """Return provenance.json: inputs, code, versions and machine of the run."""
        return read_json(self.folder / "provenance.json")

    @cached_property
    def spec(self) -> str:
        """Return the text of the run's spec (TOML)."""
        return (self.folder / runs.MARK).read_text(encoding="utf-8")

    def describe(self, name: str) -> list[Described]:
        """Return the columns of a table: name, type, nullable, and unit, meaning, source."""
        return dictionary.described(tables.ROWS[self._known(name)])

    def __getitem__(self, name: str) -> Frame[Any]:
        """Return a table; raises ExperimentError for an unknown name or a damaged file."""
        if self._known(name) not in self._frames:
            self._frames[name] = Frame(self._read(name))
        return self._frames[name]

    def __getattr__(self, name: str) -> Frame[Any]:
        if name not in tables.ROWS:
            known = [*tables.ROWS, "summary", "provenance", "spec", "tables", "report"]
            raise AttributeError(f"results have no {name!r} ({hint(name, known)})")
        return self[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *tables.ROWS]

    def __repr__(self) -> str:
        return f"<results of {self.name}: {', '.join(self.tables)}>"

    def _known(self, name: str) -> str:
        if name not in tables.ROWS:
            raise ExperimentError(f"no table {name!r} ({hint(name, tables.ROWS)})")
        return name

    def _file(self, name: str) -> Path | None:
        paths = [self.folder / f"{name}{ending}" for ending in (".parquet", ".csv")]
        return next((path for path in paths if path.is_file()), None)

    def _read(self, name: str) -> pa.Table:
        path = self._file(name)
        if path is None:
            return schema.table(name, [])
        parquet = path.suffix == ".parquet"
        try:
            return pyarrow.parquet.read_table(path) if parquet else pyarrow.csv.read_csv(path)
        except (pa.ArrowException, OSError) as error:
            raise ExperimentError(f"{path}: cannot be read: {error} (run again)") from error


def read(folder: Path) -> Results:
    """Return the results of a finished run; raises ExperimentError where it is none."""
    results = Results(folder)
    results.summary  # noqa: B018 - raises for a run that did not finish
    return results
