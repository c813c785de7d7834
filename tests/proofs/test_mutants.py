# SPDX-License-Identifier: BSD-3-Clause
"""Mutants are read from cosmic-ray's dump, and a survivor counts unless its line is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.provenance import ROOT
from tests.proofs import mutants

MODULE = "experiments/significance.py"


def line(outcome: str | None, diff: str = "", worker: str = "normal") -> str:
    work = {"mutations": [{"operator_name": "core/NumberReplacer", "start_pos": [7, 3]}]}
    result = {"test_outcome": outcome, "worker_outcome": worker, "diff": diff}
    return json.dumps([work, result])


def test_outcomes_and_changes_are_read() -> None:
    diff = "--- mutation diff ---\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-DRAWS = 2\n+DRAWS = 3\n"
    text = "\n".join([line("survived", diff), line("killed"), line(None, worker="skipped")])
    one, two, three = mutants.read(MODULE, text)
    assert (one.line, one.operator, one.outcome) == (7, "NumberReplacer", "survived")
    assert one.change == "-DRAWS = 2\n+DRAWS = 3"
    assert (two.outcome, three.outcome) == ("killed", "skipped")


def test_a_survivor_is_told_unless_its_line_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "mutants.toml"
    monkeypatch.setattr(mutants, "ACCEPTED", known)
    held = [
        mutants.Mutant(MODULE, 7, "NumberReplacer", "survived", "-DRAWS = 2\n+DRAWS = 3"),
        mutants.Mutant(MODULE, 9, "AddNot", "killed", ""),
    ]
    assert mutants.unexplained(held) == held[:1]
    known.write_text(
        f'[["{MODULE}"]]\ncode = "DRAWS = 2"\nwhy = "more draws change the third digit"\n'
    )
    assert mutants.unexplained(held) == []


def test_every_module_and_its_tests_are_there() -> None:
    for module, tests in mutants.MODULES.items():
        assert (ROOT / module).is_file()
        assert all((ROOT / name).is_file() for name in tests)
