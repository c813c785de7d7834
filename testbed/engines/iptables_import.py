# SPDX-License-Identifier: BSD-3-Clause
"""Rules of iptables as rules of the policy language."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.testbed.engines.condition import TCP, UDP
from midcall.testbed.engines.import_parts import (
    DEPTH,
    INSERTED,
    ORDER,
    Found,
    InnerLines,
    Untranslatable,
    addresses,
    answered,
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
from midcall.testbed.engines.iptables_rules import NO_ERROR
from midcall.testbed.engines.written import SUBSCRIBER

IPTABLES_ACTS: dict[str, dict[str, Any]] = {"DROP": {"act": "drop"}, "ACCEPT": {"act": "pass"}}
#: Targets that let a packet go on unchanged, and the one that ends a chain.
NO_TARGET, RETURN = ("LOG", "NFLOG"), "RETURN"
#: The target of a chain whose rules act on whole flows, as an exported policy has it.
MARKS_FLOW = "CONNMARK"
#: The key of a match that an interface gives.
WAY = "direction"
#: Words that introduce a match and test nothing themselves.
MODULES = ("tcp", "udp", "multiport", "comment", "length", "dscp", "u32", "iprange")
#: u32's test of STUN's cookie behind IPv4 and UDP.
U32_COOKIE = f"0>>22&60@12={STUN_COOKIE}"
#: Octets of the headers of IP and UDP, by version.
HEADERS = {"ip": 28, "ip6": 48}
#: Tables with a chain FORWARD, in the order in which a packet meets them.
TABLES = ("mangle", "filter", "security")


class Line(NamedTuple):
    """A rule of iptables: its chain, whether it is inserted before others, match and target.

    interface: "-i" where it names the subscribers' interface; version: of IP, as in EVERY; goes:
    whether the target is a chain from which nothing comes back (-g); table: the chain's.
    """

    chain: str
    inserted: bool
    match: dict[str, Any]
    target: dict[str, Any] | str
    interface: str
    version: str = "ip"
    goes: bool = False
    table: str = "filter"


class Tables:
    """A file of iptables-save, or a script: its chains by version, table and name.

    lines: what each line is, None for one without a rule; inner: of chains that others go to.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines: dict[int, Line | Untranslatable | None] = {}
        self.chains: dict[tuple[str, str, str], list[tuple[int, Line]]] = {}
        self.inner = InnerLines()
        saved = any(line.startswith("*") for line in lines)
        version, table = version_of("\n".join(lines)) if saved else "", "filter"
        for number, text in enumerate(map(str.strip, lines), 1):
            table = text[1:] if text.startswith("*") else table
            try:
                one = iptables_line(text, version, table)
            except Untranslatable as problem:
                self.lines[number] = problem
                continue
            self.lines[number] = one
            if one is not None:
                chain = self.chains.setdefault((one.version, one.table, one.chain), [])
                front = one.inserted and one.chain != BASE
                chain.insert(0 if front else len(chain), (number, one))
        self.targets = set(re.findall(r" -[jg] (\S+)", "\n".join(lines)))
        self.found: dict[int, Found | Untranslatable] = {}
        for (_, own, name), chain in self.chains.items():
            for number, one in chain if name == BASE else ():
                try:
                    self.found[number] = self.of_base(one, own)
                except Untranslatable as problem:
                    self.found[number] = problem

    def of_base(self, one: Line, table: str) -> Found:
        """Return the rules of a line of FORWARD; raises Untranslatable."""
        if table not in TABLES:
            raise Untranslatable(f"table {table}: it has no chain {BASE}")
        marks = {ORDER: TABLES.index(table), INSERTED: one.inserted}
        return [{**rule, **marks} for rule in self.rules(one)]

    def rules(self, one: Line, depth: int = 0) -> Found:
        """Return the rules of a line, those of the chain that it goes to; raises Untranslatable."""
        if not isinstance(one.target, str):
            return [self.rule(one, one.target)]
        if one.target == RETURN:
            raise Untranslatable(RETURNS)
        chain = self.chains.get((one.version, one.table, one.target), [])
        if depth == DEPTH or not chain:
            raise Untranslatable(f"target {one.target}")
        if one.goes and not ends(chain[-1][1]):
            raise Untranslatable(f"-g {one.target}: what that chain lets pass skips the rest")
        out: Found = []
        marks, spared = any(inner.target == MARKS_FLOW for _, inner in chain), ""
        for number, inner in chain:
            if inner.target == RETURN and not inner.match:
                break
            if marks and inner.target == IPTABLES_ACTS["ACCEPT"] and list(inner.match) == [WAY]:
                spared = inner.match[WAY]
                self.inner.found.add(number)
            elif inner.target != MARKS_FLOW:
                out += self.inner.add(number, partial(self.inside, one, inner, depth))
        return of_flows(out, "flow", spared) if marks else out

    def inside(self, one: Line, inner: Line, depth: int) -> Found:
        """Return the rules of a line of a chain that another one goes to; raises Untranslatable."""
        if inner.target == RETURN:
            raise Untranslatable(RETURNS)
        match = dict(one.match)
        for key, value in inner.match.items():
            put(match, key, value)
        interface = one.interface or inner.interface
        return self.rules(inner._replace(match=match, interface=interface), depth + 1)

    def rule(self, one: Line, target: dict[str, Any]) -> dict[str, Any]:
        """Return a line with a target of its own as a rule; raises Untranslatable."""
        udp = one.match.get("protocol") == UDP
        if "size" in one.match and not udp:
            raise Untranslatable("--length: of a transport other than UDP")
        if "stun" in one.match and not (udp and one.version == "ip"):
            raise Untranslatable("--u32: octets of UDP over IPv4 alone")
        if target["act"] == "pass" and any(
            self.chains.get((one.version, later, BASE))
            for later in TABLES[TABLES.index(one.table) + 1 :]
        ):
            raise Untranslatable("ACCEPT: a later table decides, too")
        answered(one.interface, "-i", one.match)
        act = netfilter_reset(one.match) if target["act"] == "reset" else target
        match = dict(one.match)
        of_version(match, one.version)
        rule = {**rule_of("", match), **act}
        if act["act"] == "mark":
            del rule["scope"]
        return rule


