# SPDX-License-Identifier: BSD-3-Clause
"""Rulesets of nftables as rules of the policy language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.testbed.engines.condition import DOWN, OTHER, TCP, UDP, UP
from midcall.testbed.engines.import_parts import (
    COOKIE,
    DEPTH,
    INSERTED,
    ORDER,
    Found,
    InnerLines,
    Untranslatable,
    addresses,
    answered,
    complement,
    length,
    netfilter_reset,
    of_flows,
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
    r"|(?P<ported>meta l4proto \{ ?tcp, ?udp, ?sctp ?\})"
    r"|(?P<proto>(?:meta l4proto|ip protocol|ip6 nexthdr) (?P<l4>tcp|udp|6|17)\b)"
    r"|(?P<version>meta nfproto ipv[46]\b)"
    rf"|(?P<near>(?P<side_of>[io])ifname (?P<other>!= )?\"?(?:\$subscriber|{SUBSCRIBER})\"?)"
    r"|(?:(?P<transport>tcp|udp|th) (?P<end>[ds])port "
    r"(?P<ports>(?:!= ?|[<>]=? ?)?(?:\{[^}]*\}|[^\s.]+)))"
    r"|(?:ip6? (?P<side>[ds])addr (?P<to>\{[^}]*\}|[^\s!.][^\s]*)(?! \.))"
    rf"|(?P<cookie>@(?:ih,32|(?P<behind>th,96)),32 (?:0x{COOKIE}|{STUN_COOKIE}))"
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
#: A line that lets one direction of the subjects of a table pass, as an exported policy has it.
NFT_SPARED = re.compile(r"iifname (?P<other>!= )?\S+ accept")
#: Lines of a chain that hold no rule.
NFT_FRAME = re.compile(r"(type|policy|comment)\b|[{}]")
NFT_TABLE = re.compile(
    r"(?:(?:add|create) )?table (?:(?P<family>ip6?|inet) )?(?P<table>\w+) ?(?P<open>\{)?$"
)
NFT_CHAIN = re.compile(
    r"(?:(?:add|create) )?chain (?:(?:(?P<family>ip6?|inet) )?(?P<table>\w+) )?(?P<chain>\w+)"
    r" ?(?P<body>\{.*)?$"
)
#: A rule that is added from outside a table's block, or the elements of a set.
NFT_ADDED = re.compile(
    r"(?P<verb>add|insert) rule (?:(?P<family>ip6?|inet) )?(?P<table>\w+) (?P<chain>\w+) "
)
NFT_ELEMENTS = re.compile(
    r"add element (?:(?P<family>ip6?|inet) )?(?P<table>\w+) (?P<name>\w+) \{(?P<listed>[^}]*)\}"
)
NFT_SET = re.compile(
    r"(?:(?:add|create) )?(?:set|map) (?:(?:ip6?|inet) )?(?:\w+ )?(?P<name>\w+) \{"
)
#: Lines without a rule, outside chains.
NFT_COMMAND = re.compile(
    r"#!|define\b|[{}]|(?:(?:add|create) )?(?:table|chain)\b"
    r"|(?:flush|delete|destroy|list|create|add|reset) (?!rule\b)"
)
NFT_HOOK = re.compile(
    r"hook (?P<hook>\w+)(?: priority (?P<name>[a-z]+)? ?(?P<sign>[+-])? ?(?P<more>\d+)?)?"
)
#: Priorities of chains by name.
PRIORITIES = {
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
}
NFT_MAP = re.compile(r"^(?P<before>.*?)(?P<key>\S+ \S+) vmap (?P<map>\{[^}]*\}|@\w+)$")
NFT_BOTH = re.compile(r"(meta l4proto|ip protocol|ip6 nexthdr) \{ ?(?:tcp, ?udp|udp, ?tcp) ?\}")
#: What may stand behind a verdict.
TAIL = re.compile(r"(\s*(comment \"[^\"]*\"|counter( name \S+| packets \d+ bytes \d+)?))+\s*$")
#: A comment behind a line, and a table that ends in the line in which it begins.
COMMENT = re.compile(r"\s+#[^\"]*$")
NFT_LINE = re.compile(r"(?:(?:add|create) )?table\b[^{]*\{[^#]*\bhook\b")
#: Statements that do something else to a packet than to count or log it.
NFT_STATEMENT = re.compile(
    r"\b(set|queue|tproxy|redirect|[sd]nat|masquerade|notrack|dup|fwd|synproxy|flow|update|add|delete)\b"
)


class Chain:
    """A chain: family and name of its table, its hook ("" for none), priority, and lines.

    lines: number and text of each; drops: the number of the line whose policy is drop, 0 for none.
    """

    def __init__(self, family: str, table: str, name: str) -> None:
        self.family, self.table, self.name = family, table, name
        self.hook, self.priority, self.drops = "", 0, 0
        self.lines: list[tuple[int, str]] = []

    def head(self, number: int, text: str) -> None:
        """Take over the hook and the policy that a line gives."""
        if hit := NFT_HOOK.search(text):
            more = int(hit["more"] or 0) * (-1 if hit["sign"] == "-" else 1)
            self.hook, self.priority = hit["hook"], PRIORITIES.get(hit["name"] or "", 0) + more
        if re.search(r"\bpolicy drop\b", text):
            self.drops = number


class Ruleset:
    """A file of nftables: its chains, and the values of its variables, sets and maps.

    owners: the chain of each line that holds a rule; words: by table, "" for variables; tables:
    sets of flows, to which a rule adds packets' ends; inner: of chains that others go to.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.chains: dict[tuple[str, str, str], Chain] = {}
        self.owners: dict[int, Chain] = {}
        self.words: dict[tuple[str, str, str], str] = {}
        self.inner = InnerLines()
        self.inserted = set[int]()
        self.frames = set[int]()
        self.parse(lines)
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        self.tables = set(re.findall(r"add (@\w+) \{", text))
        hooked = [one for one in self.chains.values() if one.hook]
        at_forward = [one for one in hooked if one.hook == "forward"]
        self.bases = sorted(at_forward if hooked else self.roots(), key=lambda one: one.priority)
        self.found: dict[int, Found | Untranslatable] = {}
        for chain in self.bases:
            for number, line in chain.lines:  # a line may hold several rules
                try:
                    found = self.of_base(chain, number, line)
                except Untranslatable as problem:
                    self.found[number] = problem
                    continue
                earlier = self.found.get(number, [])
                if not isinstance(earlier, Untranslatable):
                    self.found[number] = [*earlier, *found]

    def parse(self, lines: Sequence[str]) -> None:
        """Fill chains, owners, words, inserted and frames: lines of blocks that are no chains."""
        family = table = name = kept = ""  # name: of a set, and kept: its lines
        chain: Chain | None = None
        depth, dynamic = 0, set[tuple[str, str, str]]()
        for number, whole in enumerate(map(str.strip, lines), 1):
            line = COMMENT.sub("", whole)
            if not line or line.startswith("#"):
                continue
            if hit := NFT_TABLE.match(line):
                family, table = hit["family"] or "ip", hit["table"]
            elif added := NFT_ADDED.match(line):
                own = self.chain(added["family"] or "ip", added["table"], added["chain"])
                self.place(own, number, line[added.end() :])
                self.inserted |= {number} if added["verb"] == "insert" else set()
            elif depth < 2 and (hit := NFT_CHAIN.match(line)):
                outside = (hit["family"] or "ip", hit["table"]) if hit["table"] else (family, table)
                chain = self.chain(*outside, hit["chain"])
                chain.head(number, hit["body"] or "")
                for part in parted(hit["body"] or "{"):
                    self.place(chain, number, part)
            elif hit := NFT_ELEMENTS.match(line):
                key = (hit["family"] or "ip", hit["table"], f"@{hit['name']}")
                self.words[key] = merged(self.words.get(key, ""), hit["listed"])
            elif hit := re.match(r"define (\w+) = (\{[^}]*\}|\S+)", line):
                self.words["", "", f"${hit[1]}"] = hit[2]
            elif chain is not None and depth == 2:
                if NFT_FRAME.match(line):
                    chain.head(number, line)
                for part in parted(f"{{{line}"):
                    self.place(chain, number, part)
            elif depth and line != "}":
                self.frames.add(number)
                if hit := NFT_SET.match(line):
                    name, kept = hit["name"], ""
                if name:
                    kept = f"{kept} {line}"
                    key = (family, table, f"@{name}")
                    dynamic |= {key} if re.search(r"\b(timeout|dynamic)\b", kept) else set()
                    if listed := re.search(r"elements = \{([^}]*)\}", line):
                        self.words[key] = merged(self.words.get(key, ""), listed[1])
            depth += line.count("{") - line.count("}")
            if depth < 2:
                chain, name = None, ""
        self.words = {key: text for key, text in self.words.items() if key not in dynamic}

    def chain(self, family: str, table: str, name: str) -> Chain:
        """Return a chain, a new one where there is none of this name."""
        return self.chains.setdefault((family, table, name), Chain(family, table, name))

    def place(self, chain: Chain, number: int, text: str) -> None:
        """Add a rule to a chain."""
        chain.lines.append((number, text))
        self.owners[number] = chain

    def targets(self, chain: Chain) -> list[Chain]:
        """Return the chains that the lines of a chain go to."""
        names = re.findall(r"(?:jump|goto) (\w+)", "\n".join(text for _, text in chain.lines))
        keys = [(chain.family, chain.table, name) for name in names]
        return [self.chains[key] for key in keys if key in self.chains]

    def roots(self) -> list[Chain]:
        """Return the chains that no other one goes to."""
        every = list(self.chains.values())
        targets = [one for chain in every for one in self.targets(chain)]
        return [one for one in every if one not in targets]

    def reached(self) -> list[Chain]:
        """Return the base chains, and those that they go through."""
        out = list(self.bases)
        for chain in out:
            out += [one for one in self.targets(chain) if one not in out]
        return out

    def of_base(self, chain: Chain, number: int, line: str) -> Found:
        """Return the rules of a line of a base chain; raises Untranslatable."""
        self.own = chain
        known(line)
        if silent(line):
            return []
        marks = {ORDER: self.bases.index(chain), INSERTED: number in self.inserted}
        return [{**rule, **marks} for rule in self.rules(line)]

    def goes_on(self) -> bool:
        """Return whether a packet that the base chain accepts meets another chain after it."""
        behind = self.bases[self.bases.index(self.own) + 1 :] if self.own.hook else []
        return any(one.family == self.own.family or "inet" in (one.family, self.own.family)
                   for one in behind)  # fmt: skip

    def rules(self, line: str, depth: int = 0) -> Found:
        """Return the rules of a line; raises Untranslatable."""
        line = TAIL.sub("", line)
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
            if act["act"] == "pass" and self.goes_on():
                raise Untranslatable("accept: a later chain of the hook forward decides, too")
        else:
            act = unreachable(hit["error"] or "port-unreachable")
        answered(rest, "ifname", match)
        of_version(match, version_of(line) or self.own.family)
        rule = {**rule_of("", match), **act}
        if act["act"] == "mark":
            del rule["scope"]
        return [rule]

    def verdicts(self, hit: re.Match[str]) -> Iterator[str]:
        """Yield a line for each entry of a verdict map; raises Untranslatable."""
        text = re.sub(VARIABLE, self.value, hit["map"])
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
        inner = self.chains.get((self.own.family, self.own.table, hit["chain"]))
        if inner is None or not inner.lines or depth == DEPTH:
            raise Untranslatable(f"chain {hit['chain']}")
        if "goto" in line and not re.fullmatch(r"drop|accept|reject.*", inner.lines[-1][1]):
            raise Untranslatable(f"goto {hit['chain']}: what that chain lets pass skips the rest")
        self.match(rest)
        out: Found = []
        adds = [added for _, one in inner.lines if (added := NFT_ADDS.match(one))]
        spared = ""
        for number, one in inner.lines:
            if one == "return":
                break
            if adds and (only := NFT_SPARED.fullmatch(one)):
                spared = DOWN if only["other"] else UP
            elif verdict(one):
                whole = f"{rest} {one}".strip()
                out += self.inner.add(number, partial(self.rules, whole, depth + 1))
        return of_flows(out, scope_of(adds[0]), spared) if adds else out

    def match(self, rest: str) -> dict[str, Any]:
        """Return the match of a rule's expressions; raises Untranslatable."""
        match, at = dict[str, Any](), 0
        for _ in range(DEPTH):  # the value of a variable may have others
            rest = re.sub(VARIABLE, self.value, rest)
        while at < len(rest):
            hit = NFT.match(rest, at)
            if hit is None:
                raise Untranslatable(f"the policy language has no {rest[at:]!r}")
            nft_part(hit, match)
            at = hit.end()
            at += len(rest[at:]) - len(rest[at:].lstrip())
        ported = re.search(r"meta l4proto \{ ?tcp, ?udp, ?sctp ?\}", rest)
        if ported and "ports" not in match:
            raise Untranslatable(f"{ported[0]} without ports")
        if re.search(r"\bth [sd]port", rest) and "protocol" not in match and not ported:
            raise Untranslatable("th without a test of the transport: others have no ports")
        return match

    def value(self, one: re.Match[str]) -> str:
        """Return the value of a variable or set in an expression, the word where there is none."""
        table = (self.own.family, self.own.table) if one[0][0] == "@" else ("", "")
        return one[0] if one[0] == "$subscriber" else self.words.get((*table, one[0]), one[0])


