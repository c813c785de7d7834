# SPDX-License-Identifier: BSD-3-Clause
"""The matrix of the policy language and engines, random edits, and their section of the report."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.experiments.engines import edge_cases, edits, matrix, prove
from midcall.experiments.engines.elements import SCOPES, elements, lacking
from midcall.experiments.report import html as report
from midcall.testbed.engines.export import ENGINES, export
from midcall.testbed.engines.lab_capture import (
    Answers,
    LabCapture,
    LabPacket,
    as_packets,
    our_box,
)
from midcall.testbed.policy.language import PAYLOADS
from midcall.testbed.policy.operator import EMPTY, Policy
from tests.experiments.drawn_policies import exact_differences
from tests.experiments.fake_run import fake_run

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
INPUTS = (edge_cases.NAME, str(SAMPLES / "sample-web.pcap"))


class Twin:
    """The lab's box as an engine."""

    def __init__(self) -> None:
        self.policy = EMPTY

    def load(self, policy: Policy) -> None:
        self.policy = policy

    def clear(self) -> None:
        self.policy = EMPTY

    def play(self, chosen: list[LabPacket]) -> Answers:
        return our_box(chosen, self.policy, "4g")


class Deaf(Twin):
    """An engine that never loads anything."""

    def load(self, policy: Policy) -> None:
        del policy


def test_every_part_of_the_language_is_an_element() -> None:
    assert lacking() == []
    every = elements()
    assert {one.name for one in every if one.kind == "payload"} == set(PAYLOADS)
    assert {one.name for one in every if one.kind == "scope"} == set(SCOPES)
    assert len({one.label for one in every}) == len(every)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_element_is_written_or_refused_with_a_reason(engine: str) -> None:
    written = 0
    for one in elements():
        made = export(one.policy, engine)
        assert bool(made.files) != bool(made.refused)
        assert all(item.reason for item in (*made.refused, *made.nearly))
        written += bool(made.files)
    assert written > 5


def test_the_edge_cases_meet_the_box_and_are_the_same_each_time() -> None:
    packets = edge_cases.edge_cases()
    assert packets.data.tobytes() == edge_cases.edge_cases().data.tobytes()
    lab: LabCapture = prove.lab_capture(packets)
    assert lab.left_out == 0
    sides = np.array([one.up for one in lab.packets])
    assert sides.any()
    assert not sides.all()
    for one in elements():  # each match and payload kind that reads one packet is met and not met
        if one.kind == "payload" and one.name not in ("unknown", "quic"):
            passes = our_box(lab.packets, lab.under(one.policy), "4g").passes
            assert 0 < int((~passes).sum()) < len(passes), one.name


def test_an_engine_that_does_nothing_has_a_witness_in_each_cell() -> None:
    inputs = prove.Inputs(INPUTS, None)
    for one in elements():
        if one.label in ("match stun", "payload sip", "scope flow", "key way = up"):
            named = matrix.Named(one.kind, one.name, one.policy)
            cell, file = matrix.answered(named, "nftables", Deaf(), "", inputs, "4g")
            assert cell["answer"] == "differs"
            assert cell["differs"] > 0
            assert cell["witness"]
            assert len(file) > 100
            cell, file = matrix.answered(named, "nftables", Twin(), "", inputs, "4g")
            assert (cell["answer"], cell["differs"], file) == ("equal", 0, b"")
            cell, _ = matrix.answered(named, "nftables", None, "no root", inputs, "4g")
            assert (cell["answer"], cell["reasons"]) == ("not run", ["no root"])


def test_edits_that_change_a_fate_are_noticed_and_no_others() -> None:
    inputs = prove.Inputs(INPUTS, None)
    found = edits.edits(Twin(), "nftables", inputs, "4g", 7, 25)
    assert found["edits"] == 25
    assert 5 < found["changed"] == found["noticed"]
    assert found["exact"] == []
    assert found["alarms"] == 0
    assert found["missed"] == []


def test_an_edit_that_an_engine_does_not_get_is_missed() -> None:
    class Stubborn(Twin):
        """An engine that keeps the first policy since it was cleared."""

        def load(self, policy: Policy) -> None:
            if policy.rules and self.policy in (EMPTY, policy):
                self.policy = policy

    inputs = prove.Inputs(INPUTS, None)
    chance = random.Random(3)
    edit = next(
        one
        for one in edits.drawn(chance, "nftables")
        if edits.fates_differ(Twin(), "nftables", inputs, "4g", one)
    )
    stubborn = Stubborn()
    assert not edits.differs(stubborn, "nftables", inputs, "4g", edit.before, edit.before)
    assert not edits.differs(stubborn, "nftables", inputs, "4g", edit.before, edit.after)
    assert edits.differs(Twin(), "nftables", inputs, "4g", edit.before, edit.after)


