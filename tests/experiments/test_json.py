# SPDX-License-Identifier: BSD-3-Clause
"""Every command can be asked for JSON, and says in its help how it is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from midcall.experiments.cli.app import app
from midcall.experiments.results import runs as folders
from tests.experiments.fake_run import fake_run

ROOT = Path(__file__).resolve().parents[2]
#: --format has JSON among its forms.
FORMS = {"--json", "--format"}
#: Commands without a result.
SILENT = {"warm-up", "probe serve"}


@pytest.fixture(autouse=True)
def _own_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))
    monkeypatch.chdir(tmp_path)


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below a group with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield " ".join((*before, name)), command


EVERY = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_command_takes_json_and_shows_an_example(name: str) -> None:
    options = {option for one in EVERY[name].params for option in one.opts}
    assert FORMS & options or name in SILENT
    assert "Example: " in (EVERY[name].help or "") or name in SILENT


def asked(*words: object, code: int = 0) -> Any:
    """Run a command with --json and return what it printed."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_captures_as_json() -> None:
    held = asked("captures", "list")
    assert {"name", "app", "sha256", "synthetic", "added"} <= set(held[0])
    shown = asked("captures", "show", "sample-whatsapp-audio")
    assert (shown["app"], shown["synthetic"]) == ("whatsapp", True)
    assert shown["calls"][0]["app"] == "whatsapp"
    assert all(isinstance(label["frame"], int) for label in shown["labels"])
    assert asked("captures", "check") == {"problems": []}


def test_policies_as_json(tmp_path: Path) -> None:
    assert "inwi" in asked("policy", "show")
    assert asked("policy", "show", "inwi")["country"] == "MA"
    assert asked("policy", "check", ROOT / "testbed" / "operators" / "inwi.toml") == {
        "problems": []
    }
    broken = tmp_path / "broken.toml"
    broken.write_text('id = "x"\n')
    assert asked("policy", "check", broken, code=2)["problems"]


@pytest.mark.slow
def test_runs_as_json(tmp_path: Path) -> None:
    for day in ("20160105", "20160106"):
        fake_run(tmp_path / "runs" / f"{day}T000000Z-fake-0badc0de")
    assert [one["name"][:8] for one in asked("runs", "list")] == ["20160105", "20160106"]
    assert asked("runs", "show", "20160106")["schema"] == 1
    result = asked("runs", "clean")
    assert (result["removed"], [one["name"][:8] for one in result["runs"]]) == (False, ["20160105"])
    assert len(folders.listed(tmp_path / "runs")) == 2
    drawn = asked("report", tmp_path / "runs" / "20160106T000000Z-fake-0badc0de")
    assert Path(drawn["report"]).is_file()


def test_a_new_spec_as_json() -> None:
    (made,) = asked("new", "spec", "mine")["files"]
    assert Path(made).name == "mine.toml"


def test_the_doctor_as_json() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    states = {one["name"]: one["state"] for one in json.loads(result.stdout)}
    assert states["Python"] == "ok"
