# SPDX-License-Identifier: BSD-3-Clause
"""Matches of the policy language in the terms that packet engines share: addresses, ports, sizes,
counts, and tests of single octets of the payload.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.captures.wire.stun import method_bits
from midcall.testbed.policy.language import METHODS, Match, Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.policy.syntax import code_point, port_range, span

#: Bits of a STUN message type that are no class and no top bits (RFC 8489 section 5).
METHOD_BITS = 0x3EEF
TCP, UDP, SCTP, OTHER = "tcp", "udp", "sctp", "other"
UP, DOWN = "up", "down"
Range = tuple[int, int | None]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """An engine's language cannot express a rule; the text is the reason."""


class Octets(NamedTuple):
    """A test of a payload: low <= (the `size` octets from `at` on) & mask <= high."""

    at: int
    size: int
    low: int
    high: int
    mask: int

    @property
    def shift(self) -> int:
        """Return the number of zero bits at the low end of the mask."""
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def exact(self) -> bool:
        """Return whether whole octets are compared with one value."""
        return self.low == self.high and self.mask == (1 << 8 * self.size) - 1


def octets(at: int, size: int, low: int, high: int | None = None, mask: int = 0) -> Octets:
    """Return a test of octets; high None: the same as low; mask 0: every bit."""
    return Octets(at, size, low, low if high is None else high, mask or (1 << 8 * size) - 1)


class Alternative(NamedTuple):
    """One way to meet a match: a transport ("" for any), least payload octets, tests of octets.

    no_dns: neither port is 53, whose payloads are DNS whatever their octets say.
    """

    protocol: str
    least: int = 0
    tests: tuple[Octets, ...] = ()
    no_dns: bool = False


class Condition(NamedTuple):
    """A match: all of its parts must hold, and one of its alternatives.

    ports, addresses: of the end away from the subscriber, empty for any; size: payload octets;
    packets, octets: of the flow so far; direction: "up", "down", "" for both; names: server names
    as the rule gives them, in the protocols `name_in`; questions: names in DNS; nearly: in what the
    condition differs from the rule, one sentence each; dscp: code points of the IP header; sided:
    whether rules are written for each direction, even where every packet of both meets it.
    """

    alternatives: tuple[Alternative, ...]
    ports: tuple[tuple[int, int], ...] = ()
    addresses: tuple[Network, ...] = ()
    direction: str = ""
    size: Range | None = None
    packets: Range | None = None
    octets: Range | None = None
    names: tuple[str, ...] = ()
    name_in: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    nearly: tuple[str, ...] = ()
    dscp: tuple[int, ...] = ()
    sided: bool = False

    @property
    def directions(self) -> tuple[str, ...]:
        """Return the directions to write rules for: both where only one end has a port."""
        if self.direction:
            return (self.direction,)
        return (UP, DOWN) if self.ports or self.addresses or self.sided else ("",)

    @property
    def constant(self) -> bool:
        """Return whether every packet of a flow meets the condition, or none does."""
        parts = (self.direction, self.size, self.packets, self.octets, self.names, self.questions,
                 self.dscp)  # fmt: skip
        return not any(parts) and not any(one.tests or one.least for one in self.alternatives)

    @property
    def streams(self) -> bool:
        """Return whether only packets of TCP and UDP meet the condition."""
        return set(self.protocols) <= {TCP, UDP}

    @property
    def counted(self) -> bool:
        """Return whether the flow's packets or octets are counted."""
        return self.packets is not None or self.octets is not None

    @property
    def protocols(self) -> tuple[str, ...]:
        """Return the transports of the alternatives."""
        return tuple(dict.fromkeys(one.protocol for one in self.alternatives))


#: Kinds of payload with fixed octets: (transport, least octets, tests).
KINDS: dict[str, tuple[Alternative, ...]] = {
    "channel": (Alternative(UDP, 4, (octets(0, 1, 0x40, 0x4F),)),),
    "dtls-hello": (
        Alternative(UDP, 14, (octets(0, 1, 22), octets(1, 1, 0xFE), octets(13, 1, 1))),
    ),
    "dtls": tuple(
        Alternative(UDP, 14 if inner else 13, (octets(0, 1, *kinds), octets(1, 1, 0xFE), *inner))
        for kinds, inner in (
            ((20, 21), ()), ((23, 63), ()), ((22,), (octets(13, 1, 0),)),
            ((22,), (octets(13, 1, 2, 255),)),
        )
    ),
    "tls-hello": (
        Alternative(TCP, 6, (octets(0, 1, 22), octets(1, 1, 3), octets(2, 1, 0, 4),
                             octets(5, 1, 1))),
    ),
    "tls": tuple(
        Alternative(
            TCP, 6 if inner else 5,
            (octets(0, 1, *kinds), octets(1, 1, 3), octets(2, 1, 0, 4), *inner),
        )
        for kinds, inner in (
            ((20, 21), ()), ((23, 24), ()), ((22,), (octets(5, 1, 0),)),
            ((22,), (octets(5, 1, 2, 255),)),
        )
    ),
    "sip": tuple(
        Alternative(proto, 8, (octets(0, 4, int.from_bytes(word, "big")),))
        for proto in (UDP, TCP)
        for word in (b"SIP/", b"INVI", b"REGI", b"ACK ", b"BYE ", b"CANC")
    ),
    "http": tuple(
        Alternative(TCP, 8, (octets(0, 4, int.from_bytes(word, "big")),))
        for word in (b"GET ", b"POST", b"HEAD", b"PUT ", b"HTTP", b"CONN", b"OPTI")
    ),
}  # fmt: skip
#: In what such a kind differs from the rule's.
KIND_NEARLY = {
    "channel": "the length within the ChannelData header is not compared with the datagram's, and "
    "a flow of QUIC is not excluded",
    "dtls-hello": "a payload of STUN, or of a flow that began as QUIC, is not excluded",
    "dtls": "a payload of STUN, or of a flow that began as QUIC, is not excluded, and a handshake "
    "record that is cut behind its header is not met",
    "tls": "a handshake record that is cut behind its header is not met",
    "sip": "",
    "http": "",
    "tls-hello": "",
}
FRAMED = "STUN behind a length of RFC 4571 is met whatever the length says"
#: Why a key of a match is refused everywhere.
NEVER = {
    "app": "the classifier's verdict is Midcall's own; an engine has its own classifier",
    "role": "the classifier's verdict is Midcall's own; an engine has its own classifier",
    "hello": "the fingerprint is Midcall's own",
    "stun_attribute": "attributes stand at no fixed place, and the engines have no loop over them",
    "seconds": "the engines know no age of a flow in packets of a capture",
    "entropy": "the engines do not compute it",
    "one_in": "chances are drawn otherwise, so the packets inspected are others",
    "resolved": "the engines keep no table of the addresses that DNS answers gave",
}


