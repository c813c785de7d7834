# SPDX-License-Identifier: BSD-3-Clause
"""Lint: find rules of a valid policy that no packet can ever meet.

A rule is reported when its own keys contradict each other, when it is never in force (none of its
networks or days is the operator's), and when an earlier rule decides every packet that it could
meet.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from midcall.captures.truth.paths import shown
from midcall.errors import TestbedError
from midcall.testbed.middlebox.censor import load
from midcall.testbed.policy.language import Match, Rule
from midcall.testbed.policy.loader import try_load
from midcall.testbed.policy.operator import Operator, Policy
from midcall.testbed.policy.syntax import code_point, port_range, prefix, span

#: Payload kinds by the transport that carries them; stun, dns and sip go over both.
OVER_UDP = {"channel", "dtls-hello", "dtls", "rtp", "rtcp", "quic"}
OVER_TCP = {"tls-hello", "tls", "http"}
#: Payload kinds whose packets may have a server name (a hello may continue in a segment of kind TLS
#: or unknown).
WITH_NAMES = {"tls-hello", "tls", "quic", "http", "unknown"}
#: Smallest and largest possible value of each counted key.
BOUNDS = {
    "size": (0, 65535),
    "packets": (1, float("inf")),
    "bytes": (20, float("inf")),
    "seconds": (0, float("inf")),
    "entropy": (0, 1),
}
FIRST, LAST = datetime.date.min, datetime.date.max


def check(path: Path) -> list[str]:
    """Return every problem of an operator's file, one sentence each; [] where there is none."""
    operator, problems = try_load(path)
    if operator is None:
        return problems
    return [f"{shown(path)}: {line}" for line in lint(operator)]


def lint(operator: Operator) -> Iterator[str]:
    """Yield each rule of an operator's hypotheses that no packet can meet, one sentence each."""
    for hypothesis in operator.hypotheses:
        if hypothesis.rules_of is not None:
            continue
        where = f"hypothesis {hypothesis.id}: rule"
        policy = Policy(tuple(hypothesis.rules), tuple(operator.sets))
        for number, rule in enumerate(hypothesis.rules):
            for problem in contradictions(rule.match, rule.act):
                yield f"{where} {rule.name}: can never match: {problem}"
            if rule.strikes == "packet" and rule.way and rule.match.direction:
                if rule.way != rule.match.direction:
                    yield (
                        f"{where} {rule.name}: can never strike: way is {rule.way}, and each "
                        f"packet that it meets goes {rule.match.direction}"
                    )
            for problem in censor_problems(rule):
                yield f"{where} {rule.name}: {problem}"
            for problem in never_holds(rule, operator):
                yield f"{where} {rule.name}: {problem}"
            for earlier in hypothesis.rules[:number]:
                if shadows(earlier, rule, policy):
                    yield (
                        f"{where} {rule.name}: is shadowed: rule {earlier.name} stands before it "
                        "and meets every packet that it could meet"
                    )
                    break


# ---- contradictions


def contradictions(match: Match, act: str) -> Iterator[str]:
    """Yield why no packet can meet a match, or why the act has no effect on one that does."""
    for key, (least, most) in BOUNDS.items():
        word = getattr(match, key)
        if word is not None and (span(word)[1] < least or span(word)[0] > most):
            yield f"{key} = {word!r} lies outside of what there is ({least:g} to {most:g})"
    if match.name and match.dns:
        yield "name and dns never stand in one packet; make two rules"
    if match.stun is False and (match.stun_method or match.stun_attribute):
        yield "stun = false, and STUN details are asked for"
    if match.payload:
        yield from payload_contradictions(match)
    if match.protocol == "other" and (match.ports or match.name or match.dns or match.hello):
        yield 'protocol = "other" has no ports, names or hellos'
    if act in ("reset", "finish", "block-page") and not meets_tcp(match):
        yield f"act {act} forges TCP, and the rule meets none"
    if match.dns and match.protocol not in (None, "udp"):
        yield f"dns reads UDP questions alone, and protocol is {match.protocol}"
    yield from transport_of_names(match)
    yield from small_contradictions(match)
    yield from early_contradictions(match)


def meets_tcp(match: Match) -> bool:
    """Tell whether a packet that meets a match may be TCP."""
    kinds = set(match.payload)
    udp = bool(match.dns) or match.name_in == ["quic"] or bool(kinds and kinds <= OVER_UDP)
    return match.protocol in (None, "tcp") and not udp


def transport_of_names(match: Match) -> Iterator[str]:
    """Yield why a match's protocol excludes the places where it looks for a name."""
    protocols = set(match.name_in)
    if match.protocol == "tcp" and protocols == {"quic"}:
        yield "QUIC goes over UDP, and protocol is tcp"
    if match.protocol == "udp" and protocols and protocols <= {"tls", "http"}:
        yield f"{', '.join(sorted(protocols))} go over TCP, and protocol is udp"


def small_contradictions(match: Match) -> Iterator[str]:
    """Yield why a payload of a match's size is too small for the other keys."""
    if match.size is None:
        return
    most = span(match.size)[1]
    details = match.stun or match.stun_method or set(match.payload) == {"stun"}
    needs = {
        "STUN (RFC 8489 section 5)": (20, details),
        "a STUN attribute": (24, match.stun_attribute),
        "a name or a hello": (12, match.name or match.dns or match.hello),
        "an entropy": (2, match.entropy is not None),
        "a payload of a kind": (1, match.payload and "unknown" not in match.payload),
    }
    for what, (least, asked) in needs.items():
        if asked and most < least:
            yield f"size = {match.size!r}, and {what} needs {least} octets"
            return


