# SPDX-License-Identifier: BSD-3-Clause
"""Policies as rules of Suricata 7: the payload by content and byte tests, flows by flow bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from midcall.captures.packets.numbers import DNS_PORT
from midcall.testbed.engines.condition import (
    OTHER,
    SCTP,
    TCP,
    UDP,
    UP,
    Alternative,
    Condition,
    Octets,
    Range,
)
from midcall.testbed.engines.written import (
    SURICATA,
    Refusal,
    Text,
    Written,
    conditions,
    one_reset,
    port_text,
    refuse,
)
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy

FILE = "midcall.rules"
VERBS = {"pass": "pass", "drop": "drop", "reset": "rejectboth"}
#: Identifiers of rules begin here, in the range for local use.
FIRST = 1_000_000
NAMES = "Suricata finds TLS and HTTP on any port, and names where its own reassembly ends"
QUIC_NAMES = "Suricata finds QUIC on the ports of its own list alone, and with its own readers"
QUESTIONS = "Suricata finds DNS over TCP and on any port, too"
SIDES = "HOME_NET tells the subscriber's end, so an address must not stand on both sides"
SECONDS = (
    "Suricata counts whole seconds, so a condemnation ends up to a second later; a match in a "
    "stream whose packets it drops need not start the time again"
)
OTHERS = "the size of a packet that is neither TCP nor UDP is not tested"
DECIDED = "a packet that an earlier rule decides condemns its flow or subject all the same"
PASSED = "a packet that an earlier rule passes does so although its flow or subject is condemned"
ONE_FLOW = "packets that are neither TCP nor UDP, between the same two addresses, are one flow"
WHOLE = "a rule on a name drops the rest of the flow, too"
#: A test that every packet passes which a router forwards (RFC 1812 section 5.3.1). A rule without
#: any test would drop the whole flow.
ANY_PACKET = "ttl:>0"
#: Tests of a packet that is neither TCP nor UDP.
OTHERS_ONLY = ["ip_proto:!6", "ip_proto:!17"]
#: The buffers of server names, by protocol.
BUFFERS = {"tls": ("tls", "tls.sni"), "http": ("http", "http.host"), "quic": ("quic", "quic.sni")}


def written(policy: Policy) -> Written:
    """Return the rules; raises Refused."""
    rules = conditions(policy, SURICATA)
    text, nearly = Text(FILE), list[Refusal]()
    number = FIRST
    passed = True
    for position, (rule, condition) in enumerate(rules, 1):
        passed = checked(rule, condition, passed)
        wide = rule.strikes not in ("packet", "flow")
        condition = condition._replace(sided=wide and rule.strikes != "pair")
        nearly += [Refusal(rule.name, reason) for reason in condition.nearly]
        nearly += [Refusal(rule.name, reason) for reason in differences(rule, condition)]
        earlier = [one for one, _ in rules[: position - 1]]
        if rule.strikes != "packet" and not all(alike(one, rule) for one in earlier):
            nearly.append(Refusal(rule.name, DECIDED))
            passes = any(one.act == "pass" for one in earlier)
            nearly += [Refusal(rule.name, PASSED)] if passes else []
        bit = f"midcall.{position}"
        flow = rule.strikes == "flow"
        verb = "rejectsrc" if one_reset(rule, condition) else VERBS[rule.act]
        setters = list(bodies(rule, condition))
        for head, options in setters:
            number += 1
            options = [*options, flow_bit("set", bit, options)] if flow else options
            if wide:
                options = [*options, subject_bit("set", bit, rule, upward(head))]
            text.add(line(verb, head, rule.name, options, number), rule.name)
        for head, options in marked(setters) if flow else ():
            number += 1
            options = [*options, flow_bit("isset", bit, options)]
            text.add(line(verb, head, rule.name, options, number), rule.name)
        heads = (ANY_WAY,) if rule.strikes == "pair" else BOTH_WAYS
        for head in heads if wide else ():
            number += 1
            options = [subject_bit("isset", bit, rule, upward(head)), ANY_PACKET]
            text.add(line(verb, head, rule.name, options, number), rule.name)
    return Written({FILE: text.text}, text.marks, nearly)


def flow_bit(verb: str, bit: str, options: list[str]) -> str:
    """Return the option that sets or asks the bit of a packet's flow.

    verb: "set" or "isset"; options: the packet's tests. A packet that is neither TCP nor UDP has
    the bit of its two addresses: Suricata keeps no flows of GRE, and counts an ICMP error to the
    flow that it is about.
    """
    return address_bit(verb, bit, "ip_pair") if of_others(options) else f"flowbits:{verb},{bit}"


def of_others(options: list[str]) -> bool:
    """Return whether a rule is of packets that are neither TCP nor UDP."""
    return options[: len(OTHERS_ONLY)] == OTHERS_ONLY


def marked(setters: Sequence[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the header and options of rules for packets of flows whose bit is set.

    setters: headers and options of the rules that set it.
    """
    heads = {head.split()[0] for head, options in setters if not of_others(options)}
    for protocol in (TCP, UDP, SCTP) if SCTP in heads else (TCP, UDP) if heads else ():
        yield f"{protocol} any any -> any any", []
    if any(of_others(options) for _, options in setters):
        yield ANY_WAY, [*OTHERS_ONLY, ANY_PACKET]