#: The keys of a match that a translation knows, besides those above.
KNOWN = frozenset((
    "stun", "stun_method", "payload", "name", "name_in", "dns", "addresses", "ports", "protocol",
    "size", "direction", "packets", "bytes", "verdict", "dscp",
))  # fmt: skip


def reduced(policy: Policy, rule: Rule) -> Condition:
    """Return a rule's match as a condition; raises Refused."""
    match = rule.match
    for key in sorted(match.model_fields_set):
        if key in NEVER:
            raise Refused(f"match.{key}: {NEVER[key]}")
        if key not in KNOWN:
            raise Refused(f"match.{key}: the export does not know it")
    alternatives, nearly = content(match)
    if match.protocol == OTHER and (match.ports or match.size is not None):
        raise Refused("match.protocol other has no ports and no payload behind a transport")
    return Condition(
        alternatives,
        merged([port_range(word) for word in match.ports]),
        tuple(ipaddress.ip_network(word) for word in policy.prefixes(rule)),
        match.direction or "",
        whole(match.size),
        whole(match.packets),
        whole(match.bytes),
        tuple(match.name),
        tuple(match.name_in or ("tls", "quic", "http")) if match.name else (),
        tuple(match.dns),
        tuple(nearly),
        tuple(dict.fromkeys(code_point(word) for word in match.dscp)),
    )


def merged(ports: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return ranges of ports, sorted, those that overlap or touch as one."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(ports):
        if out and low <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(out[-1][1], high)
        else:
            out.append((low, high))
    return tuple(out)


def whole(word: float | str | None) -> Range | None:
    """Return a range of whole numbers, its open end None."""
    if word is None:
        return None
    low, high = span(word)
    return int(-(-low // 1)), None if high == inf else int(high // 1)


def content(match: Match) -> tuple[tuple[Alternative, ...], list[str]]:
    """Return the alternatives of a match by its payload, and in what they differ from it."""
    nearly: list[str] = []
    found: list[Alternative] | None = None
    if match.stun is False:
        raise Refused("match.stun false: the engines' rules have no negation of two tests")
    if match.stun:
        found = list(stun())
        nearly.append(FRAMED)
    if match.stun_method:
        types = [method_bits(METHODS[word] if isinstance(word, str) else word)
                 for word in match.stun_method]  # fmt: skip
        found = [one for word in types for one in stun(word)]
        nearly = [FRAMED]
    if match.payload:
        if found is not None:
            raise Refused("match.payload together with match.stun or match.stun_method")
        found = []
        for word in match.payload:
            if word == "stun":
                found += stun()
                nearly.append(FRAMED)
            elif word in KINDS:
                found += [one._replace(no_dns=True) for one in KINDS[word]]
                nearly += [f"payload {word}: {KIND_NEARLY[word]}"] if KIND_NEARLY[word] else []
            else:
                raise Refused(f"match.payload {word}: it has no fixed octets")
    chosen = match.protocol
    if found is None:
        return (Alternative(chosen or ""),), nearly
    kept = [one for one in found if chosen is None or one.protocol == chosen]
    if not kept:
        raise Refused(f"match.payload with protocol {chosen} is never met")
    return tuple(kept), nearly


def stun(kind: int | None = None) -> Iterator[Alternative]:
    """Yield the alternatives of STUN; kind: the message type without its class bits."""
    for proto in (UDP, TCP):
        for at, least in ((0, 20), (2, 22)):
            tests: tuple[Octets, ...] = (octets(at + 4, 4, STUN_COOKIE),)
            if kind is not None:
                tests = (*tests, octets(at, 2, kind, mask=METHOD_BITS))
            yield Alternative(proto, least, tests)
