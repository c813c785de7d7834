# SPDX-License-Identifier: BSD-3-Clause
"""Rulesets of nftables as rules of the policy language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.testbed.engines.condition import OTHER, TCP, UDP
from midcall.testbed.engines.import_parts import (
    COOKIE,
    DEPTH,
    INSERTED,
    Found,
    Untranslatable,
    addresses,
    answered,
    complement,
    length,
    netfilter_reset,
    of_version,
    point,
    ports,
    put,
    rule_of,
    stays,
    unreachable,
)
from midcall.testbed.engines.written import SUBSCRIBER
from midcall.testbed.policy.syntax import code_point

NFT = re.compile(
    r"(?P<neither>meta l4proto != \{ ?(?:tcp, ?udp|udp, ?tcp) ?\})"
    r"|(?P<proto>(?:meta l4proto|ip protocol|ip6 nexthdr) (?P<l4>tcp|udp)\b)"
    rf"|(?P<near>(?P<side_of>[io])ifname (?P<other>!= )?\"?(?:\$subscriber|{SUBSCRIBER})\"?)"
    r"|(?:(?P<transport>tcp|udp|th) (?P<end>[ds])port "
    r"(?P<ports>(?:!= ?|[<>]=? ?)?(?:\{[^}]*\}|[^\s.]+)))"
    r"|(?:ip6? (?P<side>[ds])addr (?P<to>\{[^}]*\}|[^\s!.][^\s]*)(?! \.))"
    rf"|(?P<cookie>@(?:ih,32|th,96),32 (?:0x{COOKIE}|{STUN_COOKIE}))"
    r"|(?:udp length (?P<length>>= ?\d+|<= ?\d+|> ?\d+|< ?\d+|\d+-\d+|\d+))"
    r"|(?:ip6? dscp (?P<dscp>(?:!= ?)?(?:\{[^}]*\}|(?!set\b)\w+)))"
    r"|(?P<state>ct state \S+)"
    r"|(?P<counter>counter(?: name \S+| packets \d+ bytes \d+)?)"
    r"|(?P<log>log(?: (?:prefix \"[^\"]*\"|level \w+|group \d+|flags \w+))*)"
)
NFT_ACTS: dict[str, dict[str, Any]] = {"drop": {"act": "drop"}, "accept": {"act": "pass"}}
NFT_VERDICT = re.compile(
    r"(?:^|\s)(?:(?P<word>drop|accept|return)"
    r"|(?P<reset>reject with tcp reset)"
    r"|reject(?: with icmp(?:x|v6)?(?: type)? (?P<error>[\w-]+))?"
    r"|(?:jump|goto) (?P<chain>\w+)"
    r"|ip6? dscp set (?P<mark>\w+))$"
)
#: A line that adds a subject to a table, as an exported policy has it.
NFT_ADDS = re.compile(
    r"(?:iifname (?P<down>!= )?\S+ )?(?:meta l4proto (?:!= )?\{[^}]*\} )?add @\w+ "
    r"\{ ?(?P<fields>[^}]*?) ?\}$"
)
#: Lines of a ruleset that hold no rule.
NFT_FRAME = re.compile(
    r"(table|chain|type|policy|flush|define|set|map|elements|flags|size|timeout|include)\b"
    r"|counter \w+ \{|[{}]"
)
NFT_ADDED = re.compile(r"(?:add|insert) rule (?:(?:ip|ip6|inet) )?(?P<table>\S+) (?P<chain>\S+) ")
NFT_MAP = re.compile(r"^(?P<before>.*?)(?P<key>\S+ \S+) vmap (?P<map>\{[^}]*\}|@\w+)$")
NFT_BOTH = re.compile(r"(meta l4proto|ip protocol|ip6 nexthdr) \{ ?(?:tcp, ?udp|udp, ?tcp) ?\}")


class Ruleset:
    """A file of nftables: the values of its variables, sets and maps, and the lines of its chains.

    hooks: the hook of each base chain; drops: base chains whose policy is drop; tables: sets of
    flows, to which a rule adds packets' ends; families: by chain; chain: whose line is read.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        text = "\n".join(re.sub(r"^\s*#.*", "", line) for line in lines)
        self.words = {
            f"${name}": value for name, value in re.findall(r"define (\w+) = (\{[^}]*\}|\S+)", text)
        }
        for name, body in re.findall(r"(?:set|map) (\w+) \{((?:[^{}]|\{[^}]*\})*)\}", text):
            listed = re.search(r"elements = (\{[^}]*\})", body)
            if listed and "timeout" not in body and "flags dynamic" not in body:
                self.words[f"@{name}"] = " ".join(listed[1].split())
        self.hooks = dict(re.findall(r"chain (?:\w+ \S+ )?(\w+) \{[^{}]*?hook (\w+)", text))
        self.drops = set(re.findall(r"chain (?:\w+ \S+ )?(\w+) \{[^{}]*?policy drop", text))
        self.families, self.chain = dict[str, str](), ""
        family = ""
        for line in map(str.strip, lines):
            if started := re.match(r"(?:add )?table (?:(\w+) )?\S+ \{", line):
                family = started[1] or "ip"
            elif started := re.match(r"chain (\w+) \{", line):
                self.families[started[1]] = family
            elif started := re.match(r"add chain (?:(\w+) )?\S+ (\w+)", line):
                self.families[started[2]] = started[1] or "ip"
        self.tables = set(re.findall(r"add (@\w+) \{", text))
        self.chains: dict[str, list[str]] = {}
        chain, depth = "", 0
        for line in map(str.strip, lines):
            if started := re.match(r"(?:add )?chain (?:\w+ \S+ )?(\w+) \{", line):
                chain = started[1]
            elif added := NFT_ADDED.match(line):
                self.chains.setdefault(added["chain"], []).append(line[added.end() :])
            elif chain and depth == 2 and line and not NFT_FRAME.match(line) and line[0] != "#":
                self.chains.setdefault(chain, []).append(line)
            depth += line.count("{") - line.count("}")
        self.used = self.reached()

    def reached(self) -> set[str]:
        """Return the chains that those at the hook forward go through, themselves included."""
        found = {name for name in self.chains if self.hooks.get(name) == "forward"}
        found = found or set(self.chains) - set(self.hooks) if not self.hooks else found
        for _ in range(DEPTH):
            for name in list(found):
                for line in self.chains.get(name, ()):
                    found.update(re.findall(r"(?:jump|goto) (\w+)", line))
        return found

    def base(self, chain: str) -> bool:
        """Return whether a chain is at the hook forward; without any hook, each is taken to be."""
        return self.hooks.get(chain) == "forward" if self.hooks else True

    def rules(self, line: str, depth: int = 0) -> Found:
        """Return the rules of a line; raises Untranslatable."""
        line = re.sub(r"\s*comment \"[^\"]*\"\s*$", "", line)
        if both := NFT_BOTH.search(line):
            halves = (
                f"{line[: both.start()]}{both[1]} {one}{line[both.end() :]}" for one in (TCP, UDP)
            )
            return [rule for half in halves for rule in self.rules(half, depth)]
        if hit := NFT_MAP.match(line):
            return [rule for one in self.verdicts(hit) for rule in self.rules(one, depth)]
        hit = NFT_VERDICT.search(line)
        if hit is None:
            raise Untranslatable("its verdict is none of drop, accept, reject, and it sets no dscp")
        rest = line[: hit.start()].strip()
        if hit["chain"]:
            return self.through(hit, line, rest, depth)
        if hit["word"] == "return":
            raise Untranslatable("return: the rules behind it in its chain meet fewer packets")
        match = self.match(rest)
        if hit["reset"]:
            put(match, "protocol", TCP)
            act = netfilter_reset(match)
        elif hit["mark"]:
            act = {"act": "mark", "code_point": point(hit["mark"])}
        elif hit["word"]:
            act = NFT_ACTS[hit["word"]]
        else:
            act = unreachable(hit["error"] or "port-unreachable")
        answered(rest, "ifname", match)
        of_version(match, version_of(line) or self.families.get(self.chain, ""))
        rule = {**rule_of("", match), **act}
        if act["act"] == "mark":
            del rule["scope"]
        return [rule]

    def verdicts(self, hit: re.Match[str]) -> Iterator[str]:
        """Yield a line for each entry of a verdict map; raises Untranslatable."""
        text = self.words.get(str(hit["map"]), str(hit["map"]))
        if hit["key"] == "ct state":
            raise stays("ct state")
        for entry in text.strip("{} ").split(","):
            value, colon, verdict = entry.strip().rpartition(" : ")
            if not colon:
                raise Untranslatable(f"map {hit['map']}")
            yield f"{hit['before']}{hit['key']} {value} {verdict}"

    def through(self, hit: re.Match[str], line: str, rest: str, depth: int) -> Found:
        """Return the rules of the chain that a line goes to; raises Untranslatable."""
        if any(f"{name} " in line for name in self.tables):
            return []  # a flow that a rule has added to a set: the rule's scope says it
        inner = self.chains.get(hit["chain"])
        if inner is None or depth == DEPTH:
            raise Untranslatable(f"chain {hit['chain']}")
        if "goto" in line and not re.fullmatch(r"drop|accept|reject.*", inner[-1]):
            raise Untranslatable(f"goto {hit['chain']}: what that chain lets pass skips the rest")
        self.match(rest)
        out: Found = []
        adds = [hit for hit in map(NFT_ADDS.match, inner) if hit]
        for one in inner:
            with suppress(Untranslatable):  # its own line is left out
                if not NFT_ADDS.match(one) and one != "return":
                    out += self.rules(f"{rest} {one}".strip(), depth + 1)
        if adds and all("scope" in rule for rule in out):
            out = [{**rule, "scope": scope_of(adds[0])} for rule in out]
        return out

    def match(self, rest: str) -> dict[str, Any]:
        """Return the match of a rule's expressions; raises Untranslatable."""
        match, at = dict[str, Any](), 0
        rest = re.sub(r"[$@]\w+", self.value, rest)
        while at < len(rest):
            hit = NFT.match(rest, at)
            if hit is None:
                raise Untranslatable(f"the policy language has no {rest[at:]!r}")
            nft_part(hit, match)
            at = hit.end()
            at += len(rest[at:]) - len(rest[at:].lstrip())
        return match

    def value(self, one: re.Match[str]) -> str:
        """Return the value of a variable or set in an expression, the word where there is none."""
        return one[0] if one[0] == "$subscriber" else self.words.get(one[0], one[0])


