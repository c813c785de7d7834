# SPDX-License-Identifier: BSD-3-Clause
"""The reference page of the result files, written from the types in experiments.results.tables.

`make reference` writes docs/reference/data.md; a test compares the page with the types.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from midcall.experiments.results import tables
from midcall.experiments.results.column import UNITS
from midcall.experiments.results.dictionary import column_of, described, meaning
from midcall.experiments.results.tables import ROWS, SummaryDocument
from midcall.locations import ROOT, TEMPLATES

PAGE = ROOT / "docs" / "reference" / "data.md"
#: The text before the tables.
INTRODUCTION = TEMPLATES / "data.md"


def page() -> str:
    """Return the whole page."""
    parts = [
        INTRODUCTION.read_text(encoding="utf-8"),
        "## Units",
        table(("unit", "a value is"), UNITS.items()),
        "## Tables",
    ]
    for name, row in ROWS.items():
        parts += [f"### `{name}`", meaning(row), columns(row)]
    parts += ["## `summary.json`", meaning(SummaryDocument), keys(SummaryDocument)]
    blocks = list(dict.fromkeys(blocks_of(SummaryDocument)))
    for block in blocks:
        parts += [f"### Block {block.__name__}", meaning(block), plain_keys(block)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(heads: tuple[str, ...], rows: typing.Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    safe = (" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in safe)


def columns(row: type) -> str:
    """Return the columns of a table, as a table."""
    rows = []
    for one in described(row):
        kind = one.type.__name__ + (" or null" if one.nullable else "")
        unit, words, source = one.column or ("", "", "")
        rows.append((f"`{one.name}`", kind, unit, words, f"`{source}`"))
    return table(("column", "type", "unit", "meaning", "source"), rows)


def keys(document: type) -> str:
    """Return the described keys of a JSON object, as a table."""
    rows = []
    for name, hint in get_type_hints(document, include_extras=True).items():
        about = column_of(hint)
        words = (about.meaning, f"`{about.source}`") if about else ("", "")
        rows.append((f"`{name}`", kind_of(hint), *words))
    return table(("key", "value", "meaning", "source"), rows)


def plain_keys(block: type) -> str:
    """Return the keys of a block of summary.json, as a table."""
    hints = get_type_hints(block, include_extras=True)
    rows = []
    for name, hint in hints.items():
        unit, words, _ = column_of(hint) or ("", "", "")
        rows.append((f"`{name}`", kind_of(hint), unit, words))
    return table(("key", "value", "unit", "meaning"), rows)


def kind_of(hint: Any) -> str:
    """Return the type of a value of a JSON file in words."""
    if get_origin(hint) is Annotated:
        return kind_of(get_args(hint)[0])
    if hint == tables.Ends:
        return "low and high end of an interval, or null"
    if typing.is_typeddict(hint):
        names = {row: name for name, row in ROWS.items()}
        name = names.get(hint, f"block-{hint.__name__.lower()}")
        return f"row of [`{name}`](#{name})" if hint in names else f"[{hint.__name__}](#{name})"
    origin, inner = get_origin(hint), get_args(hint)
    if hint == tables.Document or (origin is dict and inner[1] is Any):
        return "object"
    if origin is list:
        return f"list of {kind_of(inner[0])}"
    if origin is dict:
        return f"object of {kind_of(inner[1])}"
    if inner:
        return " or ".join("null" if one is type(None) else kind_of(one) for one in inner)
    return getattr(hint, "__name__", str(hint))


def blocks_of(document: type) -> Iterator[type]:
    """Yield the typed blocks of a JSON object that are no rows of a table, outer ones first."""
    for hint in get_type_hints(document).values():
        for part in parts_of(hint):
            if typing.is_typeddict(part) and part not in ROWS.values():
                yield part
                yield from blocks_of(part)


def parts_of(hint: Any) -> Iterator[Any]:
    """Yield a type and the types in it."""
    yield hint
    for inner in get_args(hint):
        yield from parts_of(inner)


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
