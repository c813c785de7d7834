# SPDX-License-Identifier: BSD-3-Clause
"""Rules of iptables as rules of the policy language."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from midcall.testbed.engines.import_parts import (
    COOKIE,
    DEPTH,
    INSERTED,
    Found,
    Untranslatable,
    addresses,
    answered,
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

IPTABLES_ACTS: dict[str, dict[str, Any]] = {"DROP": {"act": "drop"}, "ACCEPT": {"act": "pass"}}
#: Targets that let a packet go on unchanged.
NO_TARGET = ("LOG", "NFLOG", "RETURN")
#: The target of a chain whose rules act on whole flows, as an exported policy has it.
MARKS_FLOW = "CONNMARK"
#: Words that introduce a match and test nothing themselves.
MODULES = ("tcp", "udp", "multiport", "comment", "length", "dscp", "u32")
#: u32's test of STUN's cookie behind IPv4 and UDP.
U32_COOKIE = f"0>>22&0x3c@12=0x{COOKIE}"
#: Octets of the headers of IPv4 and UDP.
IP_UDP = 28


class Line(NamedTuple):
    """A rule of iptables: its chain, whether it is inserted before others, match and target.

    interface: "-i" where it names the subscribers' interface; version: of IP, as in EVERY.
    """

    chain: str
    inserted: bool
    match: dict[str, Any]
    target: dict[str, Any] | str
    interface: str
    version: str = "ip"


def iptables(lines: Sequence[str]) -> Callable[[str], Found]:
    """Return a reader of the lines of iptables-save or of a script, which raises Untranslatable.

    A rule that jumps to a chain becomes that chain's rules.
    """
    chains: dict[str, list[Line | Untranslatable]] = {}
    saved = any(line.startswith("*") for line in lines)
    version = version_of("\n".join(lines)) if saved else ""
    for text in lines:
        try:
            one = iptables_line(text.strip(), version)
        except Untranslatable as problem:
            name = re.search(r"-[AI] (\S+)", text)
            chains.setdefault(name[1] if name else "", []).append(problem)
            continue
        if one is not None:
            chains.setdefault(one.chain, []).append(one)

    def read(line: str) -> Found:
        if re.match(r":FORWARD DROP\b", line):
            raise Untranslatable("every packet that no rule accepts is dropped")
        hit = re.search(r"(?:^|\s)-[AI] (INPUT|OUTPUT|PREROUTING|POSTROUTING)\b", line)
        if hit is not None:
            raise Untranslatable(f"chain {hit[1]}: {ELSEWHERE}")
        one = iptables_line(line, version)
        if one is None or (one.chain in jumped and one.chain != "FORWARD"):
            return []
        if one.chain != "FORWARD":
            raise Untranslatable(f"chain {one.chain}: {ELSEWHERE}")
        rules = list(targets(one, chains, 0))
        return [{**rule, INSERTED: True} for rule in reversed(rules)] if one.inserted else rules

    jumped = {
        one.target
        for own in chains.values()
        for one in own
        if isinstance(one, Line) and isinstance(one.target, str)
    }
    return read


def targets(
    one: Line, chains: dict[str, list[Line | Untranslatable]], depth: int
) -> Iterator[dict[str, Any]]:
    """Yield the rules of a line, those of the chain that it jumps to; raises Untranslatable."""
    if not isinstance(one.target, str):
        answered(one.interface, "-i", one.match)
        target = netfilter_reset(one.match) if one.target["act"] == "reset" else one.target
        of_version(one.match, one.version)
        rule = {**rule_of("", one.match), **target}
        if rule["act"] == "mark":
            del rule["scope"]
        yield rule
        return
    if depth == DEPTH or one.target not in chains:
        raise Untranslatable(f"target {one.target}")
    lines = [inner for inner in chains[one.target] if isinstance(inner, Line)]
    marks = any(inner.target == MARKS_FLOW for inner in lines)
    for inner in lines:  # the others are left out by themselves
        if inner.target == MARKS_FLOW:
            continue
        match = dict(one.match)
        for key, value in inner.match.items():
            put(match, key, value)
        interface = one.interface or inner.interface
        whole = inner._replace(match=match, interface=interface)
        for rule in targets(whole, chains, depth + 1):
            yield {**rule, "scope": "flow"} if marks and "scope" in rule else rule


#: Why a rule of another chain is left out.
ELSEWHERE = "it is neither FORWARD nor a chain that FORWARD goes to"
#: What stands before the options of a command of a script.
COMMAND = re.compile(r"^(sudo )?\S*(?:ip6?tables|\$\{?IPT\w*\}?) (-w )?(?:-t (?P<table>\w+) )?")


#: Lines without a rule.
NO_RULE = re.compile(r"\*|:|COMMIT|#|-N |-F|-X|-Z|-P \w+ ACCEPT|\w+=\S*$|set -|echo |modprobe ")


def restorable(text: str, version: str) -> str:
    """Return a script or a file of iptables-save as iptables-restore takes it.

    version: of IP, as in EVERY: a script may have lines of both, a file is of one.
    """
    if re.search(r"^\*\w+", text, re.MULTILINE):
        return text if version_of(text) == version else ""
    tables: dict[str, list[str]] = {}
    for line in map(str.strip, text.splitlines()):
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


def version_of(text: str) -> str:
    """Return the version of IP of a command, or of a file by the comment of ip6tables-save."""
    return "ip6" if re.search(r"\bip6tables|\$\{?IPT6|\bicmp6-|--icmpv6", text) else "ip"


def iptables_line(line: str, version: str = "") -> Line | None:
    """Return the rule of a line, None for a line without one; raises Untranslatable.

    version: of IP, "" for that of the line's command.
    """
    version = version or version_of(line)
    line = COMMAND.sub("", line)
    if not line or NO_RULE.match(line):
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        raise Untranslatable("its quotes do not close") from None
    if "connmark" in words and "-g" in words:
        return None  # a flow that another line marked: that line's scope says it
    if words[0] not in ("-A", "-I") or len(words) < 2:
        raise Untranslatable("it adds no rule to a chain")
    match: dict[str, Any] = {}
    target: dict[str, Any] | str = ""
    at, interface = 2, ""
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
            at += used
        elif word in ("-i", "-o") and value == SUBSCRIBER:
            interface = "-i"
            put(match, "direction", "up" if (word == "-i") != negated else "down")
        elif negated and word in PORT_WORDS:
            iptables_part(word, f"!{value}", match)
        elif negated:
            raise Untranslatable(f"a negation of {word}")
        else:
            iptables_part(word, value, match)
        at += 2
    if not target:
        return None  # it counts packets
    if target in NO_TARGET:
        return None
    return Line(words[1], words[0] == "-I", match, target, interface, version)


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
    if value in (*NO_TARGET, MARKS_FLOW):
        return value, len(options)
    return IPTABLES_ACTS.get(value, value), 0


def iptables_part(word: str, value: str, match: dict[str, Any]) -> None:
    """Add one option of a rule to its match; raises Untranslatable."""
    if word in ("-p", "--protocol") and value in ("tcp", "udp"):
        put(match, "protocol", value)
    elif word in ("-d", "--destination", "-s", "--source"):
        put(match, "addresses", addresses(value))
        put(match, "direction", "up" if word.lstrip("-")[0] == "d" else "down")
    elif word in PORT_WORDS:
        put(match, "ports", ports(value))
        put(match, "direction", "up" if word[2] == "d" else "down")
    elif word == "--length" and match.get("protocol") == "udp":
        put(match, "size", length(value, IP_UDP))
    elif word in ("--dscp", "--dscp-class"):
        put(match, "dscp", [point(value)])
    elif word == "--u32" and match.get("protocol") == "udp" and value.lower() == U32_COOKIE:
        put(match, "stun", True)
    elif word == "-m" and value in ("state", "conntrack"):
        raise stays(value)
    elif word == "--syn" or word == "--tcp-flags":
        raise Untranslatable(f"{word}: a rule sees no TCP flags")
    elif word != "--comment" and (word != "-m" or value not in MODULES):
        raise Untranslatable(f"the policy language has no {f'{word} {value}'.strip()!r}")