#: Why a rule that leaves its chain is left out.
RETURNS = f"{RETURN}: the rules behind it in its chain meet fewer packets"


def ends(one: Line) -> bool:
    """Return whether a rule decides every packet that comes to it."""
    return not one.match and not one.interface and not isinstance(one.target, str)


#: The chain of packets that are forwarded.
BASE = "FORWARD"


def iptables(lines: Sequence[str]) -> Callable[[int, str], Found]:
    """Return a reader of the lines of iptables-save or of a script, which raises Untranslatable.

    A rule that jumps to a chain becomes that chain's rules.
    """
    tables = Tables(lines)

    def read(number: int, line: str) -> Found:
        if re.match(r":FORWARD DROP\b", line):
            raise Untranslatable("every packet that no rule accepts is dropped")
        hit = re.search(r"(?:^|\s)-[AI] (INPUT|OUTPUT|PREROUTING|POSTROUTING)\b", line)
        if hit is not None:
            raise Untranslatable(f"chain {hit[1]}: {ELSEWHERE}")
        one = tables.lines[number]
        if isinstance(one, Untranslatable):
            raise one
        if one is None or one.target == MARKS_FLOW:
            return []
        if one.chain == BASE:
            found = tables.found[number]
            if isinstance(found, Untranslatable):
                raise found
            return tables.inner.whole(found)
        if one.chain not in tables.targets:
            raise Untranslatable(f"chain {one.chain}: {ELSEWHERE}")
        if one.target != RETURN or one.match:
            tables.inner.check(number, one.chain)
        return []

    return read


