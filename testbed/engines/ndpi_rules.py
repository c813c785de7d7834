# SPDX-License-Identifier: BSD-3-Clause
"""Matches of a policy as protocols of nDPI, which names flows and acts on none."""

from __future__ import annotations

from midcall.testbed.engines.condition import TCP, UDP, Condition
from midcall.testbed.engines.written import (
    Abilities,
    Refusal,
    Text,
    Written,
    conditions,
    port_text,
    refuse,
)
from midcall.testbed.policy.language import ACTS, Rule
from midcall.testbed.policy.operator import Policy

FILE = "midcall.protos"
PREFIX = "Midcall"
#: nDPI acts on nothing, so a rule of every act is translated by its match.
NAMES_FLOWS = Abilities(ACTS)
HOSTS = "nDPI meets every name that contains the word, in any protocol that it reads"
PORTS = "nDPI meets either end of the flow, and prefers what its own readers find"

#: nDPI 4.2 counts the ports of a range in 16 bits, and so never reaches the end of this one.
LAST_PORT = 65535
ENDLESS = "port 65535 is left out: nDPI 4.2 does not finish reading a range that has it"


def written(policy: Policy) -> Written:
    """Return nDPI's file of protocols; raises Refused."""
    rules = conditions(policy, NAMES_FLOWS)
    text, nearly = Text(FILE), list[Refusal]()
    for number, (rule, condition) in enumerate(rules, 1):
        rest(rule, condition)
        app = f"{PREFIX}{number}"
        if condition.names or condition.questions:
            nearly.append(Refusal(rule.name, HOSTS))
        if condition.ports or condition.addresses:
            nearly.append(Refusal(rule.name, PORTS))
        for name in (*condition.names, *condition.questions):
            text.add(f'host:"{name.removeprefix("*")}"@{app}', rule.name)
        for net in condition.addresses:
            if net.version == 6:
                raise refuse(rule, "match.addresses: nDPI 4.2 reads no IPv6 prefix in this file")
            text.add(f"ip:{net}@{app}", rule.name)
        for low, high in condition.ports:
            if high == LAST_PORT:
                nearly.append(Refusal(rule.name, ENDLESS))
                high -= 1
            for protocol in [one for one in condition.protocols if one] or [TCP, UDP]:
                if low <= high:
                    text.add(f"{protocol}:{port_text((low, high))}@{app}", rule.name)
    return Written({FILE: text.text}, text.marks, nearly)


def rest(rule: Rule, condition: Condition) -> None:
    """Raise Refused for a condition that is not one list of names, addresses or ports."""
    lists = [
        bool(condition.names or condition.questions),
        bool(condition.addresses),
        bool(condition.ports),
    ]
    if sum(lists) != 1:
        raise refuse(
            rule, "match: nDPI's file takes one of names, addresses or ports, and nothing else"
        )
    if any(one.tests for one in condition.alternatives):
        raise refuse(rule, "match.stun, match.payload: nDPI's file has no test of octets")
    counted = (condition.size, condition.packets, condition.octets)
    if any(one is not None for one in counted) or condition.direction or condition.dscp:
        raise refuse(
            rule, "match.size, packets, bytes, direction, dscp: nDPI's file has no such test"
        )
