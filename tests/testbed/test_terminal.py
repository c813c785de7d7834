# SPDX-License-Identifier: BSD-3-Clause
"""What is certain of a flow's later packets, so that something faster may take it over."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.testbed.conformance.transcript import scene
from midcall.testbed.middlebox.decide import DROPS, OPEN, PASSES, settled
from midcall.testbed.middlebox.rule_table import table
from midcall.testbed.replay.simulator import simulate

#: A flow that the classifier gives up on, and one that it knows at once.
NOISE = "0.0 > udp peer:9999 noise 40 x80 0.01"
CALL = "0.0 > udp relay:3478 stun-allocate 4000 x3 0.1"

# scene, rules -> what is certain of its (only) flow
CASES: list[tuple[str, list[dict[str, Any]], int]] = [
    (NOISE, [], PASSES),
    (NOISE, [{"match": {"app": ["whatsapp"]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"name": ["a.example"]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"hello": ["0e419e51db7f84b7"]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"ports": [443]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"stun": True}, "act": "drop"}], OPEN),
    (NOISE, [{"match": {"stun": True, "ports": [3478]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"stun": True, "protocol": "tcp"}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"stun": True, "addresses": ["192.0.2.0/24"]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"stun": True, "app": ["viber"]}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"size": "900-"}, "act": "drop", "scope": "packet"}], OPEN),
    (NOISE, [{"match": {"packets": "5000-"}, "act": "drop"}], OPEN),
    (NOISE, [{"match": {"name": ["a.example"]}, "act": "drop", "scope": "pair"}], OPEN),
    (NOISE, [{"match": {"name": ["a.example"]}, "act": "drop", "lasts_s": 9}], OPEN),
    (NOISE, [{"match": {"name": ["a.example"]}, "act": "drop", "after": {"packets": 3}}], PASSES),
    (NOISE, [{"match": {"size": "1-"}, "act": "drop", "after": {"packets": 900}}], OPEN),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "pass"},
             {"match": {"stun": True}, "act": "drop"}], PASSES),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "drop"}], DROPS),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "drop", "scope": "packet"}], OPEN),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "drop", "way": "down"}], OPEN),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "police", "rate_kbit": 9, "bucket_bytes": 900}],
     OPEN),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "delay", "delay_ms": 9}], OPEN),
    (NOISE, [{"match": {"protocol": "udp"}, "act": "stall", "after": {"packets": 3}}], DROPS),
    (CALL, [{"match": {"app": ["whatsapp"]}, "act": "drop"}], DROPS),
    (CALL, [{"match": {"app": ["whatsapp"]}, "act": "drop-media"}], OPEN),
    (CALL, [{"match": {"app": ["viber"]}, "act": "drop"}], OPEN),  # still looked at
]  # fmt: skip


@pytest.mark.parametrize(("text", "rules", "expected"), CASES)
def test_a_flow_is_handed_over_when_no_rule_can_change_its_fate(
    policy: Any, text: str, rules: list[dict[str, Any]], expected: int
) -> None:
    made = policy(*rules)
    simulation = simulate(scene(text), [], [], made, "fibre", 1)
    assert settled(table(made, 1).rules, simulation.flows[0]) == expected
    if expected == PASSES:
        assert simulation.delivered.all()
    elif expected == DROPS:
        assert not simulation.delivered[-1]


def test_a_closed_flow_costs_no_rule_any_more(policy: Any) -> None:
    made = policy({"match": {"app": ["whatsapp"]}, "act": "drop"})
    simulation = simulate(scene(NOISE), [], [], made, "fibre", 1)
    assert simulation.flows[0]["mark"] == -1
    assert simulation.met.tolist() == [0]
