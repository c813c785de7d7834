# SPDX-License-Identifier: BSD-3-Clause
"""Proofs and benches: what they left below the runs is read, and shown in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments import proofs, report
from experiments.results import write_json
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
    broken = PROOF | {"proof": "faults", "held": False, "problems": ["one", "two"]}
    fuzzed = {"schema": 1, "mutated": 1234567, "files": 89, "finding": None, "ended": PROOF["when"]}
    file = {
        "file": "mix.pcap",
        "synthetic": False,
        "packets": 1000,
        "spread": {"two_cores": SPREAD},
    }
    bench = {"schema": 2, "machine": {"cpu": "Fake CPU"}, "files": [file]}
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
    for path, told in (
        (runs / "reliability" / "hostile.json", held),
        (runs / "reliability" / "faults.json", broken),
        (runs / "fuzz" / "latest.json", fuzzed),
        (folder / "bench.json", bench),
        (folder / "bench-growth.json", growth),
    ):
        write_json(path, told)
    (runs / "reliability" / "torn.json").write_text("{")
    return runs


def test_nothing_left_is_nothing_told(tmp_path: Path) -> None:
    assert proofs.pooled(tmp_path / "runs") is None
    report.render(fake_run(tmp_path / "run"))
    assert 'id="reliability"' not in (tmp_path / "run" / "report.html").read_text()


def test_what_was_left_is_told_and_a_torn_file_is_not(tmp_path: Path) -> None:
    told = proofs.pooled(left(tmp_path))
    assert told is not None
    assert [(row["proof"], row["held"], row["problems"]) for row in told["proofs"]] == [
        ("faults", False, 2),
        ("hostile", True, 0),
    ]
    assert told["growth"]["first_ns_per_packet"] == 120.0
    assert (told["growth"]["ns_per_packet"], told["growth"]["packets"]) == (140.0, 40)


def test_the_report_shows_what_was_proven_and_what_was_not(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    told = summary | {"proofs": proofs.pooled(left(tmp_path))}
    (run / "summary.json").write_text(json.dumps(told))
    report.render(run)
    page = (run / "report.html").read_text()
    section = " ".join(page.split('id="reliability"')[1].split("</section>")[0].split())
    assert "<b>no</b>: 2 problems" in section
    assert "yes: 1,234,567 mutated packets, 89 damaged files" in section
    assert "abcd1234 <small>with changes</small>" in section
    assert 'itself on one core, when on two</td><td class="n"><b>1.25</b>' in section
    assert "in the last quarter 1.02 times what it cost in the first" in section


def test_results_in_the_form_of_another_version_are_left_out(tmp_path: Path) -> None:
    runs = left(tmp_path)
    write_json(tmp_path / "bench.json", {"schema": 1, "files": [{"file": "mix.pcap"}]})
    write_json(tmp_path / "bench-growth.json", {"schema": 0, "rounds": []})
    write_json(runs / "fuzz" / "latest.json", [1, 2])
    write_json(runs / "reliability" / "hostile.json", {"schema": 1})
    told = proofs.pooled(runs)
    assert told is not None
    assert [row["proof"] for row in told["proofs"]] == ["faults"]
    assert told["fuzz"] is told["bench"] is told["growth"] is None
