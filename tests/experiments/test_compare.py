# SPDX-License-Identifier: BSD-3-Clause
"""Two runs beside each other: what is better, what is chance, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from midcall.errors import ExperimentError
from midcall.experiments.measure import compare
from midcall.experiments.results import schema
from midcall.experiments.run import runner
from midcall.experiments.spec.options import Options


@pytest.fixture
def run(paper: Any, paper_spec: Path, tmp_path: Path) -> Path:
    """Return the folder of a finished run of the paper testbed."""
    options = Options(
        jobs=1, runs=tmp_path / "runs", cells=tmp_path / "cells", stream=io.StringIO()
    )
    return runner.run(str(paper_spec), options).folder


def changed(run: Path, name: str, **columns: Any) -> Path:
    """Return a copy of a run in which columns of every row of a table have other values."""
    other = run.with_name(f"{run.name}-changed")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(run, other)
    rows = [{**row, **columns} for row in schema.read_table(run, name)]
    schema.write_table(other, name, rows)
    return other


def verdicts(a: Path, b: Path, **more: Any) -> dict[str, str]:
    return {one.what: one.verdict for one in compare.compare(a, b, **more).findings}


def test_a_run_equals_itself_and_single_timings_prove_nothing(run: Path) -> None:
    found = compare.compare(run, run)
    result = {one.what: one.verdict for one in found.findings}
    assert result["calls blocked, maroc-telecom"] == "equal"
    assert result["innocent flows called a call"] == "equal"
    assert result["throughput, offline"] == "inconclusive"
    assert (found.calls, found.flows) == ([], [])


def test_every_call_that_came_out_differently_is_listed(run: Path) -> None:
    other = changed(run, "calls", verdict="OK", blocked=False)
    found = compare.compare(run, other)
    before = schema.read_table(run, "calls")
    assert len(found.calls) == sum(row["verdict"] != "OK" for row in before) > 0
    assert found.calls[0]["b"] == "OK"
    (row,) = [one for one in found.findings if one.what.startswith("calls blocked")]
    assert row.verdict == "different"
    assert row.difference == -sum(bool(row["blocked"]) for row in before)
    assert "-> OK" in "\n".join(compare.lines(found))


def test_timings_of_two_machines_are_left_out_unless_asked_for(run: Path) -> None:
    other = changed(run, "calls")
    held = json.loads((other / "summary.json").read_text())
    held["machine"]["cpu"] = "another"
    (other / "summary.json").write_text(json.dumps(held))
    (row,) = [one for one in compare.compare(run, other).findings if one.what == "timings"]
    assert row.note.startswith("not compared: cpu of the machines differ")
    assert "throughput, offline" in verdicts(run, other, any_machine=True)


def test_a_paired_difference_whose_interval_holds_zero_is_inconclusive() -> None:
    def flows(gains: list[int]) -> list[tuple[Any, Any]]:
        words = {1: ("missed", "right"), -1: ("right", "missed"), 0: ("right", "right")}
        row = {"synthetic": False}
        return [
            (
                row | {"group": number, "outcome": words[gain][0]},
                row | {"group": number, "outcome": words[gain][1]},
            )
            for number, gain in enumerate(gains)
        ]

    assert compare.right_flows(flows([1] * 12), 1).verdict == "better"
    assert compare.right_flows(flows([-1] * 12), 1).verdict == "worse"
    assert compare.right_flows(flows([1, -1] * 6), 1).verdict == "inconclusive"
    assert compare.right_flows(flows([1] * 3), 1).verdict == "inconclusive"  # too few groups
    assert compare.right_flows(flows([0] * 12), 1).verdict == "equal"


def test_runs_without_a_capture_in_common_are_refused(run: Path) -> None:
    other = changed(run, "flows", sha256="0" * 64)
    with pytest.raises(ExperimentError, match="have no captures in common"):
        compare.compare(run, other)
