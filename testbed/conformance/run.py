# SPDX-License-Identifier: BSD-3-Clause
"""Conformance: for each keyword of the policy language a scene, and the fate of every packet.

The reference page shows this table as the example of each keyword. A rule is written as in an
operator's file (without name, grade and source), a scene as in
midcall.testbed.conformance.transcript, and fates as one letter per packet, in the scene's order:

    . not sent   d delivered   x dropped   f answered by the box   l lost by the access link

Where a scenario measures a share, delay or rate, it must be within 2 % of the rule's value. Every
forged frame must be one that its receiver accepts (midcall.testbed.replay.forged_frames). `check`
takes the replay function as an argument, so any backend can be checked.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.numbers import ICMP, ICMP6, TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.locations import OPERATORS
from midcall.testbed.conformance.scenarios import SCENARIOS, Scenario
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.network.tcp import ACK, FIN, RST, SYN
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.loader import located
from midcall.testbed.policy.operator import AddressSet, Policy

#: Largest relative difference between a measured value and the rule's.
TOLERANCE = 0.02
FRAME_KINDS = ".dxfBl"
DAY = datetime.date(2026, 1, 15)
SEED = 1

#: Replays packets under a policy, on an access network, with a seed; last: packets as the box sees
#: them, None for the same.
Play = Callable[[Packets, Policy, str, int, Packets | None], Any]
#: Where the IP header stands in a scene's frames.
ETHERNET = 14
IP6_HEADER = 40
#: The code point of expedited forwarding (RFC 3246).
EF = 46
TCP_FLAGS = ((SYN, "syn"), (FIN, "fin"), (RST, "rst"), (ACK, "ack"))


class Outcome(NamedTuple):
    """Result of a scenario: `problem` is "" where it passed, else got and expected."""

    scenario: Scenario
    problem: str

    @property
    def passed(self) -> bool:
        """Tell whether the scenario passed."""
        return not self.problem


def virtual(
    packets: Packets, policy: Policy, access: str, seed: int, seen: Packets | None = None
) -> Any:
    """Return a replay in virtual time; seen: the same packets as the box sees them."""
    from midcall.testbed.replay.simulator import simulate

    return simulate(packets, [], [], policy, access, seed, dressed=seen)


def with_broken_headers(packets: Packets, some: Sequence[int]) -> Packets | None:
    """Return packets of which some have an unreadable IP header, None where `some` is empty."""
    if not some:
        return None
    data = packets.data.copy()
    data[packets.offset[list(some)] + ETHERNET] = 0
    return packets._replace(data=data)


def rules_of(scenario: Scenario) -> tuple[Rule, ...]:
    """Return a scenario's rules, named r1, r2 and so on."""
    text = scenario.rules.strip()
    document = text if text.startswith("[[rule]]") else f"[[rule]]\n{text}"
    evidence = {"grade": "A", "source": "conformance"}
    tables = tomllib.loads(document)["rule"]
    rules = [
        Rule.model_validate({**evidence, "name": f"r{number}", **table})
        for number, table in enumerate(tables, 1)
    ]
    return tuple(located(rules, OPERATORS))


def policy_of(scenario: Scenario) -> Policy:
    """Return a scenario's policy on its access network and day."""
    day = scenario.day or DAY
    rules = tuple(
        rule for rule in rules_of(scenario) if rule.holds(scenario.access, day, scenario.clock)
    )
    evidence = {"grade": "A", "source": "conformance"}
    sets = tuple(
        AddressSet.model_validate({"name": name, "addresses": words, **evidence})
        for name, words in scenario.sets.items()
    )
    return Policy(rules, sets, "closed" if scenario.closed else "open", sees=scenario.sees)


def check(scenario: Scenario, play: Play = virtual) -> Outcome:
    """Run a scenario and compare every fate, forgery and measured value with the table."""
    packets = scene(scenario.scene)
    packets_at_box = with_broken_headers(packets, scenario.torn)
    result = play(packets, policy_of(scenario), scenario.access, SEED, packets_at_box)
    problems_of_run = [*problems(scenario, packets, result)]
    if play is virtual:
        from midcall.testbed.replay.forged_frames import frame_problems

        problems_of_run += frame_problems(result)
    return Outcome(scenario, "; ".join(problems_of_run))


def check_all(play: Play = virtual, some: Sequence[Scenario] = SCENARIOS) -> list[Outcome]:
    """Check every scenario."""
    return [check(scenario, play) for scenario in some]


def problems(scenario: Scenario, packets: Packets, result: Any) -> Iterator[str]:
    """Yield each difference between a result and the table."""
    got = "".join(FRAME_KINDS[int(fate)] for fate in result.fates["fate"])
    if scenario.fates and got != scenario.fates:
        yield f"fates: got {got}, expected {scenario.fates}"
    if scenario.forged and (letters := forged(result)) != scenario.forged:
        yield f"forged: got {letters or 'nothing'}, expected {scenario.forged}"
    if scenario.frames and (lines := headers(result)) != scenario.frames:
        yield f"frames: got {'; '.join(lines)}, expected {'; '.join(scenario.frames)}"
    for what, expected in scenario.measured:
        value = MEASURES[what](packets, result)
        if abs(value - expected) > TOLERANCE * abs(expected):
            yield f"{what}: got {value:.4g}, expected {expected:g} within {TOLERANCE:.0%}"


def headers(result: Any) -> tuple[str, ...]:
    """Return the headers of a box's forged frames in words, without addresses and ports.

    "ttl 64, id 0, tcp rst ack, sequence 5001, acknowledged 1109" or "..., icmp 3 13, of udp".
    """
    from midcall.testbed.replay.forged_frames import innermost

    frames = (result.mail[int(one["at"]) :][: int(one["length"])] for one in result.letters)
    return tuple(header_text(innermost(frame.tobytes())) for frame in frames)


