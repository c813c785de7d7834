# SPDX-License-Identifier: BSD-3-Clause
"""Policies as rules of iptables and ip6tables: the payload by u32, flows by connection marks.

u32 reads four octets at a time, over IPv6 at fixed places.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from midcall.testbed.engines.condition import (
    DOWN,
    OTHER,
    UDP,
    UP,
    Alternative,
    Condition,
    Octets,
    Range,
)
from midcall.testbed.engines.written import (
    COUNTED,
    ERROR_WORDS,
    IPTABLES,
    NETFILTER_ERROR,
    NETFILTER_RESET,
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

FILES = {4: "midcall.v4", 6: "midcall.v6"}
FORGOTTEN = (
    "netfilter forgets a connection whose first packet is dropped, with its mark: the next packet "
    "passes unless it meets the match itself, and no earlier rule"
)
APART = (
    "netfilter's connections of other transports than TCP and UDP are not the flows: each exchange "
    "of echoes is a connection, and an ICMP error belongs to that which it is about"
)
EXTENDED = "over IPv6, a payload or size behind an extension header is not met"
#: Why a policy that marks and rejects is refused.
MANGLED = (
    "together with act mark: iptables marks in its table mangle, which cannot reject, and a packet "
    "meets that table as a whole before the table filter"
)
#: Names of ICMPv6 errors in ip6tables.
ICMP6 = {"no-route": "no-route", "addr-unreachable": "addr-unreachable",
         "port-unreachable": "port-unreachable", "admin-prohibited": "adm-prohibited"}  # fmt: skip
#: A test that ICMP errors fail: netfilter counts them to the connection that they are about.
NO_ERROR = "-m conntrack ! --ctstate RELATED"
ALL_BITS = 0xFFFFFFFF
#: Ports of one rule; a range counts twice.
PORTS = 15


def written(policy: Policy, subscriber: str = SUBSCRIBER) -> Written:
    """Return the rules; subscriber: the interface towards the subscribers. Raises Refused."""
    rules = conditions(policy, IPTABLES)
    marks_any = any(rule.act == "mark" for rule, _ in rules)
    for rule, _ in rules:
        if marks_any and rule.act in ("reset", "unreachable"):
            raise refuse(rule, f"act {rule.act} {MANGLED}")
    nearly, files, marks = list[Refusal](), {}, dict[str, tuple[str, ...]]()
    for version, name in FILES.items():
        text = Text(name)
        text.add("*mangle" if marks_any else "*filter")
        text.add(":FORWARD ACCEPT [0:0]")
        for number, (rule, _) in enumerate(rules, 1):
            text.add(f":midcall-{number} - [0:0]", rule.name)
        for number, (rule, _) in enumerate(rules, 1):
            if rule.strikes == "flow":
                marked = f"{NO_ERROR} -m connmark --mark {number}"
                text.add(f"-A FORWARD {marked} -g midcall-{number}", rule.name)
        for number, (rule, condition) in enumerate(rules, 1):
            if condition.names or condition.questions:
                raise refuse(rule, "match.name, match.dns: iptables reads no names")
            verb = "-j" if rule.act == "mark" else "-g"
            for words in tests(rule, condition, version, subscriber):
                text.add(
                    f"-A FORWARD {words} {verb} midcall-{number}".replace("  ", " "), rule.name
                )
        for number, (rule, _) in enumerate(rules, 1):
            if rule.strikes == "flow":
                text.add(
                    f"-A midcall-{number} {NO_ERROR} -j CONNMARK --set-mark {number}", rule.name
                )
            for words in act_words(rule, subscriber, version):
                text.add(f"-A midcall-{number} {words}", rule.name)
        text.add("COMMIT")
        files[name] = text.text
        for rule_name, where in text.marks.items():
            marks[rule_name] = (*marks.get(rule_name, ()), *where)
    met_again = True
    for rule, condition in rules:
        nearly += [Refusal(rule.name, reason) for reason in condition.nearly]
        both = not one_reset(rule, condition) and rule.act == "reset"
        nearly += [Refusal(rule.name, NETFILTER_RESET)] if both else []
        nearly += [Refusal(rule.name, NETFILTER_ERROR)] if rule.act == "unreachable" else []
        differs = counted_nearly(rule, condition, rules, keeps=False)
        nearly += [Refusal(rule.name, COUNTED)] if differs else []
        read = condition.size or any(one.tests or one.least for one in condition.alternatives)
        udp = UDP in condition.protocols
        nearly += [Refusal(rule.name, EXTENDED)] if read and udp else []
        met_again = met_again and condition.constant  # and no earlier rule decides another way
        if rule.strikes == "flow" and not met_again:
            nearly += [Refusal(rule.name, FORGOTTEN)] if rule.act != "pass" else []
            nearly += [] if condition.streams else [Refusal(rule.name, APART)]
        met_again = met_again and rule.act != "mark"
    return Written(files, marks, nearly)


def act_words(rule: Rule, subscriber: str, version: int) -> Iterator[str]:
    """Yield the rules of an act's chain."""
    if rule.act == "pass":
        yield "-j ACCEPT"
        return
    marks = rule.act == "mark"
    if rule.way is not None:
        verb = "RETURN" if marks else "ACCEPT"
        yield f"{interface(DOWN if rule.way == UP else UP, subscriber)} -j {verb}"
    if marks:
        yield f"-j DSCP --set-dscp {code_point(rule.code_point)}"
        return
    if rule.act == "unreachable":
        four, six = ERROR_WORDS[rule.code]
        kind, word = (
            ("icmp", f"icmp-{four}") if version == 4 else ("ipv6-icmp", f"icmp6-{ICMP6[six]}")
        )
        yield f"-p {kind} -j DROP"
        yield f"-j REJECT --reject-with {word}"
    if rule.act == "reset":
        yield "-p tcp -j REJECT --reject-with tcp-reset"
    yield "-j DROP"


