# SPDX-License-Identifier: BSD-3-Clause
"""Policies as a ruleset of nftables: the payload by raw expressions, flows by sets of their ends.

Connection marks are not used: netfilter forgets a connection whose first packet is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from midcall.testbed.engines.condition import (
    DOWN,
    OTHER,
    UP,
    Alternative,
    Condition,
    Network,
    Octets,
    Range,
)
from midcall.testbed.engines.written import (
    COUNTED,
    FILTER_ACTS,
    NETFILTER_RESET,
    SUBSCRIBER,
    Refusal,
    Text,
    Written,
    conditions,
    networks_of,
    one_reset,
    port_text,
    protocols_of,
    refuse,
)
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy

FILE = "midcall.nft"
#: Flows that a set has room for.
FLOWS = 1 << 20


def written(policy: Policy, subscriber: str = SUBSCRIBER) -> Written:
    """Return the ruleset; subscriber: the interface towards the subscribers. Raises Refused."""
    rules = conditions(policy, FILTER_ACTS)
    text, nearly = Text(FILE), list[Refusal]()
    text.add(f'define subscriber = "{subscriber}"')
    text.add("table inet midcall {")
    for number, (rule, _) in enumerate(rules, 1):
        for name, kinds, _ in flow_sets(number) if rule.strikes == "flow" else ():
            text.add(f"\tset {name} {{ type {kinds}; flags dynamic; size {FLOWS}; }}", rule.name)
    for number, (rule, _) in enumerate(rules, 1):
        text.add(f"\tchain rule{number} {{", rule.name)
        for name, _, keys in flow_sets(number) if rule.strikes == "flow" else ():
            text.add(f"\t\tadd @{name} {{ {keys[0]} }}", rule.name)
        for line in act_lines(rule):
            text.add(f"\t\t{line}", rule.name)
        text.add("\t}")
    text.add("\tchain forward {")
    text.add("\t\ttype filter hook forward priority filter; policy accept;")
    for number, (rule, _) in enumerate(rules, 1):
        for name, _, keys in flow_sets(number) if rule.strikes == "flow" else ():
            for key in keys:
                text.add(f"\t\t{key} @{name} goto rule{number}", rule.name)
    for number, (rule, condition) in enumerate(rules, 1):
        if condition.names or condition.questions:
            raise refuse(rule, "match.name, match.dns: nftables reads no names")
        nearly += [Refusal(rule.name, reason) for reason in condition.nearly]
        both = not one_reset(rule, condition) and rule.act == "reset"
        nearly += [Refusal(rule.name, NETFILTER_RESET)] if both else []
        nearly += [Refusal(rule.name, COUNTED)] if condition.counted else []
        for expression in expressions(rule, condition):
            text.add(f"\t\t{expression} goto rule{number}".replace("  ", " "), rule.name)
    text.add("\t}")
    text.add("}")
    return Written({FILE: text.text}, text.marks, nearly)


def flow_sets(number: int) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield the sets of a rule's flows: name, types, and the keys of a packet both ways.

    TCP and UDP flows are named by addresses and ports, others by addresses.
    """
    for version, word in ((4, "ip"), (6, "ip6")):
        kind = f"ipv{version}_addr"
        ends = tuple(
            f"{word} {one} . th {one_port} . {word} {other} . th {other_port} . meta l4proto"
            for one, one_port, other, other_port in (
                ("saddr", "sport", "daddr", "dport"),
                ("daddr", "dport", "saddr", "sport"),
            )
        )
        kinds = f"{kind} . inet_service . {kind} . inet_service . inet_proto"
        yield f"flows{number}v{version}", kinds, (ends[0], ends[1])


def act_lines(rule: Rule) -> Iterator[str]:
    """Yield the statements of a rule's act."""
    if rule.act == "pass":
        yield "accept"
        return
    if rule.way is not None:
        yield f"{interface(DOWN if rule.way == UP else UP)} accept"
    if rule.act == "reset":
        yield "meta l4proto tcp reject with tcp reset"
    yield "drop"


def interface(direction: str) -> str:
    """Return the test of a packet's direction."""
    return f"iifname {'' if direction == UP else '!= '}$subscriber"


def expressions(rule: Rule, condition: Condition) -> Iterator[str]:
    """Yield the expressions, one of which a packet must meet; raises Refused."""
    families = networks_of(condition.addresses)
    for direction, one, family in product(condition.directions, condition.alternatives, families):
        marked = [f"{word} dscp {{ {', '.join(map(str, condition.dscp))} }}" for word in
                  ("ip", "ip6")] if condition.dscp else [""]  # fmt: skip
        for protocol, mark in product(protocols_of(rule, condition, one), marked):
            if family and mark and mark.startswith("ip6") != (family[0].version == 6):
                continue
            parts = [interface(direction)] if direction else []
            parts += [mark] if mark else []
            if family:
                parts.append(address_test(direction, family))
            parts += transport(protocol)
            parts += ["th sport != 53 th dport != 53"] if one.no_dns else []
            if condition.ports:
                side = "dport" if direction == UP else "sport"
                parts.append(f"th {side} {{ {', '.join(map(port_text, condition.ports))} }}")
            if condition.size is not None:
                parts.append(f"udp length {interval(condition.size, 8)}")
            parts += payload(one)
            for key, span in (("packets", condition.packets), ("bytes", condition.octets)):
                if span is not None:
                    parts.append(f"ct {key} {interval(span, 0)}")
            yield " ".join(parts)


def address_test(direction: str, nets: Sequence[Network]) -> str:
    """Return the test of the address away from the subscriber."""
    word = "ip" if nets[0].version == 4 else "ip6"
    listed = ", ".join(map(str, nets))
    return f"{word} {'daddr' if direction == UP else 'saddr'} {{ {listed} }}"


def transport(protocol: str) -> list[str]:
    """Return the test of the transport."""
    if protocol == OTHER:
        return ["meta l4proto != { tcp, udp }"]
    return [f"meta l4proto {protocol}"] if protocol else []


def payload(one: Alternative) -> list[str]:
    """Return the tests of the payload; one of its last octet shows that it is long enough."""
    parts = [test_of(test) for test in one.tests]
    if one.least > max((test.at + test.size for test in one.tests), default=0):
        parts.append(f"@ih,{8 * (one.least - 1)},8 >= 0")
    return parts


def test_of(test: Octets) -> str:
    """Return the raw expression of a test of octets."""
    read = f"@ih,{8 * test.at},{8 * test.size}"
    if test.mask != (1 << 8 * test.size) - 1:
        read += f" & {test.mask:#x}"
    if test.low == test.high:
        return f"{read} {test.low:#x}" if "&" not in read else f"{read} == {test.low:#x}"
    return f"{read} {test.low:#x}-{test.high:#x}"


def interval(span: Range, more: int) -> str:
    """Return a range of numbers, each plus `more`."""
    low, high = span
    if high is None:
        return f">= {low + more}"
    return str(low + more) if low == high else f"{low + more}-{high + more}"
