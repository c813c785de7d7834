# SPDX-License-Identifier: BSD-3-Clause
"""The terminal, the report and summary.json give the same figures, of the same innocent flows."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.experiments.cli.app import app
from midcall.experiments.measure import formatting, situations, summary
from midcall.experiments.report.front import views_of
from midcall.experiments.report.sections.answer import sentence
from midcall.experiments.report.views import Choice
from midcall.experiments.results import reader, schema
from tests.experiments.fake_run import fake_calls, fake_collateral, fake_run

SPEC = """
schema = 1
name = "agreement"
title = "Two rules, a few captures"
question = "Do the terminal and the report agree?"
seed = 1
operators = ["maroc-telecom", "inwi"]
hypotheses = ["signature", "address"]
access = ["4g"]
apps = ["whatsapp", "viber"]

[[dates]]
date = 2016-01-20
label = "mobile only"

[captures]
names = ["wa_voice", "whatsapp_login_call", "GoogleMeet_04282020", "iphone", "dns_doh", "quic"]

[timing]
packets = 2000
seconds = 0.1

[evaluation]
enabled = false
"""


def words(page: Path) -> str:
    """Return the text of a page, spaces joined."""
    text = page.read_text(encoding="utf-8").partition("</main>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_the_answer_of_the_summary_is_that_of_the_first_screen(tmp_path: Path) -> None:
    calls = [row for row in fake_calls() if situations.in_headline(row)]
    lines = summary.answer(calls, fake_collateral())
    ledes = views_of(reader.read(fake_run(tmp_path / "run"))).view(Choice()).ledes
    assert [tuple(row["operators"]) for row in lines] == [one.operators for one in ledes]
    for row, lede in zip(lines, ledes, strict=True):
        text = "".join(part for _, part in sentence(lede))
        assert f"{row['blocked']} of {row['n']} real calls fail" in text
        flows = f"{formatting.count(row['hit'])} of {formatting.count(row['flows'])}"
        assert f"{flows} innocent flows are hit" in text
    words = "maroc-telecom, inwi, meditel 8 of 8 (hypothesis fake-verdict)"
    assert summary.answer_words(lines) == words


def test_operators_that_cannot_be_tested_are_named_without_a_figure() -> None:
    calls = [row | {"verdict": "INCONCLUSIVE", "blocked": False} for row in fake_calls()[:3]]
    assert summary.answer_words(summary.answer(calls, [])) == "maroc-telecom cannot be tested"


@pytest.mark.corpus
def test_terminal_report_and_summary_agree(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    options = ["--runs", str(tmp_path / "runs"), "--corpus", str(corpus), "-j", "1"]
    done = CliRunner().invoke(app, ["run", str(tmp_path / "spec.toml"), *options])
    assert done.exit_code == 0, done.output
    [folder] = [path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]
    figures = json.loads((folder / "summary.json").read_text())
    flows = figures["accuracy"]["false_calls"]["flows"]

    # One denominator: in every cell, tested or not, and in the count of false calls.
    assert flows == figures["collateral"]["flows_per_cell"] > 20
    cells: dict[tuple[str, str], int] = {}
    for row in schema.read_table(folder, "collateral"):
        key = str(row["operator"]), str(row["hypothesis"])
        cells[key] = cells.get(key, 0) + int(str(row["flows"])) + int(str(row["untested"]))
    assert set(cells.values()) == {flows}
    assert figures["accuracy"]["not_replayed"]["flows"] > 0
    assert {row["innocent_flows"] for row in figures["accuracy"]["baselines"]} == {flows}

    # The page and the terminal use it, and the same calls.
    page, printed = words(folder / "report.html"), done.stdout
    for text in (page, printed):
        found = {
            whole.replace(",", "")
            for whole in re.findall(r"\d+ of ([\d,]+) (?:tested )?innocent flows", text)
        }
        assert found == {str(flows)}
    for row in figures["answer"]:
        assert f"{row['blocked']} of {row['n']} real calls fail" in page
        assert f"{row['blocked']} of {row['n']} (hypothesis {row['hypothesis']})" in printed
        assert f"{row['hit']} of {row['flows']} innocent flows are hit" in page
    worst = figures["collateral"]["worst"]
    assert worst["hit"] > 0
    assert f"At worst, {worst['hit']} of {flows} innocent flows are hit" in page
    assert f"at worst {worst['hit']} of {flows}" in printed
    named = figures["accuracy"]["five"]
    assert f"{named['right']} of {named['n']} call flows" in printed
    assert f"{named['right']} of {named['n']} call flows are named right" in page
