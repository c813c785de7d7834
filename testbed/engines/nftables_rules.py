# SPDX-License-Identifier: BSD-3-Clause
"""Policies as a ruleset of nftables: the payload by raw expressions, flows by sets of their ends.

Connection marks are not used: netfilter forgets a connection whose first packet is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

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
    ERROR_WORDS,
    NETFILTER_ERROR,
    NETFILTER_RESET,
    NFTABLES,
    SUBSCRIBER,
    Refusal,
    Text,
    Written,
    conditions,
    counted_nearly,
    networks_of,
    one_reset,
    port_text,
    protocols_of,
    refuse,
)
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.policy.syntax import code_point

FILE = "midcall.nft"
#: Options of a set that packets add to, and the subjects that it has room for.
SUBJECTS = 1 << 20
OPTIONS = f"flags dynamic; size {SUBJECTS};"


def written(policy: Policy, subscriber: str = SUBSCRIBER) -> Written:
    """Return the ruleset; subscriber: the interface towards the subscribers. Raises Refused."""
    rules = conditions(policy, NFTABLES)
    text, nearly = Text(FILE), list[Refusal]()
    text.add(f'define subscriber = "{subscriber}"')
    text.add("table inet midcall {")
    for number, (rule, condition) in enumerate(rules, 1):
        for table in tables(rule, condition, number):
            text.add(f"\tset {table.name} {{ type {table.kinds}; {OPTIONS} }}", rule.name)
    for number, (rule, condition) in enumerate(rules, 1):
        text.add(f"\tchain rule{number} {{", rule.name)
        for table in tables(rule, condition, number):
            for key in table.keys if table.role == MET else ():
                text.add(f"\t\t{key.when}add @{table.name} {{ {key.fields} }}", rule.name)
        for line in act_lines(rule):
            text.add(f"\t\t{line}", rule.name)
        text.add("\t}")
        for line in counting(rule, condition, number):
            text.add(f"\t{line}", rule.name)
    text.add("\tchain forward {")
    text.add("\t\ttype filter hook forward priority filter; policy accept;")
    for number, (rule, condition) in enumerate(rules, 1):
        if rule.strikes == "flow":
            for line in looked_up(rule, condition, number, MET, f"goto rule{number}"):
                text.add(f"\t\t{line}", rule.name)
    for number, (rule, condition) in enumerate(rules, 1):
        if condition.names or condition.questions:
            raise refuse(rule, "match.name, match.dns: nftables reads no names")
        nearly += [Refusal(rule.name, reason) for reason in condition.nearly]
        both = not one_reset(rule, condition) and rule.act == "reset"
        nearly += [Refusal(rule.name, NETFILTER_RESET)] if both else []
        nearly += [Refusal(rule.name, NETFILTER_ERROR)] if rule.act == "unreachable" else []
        differs = counted_nearly(rule, condition, rules, rule.strikes != "packet")
        nearly += [Refusal(rule.name, COUNTED)] if differs else []
        if rule.strikes not in ("packet", "flow"):
            for line in looked_up(rule, condition, number, MET, f"goto rule{number}"):
                text.add(f"\t\t{line}", rule.name)
        if rule.after is not None:
            text.add(f"\t\tjump test{number}", rule.name)
            continue
        verb = "jump" if rule.act == "mark" else "goto"
        for expression in expressions(rule, condition):
            text.add(f"\t\t{expression} {verb} rule{number}".replace("  ", " "), rule.name)
    text.add("\t}")
    text.add("}")
    return Written({FILE: text.text}, text.marks, nearly)


def counting(rule: Rule, condition: Condition, number: int) -> Iterator[str]:
    """Yield the chains of a rule with an allowance, none for another rule.

    A flow that met the match is in a table of its own, and each of its packets uses up the quota of
    the rule's subject, which a second table has.
    """
    if rule.after is None:
        return
    yield f"chain count{number} {{"
    for table in tables(rule, condition, number):
        for key in table.keys if table.role == WAITING else ():
            yield f"\t{key.when}add @{table.name} {{ {key.fields} }}"
    over = f"quota over {rule.after.bytes} bytes"
    for table in tables(rule, condition, number):
        for key in table.keys if table.role == SPENT else ():
            yield f"\t{key.when}add @{table.name} {{ {key.fields} {over} }} goto rule{number}"
    yield "}"
    yield f"chain test{number} {{"
    for line in looked_up(rule, condition, number, WAITING, f"goto count{number}"):
        yield f"\t{line}"
    for expression in expressions(rule, condition):
        yield f"\t{expression} goto count{number}".replace("  ", " ")
    yield "}"


#: What the tables of a rule hold: the subjects that met it, the flows that have an allowance, and
#: what of it each subject used up.
MET, WAITING, SPENT = "met", "waiting", "spent"


class Key(NamedTuple):
    """The fields of a packet that name a subject; when: the test of the packets that have them."""

    when: str
    fields: str


class Table(NamedTuple):
    """A set of subjects: what it holds, its name and types, and the keys of packets."""

    role: str
    name: str
    kinds: str
    keys: tuple[Key, ...]


def tables(rule: Rule, condition: Condition, number: int) -> Iterator[Table]:
    """Yield the sets that a rule keeps, one for each version of IP, and for flows without ports."""
    wanted = [(MET, rule.strikes)] if rule.strikes != "packet" else []
    if rule.after is not None:
        wanted += [(WAITING, "flow"), (SPENT, rule.after.per)]
    for role, scope in wanted:
        ported = condition.streams or bool(condition.ports)
        if scope == "triple" and not ported:
            raise refuse(rule, "scope triple: a packet of another transport has no port")
        for version, word in ((4, "ip"), (6, "ip6")):
            kind = f"ipv{version}_addr"
            name = f"{role}{number}v{version}"
            if scope == "flow":
                kinds = f"{kind} . inet_service . {kind} . inet_service . inet_proto"
                yield Table(role, name, kinds, tuple(flow_keys(word, "" if ported else PORTED)))
                if not ported:
                    kinds = f"{kind} . {kind} . inet_proto"
                    yield Table(role, f"{name}o", kinds, tuple(flow_keys(word, PORTLESS)))
                continue
            kinds = " . ".join([kind] if scope in ("client", "server") else [kind, kind])
            kinds += " . inet_proto . inet_service" if scope == "triple" else ""
            yield Table(role, name, kinds, tuple(subject_keys(scope, word)))


#: Tests of packets with ports, and without.
PORTED, PORTLESS = "meta l4proto { tcp, udp, sctp } ", "meta l4proto != { tcp, udp, sctp } "


def flow_keys(word: str, when: str) -> Iterator[Key]:
    """Yield the keys of a flow's packets, the subscriber's end first; word: "ip" or "ip6"."""
    for direction, near, far in ((UP, "s", "d"), (DOWN, "d", "s")):
        ends = [f"{word} {near}addr . th {near}port", f"{word} {far}addr . th {far}port"]
        if when == PORTLESS:
            ends = [f"{word} {near}addr", f"{word} {far}addr"]
        yield Key(f"{interface(direction)} {when}", f"{' . '.join(ends)} . meta l4proto")


def subject_keys(scope: str, word: str) -> Iterator[Key]:
    """Yield the keys of a subject's packets; scope: client, server, pair or triple."""
    for direction, near, far in ((UP, "s", "d"), (DOWN, "d", "s")):
        ends = {"client": [near], "server": [far]}.get(scope, [near, far])
        fields = [f"{word} {end}addr" for end in ends]
        if scope == "triple":
            fields += ["meta l4proto", f"th {far}port"]
        yield Key(f"{interface(direction)} ", " . ".join(fields))