@pytest.mark.longest
@pytest.mark.parametrize(("engine", "program"), [("suricata", "suricata"), ("ndpi", "ndpiReader")])
def test_exact_translations_differ_in_nothing_and_each_other_one_somewhere(
    engine: str, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    inputs = prove.Inputs(INPUTS, None)
    compared = 0
    with matrix.started(engine) as (running, missing):
        assert missing == ""
        for one in elements():
            named = matrix.Named(one.kind, one.name, one.policy)
            cell, file = matrix.answered(named, engine, running, "", inputs, "4g")
            if cell["answer"] == "refused":
                continue
            assert bool(cell["differs"]) != cell["exact"], one.label
            assert bool(file) == bool(cell["differs"])
            compared += 1
    assert compared > 5


@pytest.fixture
def suricata() -> Iterator[prove.Engine]:
    """Suricata, running; the test is left out where it is not installed."""
    if shutil.which("suricata") is None:
        pytest.skip("suricata is not installed")
    with matrix.started("suricata") as (running, missing):
        assert running is not None, missing
        yield running


def test_suricata_drops_every_hop_count_and_keeps_a_flow_over_a_pause(
    suricata: prove.Engine,
) -> None:
    inputs = prove.Inputs([edge_cases.NAME], None)
    for one in elements():
        if one.label in ("match protocol = udp", "act reset"):
            total, differs, _ = prove.compared(suricata, one.policy, "suricata", inputs, "4g")
            assert total > 500
            assert differs == 0, one.label


def test_an_icmp_error_condemns_no_flow_of_suricata_that_it_is_about(
    suricata: prove.Engine,
) -> None:
    inputs = prove.Inputs([edge_cases.NAME], None)
    for match in ({"protocol": "other"}, {"addresses": [f"{edge_cases.ROUTER}/32"]}):
        policy = edits.policy_of([{"match": match, "act": "drop", "scope": "flow"}])
        assert policy is not None
        assert prove.compared(suricata, policy, "suricata", inputs, "4g")[1] == 0


def test_packets_whose_lengths_do_not_fit_are_left_out() -> None:
    sent = [one for case in edge_cases.cases() for one in case][:9]
    torn = bytearray(sent[0].packet)
    torn[24:26] = (9999).to_bytes(2, "big")  # UDP's length
    hopless = edge_cases.with_hops(sent[1].packet, 0)
    packets = [bytes(torn), hopless, *(one.packet for one in sent[2:])]
    lab = prove.lab_capture(
        as_packets(
            [
                LabPacket(data, one.up, i, i, 0)
                for i, (data, one) in enumerate(zip(packets, sent, strict=True))
            ]
        )
    )
    assert [one.frame for one in lab.packets] == list(range(2, 9))
    assert lab.left_out == 2


@pytest.mark.longest
def test_random_policies_with_an_exact_translation_differ_in_nothing(
    suricata: prove.Engine,
) -> None:
    assert exact_differences(suricata, "suricata", prove.Inputs(INPUTS, None), "1", 40) == []


# ---- the section of the report


def with_engines(folder: Path) -> Path:
    """Return a fake run with a matrix of two cells, edits and speeds."""
    run = fake_run(folder)
    cell: dict[str, Any] = {
        "kind": "match", "policy": "stun", "match": ["stun"], "acts": ["drop"], "packets": 10,
        "engine": "nftables", "answer": "differs", "exact": False, "differs": 3,
        "reasons": ["<b>a reason</b>"], "witness": [], "file": "engines/nftables-match-stun.pcapng",
    }  # fmt: skip
    other = {
        **cell, "engine": "ndpi", "answer": "refused", "packets": 0, "differs": 0, "file": "",
        "reasons": ["nDPI cannot"],
    }  # fmt: skip
    (run / "engines").mkdir()
    (run / cell["file"]).write_bytes(b"")
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["engines"] = [cell, other]
    summary["engine_edits"] = [
        {"engine": "nftables", "edits": 40, "changed": 20, "noticed": 19, "alarms": 1, "missed": []}
    ]
    times = {"limit": "loss", "p99_us": 9.0, "lost": 0, "sent": 9, "stopped": 1.0}
    summary["engine_speed"] = {
        "policy": "mechanisms/stun",
        "missing": "",
        "paths": [
            {"path": "kernel", "pps": 400_000, "p50_us": 2.0, **times},
            {"path": "midcall", "pps": 200_000, "p50_us": 32.0, **times},
            {"path": "nftables", "pps": 100_000, "p50_us": 2.5, **times},
        ],
    }
    path.write_text(json.dumps(summary))
    return run


def test_the_section_shows_cells_reasons_edits_and_ratios(tmp_path: Path) -> None:
    run = with_engines(tmp_path / "run")
    report.render(run)
    page = (run / "report.html").read_text()
    section = page[page.index('<section id="engines"') :].partition("</section>")[0]
    assert 'href="engines/nftables-match-stun.pcapng"' in section
    assert "3 of 10" in section
    assert "&lt;b&gt;a reason&lt;/b&gt;" in section
    for link in re.findall(r'href="#(reason-\d+)"', section):
        assert f'id="{link}"' in section
    assert re.search(r"nftables.*?<b>100,000</b></td><td class=\"n\">50 %", section)
    assert re.search(r"<b>200,000</b>.*?<td class=\"n\">30.0</td>", section)
    assert "<b>19</b>" in section


def test_a_run_without_engines_has_no_section(tmp_path: Path) -> None:
    report.render(fake_run(tmp_path / "run"))
    assert '<section id="engines"' not in (tmp_path / "run" / "report.html").read_text()
