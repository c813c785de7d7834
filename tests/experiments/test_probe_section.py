# SPDX-License-Identifier: BSD-3-Clause
"""The prober's section of the report: searches, incidents, statements, live next to virtual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from midcall.experiments.proofs.prober.benchmark import figures
from midcall.experiments.report import html as report
from midcall.experiments.report.sections.probe import asked, bars_of, build
from midcall.experiments.results import reader
from tests.experiments.fake_run import NASTY, fake_run
from tests.experiments.test_report import Outline

Row = dict[str, Any]
RULES = ("stun=True (flow)", "ports=[3478] (flow)", f"name={NASTY} (flow)")
BELIEFS = [
    {"probes": 2, "weights": {RULES[0]: 0.4, RULES[1]: 0.4, RULES[2]: 0.1}},
    {"probes": 3, "weights": {RULES[0]: 0.6, RULES[1]: 0.3, RULES[2]: 0.0}},
    {"probes": 5, "weights": {RULES[0]: 0.9, RULES[1]: 0.05, RULES[2]: 0.0}},
]
ANSWER: Row = {
    "verdict": "blocked", "trigger": {"words": "stun"}, "direction": "both", "scope": "flow",
    "act": {"name": "drop", "parameters": {"probability": {"value": 0.5, "low": 0.4, "high": 0.6}}},
    "rule_toml": 'id = "found"', "probability": 0.9, "probes": 5, "line_s": 40.0,
}  # fmt: skip


def search(**more: Any) -> Row:
    record = [
        {"question": f"question {n} {NASTY}", "copies": 8, "seconds": 1.5, "packets": 20,
         "octets": 900, "answer": f"taught {n}"}
        for n in range(1, 6)
    ]  # fmt: skip
    return {"name": "fake/one, fake-call", "truth": "fake truth", "answer": ANSWER,
            "record": record, "beliefs": BELIEFS, **more}  # fmt: skip


def statement(**more: Any) -> Row:
    return {
        "statement": "one", "words": f"said {NASTY}", "date": "2025-08-15",
        "source": "https://github.com/fake/project/issues/12", "operator": "fake",
        "hypothesis": "one", "access": "4g", "capture": "fake-call", "synthetic": False,
        "call": "1", "app": "whatsapp", "dress": "over-tcp", "unchanged": "fails",
        "says": "works", "result": "works", "verdict": "OK", "agrees": True, "media_lost": 0.0,
        "reason": "", "differs": "", "stands_in": "", **more,
    }  # fmt: skip


def pair(**more: Any) -> Row:
    return {
        "case": "one-1", "rule": "fake rule", "virtual": "blocked", "live": "blocked",
        "virtual_answer": "drop", "live_answer": "drop", "virtual_right": True, "live_right": True,
        "agreement": "agree", "reason": "", "probes": 20, "seconds": 60.0, **more,
    }  # fmt: skip


def probed(folder: Path, **more: Any) -> Path:
    """Return a fake run with everything that the section draws."""
    run = fake_run(
        folder,
        workarounds=[statement(), statement(statement="two", dress="none", says="works",
                                            result="fails", verdict="SETUP_BLOCKED", agrees=False,
                                            media_lost=1.0, differs="a reason to differ")],
        probe_pairs=[
            pair(),
            pair(case="clean-1", rule="no rule", virtual="clean", live="clean"),
            pair(case="one-2", live="cannot tell", agreement="cannot tell", reason="no verdict"),
            pair(case="one-3", live="clean", agreement="disagree", reason="verdict: a, b"),
        ],
    )  # fmt: skip
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["probe"] = {
        "figures": figures([]), "shown": search(),
        "incidents": [search(right=True), search(right=False)], "not_played": ["a capture"],
        "live_lacks": [], **more,
    }  # fmt: skip
    path.write_text(json.dumps(summary))
    return run


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the section of a fake run."""
    run = probed(tmp_path_factory.mktemp("runs") / "run")
    page = report.render(run).read_text()
    for chart in ("probe-case", "probe-incident-1", "probe-incident-2"):
        assert (run / "figures" / f"{chart}.csv").is_file()
    return page[page.index('<section id="probe"') :].partition("</section>")[0]


def test_the_section_is_well_formed_and_escapes(section: str) -> None:
    outline = Outline(section)
    assert outline.faults == []
    assert "<script>" not in section
    assert "https://" not in section
    assert NASTY in outline.text
    assert len(outline.all("caption")) == len(outline.all("table")) == 6


def test_statements_are_shown_with_their_threads_and_what_differs(section: str) -> None:
    text = Outline(section).text
    assert "fake/ project#12" in text  # a line may end between the two
    assert "in 1 of 2 statements" in text
    assert "works (revived)" in text
    assert "a reason to differ" in text
    assert "Not played: a capture" in text


def test_live_agreement_counts_verdicts_alone(section: str) -> None:
    text = Outline(section).text
    assert "2 of 3 agree" in text
    assert "Of 1 line without a rule, 0 were called" in text


def test_a_bar_has_every_probe_and_adds_up_to_one() -> None:
    bars = list(bars_of(BELIEFS, 5))
    assert sorted({one["probe"] for one in bars}) == [2, 3, 4, 5]
    for number in range(2, 6):
        own = [one for one in bars if one["probe"] == number]
        assert sum(one["weight"] for one in own) == pytest.approx(1.0)
        assert [one["rank"] for one in own] == list(range(len(own)))
    third, fourth = ([one["weight"] for one in bars if one["probe"] == n] for n in (3, 4))
    assert third == fourth  # what no probe changed stays
    assert bars[0]["hypothesis"].endswith(RULES[0])  # the likeliest at the end comes first


def test_each_probe_is_shown_with_the_likeliest_rule_after_it() -> None:
    rows = asked(search())
    assert [row["share"] for row in rows] == [0.0, 0.4, 0.6, 0.6, 0.9]
    assert rows[0]["likeliest"] == ""
    assert rows[-1]["likeliest"] == RULES[0]


def test_a_search_that_weighed_nothing_has_no_chart(tmp_path: Path) -> None:
    clean = ANSWER | {"verdict": "clean", "act": {"name": None, "parameters": {}}, "rule_toml": ""}
    shown = search(beliefs=[], answer=clean)
    run = probed(tmp_path / "run", shown=shown, incidents=[], live_lacks=["live: no root"])
    values: Any = build(reader.read(run))
    assert values["probed"]["case"]["chart"] is None
    assert values["probed"]["case"]["answer"] == ""
    assert values["probed"]["lacks"] == ["live: no root"]


def test_a_run_without_probes_has_no_section(tmp_path: Path) -> None:
    assert build(reader.read(fake_run(tmp_path / "run"))) is None