def nftables(lines: Sequence[str]) -> Callable[[str], Found]:
    """Return a reader of the lines of a ruleset, which raises Untranslatable.

    A rule that goes to a chain becomes that chain's rules.
    """
    whole = Ruleset(lines)
    chain = ""

    def read(line: str) -> Found:
        nonlocal chain
        if started := re.match(r"(?:add )?chain (?:\w+ \S+ )?(\w+) \{", line):
            chain = started[1]
        if "policy drop" in line and chain in whole.drops and whole.hooks.get(chain) == "forward":
            raise Untranslatable("policy drop: every packet that no rule accepts is dropped")
        if re.match(r"#|(add|flush|delete) (table|chain|ruleset|set|map|element)\b", line):
            return []
        added = NFT_ADDED.match(line)
        if NFT_FRAME.match(line) and added is None:
            return []
        own, rest = (added["chain"], line[added.end() :]) if added else (chain, line)
        whole.chain = own
        if own not in whole.used:
            raise Untranslatable(f"chain {own}: it is not at the hook forward")
        if not verdict(rest) and not silent(rest):
            raise Untranslatable(f"the policy language has no {rest!r}")
        if silent(rest):
            return []  # it counts or logs, or it is a part of its chain's other rules
        if not whole.base(own):
            whole.rules(f"meta l4proto udp {rest}" if rest in NFT_ACTS else rest)
            return []  # its rules are those of the lines that go to the chain
        rules = whole.rules(rest)
        return [{**one, INSERTED: True} for one in rules] if line.startswith("insert") else rules

    return read


