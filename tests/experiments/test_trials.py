# SPDX-License-Identifier: BSD-3-Clause
"""Several live runs against several others: what is tested, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.measure import compare_live
from midcall.experiments.results import schema
from tests.experiments.fake_run import CALLS, HYPOTHESES, call_row


def run(runs: Path, name: str, blocked: bool, lost: float, backend: str = "live") -> Path:
    """Write a run of one call that never changes and one that came out as given."""
    places: tuple[Any, ...] = ("inwi", HYPOTHESES[0][:3], "4g", "2016-01-20")
    still = call_row(CALLS[0], *places, "OK")
    moved = call_row(CALLS[4], *places, "CUT" if blocked else "OK") | {"media_lost": lost}
    folder = runs / name
    folder.mkdir()
    schema.write_table(folder, "calls", [still, moved])
    (folder / "spec.toml").write_text("")
    (folder / "summary.json").write_text(json.dumps({"schema": 1, "spec": {"backend": backend}}))
    return folder


def side(runs: Path, name: str, blocked: list[bool], lost: list[float]) -> list[Path]:
    pairs = zip(blocked, lost, strict=True)
    return [run(runs, f"{name}{n}", *pair) for n, pair in enumerate(pairs)]


def test_five_runs_against_five_tell_a_block_from_none(tmp_path: Path) -> None:
    a = side(tmp_path, "a", [False] * 5, [0.0] * 5)
    b = side(tmp_path, "b", [True] * 5, [0.0] * 5)
    (one,) = compare_live.compare(a, b).tests
    assert (one.what, one.place[0], one.a, one.b) == ("blocked", "fake-viber-2016", 0.0, 1.0)
    assert one.p == pytest.approx(2 / 252)
    assert one.verdict == compare_live.DIFFERENT
    assert one.b_interval == pytest.approx((0.4782, 1.0), abs=1e-3)


def test_three_against_three_is_inconclusive(tmp_path: Path) -> None:
    a = side(tmp_path, "a", [False] * 3, [0.0] * 3)
    b = side(tmp_path, "b", [True] * 3, [0.0] * 3)
    (one,) = compare_live.compare(a, b).tests
    assert (one.p, one.verdict) == (pytest.approx(0.1), compare_live.INCONCLUSIVE)


def test_media_lost_is_tested_by_runs_and_corrected_with_the_blocks(tmp_path: Path) -> None:
    rising = [0.1 + n / 1000 for n in range(9)]
    a = side(tmp_path, "a", [False] * 9, [n / 1000 for n in range(9)])
    b = side(tmp_path, "b", [True] * 9, rising)
    block, loss = compare_live.compare(a, b).tests
    assert (block.what, loss.what) == ("blocked", "media lost")
    assert loss.shift == pytest.approx(0.1)
    assert loss.p == pytest.approx(2 / 512)
    assert loss.p_corrected >= loss.p
    assert (block.verdict, loss.verdict) == (compare_live.DIFFERENT, compare_live.DIFFERENT)


def test_a_loss_that_drifts_alike_on_both_sides_hides_no_difference(tmp_path: Path) -> None:
    drift = [n / 100 for n in range(9)]
    a = side(tmp_path, "a", [False] * 9, drift)
    b = side(tmp_path, "b", [False] * 9, [lost + 0.005 for lost in drift])
    (loss,) = compare_live.compare(a, b).tests
    assert loss.shift == pytest.approx(0.005)
    assert loss.shift_interval == pytest.approx((0.005, 0.005))
    assert loss.verdict == compare_live.DIFFERENT


def test_a_call_that_never_differs_is_not_tested(tmp_path: Path) -> None:
    a = side(tmp_path, "a", [True] * 2, [0.5] * 2)
    b = side(tmp_path, "b", [True] * 2, [0.5] * 2)
    found = compare_live.compare(a, b)
    assert found.tests == []
    assert compare_live.lines(found)[-1] == "no call came out differently in any of these runs"


def test_sides_that_cannot_be_tested_are_errors(tmp_path: Path) -> None:
    a = side(tmp_path, "a", [True] * 2, [0.5] * 2)
    with pytest.raises(ExperimentError, match="2 runs against 1: tests need as many"):
        compare_live.compare(a, a[:1])
    virtual = run(tmp_path, "v", False, 0.0, backend="virtual")
    with pytest.raises(ExperimentError, match="v: backend: got virtual, expected live"):
        compare_live.compare(a, [a[0], virtual])


def test_the_command_takes_several_runs_with_commas(tmp_path: Path) -> None:
    side(tmp_path, "a", [False] * 5, [0.0] * 5)
    side(tmp_path, "b", [True] * 5, [0.0] * 5)
    names = [",".join(f"{name}{n}" for n in range(5)) for name in "ab"]
    done = CliRunner().invoke(app, ["compare", *names, "--runs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "1 tests, 1 different at 0.01 (Holm), 0 inconclusive" in done.stdout
    assert "blocked 0 -> 1, p 0.0079, corrected 0.0079: different" in done.stdout
