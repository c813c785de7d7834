# SPDX-License-Identifier: BSD-3-Clause
"""What a translation gives, and the parts of a rule that every engine treats alike."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from midcall.testbed.engines.condition import (
    DOWN,
    SCTP,
    TCP,
    UDP,
    UP,
    Alternative,
    Condition,
    Network,
    Refused,
    reduced,
)
from midcall.testbed.policy.language import After, Rule
from midcall.testbed.policy.operator import Policy


class Abilities(NamedTuple):
    """What an engine has: acts, scopes, quotas of octets, condemnations that end (`lasts_s`)."""

    acts: tuple[str, ...]
    scopes: tuple[str, ...] = ("packet", "flow")
    quotas: bool = False
    ends: bool = False


SURICATA = Abilities(
    ("pass", "drop", "reset"), ("packet", "flow", "client", "server", "pair"), ends=True
)
IPTABLES = Abilities((*SURICATA.acts, "unreachable", "mark"))
NFTABLES = Abilities((*IPTABLES.acts, "stall"), (*SURICATA.scopes, "triple"), quotas=True)
#: The name of the interface towards the subscribers, in rules of netfilter.
SUBSCRIBER = "subscriber0"
#: In what netfilter's reset differs from the lab's.
NETFILTER_RESET = (
    "the reset goes to the sender of each packet, of one without a payload too, and to nobody else"
)
#: In what netfilter's ICMP errors differ from the lab's.
NETFILTER_ERROR = (
    "the ICMP error comes from the router's own address, not from the target's, and leaves by the "
    "route to the sender's address"
)
#: Names of ICMP errors in netfilter, for IPv4 and IPv6, by the code that a rule has.
ERROR_WORDS = {
    "net": ("net-unreachable", "no-route"),
    "host": ("host-unreachable", "addr-unreachable"),
    "port": ("port-unreachable", "port-unreachable"),
    "prohibited": ("admin-prohibited", "admin-prohibited"),
}
#: In what netfilter's counts of a connection differ from the lab's.
COUNTED = (
    "netfilter starts to count after a first packet that was dropped, and counts no "
    "packet that it finds invalid"
)
#: The keys of a rule that a translation knows.
KEYS = frozenset((
    "name", "match", "act", "scope", "lasts_s", "after", "way", "probability", "per", "access",
    "begin", "end", "delay_ms", "jitter_ms", "loss", "burst", "rate_kbit", "bucket_bytes",
    "queue_ms", "path", "towards", "answer", "file", "digest", "grade", "source", "hypothesis",
    "aims", "note", "share", "code", "code_point", "first", "cross_kbit",
))  # fmt: skip


#: Acts that let a packet pass.
LETS_PASS = ("pass", "mark")


def counted_nearly(
    rule: Rule, condition: Condition, rules: Sequence[tuple[Rule, Condition]], keeps: bool
) -> bool:
    """Return whether a rule's counts of a flow may differ from netfilter's (`COUNTED`).

    keeps: whether a flow that met the rule is known although netfilter forgets its connection. The
    counts are the same in flows of UDP whose first packet no rule drops, but those that are known.
    """
    if not condition.counted:
        return False
    first = condition.packets is None or condition.packets[0] < 2
    others = any(one.act not in LETS_PASS for one, _ in rules if one is not rule)
    return others or condition.protocols != (UDP,) or (first and not keeps)


class Refusal(NamedTuple):
    """A rule, and why it cannot be translated, or not exactly."""

    rule: str
    reason: str


class Written(NamedTuple):
    """An engine's files by name, the lines of each rule ("FILE:LINE"), what is approximate."""

    files: dict[str, str]
    lines: dict[str, tuple[str, ...]]
    nearly: list[Refusal]


#: Why an act is refused by every engine.
ACTS = {
    "stall": "the engine counts nothing of a flow from a packet on",
    "drop-media": "what is media is decided by Midcall's reader",
    "dns-lie": "the engines forge no DNS answer",
    "finish": "the engines forge no FIN",
    "unreachable": "Suricata chooses the ICMP code itself, and answers TCP with a reset",
    "block-page": "the engines forge no answer of HTTP that a browser shows",
    "delay": "no delay is part of an engine; a queueing discipline would have to do it",
    "jitter": "no delay is part of an engine; a queueing discipline would have to do it",
    "loss": "chances are drawn otherwise, so the packets lost are others",
    "police": "an engine's token bucket runs on the clock of the machine, not of the capture",
    "shape": "no queue is part of an engine; a queueing discipline would have to do it",
    "prioritise": "no queue is part of an engine; a queueing discipline would have to do it",
    "mark": "Suricata changes no IP header",
    "duplicate": "the engines send no packet twice",
    "corrupt": "the engines change no payload at random",
    "reorder": "no delay is part of an engine; a queueing discipline would have to do it",
    "censor": "it is a program in Python",
}
#: Why a key of a rule is refused by every engine.
OTHER_KEYS = {
    "hours": "an engine's times are of the clock of the machine, not of the capture",
    "on_s": "an engine's times are of the clock of the machine, not of the capture",
    "off_s": "an engine's times are of the clock of the machine, not of the capture",
    "resets": "the engines send one reset",
    "hops": "the engines choose the IP header of their resets",
    "ip_id": "the engines choose the IP header of their resets",
}
SCOPES = {
    "call": "what belongs to a call is decided by Midcall's classifier",
    "client": "this export writes tables of clients for nftables and Suricata alone",
    "server": "this export writes tables of servers for nftables and Suricata alone",
    "pair": "this export writes tables of pairs for nftables and Suricata alone",
    "triple": "this export writes tables of clients, servers and ports for nftables alone",
}