def version_of(line: str) -> str:
    """Return the version of IP that the expressions of a rule tell, "" for none."""
    hit = re.search(r"(?:^|\s)(ip6?) (?:protocol|nexthdr|dscp|[sd]addr)\b", line)
    return hit[1] if hit else ""


def scope_of(hit: re.Match[str]) -> str:
    """Return the scope of a rule that adds subjects to a table, by the fields that name them."""
    fields = hit["fields"]
    if len(re.findall("[sd]addr", fields)) == 2:
        return ("pair", "triple", "flow")[len(re.findall("th [sd]port", fields))]
    return "client" if ("saddr" in fields) == (hit["down"] is None) else "server"


def verdict(line: str) -> bool:
    """Return whether a rule of nftables ends in a verdict, or in what becomes one."""
    line = re.sub(r"\s*comment \"[^\"]*\"\s*$", "", line)
    return bool(NFT_VERDICT.search(line) or NFT_MAP.match(line))


def silent(line: str) -> bool:
    """Return whether a line of a chain does nothing to a packet by itself."""
    line = re.sub(r"\s*comment \"[^\"]*\"\s*$", "", line)
    if line == "return" or NFT_ADDS.match(line):
        return True
    return not verdict(line) and bool(re.search(r"\b(counter|log)\b", line)) and "set" not in line


def nft_part(hit: re.Match[str], match: dict[str, Any]) -> None:
    """Add one expression of a rule to its match; raises Untranslatable."""
    if hit["state"]:
        raise stays(hit["state"])
    if hit["neither"]:
        put(match, "protocol", OTHER)
    elif hit["l4"]:
        put(match, "protocol", hit["l4"])
    elif hit["near"]:
        up = (hit["side_of"] == "i") == (hit["other"] is None)
        put(match, "direction", "up" if up else "down")
    elif hit["ports"]:
        if hit["transport"] != "th":
            put(match, "protocol", hit["transport"])
        put(match, "ports", ports(hit["ports"]))
        put(match, "direction", "up" if hit["end"] == "d" else "down")
    elif hit["to"]:
        put(match, "addresses", addresses(hit["to"]))
        put(match, "direction", "up" if hit["side"] == "d" else "down")
    elif hit["cookie"]:
        put(match, "stun", True)
    elif hit["length"]:
        put(match, "protocol", "udp")
        put(match, "size", length(hit["length"], 8))
    elif hit["dscp"]:
        put(match, "dscp", points_of(hit["dscp"]))


def points_of(word: str) -> list[int | str]:
    """Return code points as the policy language has them; raises Untranslatable.

    "!=" in front: all others.
    """
    met: list[tuple[int, int]] = []
    listed = word.lstrip("!= ").strip("{} ").replace(" ", "").split(",")
    for one in listed:
        low, _, high = one.partition("-")
        met.append((code_point(point(low)), code_point(point(high or low))))
    if word.startswith("!"):
        met = complement(met, 0, 63)
    elif all("-" not in one for one in listed):
        return [point(one) for one in listed]
    return [one for low, high in met for one in range(low, high + 1)]
