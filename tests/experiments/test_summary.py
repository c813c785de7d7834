# SPDX-License-Identifier: BSD-3-Clause
"""The summary: counts that a person can check against a handful of rows."""

from __future__ import annotations

from typing import Any

from midcall.experiments.measure import summary

PLACE = {"operator": "inwi", "hypothesis": "stun", "access": "4g", "date": "2016-01-20"}


def call(verdict: str, blocked: bool = False, **more: Any) -> dict[str, Any]:
    facts = {"app": "viber", "kind": "audio", "later_client": False, "synthetic": False}
    result = {"verdict": verdict, "blocked": blocked, "usable": not blocked, "added": False}
    return {**PLACE, **facts, **result, "recognised": True, **more}


def test_the_mission_counts_what_could_be_tested() -> None:
    rows = [
        call("OK"),
        call("CUT", True),
        call("SETUP_BLOCKED", True),
        call("INCONCLUSIVE"),
        call("INVALID"),
        call("CUT", True, synthetic=True),
    ]
    real, invented = summary.outcome_table(rows)
    assert (real["n"], real["ok"], real["blocked"]) == (4, 1, 2)
    assert (real["inconclusive"], real["invalid"]) == (1, 1)
    assert real["blocked_interval"] is None
    assert invented["synthetic"]
    assert invented["blocked"] == 1


def test_ten_calls_get_an_interval() -> None:
    rows = [call("CUT", True) for _ in range(10)]
    assert summary.outcome_table(rows)[0]["blocked_interval"] == (summary.share_interval(10, 10))
    result = summary.calls_recognised(rows)
    assert result == [
        {
            "app": "viber",
            "synthetic": False,
            "added": False,
            "n": 10,
            "hits": 10,
            "share": 1.0,
            "interval": summary.share_interval(10, 10),
        }
    ]


def test_synthetic_calls_are_in_no_operator_count() -> None:
    rows = [call("CUT", True), call("CUT", True, synthetic=True)]
    assert summary.operators(rows) == [
        {"operator": "inwi", "ok": 0, "blocked": 1, "inconclusive": 0, "invalid": 0, "unusable": 1}
    ]


def test_collateral_names_the_worst_cell() -> None:
    size = {"bytes": 100, "bytes_hit": 10, "groups": 1, "low": None, "high": None}
    size |= {"untested": 3}
    rows = [
        {**PLACE, "protocol": "dns", "flows": 10, "hit": 0, **size},
        {**PLACE, "protocol": "web", "flows": 10, "hit": 1, **size},
        {**PLACE, "hypothesis": "ports", "protocol": "web", "flows": 20, "hit": 5, **size},
    ]
    result = summary.collateral(rows)
    assert (result["flows"], result["hit"], result["cells"], result["flows_per_cell"]) == (
        40,
        6,
        2,
        26,
    )
    worst = {"hypothesis": "ports", "flows": 20, "hit": 5, "untested": 3}
    assert result["worst"] == {**PLACE, **worst}
    assert summary.collateral([])["worst"] is None