#: Why a rule of another chain is left out.
ELSEWHERE = "it is neither FORWARD nor a chain that FORWARD goes to"
#: What stands before the options of a command of a script.
COMMAND = re.compile(
    r"^(sudo )?\S*(?:ip6?tables(?:-legacy|-nft)?|\$\{?IPT\w*\}?) (-w )?(?:-t (?P<table>\w+) )?"
)
#: Long names of options, and their short ones.
SHORT = {
    "append": "-A", "insert": "-I", "new-chain": "-N", "policy": "-P", "flush": "-F", "table": "-t",
    "protocol": "-p", "proto": "-p", "source": "-s", "src": "-s", "destination": "-d", "dst": "-d",
    "in-interface": "-i", "out-interface": "-o", "jump": "-j", "goto": "-g", "match": "-m",
}  # fmt: skip
#: Lines without a rule.
NO_RULE = re.compile(r"\*|:|COMMIT|#|-N |-F|-X|-Z|-P \w+ ACCEPT|set -|echo |modprobe ")
ASSIGNMENT = re.compile(r"\w+=(\S*|\"[^\"]*\")$")


def restorable(text: str, version: str) -> str:
    """Return a script or a file of iptables-save as iptables-restore takes it.

    version: of IP, as in EVERY: a script may have lines of both, a file is of one.
    """
    if re.search(r"^\*\w+", text, re.MULTILINE):
        return text if version_of(text) == version else ""
    tables: dict[str, list[str]] = {}
    for line in map(short, map(str.strip, text.splitlines())):
        hit = COMMAND.match(line)
        if hit is None or version_of(line) != version:
            continue
        rules = tables.setdefault(hit["table"] or "filter", [])
        words = line[hit.end() :].split(maxsplit=2)
        if words[0] == "-N":
            rules.insert(0, f":{words[1]} - [0:0]")
        elif words[0] == "-P":
            rules.insert(0, f":{words[1]} {words[2]} [0:0]")
        elif words[0] in ("-A", "-I"):
            rules.append(line[hit.end() :])
    parts = ("\n".join([f"*{name}", *rules, "COMMIT", ""]) for name, rules in tables.items())
    return "".join(parts)


def short(line: str) -> str:
    """Return a line with the short names of its options."""
    return re.sub(r"(?<=\s)--([a-z-]+)(?=\s)", lambda hit: SHORT.get(hit[1], hit[0]), line)


def version_of(text: str) -> str:
    """Return the version of IP of a command, or of a file by the comment of ip6tables-save."""
    return "ip6" if re.search(r"\bip6tables|\$\{?IPT6|\bicmp6-|--icmpv6", text) else "ip"


def iptables_line(line: str, version: str, table: str) -> Line | None:
    """Return the rule of a line, None for a line without one; raises Untranslatable.

    version: of IP, "" for that of the line's command; table: where its command names none.
    """
    version, line = version or version_of(line), short(line)
    command = COMMAND.match(line)
    table = (command and command["table"]) or table
    if ASSIGNMENT.match(line):
        return None
    line = COMMAND.sub("", line)
    if not line or NO_RULE.match(line):
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        raise Untranslatable("its quotes do not close") from None
    if "connmark" in words and "-g" in words:
        return None  # a flow that another line marked: that line's scope says it
    if words[:3] == ["-P", BASE, "DROP"]:
        raise Untranslatable("every packet that no rule accepts is dropped")
    if words[-3:-1] == [MARKS_FLOW, "--set-mark"]:
        words = shlex.split(line.replace(f" {NO_ERROR} ", " "))
    if words[0] not in ("-A", "-I") or len(words) < 2:
        raise Untranslatable("it adds no rule to a chain")
    match: dict[str, Any] = {}
    target: dict[str, Any] | str = ""
    at, interface, goes = 2, "", False
    if words[0] == "-I" and words[2:3] and words[2].isdigit():
        if words[2] != "1":
            raise Untranslatable("a rule inserted at a number behind the first")
        at = 3
    while at < len(words):
        negated = words[at] == "!"
        at += negated
        word, value = (*words[at : at + 2], "", "")[:2]
        if word in ("-j", "-g"):
            target, used = iptables_target(value, words[at + 2 :])
            goes = word == "-g"
            at += used
        elif word in ("-i", "-o") and value == SUBSCRIBER:
            interface = "-i"
            put(match, WAY, "up" if (word == "-i") != negated else "down")
        elif negated and word in PORT_WORDS:
            iptables_part(word, f"!{value}", match, version)
        elif negated:
            raise Untranslatable(f"a negation of {word}")
        else:
            iptables_part(word, value, match, version)
        at += 2
    if not target or target in NO_TARGET:
        return None  # it counts or logs packets
    inserted = words[0] == "-I"
    return Line(words[1], inserted, match, target, interface, version, goes, table)


