# SPDX-License-Identifier: BSD-3-Clause
"""The folders of runs: found by name, shown, cleaned without touching anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.results import runs

NAMES = (
    "20260101T120000Z-smoke-aaaaaaaa",
    "20260102T120000Z-smoke-bbbbbbbb",
    "20260103T120000Z-morocco-2016-cccccccc",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three runs, the second not finished, beside a stranger's folder."""
    for number, name in enumerate(NAMES):
        path = tmp_path / name
        path.mkdir()
        (path / "spec.toml").write_text("x")
        if number != 1:
            (path / "summary.json").write_text("{}")
    (tmp_path / "latest").symlink_to(NAMES[2])
    (tmp_path / "mine").mkdir()
    return tmp_path


def midcall(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_runs_are_listed_with_their_spec_and_whether_they_finished(folder: Path) -> None:
    found = [(one.spec, one.made, one.finished) for one in runs.listed(folder)]
    assert found == [
        ("smoke", "2026-01-01 12:00:00", True),
        ("smoke", "2026-01-02 12:00:00", False),
        ("morocco-2016", "2026-01-03 12:00:00", True),
    ]
    assert runs.listed(folder / "nowhere") == []
    rows = json.loads(midcall("runs", "list", "--runs", folder, "--json").stdout)
    assert [row["name"] for row in rows] == list(NAMES)


def test_a_run_is_found_by_path_by_name_by_its_beginning_and_as_latest(folder: Path) -> None:
    for name in (str(folder / NAMES[2]), NAMES[2], "20260103", "latest"):
        assert runs.find(folder, name).name == NAMES[2]


def test_a_name_that_fits_no_run_or_several_is_told_so(folder: Path) -> None:
    with pytest.raises(ExperimentError, match="begins 3 runs of"):
        runs.find(folder, "2026")
    with pytest.raises(ExperimentError, match="no run 'nothing'"):
        runs.find(folder, "nothing")


def test_cleaning_keeps_the_newest_of_each_spec_and_what_is_no_run(folder: Path) -> None:
    result = midcall("runs", "clean", "--runs", folder)
    assert "1 runs would be removed" in result.stdout
    assert (folder / NAMES[0]).is_dir()
    midcall("runs", "clean", "--runs", folder, "--yes")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES[1:], "latest", "mine"])
    midcall("runs", "clean", "--runs", folder, "--keep", 0, "--yes")
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert midcall("runs", "clean", "--runs", folder).stdout == "nothing to remove\n"


def test_a_run_that_did_not_finish_is_said_to_be_so(folder: Path) -> None:
    done = midcall("runs", "show", NAMES[1], "--runs", folder)
    assert done.exit_code == 2
    assert "the run did not finish" in done.stderr
