# SPDX-License-Identifier: BSD-3-Clause
"""Parts of rules of engines, as parts of rules of the policy language."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import Any

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.testbed.engines.condition import Network
from midcall.testbed.engines.written import ERROR_WORDS
from midcall.testbed.policy.syntax import code_point, port_range

COOKIE = f"{STUN_COOKIE:08x}"
#: Chains that a rule may go through.
DEPTH = 8
#: Codes of the act unreachable, by the names that netfilter has for them.
ERROR_CODES = {word: code for code, words in ERROR_WORDS.items() for word in words}


class Untranslatable(Exception):
    """A part of a rule that the policy language cannot express."""


class Conflict(Untranslatable):
    """Two conditions that no packet between a subscriber and a far end meets."""


#: The rules of a line, [] for a line that has none.
Found = list[dict[str, Any]]
#: Keys of a found rule that are none of the language: whether it stands before the rules of the
#: lines above it; its line, where another one goes to it; its place among tables and chains that
#: packets meet one after the other.
INSERTED, LINE, ORDER = "inserted", "line", "order"
MARKS = (INSERTED, LINE, ORDER)


class InnerLines:
    """What became of the lines of chains that other lines go to, by their numbers."""

    def __init__(self) -> None:
        self.found: set[int] = set()
        self.problems: dict[int, Untranslatable] = {}
        self.conflicts: dict[int, Untranslatable] = {}

    def add(self, number: int, rules: Callable[[], Found]) -> Found:
        """Return a line's rules, seen from one line that goes to its chain; [] for a problem."""
        try:
            out = [{LINE: number, **rule} for rule in rules()]
        except Conflict as problem:
            self.conflicts[number] = problem
            return []
        except Untranslatable as problem:
            self.problems[number] = problem
            return []
        self.found.add(number)
        return out

    def whole(self, rules: Found) -> Found:
        """Return rules without those of lines that have a problem elsewhere."""
        return [rule for rule in rules if rule.get(LINE) not in self.problems]

    def check(self, number: int, chain: str) -> None:
        """Raise Untranslatable where a line's rules are not among those of the lines before it."""
        if number in self.problems:
            raise self.problems[number]
        if number not in self.found:
            unreached = f"chain {chain}: no line that goes to it is translated"
            raise self.conflicts.get(number) or Untranslatable(unreached)


def put(match: dict[str, Any], key: str, value: Any) -> None:
    """Add a condition to a match; raises Untranslatable where it has another one."""
    if match.setdefault(key, value) != value:
        kind = Conflict if key in ("protocol", "direction") else Untranslatable
        near = ", or one on the subscriber's end" if key == "direction" else ""
        raise kind(f"two conditions on {key}{near}")


def rule_of(act: str, match: dict[str, Any], scope: str = "packet") -> dict[str, Any]:
    """Return one rule; raises Untranslatable for a match of everything."""
    if not match:
        raise Untranslatable("it meets every packet")
    return {"match": match, "act": act, "scope": scope}


def ports(word: str) -> list[int | str]:
    """Return ports as the policy language has them; raises Untranslatable.

    "!" or "!=" in front: all others; "<", "<=", ">", ">=": all below or above.
    """
    if hit := re.fullmatch(r"([<>])(=?) ?(\d+)", word):
        bound = int(hit[3]) + (0 if hit[2] else 1 if hit[1] == ">" else -1)
        low, high = (bound, 65535) if hit[1] == ">" else (1, bound)
        return [f"{low}-{high}"]
    out: list[tuple[int, int]] = []
    listed = word.lstrip("!= ")
    for part in listed.strip("{}[] ").replace(" ", "").split(","):
        text = re.sub(r"^:", "1:", re.sub(r":$", ":65535", part)).replace(":", "-")
        try:
            if re.fullmatch(r"[a-z][\w-]*", text):
                text = str(socket.getservbyname(text))
            out.append(port_range(int(text) if text.isdigit() else text))
        except (ValueError, OSError):
            raise Untranslatable(f"ports {word}") from None
    ranges = complement(out, 1, 65535) if word.startswith("!") else out
    return [low if low == high else f"{low}-{high}" for low, high in ranges]


def addresses(word: str) -> list[str]:
    """Return prefixes of the far side; raises Untranslatable."""
    out = []
    for part in word.strip("{}[] ").replace(" ", "").split(","):
        for net in networks(part):
            if net.prefixlen and any(overlap(net, one) for one in PRIVATE):
                raise Untranslatable(f"addresses {word}: of a subscriber")
            out.append(str(net))
    return out


