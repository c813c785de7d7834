# SPDX-License-Identifier: BSD-3-Clause
"""Conformance: for each word of the policy language a scene, and what becomes of every packet.

The table reads as documentation, and the reference page shows it as the example of each word. A
rule is written as in an operator's file (its name, grade and source left out), a scene as in
midcall.testbed.conformance.transcript, and fates a letter a packet, in the scene's order:

    . not sent   d delivered   x dropped   f answered by the box   l lost by the access link

Where a scenario measures, the share, delay or rate must come within 2 % of what the rule says.
Every forged frame must be one that its receiver takes (midcall.testbed.replay.forged_frames).
Any backend can be held to it: `check` takes the function that plays.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.pcap import Packets
from midcall.locations import OPERATORS
from midcall.testbed.conformance.scenarios import SCENARIOS, Scenario
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.loader import located
from midcall.testbed.policy.operator import AddressSet, Policy

#: How far a measured figure may lie from what was set.
TOLERANCE = 0.02
LETTERS = ".dxfBl"
DAY = datetime.date(2026, 1, 15)
SEED = 1

#: Plays packets under a policy, on an access network, with a seed; last, as the box sees them.
Play = Callable[[Packets, Policy, str, int, Packets | None], Any]
#: Where the IP header stands in a scene's frames.
ETHERNET = 14


class Outcome(NamedTuple):
    """What came of a scenario: `problem` is "" where it passed, else got and expected."""

    scenario: Scenario
    problem: str

    @property
    def passed(self) -> bool:
        """Tell whether the scenario came out as the table says."""
        return not self.problem


def virtual(
    packets: Packets, policy: Policy, access: str, seed: int, seen: Packets | None = None
) -> Any:
    """Play a capture in virtual time; seen: the same packets as the box sees them."""
    from midcall.testbed.replay.simulator import simulate

    return simulate(packets, [], [], policy, access, seed, dressed=seen)


def torn(packets: Packets, some: Sequence[int]) -> Packets | None:
    """Return packets of which some have an IP header that nobody can read, None for no such."""
    if not some:
        return None
    data = packets.data.copy()
    data[packets.offset[list(some)] + ETHERNET] = 0
    return packets._replace(data=data)


def rules_of(scenario: Scenario) -> tuple[Rule, ...]:
    """Return a scenario's rules, named r1, r2 and so on."""
    text = scenario.rules.strip()
    whole = text if text.startswith("[[rule]]") else f"[[rule]]\n{text}"
    about = {"grade": "A", "source": "conformance"}
    tables = tomllib.loads(whole)["rule"]
    rules = [
        Rule.model_validate({**about, "name": f"r{number}", **table})
        for number, table in enumerate(tables, 1)
    ]
    return tuple(located(rules, OPERATORS))


def policy_of(scenario: Scenario) -> Policy:
    """Return a scenario's policy, as it stands on its access network and day."""
    day = scenario.day or DAY
    rules = tuple(rule for rule in rules_of(scenario) if rule.holds(scenario.access, day))
    about = {"grade": "A", "source": "conformance"}
    sets = tuple(
        AddressSet.model_validate({"name": name, "addresses": words, **about})
        for name, words in scenario.sets.items()
    )
    return Policy(rules, sets, "closed" if scenario.closed else "open")


def check(scenario: Scenario, play: Play = virtual) -> Outcome:
    """Play a scenario and hold every fate, delay and measured figure against the table."""
    packets = scene(scenario.scene)
    seen = torn(packets, scenario.torn)
    told = play(packets, policy_of(scenario), scenario.access, SEED, seen)
    found = [*problems(scenario, packets, told)]
    if play is virtual:
        from midcall.testbed.replay.forged_frames import frame_problems

        found += frame_problems(told)
    return Outcome(scenario, "; ".join(found))


def check_all(play: Play = virtual, some: Sequence[Scenario] = SCENARIOS) -> list[Outcome]:
    """Check every scenario."""
    return [check(scenario, play) for scenario in some]


def problems(scenario: Scenario, packets: Packets, told: Any) -> Iterator[str]:
    """Yield what came out otherwise than the table says."""
    got = "".join(LETTERS[int(fate)] for fate in told.fates["fate"])
    if scenario.fates and got != scenario.fates:
        yield f"fates: got {got}, expected {scenario.fates}"
    if scenario.forged and (letters := forged(told)) != scenario.forged:
        yield f"forged: got {letters or 'nothing'}, expected {scenario.forged}"
    for what, expected in scenario.measured:
        value = MEASURES[what](packets, told)
        if abs(value - expected) > TOLERANCE * abs(expected):
            yield f"{what}: got {value:.4g}, expected {expected:g} within {TOLERANCE:.0%}"


def forged(told: Any) -> str:
    """Return in words what a box forged: "reset to client, reset to server"."""
    from midcall.testbed.middlebox.inject import LETTERS as KINDS

    ends = ("server", "client")
    return ", ".join(f"{KINDS[one['kind']]} to {ends[one['toward']]}" for one in told.letters)


# ---- measures


def came(told: Any) -> Any:
    """Return which packets of a run came out of the box."""
    return told.fates["arrival_time"] >= 0


def share_lost(packets: Packets, told: Any) -> float:
    """Return the share of packets that the box had and nobody got."""
    met = told.fates["box_time"] >= 0
    return float((met & ~came(told)).sum() / max(met.sum(), 1))


def lateness(packets: Packets, told: Any) -> Any:
    """Return how much later than without a policy each packet came, in ms."""
    orders = told.script
    due = orders.send + orders.base
    return ((told.fates["arrival_time"] - due)[came(told)]) / 1e6


def mean_late(packets: Packets, told: Any) -> float:
    """Return the mean of what the box added to the delay, in ms."""
    return float(lateness(packets, told).mean())


def deviation_late(packets: Packets, told: Any) -> float:
    """Return the standard deviation of what the box added to the delay, in ms."""
    return float(lateness(packets, told).std())


def rate_out(packets: Packets, told: Any) -> float:
    """Return the rate of IP packets that came out, from first to last, in kbit/s.

    The first one only begins the time; what a full bucket let through at once is not a rate, so
    the first fifth of the time is left out.
    """
    times = told.fates["arrival_time"][came(told)]
    size = told.script.held.facts["ip_size"][came(told)]
    order = np.argsort(times, kind="stable")
    times, size = times[order], size[order]
    begin = times[0] + (times[-1] - times[0]) // 5
    late = np.flatnonzero(times >= begin)
    return float(size[late[1:]].sum() * 8e6 / (times[late[-1]] - times[late[0]]))


def mean_burst(packets: Packets, told: Any) -> float:
    """Return how many packets in a row were lost, on average."""
    lost = ~came(told)
    starts = lost & ~np.append(False, lost[:-1])
    return float(lost.sum() / max(starts.sum(), 1))


def answers(packets: Packets, told: Any) -> float:
    """Return how many records the first forged DNS answer tells (RFC 1035 4.1.1), -1 for none."""
    if not len(told.letters):
        return -1.0
    letter = told.letters[0]
    frame = told.mail[int(letter["at"]) : int(letter["at"]) + int(letter["length"])]
    header = ETHERNET + 20 + 8  # behind IPv4 and UDP
    return float(int(frame[header + 6]) * 256 + int(frame[header + 7]))


MEASURES: dict[str, Callable[[Packets, Any], float]] = {
    "loss": share_lost,
    "delay_ms": mean_late,
    "jitter_ms": deviation_late,
    "rate_kbit": rate_out,
    "burst": mean_burst,
    "answers": answers,
}
