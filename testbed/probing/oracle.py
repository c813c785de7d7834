# SPDX-License-Identifier: BSD-3-Clause
"""Oracles: boxes that show only whether they block a probe.

The localiser asks an Oracle and gets one bit per probe. PolicyOracle is our own box in virtual
time, a new one for each probe, without state of the last. A box on real wires is another Oracle
(midcall.testbed.live.devices.oracle).
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from midcall.classifier.engine import Engine
from midcall.errors import TestbedError
from midcall.testbed.middlebox.decide import DELIVERED, decide, sees
from midcall.testbed.middlebox.inject import METER_LETTERS
from midcall.testbed.middlebox.rule_table import (
    METER_CULPRIT,
    METER_FAILED,
    UP,
    RuleTable,
    table,
)
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Probe, packets_of_probe

#: A packet that the box delays longer than this, in ns, counts as blocked.
LATE = 100_000_000
DOWN = 1 - UP


def raise_failure(box: RuleTable, policy: Policy) -> None:
    """Raise TestbedError if a censor of the policy has failed in this box."""
    if box.meter[METER_FAILED]:
        rule = policy.rules[int(box.meter[METER_CULPRIT])]
        raise TestbedError(f"{rule.file}: the censor failed (rule {rule.name})")


class Oracle(Protocol):
    """A box that answers one question: does a packet of this probe fail to pass as it was sent?"""

    def blocked(self, probe: Probe) -> bool:
        """Return True where a packet was dropped, answered by the box, or delayed long."""
        ...


class PolicyOracle:
    """Our own box under a policy, in virtual time; each probe meets a box without state.

    Raises TestbedError where a censor of the policy fails.
    """

    def __init__(self, policy: Policy, access: str = "fibre", seed: int = 0) -> None:
        self.policy, self.access, self.seed = policy, access, seed

    def blocked(self, probe: Probe) -> bool:
        """Return whether a packet is dropped, answered by the box, or delayed longer than LATE."""
        packets = packets_of_probe(probe)
        box = table(self.policy, self.seed, self.access)
        engine = Engine(room=64)
        engine.reserve(packets.total)
        flows, signs = engine.tables.flows, engine.signs
        for i, one in enumerate(probe):
            side, time = UP if one.up else DOWN, int(packets.time[i])
            if not sees(box, side):
                continue
            number = int(engine.feed(packets.take(slice(i, i + 1)))[0])
            if number < 0:
                if self.policy.fail == "closed":
                    return True
                continue
            flow = flows[number]
            fate, _, release = decide(box, flow, side, packets.data, signs, time, i)
            raise_failure(box, self.policy)
            if fate != DELIVERED or release - time > LATE or box.meter[METER_LETTERS]:
                return True
        return False


class NoisyOracle:
    """An oracle that gives the wrong answer to a share of all probes, each by its own chance.

    Chances come from hashes of the seed and the probe's number, so runs are repeatable.
    """

    def __init__(self, oracle: Oracle, share: float, seed: int) -> None:
        if not 0.0 <= share < 0.5:
            raise TestbedError(f"noise: got {share}, expected a share from 0 to below 0.5")
        self.oracle, self.share, self.seed, self.asked = oracle, share, seed, 0

    def blocked(self, probe: Probe) -> bool:
        """Return the oracle's answer, or by chance the other one."""
        self.asked += 1
        draw = hashlib.blake2b(b"%d/%d" % (self.seed, self.asked), digest_size=7).digest()
        wrong = int.from_bytes(draw, "big") < self.share * 256**7
        return self.oracle.blocked(probe) != wrong