def looked_up(
    rule: Rule, condition: Condition, number: int, role: str, verdict: str
) -> Iterator[str]:
    """Yield the lines that look a packet's subject up in a rule's tables."""
    for table in tables(rule, condition, number):
        for key in table.keys if table.role == role else ():
            yield f"{key.when}{key.fields} @{table.name} {verdict}"


def act_lines(rule: Rule) -> Iterator[str]:
    """Yield the statements of a rule's act."""
    if rule.act == "pass":
        yield "accept"
        return
    marks = rule.act == "mark"
    if rule.way is not None:
        yield f"{interface(DOWN if rule.way == UP else UP)} {'return' if marks else 'accept'}"
    if marks:
        for word in ("ip", "ip6"):
            yield f"{word} dscp set {code_point(rule.code_point)}"
        return
    if rule.act == "reset":
        yield "meta l4proto tcp reject with tcp reset"
    if rule.act == "unreachable":
        four, six = ERROR_WORDS[rule.code]
        yield "meta l4proto { icmp, ipv6-icmp } drop"
        yield f"meta nfproto ipv4 reject with icmp {four}"
        yield f"meta nfproto ipv6 reject with icmpv6 {six}"
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
        protocols = protocols_of(rule, condition, one)
        for mark in marked:
            if family and mark and mark.startswith("ip6") != (family[0].version == 6):
                continue
            parts = [interface(direction)] if direction else []
            parts += [mark] if mark else []
            if family:
                parts.append(address_test(direction, family))
            parts += transport(protocols)
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


def transport(protocols: Sequence[str]) -> list[str]:
    """Return the test of the transport: one of some, or "" for any."""
    if len(protocols) > 1:
        return [f"meta l4proto {{ {', '.join(protocols)} }}"]
    if protocols[0] == OTHER:
        return ["meta l4proto != { tcp, udp }"]
    return [f"meta l4proto {protocols[0]}"] if protocols[0] else []


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
