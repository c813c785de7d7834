# SPDX-License-Identifier: BSD-3-Clause
"""Result files: typed, twice, with exactly the columns of the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from midcall.experiments.results import schema

CELL: dict[str, Any] = {
    "operator": "inwi",
    "hypothesis": "stun",
    "access": "4g",
    "date": "2016-01-20",
    "status": "done",
    "error": None,
    "key": "ab",
    "seconds": 0.5,
}


def test_a_table_is_written_as_parquet_and_as_csv(tmp_path: Path) -> None:
    schema.write_table(tmp_path, "cells", [CELL])
    assert pq.read_table(tmp_path / "cells.parquet").to_pylist() == [CELL]
    assert (tmp_path / "cells.csv").read_text().splitlines() == [
        '"operator","hypothesis","access","date","status","error","key","seconds"',
        '"inwi","stun","4g","2016-01-20","done",,"ab",0.5',
    ]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    schema.write_table(tmp_path, "collateral", [])
    table = pq.read_table(tmp_path / "collateral.parquet")
    assert table.column_names == list(schema.COLUMNS["collateral"])
    assert table.num_rows == 0


def test_a_row_with_another_column_is_refused() -> None:
    with pytest.raises(ValueError, match="cells: a row has other columns than the schema: extra"):
        schema.table("cells", [CELL | {"extra": 1}])


def test_equal_values_are_equal_bytes_of_json(tmp_path: Path) -> None:
    schema.write_json(tmp_path / "a.json", {"b": 1, "a": [None, 0.5]})
    schema.write_json(tmp_path / "b.json", {"a": [None, 0.5], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 0.5], "b": 1}


def test_a_number_that_is_none_cannot_be_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        schema.write_json(tmp_path / "a.json", {"share": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    schema.write_atomically(path, b"old")
    with pytest.raises(TypeError):
        schema.write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
