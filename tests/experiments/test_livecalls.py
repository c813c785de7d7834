# SPDX-License-Identifier: BSD-3-Clause
"""Live calls in a spec, in a summary and on the page; their agreement with replay is counted."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets
from midcall.errors import ExperimentError, TestbedError
from midcall.experiments.livecalls import arm, run, tables
from midcall.experiments.livecalls.tables import agree, agreement
from midcall.experiments.report import html
from midcall.experiments.report.sections import programs
from midcall.experiments.results import reader, schema
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.grid import Cell
from midcall.testbed.assess.call_verdict import CallVerdict
from midcall.testbed.live.network.subscriber_line import CALLEE, REGISTRAR, RELAY
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import AddressSet, Policy
from midcall.testbed.programs.calls.media_direction import ways
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import (
    Account,
    Candidate,
    End,
    Pair,
    Sample,
    State,
    Stream,
)
from midcall.testbed.programs.calls.verdict import Called, judge


def shipped(name: str, change: tuple[str, str] = ("", "")) -> specs.Spec:
    text = (specs.SHIPPED / f"{name}.toml").read_text()
    assert change[0] in text
    return specs.parse(text.replace(*change).encode(), name)


def test_the_shipped_spec_calls_with_two_programs_under_eight_policies_on_three_lines() -> None:
    spec = shipped("live-calls")
    assert spec.programs is not None
    assert {one.caller for one in spec.programs.calls} == {"chromium", "baresip"}
    assert len(spec.hypotheses) >= 8
    assert len(spec.access) == 3


def test_a_call_that_no_program_can_make_is_an_error() -> None:
    with pytest.raises(ExperimentError, match="media: got 'screen', baresip can do audio"):
        shipped("live-calls-smoke", ('caller = "baresip"', 'caller = "baresip", media = "screen"'))


def test_replay_alone_needs_no_programs() -> None:
    with pytest.raises(ExperimentError, match=r"programs\.arms: expected \"live\" among them"):
        shipped("live-calls-smoke", ('["replay", "live"]', '["replay"]'))


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm, "lacking", lambda asked: ["caller chromium: it is missing"])
    stream, log = io.StringIO(), []
    rows, words = run.within(shipped("live-calls-smoke"), [], stream, log.append)
    assert rows == {}
    assert words == {"programs": {"lacking": ["caller chromium: it is missing"]}}
    assert stream.getvalue() == "live calls skipped: caller chromium: it is missing\n"


def test_lists_of_networks_hold_the_far_ends_of_the_lab() -> None:
    rule = Rule.model_validate(
        {"name": "nets", "match": {"addresses": ["meta", "1.2.3.0/24"]}, "act": "drop",
         "grade": "D", "source": "made up for this test"}
    )  # fmt: skip
    held = AddressSet.model_construct(name="meta", addresses=["5.6.0.0/16"])
    home = arm.at_home(Policy((rule,), (held,)))
    assert set(home.prefixes(home.rules[0])) == {f"{one}/32" for one in (CALLEE, RELAY, REGISTRAR)}


def made(word: str, share: float) -> arm.Made:
    """Return a call whose both ends received a share of 50 packets a second, over TLS."""
    samples = tuple(Sample(0.4 + 0.25 * i, audio=int(12.5 * share * i)) for i in range(34))
    local = Candidate("relay", RELAY, 5000, "udp", word)
    ends = tuple(
        End(
            name, CALLEE,
            states=(State(0.4, "connection", "connected"),),
            pairs=(Pair(local, Candidate("host", CALLEE, 5001, "udp"), 0.4),),
            streams=(Stream("audio", True, sent=400, round_trip_ms=80.0),
                     Stream("audio", False, received=samples[-1].audio, heard_s=8 * share)),
            samples=samples,
        )
        for name in ("caller", "callee")
    )  # fmt: skip
    account = Account(Plan(path="any", seconds=8), True, 0, 8.4, ends, version="Chromium 1")
    nothing = np.zeros(0, [("tap", "u1"), ("out", "?"), ("stamp", "i8")])
    none = np.zeros(0, np.int64)
    packets = Packets(np.zeros(0, np.uint8), none, none, none, none, none)
    way = ways(account, nothing, np.zeros(0, np.uint8))
    return arm.Made(Called(account, way, {"strike": 3 if share < 1 else 0}), packets)


def outcome() -> arm.Result:
    """Return a call that went by TLS instead of TCP, and that replay calls blocked."""
    rule = {"name": "strike", "match": {"protocol": "udp"}, "act": "drop", "grade": "D",
            "source": "made up for this test"}  # fmt: skip
    policy = Policy((Rule.model_validate(rule),))
    control, call = arm.Captured(made("tcp", 1.0), None), made("tls", 0.95)
    result = judge(call.called, control.made.called, policy)
    replay = CallVerdict("SETUP_BLOCKED", True, "strike", 1, 0.0, 9, 0, 9, 1.0, "nothing came.")
    cell = Cell("mechanisms", "udp", "All <UDP>", "4g", "2026-01-01", True, policy)
    plan = call.called.account.plan
    return arm.Result(cell, plan, 0, call, control, result, replay, 9.0)


def test_a_call_that_found_another_way_is_told_with_its_cost_and_shown(tmp_path: Path) -> None:
    result = tables.live_call_tables([outcome()])
    for name, rows in result.tables.items():
        schema.write_table(tmp_path, name, rows)
    schema.write_json(tmp_path / "summary.json", {"programs": result.summary})
    (found,) = result.summary["fallbacks"]
    assert (found["carried_control"], found["carried"]) == ("tcp", "tls")
    assert found["down_mos"] < found["down_mos_control"]
    assert found["down_heard_s"] == pytest.approx(7.6)
    assert result.summary["agreement"]["disagreements"][0]["replay"] == "SETUP_BLOCKED"
    held = reader.read(tmp_path)
    view = programs.build(held)
    assert view is not None
    (drawn,) = view["programs"]["drawn"]
    assert [part["end"] for part in drawn["said"]] == ["caller", "callee"]
    assert drawn["strips"][1]["words"].startswith("391 of 400 packets arrived, 40 ms one way")
    text = html.environment().from_string(
        '{% import "pieces.html" as pieces with context %}{% include "programs.html" %}'
    ).render(view | {"files": ["program_calls.csv"]})  # fmt: skip
    assert "All &lt;UDP&gt;" in text
    assert "gets through another way" in text
    assert "replay: never connects" in text
    assert "by a relay over TLS, instead of by a relay over TCP" in text


def test_a_call_that_could_not_be_made_is_a_row_and_not_testable() -> None:
    one = outcome()._replace(made=None, judged=None, replay=None, error="chromium ended")
    result = tables.live_call_tables([one])
    (row,) = result.tables["program_calls"]
    assert (row["verdict"], row["agree"], row["up_sent"]) == ("INVALID", None, None)
    assert result.tables["program_states"] == []
    assert result.summary["failed"][0]["error"] == "chromium ended"
    assert result.summary["agreement"]["n"] == 0


class Broken:
    """A place's programs, all broken; notes which are ended."""

    def __init__(self) -> None:
        self.dismissed: list[str] = []

    def caller(self, name: str) -> Any:
        raise TestbedError(f"{name} does not answer")

    def dismiss(self, name: str) -> None:
        self.dismissed.append(name)


