# SPDX-License-Identifier: BSD-3-Clause
"""The notebook under docs runs from top to bottom over a run's files and draws its figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from midcall.experiments.report import html
from tests.experiments.fake_run import fake_run

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "run.ipynb"


def test_the_notebook_runs_and_draws_what_the_report_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "run")
    html.render(run)
    monkeypatch.setenv("MIDCALL_RUN", str(run))
    names: dict[str, Any] = {}
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    price, figure = names["price"], names["figure"].to_dict()
    drawn = json.loads(json.dumps(figure))
    assert len(drawn["hconcat"]) == 2
    rows = {row["hypothesis"]: row for _, row in price.iterrows()}
    behind = (run / "figures" / "price.csv").read_text()
    for name, row in rows.items():
        line = next(line for line in behind.splitlines() if f",{name}," in line)
        assert f",{row['blocked']}," in line, name
        assert f",{row['hit']}," in line, name


def test_no_output_of_anybodys_machine_stands_in_the_notebook() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
