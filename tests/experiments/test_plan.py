# SPDX-License-Identifier: BSD-3-Clause
"""Plans: a run's budget, counted as the run counts it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.experiments.cells.live_cell import PLAY_OVERHEAD_S
from midcall.experiments.cli.app import app
from midcall.experiments.proofs.localiser.listed_rules import LISTED_RULES
from midcall.experiments.results import schema
from midcall.experiments.run import plan as plans
from midcall.experiments.run import runner
from midcall.experiments.spec.options import Options
from midcall.experiments.spec.spec import load
from midcall.testbed.live.network import network

SPEC = """
schema = 1
name = "small"
title = "Small"
question = "What?"
seed = 7
operators = ["maroc-telecom"]
hypotheses = ["media-only", "signature"]
access = ["4g", "adsl"]
apps = ["viber"]
[[dates]]
date = 2015-12-15
label = "before"
[[dates]]
date = 2016-01-20
label = "during"
[captures]
real = false
added = false
names = ["sample-viber-audio"]
[timing]
packets = 200
seconds = 0.2
[evaluation]
enabled = false
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SPEC)
    return path


def test_a_plan_counts_what_the_run_then_does_and_what_is_finished(
    spec: Path, tmp_path: Path
) -> None:
    options = Options(
        jobs=1, runs=tmp_path / "runs", cells=tmp_path / "cells", stream=io.StringIO()
    )
    before = plans.plan(str(spec), options)
    assert (before.backend, before.cells, before.units, before.reused) == ("virtual", 8, 4, 0)
    assert before.controls == 2
    assert before.seconds["simulations"] > 0
    done = runner.run(str(spec), options)
    cells = schema.read_table(done.folder, "cells")
    assert len(cells) == before.cells
    assert len({row["key"] for row in cells}) == before.units
    after = plans.plan(str(spec), options)
    assert after.reused == after.units
    assert after.seconds["simulations"] == 0


def test_a_live_plan_takes_the_time_that_the_captures_take(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "missing", lambda: ["it needs root: say sudo"])
    whole = plans.plan(str(spec), Options(backend="live"))
    assert whole.seconds["plays"] == 6 * (whole.longest_s + PLAY_OVERHEAD_S)
    assert whole.why == "not on this machine: live: it needs root: say sudo"
    spec.write_text(SPEC.replace("seed = 7", "seed = 7\nseconds = 2"))
    short = plans.plan(str(spec), Options(backend="live"))
    assert short.longest_s < whole.longest_s
    assert short.played < whole.played


def test_a_plan_counts_boxes_that_are_asked_and_rules_that_are_planted(spec: Path) -> None:
    asked = '\n[localise]\ncaptures = ["sample-viber-audio"]\nboxes = ["maroc-telecom/stun"]\n'
    spec.write_text(SPEC + asked + "drawn = 3\nbudget = 500\n")
    found = plans.plan(str(spec), Options(jobs=1))
    assert (found.boxes, found.planted, found.probes) == (1, 2 * (len(LISTED_RULES) + 3), 500)
    assert found.seconds["localiser"] > 0
    assert any(line.startswith("localiser     1 boxes") for line in plans.lines(found))
    spec.write_text(SPEC + asked + "planted = false\n")
    assert plans.searches(load(str(spec))[0]) == (1, 0)


def test_the_command_prints_the_budget(spec: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(spec), "-j", "1"])
    assert result.exit_code == 0, result.output
    heads = [line.split()[0] for line in result.stdout.splitlines()]
    assert heads == [
        "small:", "backend", "cells", "simulations", "captures", "played", "time", "disk",
    ]  # fmt: skip
    result = CliRunner().invoke(app, ["plan", str(spec), "--backend", "lve"])
    assert result.exit_code == 2
    assert result.stderr == "midcall: backend: got 'lve', expected one of virtual, live, auto\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (864_000, "10 days")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert plans.duration(seconds) == words