#: A variable, or a set or map by its name.
VARIABLE = re.compile(r"[$@]\w+")


def merged(old: str, more: str) -> str:
    """Return a set's elements with more of them."""
    listed = [part.strip() for text in (old.strip("{} "), more) for part in text.split(",")]
    return f"{{ {', '.join(filter(None, listed))} }}"


def parted(body: str) -> Iterator[str]:
    """Yield the rules of a chain's block or of a part of it, which begins with a brace."""
    begin, depth, quoted = 1, 0, False
    for at, sign in enumerate(f"{body};"):
        quoted ^= sign == '"'
        depth += 0 if quoted else {"{": 1, "}": -1}.get(sign, 0)
        ends = sign == "}" and depth == 0
        if not quoted and (ends or (sign == ";" and depth <= 1)):
            part = body[begin:at].strip()
            if part and not NFT_FRAME.match(part):
                yield part
            begin = at + 1


def without_rules(line: str) -> str:
    """Return a line without its rules and with the policy accept, "" where nothing is left of it.

    The beginning of a chain stays, with its hook.
    """
    text = line.strip()
    hit = NFT_CHAIN.match(text)
    body = hit["body"] or "{" if hit else f"{{{text}"
    if hit is None and not NFT_FRAME.match(text):
        return ""
    out = line.replace("policy drop", "policy accept")
    for part in parted(body):
        out = out.replace(part, "", 1)
    return out