def alike(one: Rule, other: Rule) -> bool:
    """Return whether packets that meet either rule condemn the same subjects, for good."""
    ends = one.lasts_s is not None or other.lasts_s is not None
    return one.act != "pass" and one.strikes == other.strikes and not ends


#: Headers of every packet, and of those from a subscriber, and to one.
ANY_WAY = "ip any any -> any any"
BOTH_WAYS = ("ip $HOME_NET any -> any any", "ip any any -> $HOME_NET any")
#: Seconds until a bit without an end is forgotten: ten years.
ENDLESS = 315_360_000


def upward(head: str) -> bool:
    """Return whether a header is of packets from the subscriber."""
    return head.split()[1] == "$HOME_NET"


def subject_bit(verb: str, bit: str, rule: Rule, up: bool) -> str:
    """Return the option that sets or asks the bit of a packet's client, server or pair.

    verb: "set" or "isset"; up: whether the packet is from the subscriber.
    """
    track = "ip_pair"
    if rule.strikes != "pair":
        track = "ip_src" if (rule.strikes == "client") == up else "ip_dst"
    return address_bit(verb, bit, track, None if rule.lasts_s is None else round(rule.lasts_s))


def address_bit(verb: str, bit: str, track: str, seconds: int | None = None) -> str:
    """Return the option that sets or asks a bit of addresses; seconds: None for good."""
    ends = f",expire {ENDLESS if seconds is None else seconds}"
    return f"xbits:{verb},{bit},track {track}{ends if verb == 'set' else ''}"


def differences(rule: Rule, condition: Condition) -> Iterator[str]:
    """Yield in what Suricata's rule differs by itself, found by `midcall policy prove`."""
    if condition.directions != ("",):
        yield SIDES
    if {"tls", "http"} & {*condition.name_in}:
        yield NAMES
    if "quic" in condition.name_in:
        yield QUIC_NAMES
    if condition.questions:
        yield QUESTIONS
    if condition.size is not None and "" in condition.protocols:
        yield OTHERS
    if rule.strikes == "flow" and not (condition.streams or condition.ports or condition.constant):
        yield ONE_FLOW
    if rule.lasts_s is not None:
        yield SECONDS
    named = condition.names or condition.questions
    if rule.act != "pass" and rule.strikes == "packet" and named:
        yield WHOLE


def checked(rule: Rule, condition: Condition, passed: bool) -> bool:
    """Return whether all rules so far pass; raises Refused for what Suricata cannot express."""
    if rule.act == "pass" and not passed:
        raise refuse(rule, "act pass behind other acts: Suricata applies every pass rule first")
    if rule.act == "pass" and rule.strikes == "flow":
        raise refuse(rule, "act pass of a flow: Suricata applies it before earlier flows' drops")
    if rule.act == "pass" and rule.strikes != "packet":
        raise refuse(rule, "act pass of a subject: Suricata applies it before earlier drops")
    if rule.lasts_s is not None and rule.lasts_s != round(rule.lasts_s):
        raise refuse(rule, "lasts_s: Suricata counts whole seconds")
    if rule.way is not None:
        raise refuse(rule, "way: the other direction of a dropped flow cannot be let through")
    if condition.dscp:
        raise refuse(rule, "match.dscp: Suricata's test of it reads IPv4 only")
    if condition.packets is not None or condition.octets is not None:
        raise refuse(
            rule, "match.packets, match.bytes: Suricata 7 counts each direction of a flow apart"
        )
    return passed and rule.act == "pass"


def line(verb: str, head: str, name: str, options: list[str], number: int) -> str:
    """Return one rule."""
    return f'{verb} {head} (msg:"midcall {name}"; {"; ".join(options)}; sid:{number}; rev:1;)'