def interface(direction: str, subscriber: str) -> str:
    """Return the test of a packet's direction."""
    return f"{'' if direction == UP else '! '}-i {subscriber}"


def tests(rule: Rule, condition: Condition, version: int, subscriber: str) -> Iterator[str]:
    """Yield the tests, one of which a packet must meet; raises Refused."""
    families = networks_of(condition.addresses)
    nets = [net for family in families for net in family if net.version == version]
    if condition.addresses and not nets:
        return
    ends = list(map(str, nets)) or [""]
    for direction, one, end in product(condition.directions, condition.alternatives, ends):
        points = [f"-m dscp --dscp {point}" for point in condition.dscp] or [""]
        for protocol, point in product(protocols_of(rule, condition, one), points):
            for ports in chunks(condition.ports):
                words = [interface(direction, subscriber)] if direction else []
                if protocol == OTHER:
                    raise refuse(rule, "match.protocol other: iptables takes one protocol a rule")
                words += [f"-p {protocol}"] if protocol else []
                words += [point] if point else []
                words += ["-m multiport ! --ports 53"] if one.no_dns else []
                words += [f"-{'d' if direction == UP else 's'} {end}"] if end else []
                if ports:
                    side = "dports" if direction == UP else "sports"
                    listed = ",".join(port_text(one, ":") for one in ports)
                    words.append(f"-m multiport --{side} {listed}")
                words += u32(one, condition.size, version)
                for mode, span in (("packets", condition.packets), ("bytes", condition.octets)):
                    if span is not None:
                        words.append(
                            f"-m connbytes --connbytes {limits(span)} --connbytes-dir both "
                            f"--connbytes-mode {mode}"
                        )
                yield " ".join(words)


def chunks(ports: tuple[tuple[int, int], ...]) -> list[list[tuple[int, int]]]:
    """Return ranges of ports in parts that one rule can hold; one empty part for none."""
    parts: list[list[tuple[int, int]]] = [[]]
    room = PORTS
    for one in ports:
        cost = 1 if one[0] == one[1] else 2
        if cost > room:
            parts.append([])
            room = PORTS
        parts[-1].append(one)
        room -= cost
    return parts


def u32(one: Alternative, size: Range | None, version: int) -> list[str]:
    """Return the u32 test of a payload and of its size, [] for none."""
    parts = []
    if size is not None:
        low, high = size
        top = 0xFFFF if high is None else min(high + 8, 0xFFFF)
        place = "0>>22&0x3C@4" if version == 4 else "44"
        parts.append(f"{place}>>16={low + 8:#x}:{top:#x}")
    for test in one.tests:
        parts.append(word_test(one.protocol, version, test))
    if one.least > max((test.at + test.size for test in one.tests), default=0):
        last = Octets(one.least - 4, 4, 0, ALL_BITS, ALL_BITS)
        parts.append(word_test(one.protocol, version, last))
    if not parts:
        return []
    whole = "4&0x1FFF=0" if version == 4 else f"4>>8&0xFF={17 if one.protocol == UDP else 6}"
    return [f'-m u32 --u32 "{" && ".join([whole, *parts])}"']


def word_test(protocol: str, version: int, test: Octets) -> str:
    """Return the u32 test of octets of the payload.

    They are read as the last octets of a word, so that the payload need not go on behind them;
    where a stream's payload is too short before them, as its first ones.
    """
    back = 4 - test.size
    if protocol == UDP:
        place, before = 8 + test.at - back, "0>>22&0x3C@" if version == 4 else ""
        drop = 0
    else:
        drop = 8 * back if test.at < back else 0
        place = test.at - (0 if drop else back)
        before = "0>>22&0x3C@12>>26&0x3C@" if version == 4 else "52>>26&0x3C@"
    read = f"{before}{place + (0 if version == 4 else 40)}"
    read += f">>{drop}" if drop else ""
    read += f"&{test.mask:#x}" if test.mask != ALL_BITS else ""
    values = f"{test.low:#x}" if test.low == test.high else f"{test.low:#x}:{test.high:#x}"
    return f"{read}={values}"


def limits(span: Range) -> str:
    """Return a range of counts."""
    low, high = span
    return f"{low}:{'' if high is None else high}"
