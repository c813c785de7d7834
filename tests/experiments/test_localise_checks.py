# SPDX-License-Identifier: BSD-3-Clause
"""The last step of a search: the rule is held against the capture, mended, or refuted."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.experiments.localise import checking, narrowing
from midcall.experiments.localise.clause import blocks
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.search import Localisation, localise
from midcall.experiments.proofs.localiser import third_party_rules
from midcall.experiments.proofs.localiser.rule import BenchmarkRule, base_of, policy_box
from midcall.testbed.probing.probe import Probe, flows_of, in_order

#: Three flows to two networks, up and down, one of them to a port of its own.
CAPTURE = """
    0.00 > udp peer:40100/40012 noise 300 x3 0.1
    0.05 < udp peer:40100/40012 noise 300 x3 0.1
    1.00 > udp other:9000/40018 noise 300 x3 0.1
    2.00 > udp relay:7985/40019 noise 300 x3 0.1
    2.05 < udp relay:7985/40019 noise 300 x3 0.1
    3.00 > tcp relay:443/40020 syn
    3.10 < tcp relay:443/40020 syn-ack
    3.20 > tcp relay:443/40020 tls-hello call.b.example
"""
UDP_OFF = """
[[rule]]
match = { %s }
act = "pass"
scope = "%s"

[[rule]]
match = { protocol = "udp" }
scope = "packet"
"""


def found(rules: str) -> Localisation:
    return localise(OracleSession(policy_box(rules)), base_of(CAPTURE))


@pytest.mark.parametrize(
    ("spared", "scope", "says"),
    [
        ("ports = [7985]", "packet", "far port 1 to 7984, 7986 to 65535"),
        ("ports = [5060, 5061]", "packet", "far port 1 to 5059, 5062 to 65535"),
        ('addresses = ["198.51.100.0/25"]', "packet", "except far address 198.51.100.0/25"),
        ('direction = "down"', "packet", "sent by the subscriber"),
        ('direction = "down"', "flow", "has shown a packet: sent to the subscriber"),
        ("stun = true", "flow", "unless its flow has shown a packet: is a STUN message"),
    ],
)  # fmt: skip
def test_what_a_box_spares_is_found(spared: str, scope: str, says: str) -> None:
    result = found(UDP_OFF % (spared, scope))
    assert result.complete, result.notes
    words = "; ".join(word for clause in result.clauses for word in clause.words(True))
    assert says in words


def test_a_rule_that_strikes_nothing_is_a_result() -> None:
    result = found('[[rule]]\nmatch = { protocol = "udp", ports = [5353] }')
    assert (result.blocked, result.complete, result.clauses) == (False, True, [])
    assert result.checks > len(flows_of(base_of(CAPTURE)))


def test_a_box_that_acts_by_chance_is_said_to_from_its_answers() -> None:
    result = found('[[rule]]\nmatch = { protocol = "udp" }\nprobability = 0.5')
    assert not result.complete
    assert any("by chance" in note for note in result.notes)
    assert [clause.words(True) for clause in result.clauses] == [["UDP"]]


class Odd:
    """A box of which no clause tells: it blocks where the sum of all payload sizes is odd."""

    def blocked(self, probe: Probe) -> bool:
        return sum(len(one.payload) + one.ends.far_port for one in probe) % 7 in (1, 2, 5)


def test_what_no_rule_explains_is_not_complete() -> None:
    result = localise(OracleSession(Odd()), base_of(CAPTURE))
    assert not result.complete or not result.blocked
    assert result.notes or not result.blocked


@pytest.mark.parametrize("one", third_party_rules.rules_of("second")[::3], ids=lambda one: one.name)
def test_complete_means_that_no_flow_of_the_capture_refutes_it(one: BenchmarkRule) -> None:
    box, base = one.oracle(), one.base()
    result = localise(OracleSession(box), base)
    wrong = [
        ends for ends in flows_of(base)
        if box.blocked(own := in_order(p for p in base if p.ends == ends))
        != blocks(result.clauses, own)
    ]  # fmt: skip
    assert not (result.complete and wrong)
    assert result.complete == (not result.notes and not result.refuted)


def test_ranges_are_taken_out_of_ranges() -> None:
    assert narrowing.subtract_ranges([(1, 10)], [(4, 5)]) == ((1, 3), (6, 10))
    assert narrowing.subtract_ranges([(1, 10), (20, 30)], [(8, 22)]) == ((1, 7), (23, 30))
    assert narrowing.subtract_ranges([(1, 10)], [(0, 99)]) == ()
    assert narrowing.subtract_ranges([(5, 9)], [(1, 2), (11, 12)]) == ((5, 9),)


def test_some_items_are_spread_evenly() -> None:
    items: list[Any] = list(range(100))
    assert checking.evenly_spread(items, 4) == [0, 25, 50, 75]
    assert checking.evenly_spread(items[:3], 4) == [0, 1, 2]