def conditions(policy: Policy, engine: Abilities) -> list[tuple[Rule, Condition]]:
    """Return the rules with their conditions; raises Refused with all Refusals."""
    out, problems = [], []
    for rule in policy.rules:
        reason = "sees: an engine counts both directions"
        if not policy.sees:
            reason = refusal(rule, engine)
        if not reason:
            try:
                out.append((rule, reduced(policy, rule)))
            except Refused as problem:
                reason = str(problem)
        if reason:
            problems.append(Refusal(rule.name, reason))
    if problems:
        raise Refused(problems)
    return out


def refusal(rule: Rule, engine: Abilities) -> str:
    """Return why a rule's act or scope cannot be translated, "" where it can."""
    if rule.act not in engine.acts:
        return f"act {rule.act}: {ACTS.get(rule.act, 'the engine does not have it')}"
    if rule.strikes not in engine.scopes:
        return f"scope {rule.strikes}: {SCOPES.get(rule.strikes, 'the export does not know it')}"
    for key in sorted(rule.model_fields_set - KEYS):
        return f"{key}: {OTHER_KEYS.get(key, 'the export does not know it')}"
    if rule.lasts_s is not None:
        if not engine.ends:
            return "lasts_s: the engine's times are of the machine's clock, not of the capture"
        if rule.strikes == "flow":
            return "lasts_s of a flow: the engine's tables with times are of addresses alone"
    if rule.after is not None:
        reason = (
            quota_refusal(rule.after) if engine.quotas else "the engine counts nothing of a flow"
        )
        if reason:
            return f"after: {reason}"
    if rule.probability < 1.0:
        return "probability: chances are drawn otherwise, so the flows are others"
    if rule.path == "on":
        return "path on: the engines stand in the way"
    return ""


def quota_refusal(after: After) -> str:
    """Return why nftables' quotas do not say what an allowance says, "" where they do."""
    if after.seconds or after.every_s or after.idle_s:
        return "an engine's times are of the clock of the machine, not of the capture"
    if after.packets or after.flows:
        return "nftables' quotas count octets alone"
    if after.direction:
        return "what goes the other way would be tested without being counted, which a quota cannot"
    return SCOPES["call"] if after.per == "call" else ""


def one_reset(rule: Rule, condition: Condition) -> bool:
    """Return whether the sender of each packet that a reset rule drops is the end that it resets.

    Raises Refused where the rule resets one end, and that need not be the sender.
    """
    sender = {"client": UP, "server": DOWN}.get(rule.towards)
    if rule.act != "reset" or sender is None:
        return False
    filled = all(one.protocol == TCP and one.least for one in condition.alternatives)
    if rule.strikes != "packet" or condition.direction != sender or not filled:
        raise refuse(
            rule,
            f"towards {rule.towards}: the engine chooses the end by the packet's sender; give the "
            "match a direction and a payload, and the scope packet",
        )
    return True


def refuse(rule: Rule, reason: str) -> Refused:
    """Return the exception that refuses one rule."""
    return Refused([Refusal(rule.name, reason)])


def protocols_of(rule: Rule, condition: Condition, one: Alternative) -> tuple[str, ...]:
    """Return the transports for which netfilter needs a rule of an alternative; raises Refused."""
    if condition.size is not None and one.protocol != UDP:
        raise refuse(rule, "match.size: only the length of a UDP datagram can be read")
    if one.protocol:
        return (one.protocol,)
    return (TCP, UDP, SCTP) if condition.ports else ("",)


def networks_of(addresses: Sequence[Network]) -> list[list[Network]]:
    """Return the prefixes by IP version; one empty list where there are none."""
    if not addresses:
        return [[]]
    four = ipaddress.collapse_addresses(net for net in addresses if net.version == 4)
    six = ipaddress.collapse_addresses(net for net in addresses if net.version == 6)
    return [nets for nets in (list[Network](four), list[Network](six)) if nets]


def port_text(ports: tuple[int, int], between: str = "-") -> str:
    """Return a range of ports; between: what stands between its ends."""
    low, high = ports
    return str(low) if low == high else f"{low}{between}{high}"


class Text:
    """A file that is written line by line; marks: rule -> its lines, "FILE:LINE"."""

    def __init__(self, name: str) -> None:
        self.name, self.lines = name, list[str]()
        self.marks: dict[str, tuple[str, ...]] = {}

    def add(self, line: str, rule: str = "") -> None:
        """Add a line; rule: whose line it is."""
        self.lines.append(line)
        if rule:
            where = f"{self.name}:{len(self.lines)}"
            self.marks[rule] = (*self.marks.get(rule, ()), where)

    @property
    def text(self) -> str:
        """Return the whole file."""
        return "\n".join([*self.lines, ""])