#: Transports by the words for them.
PROTOCOLS = {"tcp": TCP, "udp": UDP, "6": TCP, "17": UDP}
#: Options of ports.
PORT_WORDS = ("--dport", "--dports", "--destination-port", "--destination-ports", "--sport",
              "--sports", "--source-port", "--source-ports")  # fmt: skip


def iptables_target(value: str, options: Sequence[str]) -> tuple[dict[str, Any] | str, int]:
    """Return a target and how many words of its options follow it; raises Untranslatable."""
    option, word = (*options, "", "")[:2]
    if value == "REJECT":
        given = option == "--reject-with"
        kind = re.sub("^icmp6?-", "", word if given else "port-unreachable")
        act = {"act": "reset"} if kind == "tcp-reset" else unreachable(kind)
        return act, 2 * given
    if value == "DSCP" and option in ("--set-dscp", "--set-dscp-class"):
        return {"act": "mark", "code_point": point(word)}, 2
    if value in (*NO_TARGET, RETURN, MARKS_FLOW):
        return value, len(options)
    return IPTABLES_ACTS.get(value, value), 0


NUMBER = re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)\b")


def decimal(hit: re.Match[str]) -> str:
    """Return a number in decimal digits; iptables-save prints those of u32 with 0x."""
    return str(int(hit[0], 0) if hit[0][:2].lower() == "0x" else int(hit[0]))


def iptables_part(word: str, value: str, match: dict[str, Any], version: str) -> None:
    """Add one option of a rule of a version of IP to its match; raises Untranslatable."""
    if word in ("-p", "--protocol") and value in PROTOCOLS:
        put(match, "protocol", PROTOCOLS[value])
    elif word in ("-d", "--destination", "-s", "--source"):
        put(match, "addresses", addresses(value))
        put(match, "direction", "up" if word.lstrip("-")[0] == "d" else "down")
    elif word in ("--dst-range", "--src-range"):
        put(match, "addresses", addresses(value))
        put(match, "direction", "up" if word[2] == "d" else "down")
    elif word in PORT_WORDS:
        put(match, "ports", ports(value))
        put(match, "direction", "up" if word[2] == "d" else "down")
    elif word == "--length":
        put(match, "size", length(value, HEADERS[version]))
    elif word in ("--dscp", "--dscp-class"):
        put(match, "dscp", [point(value)])
    elif word == "--u32" and re.sub(NUMBER, decimal, value.replace(" ", "")) == U32_COOKIE:
        put(match, "stun", True)
    elif word == "-m" and value in ("state", "conntrack"):
        raise stays(value)
    elif word == "--syn" or word == "--tcp-flags":
        raise Untranslatable(f"{word}: a rule sees no TCP flags")
    elif word != "--comment" and (word != "-m" or value not in MODULES):
        raise Untranslatable(f"the policy language has no {f'{word} {value}'.strip()!r}")