def bodies(rule: Rule, condition: Condition) -> Iterator[tuple[str, list[str]]]:
    """Yield the header (without its verb) and the options of each rule; raises Refused."""
    for name, where in product(condition.names, condition.name_in):
        protocol, buffer = BUFFERS[where]
        for one in condition.alternatives:
            if one.tests:
                raise refuse(rule, "match.name together with the payload's octets")
        folded = where == "http"  # its buffer is in lower case already
        yield from headed(rule, condition, protocol, [buffer, *named(name, folded)])
    for name in condition.questions:
        yield from headed(rule, condition, "dns", ["dns.query", *named(name)])
    if condition.names or condition.questions:
        return
    ports = without_dns(condition.ports)
    if condition.ports and not ports and all(one.no_dns for one in condition.alternatives):
        raise refuse(rule, "match.payload: what goes to port 53 is DNS, so it is never met")
    for one in condition.alternatives:
        own, near = condition, "any"
        if one.no_dns:
            own, near = condition._replace(ports=ports), "!53"
            if condition.ports and not ports:
                continue
        for protocol in transports(rule, one, condition):
            if protocol == OTHER:
                yield from headed(rule, condition, "ip", [*OTHERS_ONLY, ANY_PACKET])
                continue
            options = payload(rule, one._replace(protocol=protocol), condition.size)
            yield from headed(rule, own, protocol or "ip", options or [ANY_PACKET], near)


def without_dns(ports: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Return ranges of ports without port 53."""
    out = []
    for low, high in ports:
        parts = ((low, min(high, DNS_PORT - 1)), (max(low, DNS_PORT + 1), high))
        out += [part for part in parts if part[0] <= part[1]]
    return tuple(out)


def transports(rule: Rule, one: Alternative, condition: Condition) -> tuple[str, ...]:
    """Return the transports for which rules of an alternative are needed; raises Refused."""
    if not one.protocol and rule.strikes == "flow" and not (condition.ports or condition.size):
        return (TCP, UDP, OTHER)
    if one.protocol or condition.size is None:
        return (one.protocol,)
    if condition.size[0] == 0:
        raise refuse(rule, "match.size: of a packet that is neither TCP nor UDP, none is tested")
    return (TCP, UDP)


def named(name: str, folded: bool = False) -> list[str]:
    """Return the tests of a host name behind its buffer; folded: that is in lower case."""
    case = [] if folded else ["nocase"]
    if name.startswith("*."):
        return ["dotprefix", f'content:"{name[1:]}"', *case, "endswith"]
    return [f'content:"{name}"', *case, "startswith", "endswith"]


def headed(
    rule: Rule, condition: Condition, protocol: str, options: list[str], near: str = "any"
) -> Iterator[tuple[str, list[str]]]:
    """Yield the options under each header that the condition's ends need.

    near: the ports of the end of which the condition says nothing.
    """
    if protocol == "ip" and condition.ports:
        for one in (TCP, UDP, SCTP):
            yield from headed(rule, condition, one, options, near)
        return
    far = f"[{','.join(map(str, condition.addresses))}]" if condition.addresses else "any"
    ports = f"[{','.join(port_text(one, ':') for one in condition.ports)}]"
    ports = ports if condition.ports else near
    for direction in condition.directions:
        if not direction:
            yield f"{protocol} any {near} -> any {near}", options
        elif direction == UP:
            yield f"{protocol} $HOME_NET {near} -> {far} {ports}", options
        else:
            yield f"{protocol} {far} {ports} -> $HOME_NET {near}", options


def payload(rule: Rule, one: Alternative, size: Range | None) -> list[str]:
    """Return the options that test a packet's payload."""
    out = ["flow:no_stream"] if one.protocol == TCP and (one.tests or size or one.least) else []
    low, high = size or (0, None)
    low = max(low, one.least)
    if low > 0xFFFF or (high is not None and high < low):
        raise refuse(rule, "match.size: no payload has this size")
    if high is not None:
        out.append(f"dsize:{low}" if low == high else f"dsize:{max(low - 1, 0)}<>{high + 1}")
        if low == 0 and high:
            out[-1] = f"dsize:<{high + 1}"
    elif low:
        out.append(f"dsize:>{low - 1}")
    for test in one.tests:
        out += octet_tests(test)
    return out


def octet_tests(test: Octets) -> list[str]:
    """Return the options of one test of octets."""
    if test.exact:
        value = test.low.to_bytes(test.size, "big").hex(" ")
        return [f'content:"|{value}|"', f"offset:{test.at}", f"depth:{test.size}"]
    full = (1 << 8 * test.size) - 1
    mask = f",bitmask {test.mask:#x}" if test.mask != full else ""
    shift = test.shift if mask else 0
    low, high = test.low >> shift, test.high >> shift
    if low == high:
        return [f"byte_test:{test.size},=,{low},{test.at}{mask}"]
    return [
        f"byte_test:{test.size},>=,{low},{test.at}{mask}",
        f"byte_test:{test.size},<=,{high},{test.at}{mask}",
    ]