def early_contradictions(match: Match) -> Iterator[str]:
    """Yield why a match's packets, bytes and seconds exclude each other."""
    packets = (1, float("inf")) if match.packets is None else span(match.packets)
    if match.bytes is not None and 20 <= span(match.bytes)[1] < 20 * packets[0]:
        yield f"{packets[0]:g} packets have at least {20 * packets[0]:g} bytes of IP"
    if match.seconds is not None and packets[1] < 2 and span(match.seconds)[0] > 0:
        yield "a flow's first packet comes at 0 s"


def payload_contradictions(match: Match) -> Iterator[str]:
    """Yield why no payload can be of the kinds in a match."""
    kinds = set(match.payload)
    if match.name and not kinds & WITH_NAMES:
        yield "name stands in no payload of these kinds"
    if match.dns and "dns" not in kinds:
        yield "dns is asked for, and payload leaves dns out"
    if (match.stun_method or match.stun_attribute) and "stun" not in kinds:
        yield "STUN details are asked for, and payload leaves stun out"
    if match.stun is True and "stun" not in kinds:
        yield "stun = true, and payload leaves stun out"
    if match.stun is False and kinds == {"stun"}:
        yield "stun = false, and payload is stun alone"
    if match.protocol == "tcp" and kinds <= OVER_UDP:
        yield f"{', '.join(sorted(kinds))} go over UDP, and protocol is tcp"
    if match.protocol == "udp" and kinds <= OVER_TCP:
        yield f"{', '.join(sorted(kinds))} go over TCP, and protocol is udp"


def censor_problems(rule: Rule) -> Iterator[str]:
    """Yield the problems of a rule's censor, from compiling it."""
    if not rule.file:
        return
    try:
        load(rule.file)
    except TestbedError as error:
        yield from str(error).splitlines()


def never_holds(rule: Rule, operator: Operator) -> Iterator[str]:
    """Yield why a rule is in force on no access network and no day of its operator."""
    if not operator.periods:
        return
    begin, end = rule.begin or FIRST, rule.end or LAST
    for period in operator.periods:
        on = not rule.access or set(rule.access) & set(period.access)
        if on and begin < period.until and period.begin < end:
            return
    yield "never holds: no period of the operator has its access networks and days"


# ---- shadows


def shadows(earlier: Rule, later: Rule, policy: Policy) -> bool:
    """Tell whether an earlier rule decides every packet that a later one could meet."""
    if earlier.act in ("mark", "censor"):  # it lets packets go on
        return False
    if earlier.probability < 1 or earlier.after is not None or earlier.match.one_in > 1:
        return False
    if earlier.on_s or (earlier.hours and earlier.hours != later.hours):
        return False
    if earlier.access and not (later.access and set(later.access) <= set(earlier.access)):
        return False
    if (earlier.begin or FIRST) > (later.begin or FIRST):
        return False
    if (earlier.end or LAST) < (later.end or LAST):
        return False
    return covers(earlier, later, policy)


def covers(earlier: Rule, later: Rule, policy: Policy) -> bool:
    """Tell whether every packet that meets one rule's match meets another's."""
    earlier_match, later_match = earlier.match, later.match
    for key in Match.model_fields:
        ours = getattr(earlier_match, key)
        if ours in (None, []) or key in ("verdict", "name_in", "one_in"):
            continue
        theirs = getattr(later_match, key)
        if theirs in (None, []) or not key_covers(key, earlier, later, policy):
            return False
    if (
        earlier_match.flow_words
        and earlier_match.verdict == "certain"
        and later_match.verdict == "unsure"
    ):
        return False
    return not earlier_match.name_in or bool(
        later_match.name_in and set(later_match.name_in) <= set(earlier_match.name_in)
    )


def key_covers(key: str, earlier: Rule, later: Rule, policy: Policy) -> bool:
    """Tell whether a key of an earlier rule holds whenever that of a later rule does."""
    ours, theirs = getattr(earlier.match, key), getattr(later.match, key)
    if key in BOUNDS:
        return span(ours)[0] <= span(theirs)[0] and span(theirs)[1] <= span(ours)[1]
    if key in ("name", "dns", "resolved"):
        return all(any(name_covers(one, word) for one in ours) for word in theirs)
    if key == "ports":
        spans = [port_range(word) for word in ours]
        return all(in_spans(port_range(word), spans) for word in theirs)
    if key == "addresses":
        return networks_cover(policy.prefixes(earlier), policy.prefixes(later))
    if key == "dscp":
        return {code_point(word) for word in theirs} <= {code_point(word) for word in ours}
    if isinstance(ours, list):
        return set(theirs) <= set(ours)
    return bool(ours == theirs)


def name_covers(wide: str, tight: str) -> bool:
    """Tell whether a name pattern meets every name that another one meets."""
    if not wide.startswith("*."):
        return wide == tight
    root, word = wide.removeprefix("*."), tight.removeprefix("*.")
    return word == root or word.endswith(f".{root}")


def in_spans(span_of: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Tell whether a stretch of ports lies in one of some others."""
    return any(low <= span_of[0] and span_of[1] <= high for low, high in spans)


def networks_cover(wide: Sequence[str], tight: Sequence[str]) -> bool:
    """Tell whether each of some prefixes lies in one of some others."""
    nets: list[Any] = [prefix(word) for word in wide]
    return all(any(lies_in(prefix(word), net) for net in nets) for word in tight)


def lies_in(one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: Any) -> bool:
    """Tell whether a prefix lies in another one."""
    return one.version == other.version and one.subnet_of(other)
