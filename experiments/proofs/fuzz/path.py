# SPDX-License-Identifier: BSD-3-Clause
"""A fuzzing test of the packet path: it must not read octets outside of the packet.

The packets of a batch lie in one buffer, with gaps between them. A stand processes each batch
twice, each time with an engine and a box of its own. The gaps contain zeros the first time, and the
beginnings of protocol headers the second time. Every flow, count and fate must be equal in both. If
one differs, the code has read past the end of a packet. The bounds checks of arrays do not detect
such a read, because it is inside the buffer.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, Tables, step_packet
from midcall.classifier.export import columns
from midcall.classifier.state.flow_table import METER_KEY, Numbers
from midcall.classifier.state.packet_fields import SIGN_UP
from midcall.experiments.proofs.fuzz.mutate import dice_of, draw, mutated, refill
from midcall.testbed.middlebox.decide import decide
from midcall.testbed.middlebox.inject import METER_LETTERS, METER_OCTETS
from midcall.testbed.middlebox.rule_table import DOWN, UP, RuleTable, table
from midcall.testbed.policy.loader import available, load
from midcall.testbed.policy.operator import EMPTY, Policy

#: How many packets a batch has, and how many batches a stand processes.
BATCH, ROUNDS = 4096, 16
#: Capacities of the flow table. Each stand draws one of them.
BOUNDS = (64, 4096, 1 << 22)
#: What fills the gaps: an octet value, or -1 for the WORDS of experiments.proofs.fuzz.mutate.
FILLINGS = (0x00, -1)


class Finding(Exception):
    """A defect: the two lanes differ, or the counts of an engine do not add up."""


@kernel
def walk(
    tables: Tables,
    packets: Packets,
    first: int,
    signs: Numbers,
    box: RuleTable,
    numbers: Numbers,
    fates: Numbers,
) -> None:
    """Classify each packet of a batch and let a box decide its fate.

    first: the number of the first packet. Results: numbers[i] is the flow of packet i, fates[i] its
    fate * 65536 + the rule's number + 1. Both are -1 for a packet without a flow.
    """
    for i in range(len(packets.offset)):
        number = step_packet(tables, packets, i, first + i, signs)
        numbers[i], fates[i] = number, -1
        if number >= 0:
            box.meter[METER_LETTERS] = box.meter[METER_OCTETS] = 0
            side = UP if signs[SIGN_UP] == 1 else DOWN
            flow, time = tables.flows[number], packets.time[i]
            fate, rule, _ = decide(box, flow, side, packets.data, signs, time, first + i)
            fates[i] = I(fate) * 65536 + rule + 1


class Lane(NamedTuple):
    """One of the two passes: its engine, its box, and what fills the gaps (see FILLINGS)."""

    engine: Engine
    box: RuleTable
    filling: int


class Stand:
    """Two lanes that process the same damaged packets.

    The packets are mutated copies of those in a pool. Seed and number determine them, and also the
    policy of the boxes and the options of the engines.
    """

    def __init__(self, seed: int, number: int, pool: Packets, policies: list[Policy]) -> None:
        dice = dice_of("stand", seed, number)
        policy = policies[int(draw(dice, len(policies)))]
        bound = BOUNDS[int(draw(dice, len(BOUNDS)))]
        names, prints, model = (bool(draw(dice, 8)) for _ in range(3))
        self.seed, self.number, self.pool = seed, number, pool
        self.first = int(draw(dice, pool.total))
        self.lanes = [
            Lane(
                Engine(
                    max_flows=bound,
                    names=names,
                    fingerprints=prints,
                    model="shipped" if model else None,
                ),
                table(policy, seed),
                filling,
            )
            for filling in FILLINGS
        ]

    def batch(self, round_: int) -> tuple[Packets, int]:
        """Return the packets of batch number `round_`, and how many of them were mutated."""
        first = self.first + round_ * BATCH
        return mutated(self.pool, first, BATCH, "batch", self.seed, self.number, round_)

    def feed(self, packets: Packets) -> None:
        """Process a batch in both lanes. Raises Finding if their results differ."""
        one, other = (self.process(lane, packets) for lane in self.lanes)
        for name, first_value, second_value in zip(("flow", "fate"), one, other, strict=True):
            differing = np.flatnonzero(first_value != second_value)
            if len(differing):
                raise Finding(
                    f"packet {differing[0]} of the batch: its {name} depends on what lies around it"
                )
        first, second = (lane.engine.tables for lane in self.lanes)
        for name in ("flows", "context", "notes", "meter"):
            if not equal(name, getattr(first, name), getattr(second, name)):
                raise Finding(f"{name}: depends on what lies around the packets of the batch")

    def process(self, lane: Lane, packets: Packets) -> tuple[Numbers, Numbers]:
        """Return the flow and the fate of every packet in one lane (int64[n] each)."""
        refill(packets.data, packets.offset, packets.captured, lane.filling)
        numbers, fates = np.empty(packets.total, np.int64), np.empty(packets.total, np.int64)
        engine = lane.engine
        engine.reserve(packets.total)
        walk(engine.tables, packets, engine.records, engine.signs, lane.box, numbers, fates)
        engine.records += packets.total
        engine.drain()
        return numbers, fates

    def close(self) -> None:
        """Check that the counts add up, and that the flow table can be exported. Raises Finding."""
        engine = self.lanes[0].engine
        flows, counters = engine.flows(), engine.counters
        placed = int(flows["packets_up"].sum()) + int(flows["packets_down"].sum())
        odd = sum(counters[name] for name in ("not_ip", "malformed", "too_deep", "unknown_link"))
        if placed + odd != counters["packets"] or len(flows) != counters["flows"]:
            raise Finding(f"{placed} packets in flows and {odd} outside do not add up: {counters}")
        columns(flows, "fuzz")


def equal(name: str, one: NDArray[np.void], other: NDArray[np.void]) -> bool:
    """Return whether two tables are equal; the secret key of the flow hash is ignored."""
    if name == "meter":
        one, other = (np.delete(meter, METER_KEY) for meter in (one, other))
    return one.tobytes() == other.tobytes()


def boxes() -> list[Policy]:
    """Return the policies for the boxes: EMPTY, and one per hypothesis of each shipped operator.

    It is the policy on 4g on the latest of `last_days` on which the hypothesis has rules. Policies
    with a censor are left out, because a censor is not code of the lab.
    """
    policies = [EMPTY]
    for name in available():
        operator = load(name)
        for hypothesis in operator.hypotheses:
            for day in last_days():
                policy = operator.policy(hypothesis.id, "4g", day)
                if policy.rules and all(rule.act != "censor" for rule in policy.rules):
                    policies.append(policy)
                    break
    return policies


def last_days() -> Iterator[datetime.date]:
    """Yield the 15th of each month, from December 2026 back to January 2014.

    The period of every shipped operator contains at least one of these days.
    """
    for year in range(2026, 2013, -1):
        for month in range(12, 0, -1):
            yield datetime.date(year, month, 15)
