# SPDX-License-Identifier: BSD-3-Clause
"""The comparison of two runs finds what differs and passes over what a clock decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.proofs.determinism import differences


def run(folder: Path, summary: dict[str, Any], **tables: str) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary))
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_times_and_the_machine_may_differ(tmp_path: Path) -> None:
    one = run(
        tmp_path / "a", {"calls": [1], "machine": {"cores": 2}, "latency": 3},
        latency="x\n1\n", cells="access,seconds,status\n4g,1.5,done\n",
    )  # fmt: skip
    other = run(
        tmp_path / "b", {"calls": [1], "machine": {"cores": 4}, "latency": 4},
        latency="x\n2\n", cells="access,seconds,status\n4g,2.5,reused\n",
    )  # fmt: skip
    assert differences(one, other) == []


def test_everything_else_is_told(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {"calls": [{"n": 1}], "verdict": 1}, flows="x\n1\n", cells="a\n1\n")
    other = run(tmp_path / "b", {"calls": [{"n": 2}]}, flows="x\n2\n", cells="a\n2\n")
    assert differences(one, other) == [
        "summary.json > calls > 0 > n: 1 and 2",
        "summary.json > verdict: stands in one of them only",
        "cells.csv: differs",
        "flows.csv: differs",
    ]


def test_a_table_that_only_one_run_has_is_told(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {}, flows="x\n")
    other = run(tmp_path / "b", {})
    assert differences(one, other) == ["flows.csv: differs"]
