# SPDX-License-Identifier: BSD-3-Clause
"""The runner: what a run leaves behind, what it reuses, and what a failure does to it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.measure import summary
from midcall.experiments.results import schema
from midcall.experiments.run import runner
from midcall.experiments.run.runner import Finished
from midcall.experiments.spec.options import Options


def made(spec: Path, folder: Path, **more: Any) -> Finished:
    """Run a spec in a folder of its own, quietly."""
    options = Options(
        jobs=more.pop("jobs", 1),
        runs=folder / "runs",
        cells=folder / "cells",
        stream=io.StringIO(),
        **more,
    )
    return runner.run(str(spec), options)


def rows(run: Finished, name: str) -> list[dict[str, str]]:
    with (run.folder / f"{name}.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def timeless(run: Finished) -> dict[str, Any]:
    """Return the summary without what a clock or the machine decides."""
    held = json.loads((run.folder / "summary.json").read_text())
    return {key: value for key, value in held.items() if key not in summary.TIMED}


def statuses(run: Finished) -> Sequence[str]:
    return [row["status"] for row in rows(run, "cells")]


def test_a_run_leaves_every_file_of_the_contract(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    done = made(paper_spec, tmp_path)
    names = {path.name for path in done.folder.iterdir()}
    tables = {f"{name}.{end}" for name in schema.COLUMNS for end in ("csv", "parquet")}
    others = {"spec.toml", "provenance.json", "summary.json", "run.log", "report.html"}
    assert tables | others <= names
    assert (done.folder / "spec.toml").read_bytes() == paper_spec.read_bytes()
    assert (tmp_path / "runs" / "latest").resolve() == done.folder.resolve()
    assert done.folder.name.split("-")[1] == "paper"
    assert [one.name for one in (tmp_path / "runs").iterdir() if one.name.startswith(".")] == []


def test_the_summary_holds_what_the_interface_promises(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    result = made(paper_spec, tmp_path).summary
    assert result["schema"] == 1
    assert (result["captures"]["real"], result["captures"]["synthetic"]) == (0, 3)
    assert result["accuracy"]["apps"] == {}
    assert result["accuracy"]["false_calls"]["flows"] == 0
    assert result["accuracy"]["macro_f1"] is None
    assert result["verdict"]["packets"]["p50"] is None
    assert result["throughput"]["offline"]["packets_per_s"] > 0
    assert set(result["latency"]["offline"]["ns_per_packet"]) == {"p50", "p99", "p999"}
    assert result["collateral"]["flows"] == 0
    assert result["machine"]["cores"] >= 1
    wanted = {
        "capture", "capture_year", "app", "kind", "synthetic", "operator", "hypothesis", "access",
        "date", "verdict", "packets_to_block", "media_lost",
    }  # fmt: skip
    assert len(result["calls"]) == 6
    assert all(wanted <= row.keys() and row["synthetic"] for row in result["calls"])
    assert "whatsapp" in result["accuracy"]["synthetic"]["apps"]


def test_calls_are_blocked_on_the_dates_of_the_block_alone(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    done = made(paper_spec, tmp_path)
    fates = {(row["app"], row["date"]): row["verdict"] for row in rows(done, "calls")}
    assert fates["whatsapp", "2015-12-15"] == "OK"
    assert fates["whatsapp", "2016-01-20"] == "CONNECTED_NO_MEDIA"
    assert fates["viber", "2016-01-20"] == "CONNECTED_NO_MEDIA"
    assert fates["viber", "2016-11-15"] == "OK"
    table = {(row["app"], row["date"]): row for row in done.summary["mission"]}
    assert table["viber", "2016-01-20"]["blocked"] == 1
    assert table["viber", "2016-01-20"]["blocked_interval"] is None


def test_cells_of_equal_rules_share_one_simulation(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    made(paper_spec, tmp_path)
    before = 2 * 2  # control and empty policy, of two captures
    during = 2  # the rules; the controls are there
    assert paper.simulations == before + during


def test_a_second_run_reuses_every_cell_and_says_the_same(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    first = made(paper_spec, tmp_path)
    worked = paper.simulations
    second = made(paper_spec, tmp_path)
    assert paper.simulations == worked
    assert statuses(first) == ["done"] * 3
    assert statuses(second) == ["reused"] * 3
    assert second.folder != first.folder
    assert timeless(first) == timeless(second)
    for name in ("flows", "calls", "collateral"):
        for end in ("csv", "parquet"):
            one, two = (run.folder / f"{name}.{end}" for run in (first, second))
            assert one.read_bytes() == two.read_bytes()


def test_force_and_another_seed_do_the_work_again(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    made(paper_spec, tmp_path)
    worked = paper.simulations
    assert statuses(made(paper_spec, tmp_path, force=True)) == ["done"] * 3
    assert paper.simulations == 2 * worked
    paper_spec.write_text(paper_spec.read_text().replace("seed = 7", "seed = 8"))
    assert statuses(made(paper_spec, tmp_path)) == ["done"] * 3


def test_a_damaged_cell_is_computed_again(paper: Any, paper_spec: Path, tmp_path: Path) -> None:
    made(paper_spec, tmp_path)
    files = sorted((tmp_path / "cells").rglob("*.json"))
    assert len(files) == 2
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert statuses(made(paper_spec, tmp_path)) == ["done"] * 3


def test_a_failing_cell_is_a_row_and_the_others_go_on(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    from midcall.captures.truth.catalogue import load

    paper.fails = load().named("sample-viber-audio").packets
    done = made(paper_spec, tmp_path)
    assert statuses(done) == ["done", "failed", "done"]
    assert done.failed == 1
    error = rows(done, "cells")[1]["error"]
    assert error.startswith("ArithmeticError: the paper tore (conftest.py:")
    assert error.endswith("[capture sample-viber-audio]")
    assert {row["date"] for row in rows(done, "calls")} == {"2015-12-15", "2016-11-15"}
    assert done.summary["cells"]["failed"] == 1
    paper.fails = None
    assert statuses(made(paper_spec, tmp_path)) == ["reused", "done", "reused"]


def test_the_command_ends_with_five_lines_and_the_path_and_1_where_a_cell_failed(
    paper: Any, paper_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midcall.captures.truth.catalogue import load

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["run", str(paper_spec), "--runs", str(tmp_path / "runs"), "-j", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    heads = ["captures", "seen", "calls", "hit", "speed"]
    assert [line.split(":")[0] for line in lines[:5]] == heads
    assert len(lines) == 6
    assert Path(lines[5]).name == "report.html"
    assert Path(lines[5]).is_file()
    paper.fails = load().named("sample-viber-audio").packets
    result = CliRunner().invoke(app, [*words, "--force"])
    assert result.exit_code == 1
    assert "midcall: 1 cells failed: see cells.csv" in result.stderr


def test_addresses_are_masked_unless_they_are_to_be_revealed(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    hidden = {row["src_ip"] for row in rows(made(paper_spec, tmp_path), "flows")}
    shown = {row["src_ip"] for row in rows(made(paper_spec, tmp_path, reveal=True), "flows")}
    assert all(address.endswith(".x.x") for address in hidden)
    assert shown
    assert not any("x" in address for address in shown)


def test_an_interrupted_run_keeps_its_finished_cells_and_leaves_no_folder(
    paper: Any, paper_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = paper.simulate

    def stop(*words: Any, **named: Any) -> Any:
        if paper.simulations == 5:
            raise KeyboardInterrupt
        return whole(*words, **named)

    virtual = sys.modules["midcall.testbed.replay.simulator"]
    monkeypatch.setattr(virtual, "simulate", stop)
    with pytest.raises(KeyboardInterrupt):
        made(paper_spec, tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []
    files = [json.loads(path.read_bytes()) for path in (tmp_path / "cells").rglob("*.json")]
    assert sum(len(file["shares"]) for file in files) == 3  # the other two were controls
    monkeypatch.setattr(virtual, "simulate", whole)
    assert sorted(statuses(made(paper_spec, tmp_path))).count("reused") >= 1


def test_the_command_says_what_an_interruption_keeps(
    paper: Any, paper_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*words: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("midcall.experiments.run.runner.run", stop)
    result = CliRunner().invoke(app, ["run", str(paper_spec)])
    assert result.exit_code == 130
    assert result.stderr == (
        "interrupted; what is finished is kept, the same command goes on from there\n"
    )
    monkeypatch.setattr("midcall.experiments.proofs.soak.soak", stop)
    result = CliRunner().invoke(app, ["bench", "soak"])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")  # nothing kept


def test_names_that_nobody_knows_are_told_with_the_closest(
    paper: Any, paper_spec: Path, tmp_path: Path
) -> None:
    text = paper_spec.read_text()
    paper_spec.write_text(text.replace('"sample-dns"', '"sample-dsn"'))
    with pytest.raises(ExperimentError, match=r"sample-dsn \(did you mean sample-dns\?\)"):
        made(paper_spec, tmp_path)
    paper_spec.write_text(text.replace('"media-only"', '"media-onyl"'))
    with pytest.raises(ExperimentError, match=r"media-onyl \(did you mean media-only\?\)"):
        made(paper_spec, tmp_path)
    paper_spec.write_text(text.replace('["maroc-telecom"]', '["maroc-telcom", "inwy"]'))
    with pytest.raises(ExperimentError) as caught:
        made(paper_spec, tmp_path)
    assert "'maroc-telcom'" in str(caught.value)
    assert "'inwy'" in str(caught.value)
