# SPDX-License-Identifier: BSD-3-Clause
"""Mutants are listed, carried out in processes of their own, and count unless explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from midcall.locations import ROOT
from tests.proofs import mutants

MODULE = "experiments/measure/significance.py"
TEXT = (ROOT / MODULE).read_text(encoding="utf-8")


def test_a_text_survives_where_the_tests_of_its_module_pass(tmp_path: Path) -> None:
    assert mutants.survives(MODULE, TEXT, str(tmp_path / "same"))
    assert not mutants.survives(MODULE, f"{TEXT}\nraise ValueError", str(tmp_path / "broken"))
    assert (ROOT / MODULE).read_text(encoding="utf-8") == TEXT


def test_a_mutant_names_its_line_and_what_it_changes() -> None:
    pytest.importorskip("cosmic_ray")
    held = list(mutants.mutants_of(MODULE))
    assert len(set(held)) == len(held) > 100
    assert not any("BitOr_Add" in one.operator for one in held)
    for one in held[:: len(held) // 5]:
        taken = [line[1:] for line in one.change.splitlines() if line.startswith("-")]
        assert taken[0] == TEXT.splitlines()[one.line - 1]
        assert one.text.startswith(f"{MODULE}:{one.line}: ")


def test_no_mutant_asks_for_the_order_of_names() -> None:
    pytest.importorskip("cosmic_ray")
    held = [
        (one.operator.rpartition("_")[2], one.line)
        for one in mutants.mutants_of("experiments/measure/metrics.py")
        if "ReplaceComparisonOperator_Eq_" in one.operator
    ]
    text = (ROOT / "experiments/measure/metrics.py").read_text(encoding="utf-8").splitlines()
    named = {kind for kind, line in held if '"certain"' in text[line - 1]}
    assert named == {"NotEq"}
    assert {"Lt", "LtE", "Gt", "GtE", "NotEq"} <= {kind for kind, _ in held}


def test_a_survivor_is_told_unless_what_it_writes_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "mutants.toml"
    monkeypatch.setattr(mutants, "ACCEPTED", known)
    monkeypatch.setattr(mutants.Mutant, "change", "-DRAWS = 2\n+DRAWS = 3")
    held = [mutants.Mutant(MODULE, "core/NumberReplacer", 0, 7)]
    assert mutants.unexplained(held) == held
    known.write_text(
        f'[["{MODULE}"]]\ncode = "DRAWS = 3"\nwhy = "more draws change the third digit"\n'
    )
    assert mutants.unexplained(held) == []


def test_every_module_its_tests_and_what_is_explained_are_there() -> None:
    for module, tests in mutants.MODULES.items():
        assert (ROOT / module).is_file()
        files = [name.removeprefix("--deselect=").partition("::")[0] for name in tests]
        assert all((ROOT / name).is_file() for name in files)
    assert set(mutants.accepted()) <= set(mutants.MODULES)
    assert all(
        line["code"] and line["why"] for held in mutants.accepted().values() for line in held
    )
