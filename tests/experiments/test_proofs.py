# SPDX-License-Identifier: BSD-3-Clause
"""Proofs and benches: what they left below the runs is read, and shown in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from midcall.experiments.report import html, reliability_results
from midcall.experiments.results.schema import write_json
from tests.experiments.fake_run import fake_run

PROOF = {
    "schema": 1,
    "when": "2026-01-02T03:04:05+00:00",
    "code": {"commit": 5 * "abcd1234", "dirty": True},
}
SPREAD = {"median": 1.25, "least": 1.0, "most": 1.5}


def left(folder: Path) -> Path:
    """Write what proofs and benches leave; returns the folder of runs."""
    runs = folder / "runs"
    held = PROOF | {"proof": "hostile", "held": True, "problems": []}
    broken = PROOF | {"proof": "faults", "held": False, "problems": ["one", "two"], "kills": 30}
    fuzzed = {"schema": 1, "mutated": 1234567, "files": 89, "finding": None, "ended": PROOF["when"]}
    pace = {"packets": 1000, "packets_per_s": 5e6, "peak_memory_bytes": 7e6}
    tools = {name: pace | {"state_bytes_per_flow": None} for name in ("midcall", "tshark")}
    file = {
        "file": "mix.pcap",
        "made_of": "some captures",
        "synthetic": False,
        "too_slow": ["scapy"],
        "tools": tools,
        "spread": {"tshark": SPREAD},
    }
    bench = {
        "schema": 2,
        "machine": {"cpu": "Fake CPU"},
        "files": [file, file | {"file": "made-up.pcap", "synthetic": True, "too_slow": []}],
        "start_up": {"warm_seconds": 0.75, "first_seconds": 28.2},
    }
    soak = {
        "rate_pps": 200000,
        "window_s": 10.0,
        "began": PROOF["when"],
        "summary": {
            "windows": 90,
            "sent": 180_000_000,
            "lost": 12,
            "windows_not_offered": 3,
            "lost_not_offered": 70,
            "memory_bytes_per_hour": 340_000,
            "latency_drift": 1.04,
            "problems": ["12 packets were lost"],
        },
    }
    rounds: list[dict[str, Any]] = [
        {
            "packets": n,
            "flows": 5,
            "evicted": 1,
            "ns_per_packet": 100.0 + n,
            "state_bytes": 3_000_000,
        }
        for n in (20, 40)
    ]
    growth = {
        "schema": 1,
        "machine": {},
        "synthetic": True,
        "later_by_earlier": 1.02,
        "rounds": rounds,
    }
    for path, result in (
        (runs / "reliability" / "hostile.json", held),
        (runs / "reliability" / "faults.json", broken),
        (runs / "fuzz" / "latest.json", fuzzed),
        (runs / "soak" / "latest.json", soak),
        (folder / "bench.json", bench),
        (folder / "bench-growth.json", growth),
    ):
        write_json(path, result)
    (runs / "reliability" / "torn.json").write_text("{")
    return runs


def test_nothing_left_is_nothing_told(tmp_path: Path) -> None:
    assert reliability_results.pooled(tmp_path / "runs") is None
    html.render(fake_run(tmp_path / "run"))
    assert 'id="reliability"' not in (tmp_path / "run" / "report.html").read_text()


def test_what_was_left_is_told_and_a_torn_file_is_not(tmp_path: Path) -> None:
    result = reliability_results.pooled(left(tmp_path))
    assert result is not None
    assert [(row["proof"], row["held"], row["problems"]) for row in result["proofs"]] == [
        ("faults", False, 2),
        ("hostile", True, 0),
    ]
    assert result["growth"]["first_ns_per_packet"] == 120.0
    assert (result["growth"]["ns_per_packet"], result["growth"]["packets"]) == (140.0, 40)


def test_a_budget_says_which_goal_is_missed(tmp_path: Path) -> None:
    goals = {"seconds": True, "memory": False}
    spent = {"proof": "budget", "held": True, "problems": [], "seconds": 50.5, "goals": goals}
    write_json(tmp_path / "reliability" / "budget.json", PROOF | spent | {"peak_bytes": 2.25e9})
    result = reliability_results.pooled(tmp_path)
    assert result is not None
    assert result["proofs"][0]["figures"] == "50.5 s, 2.25 GB (goal missed: memory)"


def test_the_report_shows_what_was_proven_and_what_was_not(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    result = summary | {"proofs": reliability_results.pooled(left(tmp_path))}
    (run / "summary.json").write_text(json.dumps(result))
    html.render(run)
    page = (run / "report.html").read_text()
    section = " ".join(page.split('id="reliability"')[1].split("</section>")[0].split())
    assert '<b>no</b>: 2 problems: <bdi lang="en">30 kills</bdi>' in section
    assert "yes: 1,234,567 mutated packets, 89 damaged files" in section
    assert "abcd1234 <small>with changes</small>" in section
    assert "<b>1.25</b> (1 to 1.5)" in section
    assert 'made-up.pcap <span class="mark synthetic"' in section
    assert 'mix.pcap <span class="mark synthetic"' not in section
    assert 'Stopped after a minute: <bdi lang="en">scapy on mix.pcap</bdi>' in section
    assert "on one packet: 0.75 s, and 28 s the first time" in section
    words = (
        "12 of 180,000,000 lost (3 windows without the full load left out, 70 lost in them), "
        "memory 0.34 MB more an hour"
    )
    assert f"15 min at 200,000 packets/s, {words}" in section
    assert "latency at the end 1.04 times that at first" in section
    assert 'id="fig-pace"' in section
    assert "tshark: 5" in section.split('id="fig-pace"')[1]
    assert 'id="fig-growth"' in section
    assert "in the last quarter 1.02 times what it cost in the first" in section


def test_results_in_the_form_of_another_version_are_left_out(tmp_path: Path) -> None:
    runs = left(tmp_path)
    write_json(tmp_path / "bench.json", {"schema": 1, "files": [{"file": "mix.pcap"}]})
    write_json(tmp_path / "bench-growth.json", {"schema": 0, "rounds": []})
    write_json(runs / "fuzz" / "latest.json", [1, 2])
    write_json(runs / "soak" / "latest.json", {"schema": 1, "summary": {}})
    write_json(runs / "reliability" / "hostile.json", {"schema": 1})
    result = reliability_results.pooled(runs)
    assert result is not None
    assert [row["proof"] for row in result["proofs"]] == ["faults"]
    assert result["fuzz"] is result["soak"] is result["bench"] is result["growth"] is None
