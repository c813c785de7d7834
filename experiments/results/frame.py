# SPDX-License-Identifier: BSD-3-Clause
"""A table for programs: rows as typed mappings, columns as arrays, the whole as Arrow or pandas.

What `midcall.classify`, `midcall.read` and `midcall.replay` return (docs/howto/import.md).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast, overload

import pyarrow as pa
from numpy.typing import NDArray

from midcall.errors import ExperimentError
from midcall.suggestions import hint

#: A row: a TypedDict.
R = TypeVar("R")


class Frame(Generic[R]):
    """A table that cannot be changed, over an Arrow table.

    `len(table)` is the number of rows; iteration gives rows; `table[3]` is a row, `table[2:5]` a
    table of those rows, `table["app"]` a column, `table.columns` their names.
    """

    def __init__(self, arrow: pa.Table) -> None:
        self._arrow = arrow

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns, in order."""
        return list(self._arrow.column_names)

    def __len__(self) -> int:
        return int(self._arrow.num_rows)

    def __iter__(self) -> Iterator[R]:
        for batch in self._arrow.to_batches(max_chunksize=4096):
            yield from cast("list[R]", batch.to_pylist())

    @overload
    def __getitem__(self, key: int) -> R: ...

    @overload
    def __getitem__(self, key: slice) -> Frame[R]: ...

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...

    def __getitem__(self, key: int | slice | str) -> R | Frame[R] | NDArray[Any]:
        """Return a row by its position, rows by a slice, or a column by its name.

        A column is an array with one value per row: float64, int64 or bool; object for texts (str,
        or None for null), and for a column of truth values with nulls. An int64 column with nulls
        becomes float64 with NaN, as pandas does it; `to_arrow` keeps both apart.

        Raises IndexError for a row that is not there, and KeyError for an unknown column.
        """
        if isinstance(key, str):
            if key not in self._arrow.column_names:
                raise KeyError(f"no column {key!r} ({hint(key, self.columns)})")
            values: NDArray[Any] = self._arrow.column(key).to_numpy()
            return values
        if isinstance(key, slice):
            return Frame(self._arrow.take(list(range(*key.indices(len(self))))))
        at = key + len(self) if key < 0 else key
        if not 0 <= at < len(self):
            raise IndexError(f"row {key} of a table of {len(self)} rows")
        return cast("R", self._arrow.slice(at, 1).to_pylist()[0])

    def to_arrow(self) -> pa.Table:
        """Return the table as a pyarrow.Table, without a copy."""
        return self._arrow

    def to_pandas(self) -> Any:
        """Return the table as a pandas.DataFrame.

        Raises ExperimentError where pandas is not installed: Midcall does not need it.
        """
        if importlib.util.find_spec("pandas") is None:
            raise ExperimentError(
                "pandas is not installed: run `pip install pandas`, or use to_arrow()"
            )
        return self._arrow.to_pandas()

    def __repr__(self) -> str:
        return f"<table of {len(self)} rows: {', '.join(self.columns)}>"
