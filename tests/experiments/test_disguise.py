# SPDX-License-Identifier: BSD-3-Clause
"""Disguises in a run: what is played, what is counted, which rule follows, and the report."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from midcall.experiments.cells import evasion_runs
from midcall.experiments.results import schema
from midcall.experiments.run import evasion_results, plan
from midcall.experiments.run.evasion_results import follower, prices
from midcall.experiments.run.runner import run
from midcall.experiments.spec.options import Options

SPEC = """
schema = 1
name = "dressed"
title = "Dressed"
question = "What?"
seed = 7
arms = true
disguises = true
operators = ["mechanisms", "followers"]
hypotheses = ["stun", "wireguard"]
access = ["fibre"]
apps = ["whatsapp"]
[[dates]]
date = 2026-01-15
label = "any day"
[captures]
real = false
added = false
names = ["sample-whatsapp-audio", "sample-dns"]
[timing]
packets = 200
seconds = 0.2
[evaluation]
enabled = false
"""


def verdict(name: str, **more: Any) -> dict[str, Any]:
    row = {"verdict": name, "blocked": name == "CUT", "mos": None}
    return row | more


def test_counts_leave_out_what_is_not_testable_and_rate_what_gets_through() -> None:
    result = evasion_results.counted(
        [
            verdict("OK", mos=4.0),
            verdict("OK", mos=3.0),
            verdict("CUT", mos=1.0),
            verdict("INCONCLUSIVE", mos=2.0),
            verdict("INVALID"),
            verdict("DEGRADED", mos=2.0),
        ]
    )
    assert result == {
        "n": 5, "blocked": 1, "inconclusive": 1, "degraded": 1, "mos": 3.0, "mos_n": 3,
    }  # fmt: skip


def rule(name: str, blocked: int, n: int = 10) -> dict[str, Any]:
    return {"operator": "o", "hypothesis": name, "n": n, "blocked": blocked}


def price(name: str, hit: int, flows: int = 100, date: str = "d") -> dict[str, Any]:
    place = {"operator": "o", "hypothesis": name, "access": "a", "date": date}
    bounds = {"all_low": hit / 200, "all_high": hit / 50}
    return {
        **place,
        "protocol": "p",
        "flows": flows,
        "untested": 1,
        "hit": hit,
        "bytes": 9,
        "bytes_hit": 1,
    } | bounds


def test_the_follower_is_the_rule_that_still_blocks_most_calls_at_the_least_price() -> None:
    rules = [rule("wide", 10), rule("narrow", 9), rule("cheap", 8)]
    hits = prices([price("wide", 50), price("narrow", 5), price("cheap", 0)])
    found = follower(rules, hits)
    assert found is not None
    assert (found["hypothesis"], found["hit"], found["flows"]) == ("narrow", 5, 100)
    assert found["follows"] is True
    assert found["interval"] == pytest.approx((0.025, 0.1))


def test_where_no_rule_follows_the_one_that_blocks_most_is_told_as_such() -> None:
    found = follower([rule("a", 3), rule("b", 5)], prices([price("a", 0), price("b", 9)]))
    assert found is not None
    assert (found["hypothesis"], found["follows"]) == ("b", False)
    assert follower([rule("a", 3)], {}) is None


def test_a_rules_price_is_that_of_the_place_where_it_hits_most() -> None:
    result = prices([price("a", 1), price("a", 3, date="e"), price("a", 1, date="e")])
    assert result["o", "a"]["hit"] == 4


@pytest.fixture(scope="module")
def dressed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the spec once."""
    place = tmp_path_factory.mktemp("dressed")
    spec = place / "dressed.toml"
    spec.write_text(SPEC)
    options = Options(None, False, False, 1, place / "runs", place / "cells", StringIO())
    return run(str(spec), options), options, spec


def entry(result: Any, name: str) -> Any:
    return next(one for one in result.summary["disguises"] if one["name"] == name)


def blocked(result: Any, name: str) -> dict[str, int]:
    return {one["hypothesis"]: one["blocked"] for one in entry(result, name)["rules"]}


def test_a_run_tells_which_dress_passes_which_rule(dressed: Any) -> None:
    result, _, _ = dressed
    assert blocked(result, "none") == {"stun": 1, "wireguard": 0}
    assert blocked(result, "stun-masked")["stun"] == 0
    assert blocked(result, "inverted")["stun"] == 0
    assert blocked(result, "sizes")["stun"] == 1
    assert blocked(result, "wireguard") == {"stun": 0, "wireguard": 1}
    assert entry(result, "none")["synthetic"] is True


def test_a_disguise_has_its_costs_and_an_arm_has_none(dressed: Any) -> None:
    result, _, _ = dressed
    assert entry(result, "none")["overhead"] == 0
    assert entry(result, "padding")["overhead"] > 0.1
    assert entry(result, "wireguard")["setup_ms"] == pytest.approx(20)
    assert entry(result, "constant-rate")["delay_ms"] > 0
    assert entry(result, "inverted")["overhead"] is None
    assert entry(result, "inverted")["calls"] == 1
    costs = json.loads(json.dumps(result.summary["disguises"]))
    assert costs == result.summary["disguises"]


def test_a_repeated_run_reuses_every_dress_and_tells_the_same(
    dressed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, options, spec = dressed
    monkeypatch.setattr(evasion_runs, "outcome", None)
    again = run(str(spec), options)
    assert again.summary["disguises"] == result.summary["disguises"]


def test_the_report_shows_both_matrices_and_the_rule_that_follows(dressed: Any) -> None:
    result, _, _ = dressed
    text = Path(result.report).read_text()
    section = text[text.index('id="disguises"') :]
    section = section[: section.index("</section>")]
    assert "Control arms: what each rule depends on" in section
    assert "WireGuard&#39;s first message" in section
    assert "dress_costs.csv" in section
    assert (result.folder / "dressed.csv").is_file()


def test_a_plan_counts_the_dresses_that_the_run_then_plays(dressed: Any) -> None:
    result, options, spec = dressed
    found = plan.plan(str(spec), options._replace(force=True))
    rows = schema.read_table(result.folder, "dressed")
    assert found.dresses == len({(row["capture"], row["dress"]) for row in rows}) > 10
    assert found.dress_plays == 1 + len({row["hypothesis"] for row in rows})
    assert found.dresses_reused == 0
    assert found.seconds["dresses"] > 0
    after = plan.plan(str(spec), options)
    assert (after.dresses_reused, after.seconds["dresses"]) == (found.dresses, 0)
    assert any(line.startswith("dresses") for line in plan.lines(after))


def test_a_dress_that_fails_is_told_and_the_others_go_on(
    dressed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, options, spec = dressed
    made = evasion_runs.outcome

    def torn(item: Any, name: str, *more: Any) -> Any:
        if name == "padding":
            raise ValueError("the seam is open")
        return made(item, name, *more)

    monkeypatch.setattr(evasion_runs, "outcome", torn)
    result = run(str(spec), options._replace(cells=tmp_path / "cells"))
    assert result.failed == 1
    assert entry(result, "padding")["errors"][0].count("padding: ValueError: the seam is open") == 1
    assert [rule["n"] for rule in entry(result, "padding")["rules"]] == [0, 0]
    assert entry(result, "sizes") == entry(whole, "sizes")
    assert "the seam is open" in Path(result.report).read_text()
    assert "failed: " in (result.folder / "run.log").read_text()
