# SPDX-License-Identifier: BSD-3-Clause
"""Goals are met, met in part, missed or not measured, by the figures of a live bench alone."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.experiments.bench import goals
from midcall.experiments.bench.goals import MET, MISSED, MUST, UNKNOWN


def figures(**more: Any) -> dict[str, Any]:
    """Return a bench's figures that meet every goal, but for those given."""
    late = {"p50": 2.0, "p99": 5.0, "p999": 9.0, "n": 100}
    cell = {"whole": 5, "trials": 5}
    live = {
        "latency_us": {
            path: {"10000": late} for path in ("kernel", "classifier", "classifier-spin", "offload")
        },
        "loss_free_pps": {"kernel": 400, "classifier": 300, "suricata": 300, "nfqueue": 100},
        "loss_free_limit": {"classifier": "ladder", "suricata": "loss", "nfqueue": "loss"},
        "flat_out_pps": {"kernel": 100, "offload": 130, "conntrack": 100},
        "share_of_kernel": {"classifier": {"0.35": cell, "0.75": cell}},
        "delay_error_us": {"100": {"p50": -4.0, "p99": 50.0}, "10000": {"p50": 1.0, "p99": 2.0}},
        "police": {"passed": 359, "ideal": 360},
        "replay_error_us": {"p50": 1.0, "p99": 900.0, "n": 5000},
        "calls": {"seconds": 60.0, "lost_by_overload": 0, "lost": 0, "sent": 6_000_000},
    }
    return {"summary": {"live": live | more}}


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {one["goal"]: one["verdict"] for one in goals.rows(result)}


def test_figures_that_meet_every_goal_are_told_so() -> None:
    assert set(verdicts(figures()).values()) == {MET}


FAILING: list[tuple[dict[str, Any], str, str]] = [
    (
        {"share_of_kernel": {"classifier": {
            "0.35": {"whole": 5, "trials": 5}, "0.75": {"whole": 4, "trials": 5}}}},
        "undecided flows, share of the kernel's loss-free rate", MUST,
    ),
    (
        {"share_of_kernel": {"classifier": {
            "0.35": {"whole": 4, "trials": 5}, "0.75": {"whole": 4, "trials": 5}}}},
        "undecided flows, share of the kernel's loss-free rate", MISSED,
    ),
    ({"share_of_kernel": {}}, "undecided flows, share of the kernel's loss-free rate", UNKNOWN),
    (
        {"loss_free_pps": {"classifier": 300, "suricata": 301},
         "loss_free_limit": {"classifier": "loss", "suricata": "loss"}},
        "undecided flows beside Suricata inline", MISSED,
    ),
    (
        {"loss_free_limit": {"suricata": "ladder"}},
        "undecided flows beside Suricata inline", UNKNOWN,
    ),
    (
        {"loss_free_pps": {"classifier": 200, "suricata": 300}},
        "undecided flows beside Suricata inline", UNKNOWN,
    ),
    (
        {"loss_free_pps": {"classifier": 200, "suricata": 300},
         "loss_free_limit": {"classifier": "generator", "suricata": "loss"}},
        "undecided flows beside Suricata inline", UNKNOWN,
    ),
    (
        {"loss_free_pps": {"classifier": 200, "suricata": 300},
         "loss_free_limit": {"classifier": "loss", "suricata": "ladder"}},
        "undecided flows beside Suricata inline", MISSED,
    ),
    ({"loss_free_pps": {"classifier": 300}}, "undecided flows beside NFQUEUE", UNKNOWN),
    (
        {"flat_out_pps": {"kernel": 100, "offload": 96, "conntrack": 90}},
        "decided flows beside kernel forwarding", MUST,
    ),
    (
        {"flat_out_pps": {"kernel": 100, "offload": 96, "conntrack": 90}},
        "decided flows beside forwarding with conntrack", MISSED,
    ),
    (
        {"delay_error_us": {"100": {"p50": 101.0, "p99": 299.0}}},
        "error of a delay of 20 ms, p50", MISSED,
    ),
    ({"police": {"passed": 362, "ideal": 360}}, "police, beside the ideal token bucket", MISSED),
    (
        {"calls": {"seconds": 10.0, "lost_by_overload": 0, "lost": 0, "sent": 1}},
        "1,000 calls at once, 100,000 packets/s", UNKNOWN,
    ),
    (
        {"calls": {"seconds": 60.0, "lost_by_overload": 1, "lost": 1, "sent": 1}},
        "1,000 calls at once, 100,000 packets/s", MISSED,
    ),
    ({"latency_us": {}}, "latency p99 at 10,000/s, decided flows above the kernel", UNKNOWN),
    ({"replay_error_us": None}, "replay at original speed, timing error p99", UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("more", "goal", "verdict"), FAILING)
def test_a_figure_that_misses_its_goal_is_told(
    more: dict[str, Any], goal: str, verdict: str
) -> None:
    assert verdicts(figures(**more))[goal] == verdict


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"classifier": 300}, "the path kernel was not measured"),
        ({"kernel": 400}, "the path classifier was not measured"),
        ({"kernel": 0, "classifier": 0}, "the kernel carried no rate without loss"),
        ({"kernel": 400, "classifier": 300}, "not measured"),
    ],
)
def test_a_share_that_is_not_there_is_told_why(rates: dict[str, int], words: str) -> None:
    found = goals.rows(figures(share_of_kernel={}, loss_free_pps=rates))
    assert (found[0]["measured"], found[0]["verdict"]) == (words, UNKNOWN)


def test_a_rate_that_the_path_did_not_end_is_a_bound() -> None:
    result = figures()
    measured = {one["goal"]: one["measured"] for one in goals.rows(result)}
    words = measured["undecided flows beside Suricata inline"]
    assert words == "1.00: classifier at least 300/s, suricata 300/s"
    result["goals"] = goals.rows(result)
    assert any("met: 1.00: classifier at least" in line for line in goals.lines(result))


def test_the_goals_are_a_table_with_a_row_each() -> None:
    result = figures()
    result["goals"] = goals.rows(result)
    table = goals.markdown(result)
    assert len(table) == 2 + len(result["goals"])
    assert {row.count("|") for row in table} == {6}
