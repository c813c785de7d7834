# SPDX-License-Identifier: BSD-3-Clause
"""Live calls in a spec, in a summary and on the page; their agreement with replay is counted."""

from __future__ import annotations

import io
from typing import Any

import pytest

from experiments import spec as specs
from experiments.errors import ExperimentError
from experiments.livecalls import arm, run
from experiments.livecalls.tables import agree, agreement
from testbed.live.line import CALLEE, REGISTRAR, RELAY
from testbed.policy import AddressSet, Policy, Rule


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
    tables, words = run.within(shipped("live-calls-smoke"), [], stream, log.append)
    assert tables == {}
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


def row(live: str, replay: str, blocked: bool) -> dict[str, Any]:
    told = dict.fromkeys(
        ("operator", "hypothesis", "access", "plan", "reason", "replay_reason"), ""
    )
    return told | {
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
    told = agreement(rows)
    assert (told["n"], told["agree"], told["blocked_agree"]) == (3, 1, 2)
    assert told["interval"] == pytest.approx((0.0084, 0.9057), abs=1e-3)
    assert [one["verdict"] for one in told["disagreements"]] == ["CUT", "FALLBACK"]
