# SPDX-License-Identifier: BSD-3-Clause
"""Probes and oracles: packets that somebody sends past a box, and whether it blocks them."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets
from midcall.errors import TestbedError
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.oracle import NoisyOracle, PolicyOracle
from midcall.testbed.probing.probe import Ends, Sent, in_order, packets_of_probe, probe_of
from midcall.testbed.replay.simulator import simulate

SCENE = """
    0.00 > udp relay:3478 stun-allocate 4000
    0.04 < udp relay:3478 stun-allocate-answer
    0.05 > tcp peer:443 syn
    0.06 < tcp peer:443 syn-ack
    0.07 > tcp peer:443 tls-hello a.example
    0.10 > udp peer:9999/50000 noise 300 dscp=46
"""


def rule(act: str = "drop", **match: object) -> Policy:
    more = {"delay_ms": 300} if act == "delay" else {}
    table = {"name": "r", "match": match, "act": act, "grade": "A", "source": "a test", **more}
    return Policy((Rule.model_validate(table),))


def test_a_capture_written_as_a_probe_is_read_as_the_same_probe() -> None:
    probe = probe_of(scene(SCENE))
    assert probe_of(packets_of_probe(probe)) == probe
    assert [len(one.payload) for one in probe] == [126, 20, 0, 0, 82, 300]
    assert [one.up for one in probe] == [True, False, True, False, True, True]
    assert [one.dscp for one in probe] == [0, 0, 0, 0, 0, 46]


def test_a_probe_s_headers_are_those_of_the_capture() -> None:
    packets = scene(SCENE)
    written = packets_of_probe(probe_of(packets))
    for i in (0, 4, 5):
        ours, theirs = written.frame(i), packets.frame(i)[14:]
        same = [o for o in range(len(ours)) if ours[o] != theirs[o]]
        assert set(same) <= {4, 5, 10, 11}, "but for the IP header's id and checksum"


def test_ipv6_probes_are_read_back() -> None:
    ends = Ends(17, bytes.fromhex("fd00" + "00" * 13 + "01"), 40000,
                bytes.fromhex("20010db8" + "00" * 11 + "02"), 3478)  # fmt: skip
    probe = in_order([Sent(0, True, ends, b"hello"), Sent(5, False, ends, b"answer", dscp=34)])
    assert probe_of(packets_of_probe(probe)) == probe


def test_a_capture_in_which_nothing_meets_a_box_is_an_error() -> None:
    empty = np.zeros(0, np.int64)
    with pytest.raises(TestbedError, match="no packet of this capture"):
        probe_of(Packets(np.zeros(64, np.uint8), empty, empty, empty, empty, empty))


@pytest.mark.parametrize(
    "policy",
    [
        rule(stun=True),
        rule(name=["a.example"]),
        rule(ports=[9999], size=300),
        rule(ports=[9998]),
        rule(dscp=["ef"]),
        rule(dscp=["af41"]),
        rule(name=["b.example"]),
        rule("reset", name=["a.example"]),
    ],
)
def test_an_oracle_says_what_the_simulation_does(policy: Policy) -> None:
    packets = scene(SCENE)
    simulation = simulate(packets, [], [], policy, "fibre", 0, "time", addressing="map")
    assert PolicyOracle(policy).blocked(probe_of(packets)) == bool(simulation.struck.any())


def test_what_is_held_for_long_is_blocked() -> None:
    assert PolicyOracle(rule("delay", stun=True)).blocked(probe_of(scene(SCENE)))


def test_a_noisy_oracle_is_wrong_as_often_as_it_says() -> None:
    probe = probe_of(scene(SCENE))
    box = NoisyOracle(PolicyOracle(rule(stun=True)), 0.25, 1)
    wrong = sum(not box.blocked(probe) for _ in range(400))
    assert 60 <= wrong <= 140