def nftables(lines: Sequence[str]) -> Callable[[int, str], Found]:
    """Return a reader of the lines of a ruleset, which raises Untranslatable.

    A rule that goes to a chain becomes that chain's rules.
    """
    whole = Ruleset(lines)
    reached = whole.reached()

    def read(number: int, line: str) -> Found:
        chain = whole.owners.get(number)
        if number in (one.drops for one in whole.bases):
            raise Untranslatable("policy drop: every packet that no rule accepts is dropped")
        if chain is None:
            if line.startswith("include"):
                raise Untranslatable("include: another file")
            if NFT_LINE.match(line):
                raise Untranslatable("a table in one line")
            if number in whole.frames or NFT_COMMAND.match(line) or NFT_FRAME.match(line):
                return []
            raise Untranslatable("it adds no rule to a chain")
        if chain in whole.bases:
            found = whole.found[number]
            if isinstance(found, Untranslatable):
                raise found
            return whole.inner.whole(found)
        if chain not in reached:
            raise Untranslatable(f"chain {chain.name}: it is not at the hook forward")
        adds = any(NFT_ADDS.match(one) for _, one in chain.lines)
        for text in (text for at, text in chain.lines if at == number):
            known(text)
            if not silent(text) and not (adds and NFT_SPARED.fullmatch(text)):
                whole.inner.check(number, chain.name)
        return []

    return read