@pytest.mark.parametrize("connects", [False, True])
def test_a_program_whose_control_failed_is_ended(
    connects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast: Any = Broken()
    nothing: Any = None
    place = arm.Place(nothing, cast, "4g", nothing, 1, lambda _: None)
    one = made("udp", 1.0)
    failed = dataclasses.replace(one.called.account, connected=connects, error="it hung")
    silent = one._replace(called=one.called._replace(account=failed))
    monkeypatch.setattr(arm.Place, "call", lambda *_: cast.caller("aiortc"))
    assert place.control(Plan("aiortc"), nothing) == "aiortc does not answer"
    assert cast.dismissed == ["aiortc"]
    monkeypatch.setattr(arm.Place, "call", lambda *_: silent)
    assert place.control(Plan("aiortc"), nothing) == "the control did not work: it hung"
    assert cast.dismissed == ["aiortc", "aiortc"]


def row(live: str, replay: str, blocked: bool) -> dict[str, Any]:
    result = dict.fromkeys(
        ("operator", "hypothesis", "access", "plan", "reason", "replay_reason"), ""
    )
    return result | {
        "repeat": 0, "verdict": live, "replay": replay, "agree": agree(live, replay),
        "agree_blocked": None if agree(live, replay) is None else blocked,
    }  # fmt: skip


def test_agreement_counts_valid_pairs_and_names_the_others() -> None:
    rows = [
        row("OK", "OK", True),
        row("CUT", "CONNECTED_NO_MEDIA", True),
        row("FALLBACK", "SETUP_BLOCKED", False),
        row("INVALID", "OK", False),
    ]
    result = agreement(rows)
    assert (result["n"], result["agree"], result["blocked_agree"]) == (3, 1, 2)
    assert result["interval"] == pytest.approx((0.0084, 0.9057), abs=1e-3)
    assert [one["verdict"] for one in result["disagreements"]] == ["CUT", "FALLBACK"]
