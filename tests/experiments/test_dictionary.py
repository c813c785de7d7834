# SPDX-License-Identifier: BSD-3-Clause
"""The data dictionary: every column has a unit, a meaning and a source, on the page and in runs."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest

from midcall.experiments.results import dictionary, schema
from midcall.experiments.results.column import UNITS, Column
from midcall.experiments.results.tables import ROWS, SummaryDocument
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.grid import cells, load_operators
from midcall.experiments.tools.data_reference import PAGE, blocks_of, page
from midcall.locations import OPERATORS, ROOT
from tests.experiments.fake_run import fake_run

COLUMNS = [(name, one) for name, row in ROWS.items() for one in dictionary.described(row)]


@pytest.mark.parametrize(("name", "one"), COLUMNS, ids=[f"{n}.{c.name}" for n, c in COLUMNS])
def test_every_column_has_a_unit_a_meaning_and_a_source(
    name: str, one: dictionary.Described
) -> None:
    complete(f"{name}.{one.name}", one.column)


def complete(where: str, column: Column | None) -> None:
    """Fail where a column's description lacks something."""
    assert column is not None, f"{where}: say its unit, meaning and source in results/tables.py"
    assert column.unit in UNITS, f"{where}: unit {column.unit!r} is not in results/column.py"
    assert len(column.meaning) > 3, f"{where}: say what it means"
    assert column.meaning.endswith((".", "?")), f"{where}: a meaning ends with a full stop"
    assert (ROOT / column.source).exists(), f"{where}: {column.source} is no file"


def test_every_key_of_the_summary_has_a_meaning() -> None:
    blocks = [SummaryDocument, *blocks_of(SummaryDocument)]
    for block in blocks:
        for name, hint in typing.get_type_hints(block, include_extras=True).items():
            complete(f"{block.__name__}.{name}", dictionary.column_of(hint))


def test_units_that_no_column_has_are_not_listed() -> None:
    blocks = [*ROWS.values(), SummaryDocument, *blocks_of(SummaryDocument)]
    hints = [
        hint
        for block in blocks
        for hint in typing.get_type_hints(block, include_extras=True).values()
    ]
    used = {found.unit for hint in hints if (found := dictionary.column_of(hint)) is not None}
    assert used == set(UNITS)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run make reference and read the diff"


def test_the_summary_of_a_run_has_described_keys_only(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    assert json.loads((run / "summary.json").read_text()).keys() <= keys(SummaryDocument)


def keys(block: Any) -> set[str]:
    """Return the keys of a TypedDict."""
    return set(typing.get_type_hints(block))


def test_a_run_has_the_schema_of_its_tables(tmp_path: Path) -> None:
    cell = {
        "operator": "inwi", "hypothesis": "stun", "access": "4g", "date": "2016-01-20",
        "status": "done", "error": None, "key": "ab", "seconds": 0.5,
    }  # fmt: skip
    schema.write_tables(tmp_path, {"cells": [cell]})  # type: ignore[typeddict-item]
    written = json.loads((tmp_path / "schema.json").read_text())
    assert list(written["$defs"]) == ["cells"]
    about = written["$defs"]["cells"]
    assert list(about["required"]) == list(cell)
    assert about["properties"]["seconds"]["type"] == ["number", "null"]
    assert about["properties"]["seconds"]["unit"] == "s"
    assert about["properties"]["operator"]["type"] == "string"


# ---- the operator of a row


OWN = """
schema = 1
name = "own"
title = "Own"
question = "What?"
seed = 7
operators = [{operators}]
access = ["4g"]
apps = ["whatsapp"]
[[dates]]
date = 2016-01-20
label = "during"
"""


def own_spec(folder: Path, *operators: str) -> specs.Spec:
    named = ", ".join(json.dumps(one) for one in operators)
    return specs.parse(OWN.format(operators=named).encode(), str(folder / "own.toml"))


def test_the_operator_of_ones_own_file_is_its_id(tmp_path: Path) -> None:
    path = own_file(tmp_path / "some-name.toml", "my-operator")
    spec = own_spec(tmp_path, str(path), "inwi")
    grid = cells(spec, load_operators(spec))
    assert list(dict.fromkeys(cell.operator for cell in grid)) == ["my-operator", "inwi"]


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    path = own_file(tmp_path / "some-name.toml", "inwi")
    with pytest.raises(Exception, match=r"some-name.toml and inwi have the same id 'inwi'"):
        load_operators(own_spec(tmp_path, str(path), "inwi"))


def test_the_id_of_a_shipped_operator_is_its_file_name() -> None:
    from midcall.testbed.policy.loader import available, load

    assert all(load(name).id == name for name in available())


def own_file(path: Path, name: str) -> Path:
    """Write a copy of a shipped operator under another id, and of what it includes."""
    text = (OPERATORS / "inwi.toml").read_text(encoding="utf-8")
    (path.parent / "shared").mkdir()
    for shared in (OPERATORS / "shared").iterdir():
        (path.parent / "shared" / shared.name).write_bytes(shared.read_bytes())
    path.write_text(text.replace('id = "inwi"', f'id = "{name}"', 1), encoding="utf-8")
    return path