def known(line: str) -> None:
    """Raise Untranslatable for a line that has no verdict, and does not just count or log."""
    if not verdict(line) and not silent(line):
        raise Untranslatable(f"the policy language has no {line!r}")


def version_of(line: str) -> str:
    """Return the version of IP that the expressions of a rule tell, "" for none."""
    hit = re.search(r"(?:^|\s)(ip6?) (?:protocol|nexthdr|dscp|[sd]addr)\b", line)
    if hit is None and (proto := re.search(r"\bmeta nfproto ipv([46])\b", line)):
        return "ip" if proto[1] == "4" else "ip6"
    return hit[1] if hit else ""


def scope_of(hit: re.Match[str]) -> str:
    """Return the scope of a rule that adds subjects to a table, by the fields that name them."""
    fields = hit["fields"]
    if len(re.findall("[sd]addr", fields)) == 2:
        return ("pair", "triple", "flow")[len(re.findall("th [sd]port", fields))]
    return "client" if ("saddr" in fields) == (hit["down"] is None) else "server"


def verdict(line: str) -> bool:
    """Return whether a rule of nftables ends in a verdict, or in what becomes one."""
    line = TAIL.sub("", line)
    return bool(NFT_VERDICT.search(line) or NFT_MAP.match(line))


def silent(line: str) -> bool:
    """Return whether a line of a chain does nothing to a packet by itself."""
    if line == "return" or NFT_ADDS.match(line):
        return True
    words = re.sub(r"\"[^\"]*\"", "", line)
    counts = re.search(r"\b(counter|log)\b", words) and not NFT_STATEMENT.search(words)
    return bool(counts) and not verdict(line)


def nft_part(hit: re.Match[str], match: dict[str, Any]) -> None:
    """Add one expression of a rule to its match; raises Untranslatable."""
    if hit["state"]:
        raise stays(hit["state"])
    if hit["neither"]:
        put(match, "protocol", OTHER)
    elif hit["l4"]:
        put(match, "protocol", {"6": TCP, "17": UDP}.get(hit["l4"], hit["l4"]))
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
        if hit["behind"]:  # the header of UDP
            put(match, "protocol", UDP)
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