def header_text(packet: bytes) -> str:
    """Return the headers of an IP packet in words, "" where there is none."""
    if not packet:
        return ""
    is_ip6 = packet[0] >> 4 == 6
    head = IP6_HEADER if is_ip6 else 4 * (packet[0] & 15)
    proto, body = packet[6 if is_ip6 else 9], packet[head:]
    number = "" if is_ip6 else f", id {int.from_bytes(packet[4:6], 'big')}"
    dscp = int.from_bytes(packet[:2], "big") >> 6 & 0x3F if is_ip6 else packet[1] >> 2
    words = f"ttl {packet[7 if is_ip6 else 8]}{number}" + (f", dscp {dscp}" if dscp else "")
    if proto == TCP:
        flags = " ".join(name for bit, name in TCP_FLAGS if body[13] & bit)
        sequence, acknowledged = (int.from_bytes(body[at : at + 4], "big") for at in (4, 8))
        return f"{words}, tcp {flags}, sequence {sequence}, acknowledged {acknowledged}"
    if proto in (ICMP, ICMP6):
        inner = {TCP: "tcp", UDP: "udp"}.get(body[8 + (6 if is_ip6 else 9)], "another transport")
        return f"{words}, icmp {body[0]} {body[1]}, of {inner}"
    return f"{words}, udp" if proto == UDP else words


def forged(result: Any) -> str:
    """Return a box's forged frames in words: "reset to client, reset to server"."""
    from midcall.testbed.middlebox.inject import FRAME_KINDS as KINDS

    ends = ("server", "client")
    return ", ".join(f"{KINDS[one['kind']]} to {ends[one['toward']]}" for one in result.letters)


# ---- measures


def came(result: Any) -> Any:
    """Return which packets of a run arrived, bool[n]."""
    return result.fates["arrival_time"] >= 0


def share_lost(packets: Packets, result: Any) -> float:
    """Return the share of packets that met the box and did not arrive."""
    met = result.fates["box_time"] >= 0
    return float((met & ~came(result)).sum() / max(met.sum(), 1))


def lateness(packets: Packets, result: Any) -> Any:
    """Return the delay that the box added to each packet that arrived, in ms."""
    orders = result.script
    due = orders.send + orders.base
    return ((result.fates["arrival_time"] - due)[came(result)]) / 1e6


def mean_late(packets: Packets, result: Any) -> float:
    """Return the mean of the delay that the box added, in ms."""
    return float(lateness(packets, result).mean())


def deviation_late(packets: Packets, result: Any) -> float:
    """Return the standard deviation of the delay that the box added, in ms."""
    return float(lateness(packets, result).std())


def late_first(packets: Packets, result: Any) -> float:
    """Return the mean delay that the box added to packets with the code point EF, in ms."""
    return float(lateness(packets, result)[expedited(packets)[came(result)]].mean())


def late_others(packets: Packets, result: Any) -> float:
    """Return the mean delay that the box added to packets without it, in ms."""
    return float(lateness(packets, result)[~expedited(packets)[came(result)]].mean())


def late_last(packets: Packets, result: Any) -> float:
    """Return the delay that the box added to the last packet that was sent, in ms."""
    return float(lateness(packets, result)[-1])


def expedited(packets: Packets) -> Any:
    """Return which packets have the code point EF, bool[n]."""
    return packets.data[packets.offset + ETHERNET + 1] >> 2 == EF


def rate_out(packets: Packets, result: Any) -> float:
    """Return the rate of IP packets that arrived, from first to last, in kbit/s.

    The first packet only begins the time. A full bucket passes its content at once, so the first
    fifth of the time is left out.
    """
    times = result.fates["arrival_time"][came(result)]
    size = result.script.held.facts["ip_size"][came(result)]
    order = np.argsort(times, kind="stable")
    times, size = times[order], size[order]
    begin = times[0] + (times[-1] - times[0]) // 5
    late = np.flatnonzero(times >= begin)
    return float(size[late[1:]].sum() * 8e6 / (times[late[-1]] - times[late[0]]))


def mean_burst(packets: Packets, result: Any) -> float:
    """Return the mean number of packets lost in a row."""
    lost = ~came(result)
    starts = lost & ~np.append(False, lost[:-1])
    return float(lost.sum() / max(starts.sum(), 1))


def share_overtaken(packets: Packets, result: Any) -> float:
    """Return the share of packets that arrived after one that was sent later."""
    times = result.fates["arrival_time"][came(result)]
    earliest_later = np.minimum.accumulate(times[::-1])[::-1]
    return float((times[:-1] > earliest_later[1:]).mean())


def answers(packets: Packets, result: Any) -> float:
    """Return the record count of the first forged DNS answer (RFC 1035 4.1.1), -1 for none."""
    if not len(result.letters):
        return -1.0
    letter = result.letters[0]
    frame = result.mail[int(letter["at"]) : int(letter["at"]) + int(letter["length"])]
    header = ETHERNET + 20 + 8  # behind IPv4 and UDP
    return float(int(frame[header + 6]) * 256 + int(frame[header + 7]))


MEASURES: dict[str, Callable[[Packets, Any], float]] = {
    "loss": share_lost,
    "delay_ms": mean_late,
    "first_ms": late_first,
    "others_ms": late_others,
    "last_ms": late_last,
    "jitter_ms": deviation_late,
    "rate_kbit": rate_out,
    "burst": mean_burst,
    "overtaken": share_overtaken,
    "answers": answers,
}
