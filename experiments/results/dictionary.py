# SPDX-License-Identifier: BSD-3-Clause
"""The data dictionary: every column of every table, as its type in `tables` describes it.

`described` gives the columns of one table, `json_schema` a JSON Schema of several, which stands as
schema.json in the folder of each run.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from midcall.experiments.results import tables
from midcall.experiments.results.column import Column
from midcall.experiments.results.tables import Document

#: The name of the schema's file in the folder of a run.
FILE = "schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: The type of a column in JSON Schema.
JSON = {str: "string", bool: "boolean", int: "integer", float: "number"}


class Described(NamedTuple):
    """A column: its name, type (str, bool, int, float), whether it can be null, its description."""

    name: str
    type: type
    nullable: bool
    column: Column | None


def described(row: type) -> list[Described]:
    """Return the columns of a TypedDict of `tables`, in order; `column` is None where it has none.

    Example:

    >>> from midcall.experiments.results.tables import CellRow
    >>> last = described(CellRow)[-1]
    >>> last.name, last.type, last.nullable, last.column.unit
    ('seconds', <class 'float'>, True, 's')
    """
    return [
        Described(name, *type_of(hint), column_of(hint))
        for name, hint in get_type_hints(row, include_extras=True).items()
    ]


def type_of(hint: Any) -> tuple[type, bool]:
    """Return the type of a column without its description and without None, and if None may be."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    parts = get_args(bare) or (bare,)
    if get_origin(bare) is not None and NoneType not in parts:
        return bare, False
    (known,) = {*parts} - {NoneType}
    return known, NoneType in parts


def column_of(hint: Any) -> Column | None:
    """Return the description in an annotated type, None where there is none."""
    found = [one for one in get_args(hint) if isinstance(one, Column)]
    return found[0] if found else None


def meaning(row: type) -> str:
    """Return what a table holds: the docstring of its TypedDict, as one paragraph."""
    return " ".join((row.__doc__ or "").split())


def json_schema(names: Iterable[str]) -> Document:
    """Return a JSON Schema with one definition per table; each describes one row of it.

    A column has its unit and its source under the keys `unit` and `source`.
    """
    return {
        "$schema": DIALECT,
        "title": "Rows of the tables of a run of Midcall",
        "$defs": {name: definition(tables.ROWS[name]) for name in names},
    }


def definition(row: type) -> Document:
    """Return the JSON Schema of a row of one table."""
    columns = described(row)
    return {
        "type": "object",
        "description": meaning(row),
        "properties": {one.name: property_of(one) for one in columns},
        "required": [one.name for one in columns],
        "additionalProperties": False,
    }


def property_of(one: Described) -> Document:
    """Return the JSON Schema of a column."""
    kind = JSON[one.type]
    about: Document = {"type": [kind, "null"] if one.nullable else kind}
    if one.column is not None:
        about |= {
            "description": one.column.meaning,
            "unit": one.column.unit,
            "source": one.column.source,
        }
    return about
