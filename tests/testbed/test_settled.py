# SPDX-License-Identifier: BSD-3-Clause
"""What is settled of a flow, compared with what the box does with every later packet."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets import pcap
from midcall.classifier.engine import Engine, step
from midcall.classifier.state.flow_table import FLOW, SETTLED
from midcall.classifier.state.packet_fields import SIGN_UP
from midcall.classifier.state.verdicts import APPS, CERTAIN, MEDIA, ROLES, WHATSAPP
from midcall.testbed.middlebox.decide import (
    CLOSED,
    DELIVERED,
    DROPPED,
    DROPS,
    OPEN,
    PASSES,
    decide,
    settled,
)
from midcall.testbed.middlebox.rule_table import DOWN, table
from midcall.testbed.policy import loader
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
BLOCKED = datetime.date(2016, 3, 1)


def rule(act: str, **match: Any) -> Rule:
    """Return a rule of scope flow (drop) that every test may name."""
    return Rule(name="r", match=match, act=act, grade="C", source="a test")


def flow_of(**fields: Any) -> Any:
    """Return a flow's record: WhatsApp media over UDP, settled, unless stated otherwise."""
    row = np.zeros(1, FLOW)
    record = {"state": SETTLED, "verdict": CERTAIN, "app": WHATSAPP, "role": MEDIA, "proto": 17}
    for name, value in (record | {"version": 4, "target_port": 3478} | fields).items():
        row[name] = value
    return row[0]


# rule, fields of the flow, what is certain
CASES: list[tuple[Rule, dict[str, Any], int]] = [
    (rule("drop", app=["whatsapp"]), {"mark": 1}, DROPS),
    (rule("pass", app=["whatsapp"]), {"mark": 1}, PASSES),
    (rule("drop-media", app=["whatsapp"]), {"mark": 1}, OPEN),
    (rule("drop", app=["viber"]), {}, OPEN),
    (rule("drop", app=["viber"]), {"mark": CLOSED}, PASSES),
]


@pytest.mark.parametrize(("one", "fields", "expected"), CASES)
def test_what_is_settled_is_what_no_rule_can_change(
    one: Rule, fields: dict[str, Any], expected: int
) -> None:
    assert settled(table(Policy((one,)), 0).rules, flow_of(**fields)) == expected


def test_a_flow_that_passes_stays_with_a_box_that_learns_from_dns_answers() -> None:
    passing = rule("pass", ports=[53])
    later = Rule(
        name="later", match={"resolved": ["a.example"]}, act="drop", grade="C", source="a test"
    )  # fmt: skip
    flow = flow_of(mark=1, target_port=53)
    assert settled(table(Policy((passing,)), 0).rules, flow) == PASSES
    assert settled(table(Policy((passing, later)), 0).rules, flow) == OPEN


def policies_in_force() -> dict[str, Policy]:
    """Return the policies of every shipped hypothesis on a day of the block, and a hard one."""
    by_name = {
        f"{name}/{about.id}": operator.policy(about.id, "4g", BLOCKED)
        for name in loader.available()
        for operator in (loader.load(name),)
        for about in operator.hypotheses
    }
    every = [app for app in APPS if app != "none"]
    hard = [
        rule("pass", ports=[443]),
        Rule(
            name="often", match={"app": every, "verdict": "unsure"}, act="drop", probability=0.5,
            scope="packet", grade="C", source="a test",
        ),
        Rule(
            name="roles", match={"role": list(ROLES)}, act="drop-media", grade="C", source="a test",
        ),
        Rule(name="names", match={"name": ["*.com"]}, act="drop", grade="C", source="a test"),
    ]  # fmt: skip
    return {key: one for key, one in by_name.items() if one.rules} | {"hard": Policy(tuple(hard))}


POLICIES = policies_in_force()


@pytest.mark.parametrize("name", POLICIES)
def test_no_later_packet_contradicts_what_was_settled(name: str) -> None:
    settled = kept = 0
    for path in sorted(SAMPLES.glob("*.pcap*")):
        some, agreeing = contradictions(pcap.read(path), POLICIES[name])
        settled += some
        kept += agreeing
    # Where single packets or taint decide, little may be certain, or nothing.
    if not table(POLICIES[name], 7).rules["fluid"].any():
        assert settled > 5
        assert kept > 50


def contradictions(packets: pcap.Packets, policy: Policy) -> tuple[int, int]:
    """Walk a capture through the box; returns the flows settled and the packets that agreed."""
    engine, rules = Engine(), table(policy, 7)
    engine.reserve(packets.total)
    settled_as: dict[int, tuple[int, int]] = {}
    agreed = 0
    for i in range(packets.total):
        at, size = int(packets.offset[i]), int(packets.captured[i])
        time = int(packets.time[i])
        place = (packets.data, at, at + size, int(packets.wire[i]), time)
        number = step(engine.tables, *place, int(packets.link[i]), i, engine.signs)
        if number < 0:
            continue
        flow, side = engine.tables.flows[number], DOWN - int(engine.signs[SIGN_UP])
        fate, by, release = decide(rules, flow, side, packets.data, engine.signs, time, i)
        if number in settled_as:
            assert (fate, by) == settled_as[number], f"packet {i} of flow {number}"
            assert release == time
            agreed += 1
            continue
        outlook = settled(rules.rules, flow)
        if outlook != OPEN and int(flow["state"]) & SETTLED:
            settled_as[number] = (
                (DROPPED if outlook == DROPS else DELIVERED),
                max(int(flow["mark"]) - 1, -1),
            )
    return len(settled_as), agreed