def overlap(net: Network, other: Network) -> bool:
    """Return whether two prefixes have an address in common."""
    return net.version == other.version and net.overlaps(other)


def networks(word: str) -> list[Network]:
    """Return the prefixes of an address, a prefix or a range "A-B"; raises Untranslatable."""
    low, dash, high = word.partition("-")
    try:
        if not dash:
            return [ipaddress.ip_network(word, strict=False)]
        first, last = ipaddress.ip_address(low), ipaddress.ip_address(high)
        return list(ipaddress.summarize_address_range(first, last))
    except (ValueError, TypeError):
        raise Untranslatable(f"addresses {word}") from None


#: Addresses that a subscriber has behind an operator's box (RFC 1918, RFC 6598).
PRIVATE = [
    ipaddress.ip_network(word)
    for word in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]


#: Ports from here on are those that systems give to clients (Linux's default).
CLIENT_PORTS = 32768


#: Every address of a version of IP, by the words that tell the version.
EVERY = {"ip": "0.0.0.0/0", "ip6": "::/0"}


def of_version(match: dict[str, Any], version: str) -> None:
    """Restrict a match to a version of IP, "ip" or "ip6"; others: of both, or it has addresses."""
    if version in EVERY and "addresses" not in match:
        match["addresses"] = [EVERY[version]]


def of_flows(rules: Found, scope: str, spared: str) -> Found:
    """Return rules of packets as those of subjects; spared: the direction that passes, or ""."""
    way = {"way": {"up": "down", "down": "up"}[spared]} if spared else {}
    return [{**rule, "scope": scope, **way} if "scope" in rule else rule for rule in rules]


def netfilter_reset(match: dict[str, Any]) -> dict[str, Any]:
    """Return the act of a reset, which goes to the sender of the packet alone."""
    ends = {"up": "client", "down": "server"}
    towards = ends.get(match.get("direction", ""))
    return {"act": "reset", "towards": towards} if towards else {"act": "reset"}


def answered(words: str, interface: str, match: dict[str, Any]) -> None:
    """Raise Untranslatable for a rule that meets answers to subscribers' own ports.

    words: of the rule; interface: the word that tells the direction.
    """
    highest = max((port_range(port)[1] for port in match.get("ports", ())), default=0)
    if interface not in words and highest >= CLIENT_PORTS:
        raise Untranslatable(
            f"ports from {CLIENT_PORTS} on without an interface: it meets answers to subscribers"
        )


def stays(state: str) -> Untranslatable:
    """Return the problem of a rule on the state of a connection."""
    return Untranslatable(f"{state}: a rule sees packets, and not whether a connection is known")


def point(word: str) -> int | str:
    """Return a code point as the policy language has it; raises Untranslatable."""
    try:
        out = int(word, 0) if word[:1].isdigit() else word.lower()
        code_point(out)
    except ValueError:
        raise Untranslatable(f"code point {word}") from None
    return out


def unreachable(word: str) -> dict[str, Any]:
    """Return the act of an ICMP error by netfilter's name for it; raises Untranslatable."""
    code = ERROR_CODES.get(word.replace("adm-", "admin-"))
    if code is None:
        raise Untranslatable(f"reject with {word}")
    return {"act": "unreachable", "code": code}


def complement(listed: list[tuple[int, int]], least: int, most: int) -> list[tuple[int, int]]:
    """Return the ranges of numbers from `least` to `most` that are in none of some ranges."""
    out, begin = [], least
    for low, high in sorted(listed):
        if low > begin:
            out.append((begin, low - 1))
        begin = max(begin, high + 1)
    return [*out, (begin, most)] if begin <= most else out


def length(word: str, header: int) -> str:
    """Return a range of payload octets of a range of lengths; header: octets before them."""
    text = word.replace(" ", "").replace(":", "-")
    hit = re.fullmatch(r"(>=|<=|>|<)?(\d*)(-?)(\d*)", text)
    if hit is None:
        raise Untranslatable(f"length {word}")
    sign, low, dash, high = hit.groups()
    first = int(low or 0) - header + (sign == ">")
    if sign in ("<", "<="):
        return f"0-{max(first - (sign == '<'), 0)}"
    if sign or (dash and not high):
        return f"{max(first, 0)}-"
    last = int(high) - header if dash else first
    if last < 0:
        raise Untranslatable(f"length {word}: shorter than the headers")
    return f"{max(first, 0)}-{last}"
