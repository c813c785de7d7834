# SPDX-License-Identifier: BSD-3-Clause
"""A made call, rules, and outcomes of plays, for tests of the prober."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.probe.baseline import Baseline, baseline_of, control_units
from midcall.experiments.probe.effects import joined
from midcall.experiments.probe.prober import Outcome, Prober
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Ends, Probe, ip_size, probe_of
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

CALL = """
0.00 > udp relay:3478/40001 stun-allocate 4000
0.04 < udp relay:3478/40001 stun-allocate-answer
0.20 > udp relay:3478/40001 rtp 160 x30 0.02
0.21 < udp relay:3478/40001 rtp 160 x30 0.02
0.10 > udp resolver:53/40002 question a.example
0.13 < udp resolver:53/40002 answer a.example
0.30 > tcp peer:443/40003 syn
0.34 < tcp peer:443/40003 syn-ack
0.35 > tcp peer:443/40003 ack
0.36 > tcp peer:443/40003 tls-hello a.example
0.40 < tcp peer:443/40003 tls 600
0.50 > tcp peer:443/40003 tls 100 x4 0.1
"""
NEAR, FAR = bytes([198, 18, 0, 9]), bytes([198, 19, 0, 9])
FLOW, STREAM = Ends(UDP, NEAR, 40_000, FAR, 4_000), Ends(TCP, NEAR, 40_001, FAR, 443)
NOISE = Noise(loss=0.005, jitter_ms=3)
#: A line with 2 % of loss and 50 ms of delay in each direction.
LINE = Baseline((0.02, 0.02), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((2, 100), (2, 100)))


def call() -> Probe:
    """Return the call as a probe."""
    return probe_of(scene(CALL))


def rule_of(match: dict[str, Any], act: str, **more: Any) -> Rule:
    """Return a rule."""
    return Rule.model_validate(
        {"name": "r", "match": match, "act": act, "grade": "C", "source": "test", **more}
    )


def line_of(rule: Rule, access: str = "4g", noise: Noise = NOISE) -> tuple[Prober, Baseline]:
    """Return a prober of a line with one rule, and what the line does by itself."""
    prober = Prober(VirtualSockets(Policy((rule,)), access, 5, noise), access, 5)
    outcomes = [joined([one]) for one in prober.ask("controls", control_units(), 4)]
    return prober, baseline_of(prober, outcomes)


def outcome_of(unit: Probe, struck: NDArray[np.bool_], copies: int) -> Outcome:
    """Return a play of a unit in which some packets are lost in every copy.

    struck: bool[packets].
    """
    delay = np.where(struck, -1, 50_000_000) * np.ones((copies, 1), np.int64)
    none: list[list[Any]] = [[] for _ in range(copies)]
    sizes, up = [ip_size(one) for one in unit], [one.up for one in unit]
    return Outcome(unit, delay, np.array(sizes), np.array(up), none, none)
