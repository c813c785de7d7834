# SPDX-License-Identifier: BSD-3-Clause
"""Rules of Suricata, nftables and iptables as rules of the policy language.

A rule is translated whole, or it is left out with the reason.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.captures.truth.strict_toml import block, toml
from midcall.errors import TestbedError
from midcall.testbed.engines.suricata_rules import ANY_PACKET
from midcall.testbed.engines.written import SUBSCRIBER
from midcall.testbed.policy.syntax import NAME, port_range

COOKIE = f"{STUN_COOKIE:08x}"


class LeftOut(NamedTuple):
    """A line that cannot be translated, and why."""

    line: int
    text: str
    reason: str


class Imported(NamedTuple):
    """The rules of a file: name -> keys of the policy language, and the lines left out."""

    file: str
    engine: str
    rules: dict[str, dict[str, Any]]
    left_out: list[LeftOut]


class Untranslatable(Exception):
    """A part of a rule that the policy language cannot express."""


def imported(path: Path, engine: str) -> Imported:
    """Return the rules of a file; raises TestbedError for an unknown engine or unreadable file."""
    if engine not in READERS:
        raise TestbedError(f"engine {engine!r}: expected one of {', '.join(READERS)}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TestbedError(f"{path}: cannot be read ({error})") from None
    found = Imported(path.name, engine, {}, [])
    read = READERS[engine](lines)
    first: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(lines, 1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        try:
            rules = read(line)
        except Untranslatable as problem:
            accepts = "; rules below it may meet what it accepts" if ACCEPTS.search(line) else ""
            found.left_out.append(LeftOut(number, line, f"{problem}{accepts}"))
            continue
        for count, rule in enumerate(rules, 1):
            name = f"line-{number}" if len(rules) == 1 else f"line-{number}-{count}"
            if rule.pop(INSERTED, False):
                first = {name: rule, **first}
            else:
                found.rules[name] = rule
    return found._replace(rules={**first, **found.rules})


#: The words of a rule that lets packets pass.
ACCEPTS = re.compile(r"\b(accept|ACCEPT)\b|^pass\b")
#: The rules of a line, [] for a line that has none.
Found = list[dict[str, Any]]
#: The mark of a rule that stands before those of the lines above it.
INSERTED = "inserted"


def put(match: dict[str, Any], key: str, value: Any) -> None:
    """Add a condition to a match; raises Untranslatable where it has another one."""
    if match.setdefault(key, value) != value:
        raise Untranslatable(f"two conditions on {key}")


def rule_of(act: str, match: dict[str, Any], scope: str = "packet") -> dict[str, Any]:
    """Return one rule; raises Untranslatable for a match of everything."""
    if not match:
        raise Untranslatable("it meets every packet")
    return {"match": match, "act": act, "scope": scope}


def ports(word: str) -> list[int | str]:
    """Return ports as the policy language has them; raises Untranslatable."""
    out: list[int | str] = []
    for part in word.strip("{}[] ").replace(" ", "").split(","):
        try:
            low, high = port_range(part.replace(":", "-") if not part.isdigit() else int(part))
        except ValueError:
            raise Untranslatable(f"ports {word}") from None
        out.append(low if low == high else f"{low}-{high}")
    return out


def addresses(word: str) -> list[str]:
    """Return prefixes of the far side; raises Untranslatable."""
    out = []
    for part in word.strip("{}[] ").replace(" ", "").split(","):
        try:
            net = ipaddress.ip_network(part, strict=False)
        except ValueError:
            raise Untranslatable(f"addresses {word}") from None
        if any(net.version == one.version and net.overlaps(one) for one in PRIVATE):
            raise Untranslatable(f"addresses {word}: of a subscriber")
        out.append(str(net))
    return out


#: Addresses that a subscriber has behind an operator's box (RFC 1918, RFC 6598).
PRIVATE = [
    ipaddress.ip_network(word)
    for word in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]


#: Ports from here on are those that systems give to clients (Linux's default).
CLIENT_PORTS = 32768


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


# ---- nftables

NFT = re.compile(
    r"(?P<proto>(?:meta l4proto|ip protocol|ip6 nexthdr) (?P<l4>tcp|udp)\b)"
    rf"|(?P<near>iifname \"?(?:\$subscriber|{SUBSCRIBER})\"?)"
    r"|(?:(?P<transport>tcp|udp|th) (?P<end>[ds])port (?P<ports>\{[^}]*\}|\S+))"
    r"|(?:ip6? (?P<side>[ds])addr (?P<to>\{[^}]*\}|\S+))"
    rf"|(?P<cookie>@(?:ih,32|th,96),32 (?:0x{COOKIE}|{STUN_COOKIE}))"
    r"|(?:udp length (?P<length>>= ?\d+|<= ?\d+|> ?\d+|< ?\d+|\d+-\d+|\d+))"
    r"|(?:ip6? dscp (?P<dscp>\{[^}]*\}|\S+))"
    r"|(?P<state>ct state \S+)"
    r"|(?P<counter>counter(?: packets \d+ bytes \d+)?)"
    r"|(?P<comment>comment \"[^\"]*\")"
)
NFT_ACTS: dict[str, dict[str, Any]] = {
    "drop": {"act": "drop"},
    "accept": {"act": "pass"},
    "reject with tcp reset": {"act": "reset"},
    "reject with icmp type port-unreachable": {"act": "unreachable", "code": "port"},
    "reject with icmp port-unreachable": {"act": "unreachable", "code": "port"},
    "reject with icmpx port-unreachable": {"act": "unreachable", "code": "port"},
    "reject with icmpx type port-unreachable": {"act": "unreachable", "code": "port"},
    "reject": {"act": "unreachable", "code": "port"},
}
#: Lines of a ruleset that hold no rule.
NFT_FRAME = re.compile(r"(table|chain|type|policy|flush|define|set|elements|flags)\b|[{}]")
NFT_ADDED = re.compile(r"(?:add|insert) rule (?:\w+ )?(?P<table>\S+) (?P<chain>\S+) ")


def nftables(lines: Sequence[str]) -> Callable[[str], Found]:
    """Return a reader of the lines of a ruleset, which raises Untranslatable."""
    text = "\n".join(lines)
    words = {f"${name}": value for name, value in
             re.findall(r"define (\w+) = (\{[^}]*\}|\S+)", text)}  # fmt: skip
    for name, body in re.findall(r"set (\w+) \{((?:[^{}]|\{[^}]*\})*)\}", text):
        if listed := re.search(r"elements = (\{[^}]*\})", body):
            words[f"@{name}"] = " ".join(listed[1].split())
    hooks = dict(re.findall(r"chain (?:\w+ \S+ )?(\w+) \{[^{}]*?hook (\w+)", text))
    drops = set(re.findall(r"chain (?:\w+ \S+ )?(\w+) \{[^{}]*?policy drop", text))
    chain, elements = "", False

    def read(line: str) -> Found:
        nonlocal chain, elements
        if started := re.match(r"(?:add )?chain (?:\w+ \S+ )?(\w+) \{", line):
            chain = started[1]
        if elements or re.match(r"(set \w+ \{[^}]*|elements = \{[^}]*)$", line):
            elements = "}" not in line
            return []
        if "policy drop" in line and chain in drops and hooks.get(chain) == "forward":
            raise Untranslatable("policy drop: every packet that no rule accepts is dropped")
        if re.match(r"#|(add|flush) (table|chain|ruleset|set|element)", line):
            return []
        added = NFT_ADDED.match(line)
        if NFT_FRAME.match(line) and added is None:
            return []
        own, rest = (added["chain"], line[added.end() :]) if added else (chain, line)
        if hooks.get(own, "forward") != "forward" or (hooks and own not in hooks):
            raise Untranslatable(f"chain {own}: it is not at the hook forward")
        rule = nft_rule(rest, words)
        return [{**rule, INSERTED: True}] if line.startswith("insert") else [rule]

    return read


def nft_rule(line: str, words: dict[str, str]) -> dict[str, Any]:
    """Return one rule; words: the values of variables and sets. Raises Untranslatable."""
    line = re.sub(r"\s*comment \"[^\"]*\"\s*$", "", line)
    act = next((word for word in sorted(NFT_ACTS, key=len, reverse=True)
                if line == word or line.endswith(f" {word}")), None)  # fmt: skip
    if act is None:
        raise Untranslatable("its verdict is none of drop, accept, reject")
    rest, match, at = line.removesuffix(act).strip(), dict[str, Any](), 0
    rest = re.sub(
        r"[$@]\w+",
        lambda one: words.get(one[0], one[0]) if one[0] != "$subscriber" else one[0],
        rest,
    )
    while at < len(rest):
        hit = NFT.match(rest, at)
        if hit is None:
            raise Untranslatable(f"expression {rest[at:]!r}")
        nft_part(hit, match)
        at = hit.end()
        at += len(rest[at:]) - len(rest[at:].lstrip())
    answered(rest, "iifname", match)
    return {**rule_of("", match), **NFT_ACTS[act]}


def nft_part(hit: re.Match[str], match: dict[str, Any]) -> None:
    """Add one expression of a rule to its match; raises Untranslatable."""
    if hit["state"]:
        raise stays(hit["state"])
    if hit["l4"]:
        put(match, "protocol", hit["l4"])
    elif hit["near"]:
        put(match, "direction", "up")
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
        listed = hit["dscp"].strip("{} ").replace(" ", "").split(",")
        put(match, "dscp", [int(one, 0) if one[:1].isdigit() else one for one in listed])


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


# ---- iptables

IPTABLES_ACTS: dict[str, dict[str, Any]] = {"DROP": {"act": "drop"}, "ACCEPT": {"act": "pass"}}
REJECTS: dict[str, dict[str, Any]] = {
    "tcp-reset": {"act": "reset"},
    "icmp-port-unreachable": {"act": "unreachable", "code": "port"},
    "icmp6-port-unreachable": {"act": "unreachable", "code": "port"},
    "": {"act": "unreachable", "code": "port"},
}
#: Words that introduce a match and test nothing themselves.
MODULES = ("tcp", "udp", "multiport", "comment", "length", "dscp", "u32")
#: u32's test of STUN's cookie behind IPv4 and UDP.
U32_COOKIE = f"0>>22&0x3c@12=0x{COOKIE}"
#: Octets of the headers of IPv4 and UDP.
IP_UDP = 28


class Line(NamedTuple):
    """A rule of iptables: its chain, whether it is inserted before others, match and target.

    interface: "-i" where it names the subscribers' interface.
    """

    chain: str
    inserted: bool
    match: dict[str, Any]
    target: dict[str, Any] | str
    interface: str


def iptables(lines: Sequence[str]) -> Callable[[str], Found]:
    """Return a reader of the lines of iptables-save or of a script, which raises Untranslatable.

    A rule that jumps to a chain becomes that chain's rules.
    """
    chains: dict[str, list[Line | Untranslatable]] = {}
    for text in lines:
        try:
            one = iptables_line(text.strip())
        except Untranslatable as problem:
            name = re.search(r"-[AI] (\S+)", text)
            chains.setdefault(name[1] if name else "", []).append(problem)
            continue
        if one is not None:
            chains.setdefault(one.chain, []).append(one)

    def read(line: str) -> Found:
        if re.match(r":FORWARD DROP\b", line):
            raise Untranslatable("every packet that no rule accepts is dropped")
        one = iptables_line(line)
        if one is None or (one.chain in jumped and one.chain != "FORWARD"):
            return []
        if one.chain != "FORWARD":
            raise Untranslatable("it is no rule of the chain FORWARD, or of one that FORWARD uses")
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
        yield {**rule_of("", one.match), **one.target}
        return
    if depth == 8 or one.target not in chains:
        raise Untranslatable(f"target {one.target}")
    for inner in chains[one.target]:
        if isinstance(inner, Untranslatable):
            continue  # its own line is left out
        match = dict(one.match)
        for key, value in inner.match.items():
            put(match, key, value)
        interface = one.interface or inner.interface
        yield from targets(inner._replace(match=match, interface=interface), chains, depth + 1)


def iptables_line(line: str) -> Line | None:
    """Return the rule of a line, None for a line without one; raises Untranslatable."""
    line = re.sub(r"^(sudo )?ip6?tables (-w )?(-t filter )?", "", line)
    if line.startswith(("*", ":", "COMMIT", "#", "-N ", "-F", "-X")) or not line:
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        raise Untranslatable("its quotes do not close") from None
    if words[0] not in ("-A", "-I") or len(words) < 2:
        raise Untranslatable("it adds no rule to a chain")
    match: dict[str, Any] = {}
    target: dict[str, Any] | str = ""
    at = 2
    if words[0] == "-I" and words[2:3] and words[2].isdigit():
        raise Untranslatable("a rule inserted at a number")
    while at < len(words):
        word, value = words[at], words[at + 1] if at + 1 < len(words) else ""
        if word == "!":
            raise Untranslatable("a negation")
        if word in ("-j", "-g"):
            target = IPTABLES_ACTS.get(value, value)
            if value == "REJECT":
                kind = words[at + 3] if words[at + 2 : at + 3] == ["--reject-with"] else ""
                if kind not in REJECTS:
                    raise Untranslatable(f"target {value} {kind}")
                target, at = REJECTS[kind], at + (2 if kind else 0)
        else:
            iptables_part(word, value, match)
        at += 2
    if not target:
        raise Untranslatable("it has no target")
    return Line(words[1], words[0] == "-I", match, target, "-i" if "-i" in words else "")


def iptables_part(word: str, value: str, match: dict[str, Any]) -> None:
    """Add one option of a rule to its match; raises Untranslatable."""
    if word in ("-p", "--protocol") and value in ("tcp", "udp"):
        put(match, "protocol", value)
    elif word in ("-d", "--destination", "-s", "--source"):
        put(match, "addresses", addresses(value))
        put(match, "direction", "up" if word.lstrip("-")[0] == "d" else "down")
    elif word in ("--dport", "--dports", "--destination-port", "--sport", "--sports"):
        put(match, "ports", ports(value))
        put(match, "direction", "up" if word[2] == "d" else "down")
    elif word == "-i" and value == SUBSCRIBER:
        put(match, "direction", "up")
    elif word == "--length" and match.get("protocol") == "udp":
        put(match, "size", length(value, IP_UDP))
    elif word in ("--dscp", "--dscp-class"):
        put(match, "dscp", [int(value, 0) if value[:1].isdigit() else value.lower()])
    elif word == "--u32" and match.get("protocol") == "udp" and value.lower() == U32_COOKIE:
        put(match, "stun", True)
    elif word == "-m" and value in ("state", "conntrack"):
        raise stays(value)
    elif word != "--comment" and (word != "-m" or value not in MODULES):
        raise Untranslatable(f"{word} {value}".strip())


# ---- Suricata

SURICATA = re.compile(
    r"(?P<act>\w+)\s+(?P<proto>\S+)\s+(?P<source>\S+)\s+(?P<sport>\S+)\s+"
    r"(?P<way>->|<>)\s+(?P<to>\S+)\s+"
    r"(?P<dport>\S+)\s+\((?P<options>.*)\)\s*$"
)
SURICATA_ACTS = {"drop": "drop", "pass": "pass", "reject": "reset", "rejectboth": "reset"}
#: Options that test nothing of a packet.
NO_TEST = {"msg", "sid", "rev", "classtype", "reference", "metadata", "gid", "priority"}
NAMES = {"tls.sni": "tls", "tls_sni": "tls", "http.host": "http", "quic.sni": "quic"}


def suricata(lines: Sequence[str]) -> Callable[[str], Found]:
    """Return a reader of lines of Suricata's rules, which raises Untranslatable."""
    del lines
    return lambda line: [suricata_rule(line)]


def suricata_rule(line: str) -> dict[str, Any]:
    """Return the rule of a line; raises Untranslatable."""
    hit = SURICATA.match(line)
    if hit is None:
        raise Untranslatable(
            "its header is not ACTION PROTOCOL SOURCE PORT -> TARGET PORT (OPTIONS)"
        )
    if hit["act"] not in SURICATA_ACTS:
        raise Untranslatable(f"action {hit['act']}")
    if hit["sport"] != "any" or hit["source"] not in ("any", "$HOME_NET"):
        raise Untranslatable(f"source {hit['source']} {hit['sport']}")
    match: dict[str, Any] = {}
    if hit["proto"] in ("tcp", "udp"):
        match["protocol"] = hit["proto"]
    elif hit["proto"] not in ("ip", "tls", "http", "quic", "dns"):
        raise Untranslatable(f"protocol {hit['proto']}")
    if hit["to"] not in ("any", "$EXTERNAL_NET"):
        match["addresses"] = addresses(hit["to"])
    if hit["dport"] != "any":
        match["ports"] = ports(hit["dport"])
    if hit["way"] == "->" and (match or hit["source"] == "$HOME_NET"):
        if match.keys() & {"addresses", "ports"} or hit["source"] == "$HOME_NET":
            match["direction"] = "up"
    options_of(hit["options"], hit["proto"], match)
    # Suricata drops the rest of a flow, unless the rule tests a packet's own octets or size.
    scope = "packet" if match.keys() & {"stun", "size"} else "flow"
    return rule_of(SURICATA_ACTS[hit["act"]], match, scope)


def options_of(text: str, protocol: str, match: dict[str, Any]) -> None:
    """Add the options of a rule to its match; raises Untranslatable."""
    content: dict[str, str] = {}
    buffer = ""
    for part in re.findall(r"(?:[^;\"]|\"[^\"]*\")+", text):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key in NO_TEST or not key or part.strip() == ANY_PACKET:
            continue
        if key in NAMES or key in ("dns.query", "dns_query"):
            buffer = key
        elif key == "dsize":
            match["size"] = dsize(value)
        elif key == "flow":
            way_of(value, protocol, match)
        elif key == "bsize":
            content[key] = value
        elif key in ("content", "offset", "depth", "startswith", "endswith", "nocase",
                     "dotprefix"):  # fmt: skip
            if key == "content" and "content" in content:
                raise Untranslatable("more than one content")
            content[key] = value
        else:
            raise Untranslatable(f"option {key}")
    if buffer:
        name_of(buffer, content, match)
    elif content:
        cookie(content, match)
    elif protocol not in ("tcp", "udp", "ip"):
        raise Untranslatable(f"protocol {protocol} as its engine finds it")


def way_of(value: str, protocol: str, match: dict[str, Any]) -> None:
    """Add a direction to a match; raises Untranslatable for other words of a flow."""
    for word in value.replace(" ", "").split(","):
        if word in ("to_server", "from_client"):
            put(match, "direction", "up")
        elif word in ("to_client", "from_server"):
            put(match, "direction", "down")
        elif word != "established" or protocol not in ("tls", "http"):
            raise stays(f"flow {word}")


def dsize(value: str) -> str:
    """Return a range of payload octets; raises Untranslatable."""
    text = value.replace(" ", "")
    if text.isdigit():
        return f"{text}-{text}"
    if re.fullmatch(r">\d+", text):
        return f"{int(text[1:]) + 1}-"
    if re.fullmatch(r"<\d+", text):
        return f"-{int(text[1:]) - 1}"
    if hit := re.fullmatch(r"(\d+)<>(\d+)", text):
        return f"{int(hit[1]) + 1}-{int(hit[2]) - 1}"
    raise Untranslatable(f"dsize {value}")


def name_of(buffer: str, content: dict[str, str], match: dict[str, Any]) -> None:
    """Add a server name or a DNS question to a match; raises Untranslatable."""
    text = content.get("content", "").strip('"').lower()
    whole = "startswith" in content and "endswith" in content
    whole = whole or content.get("bsize") == str(len(text))
    under = "dotprefix" in content and "endswith" in content and text.startswith(".")
    if not (whole or under) or {"offset", "depth"} & content.keys():
        raise Untranslatable(f"{buffer}: neither a whole name nor every name under one")
    name = f"*{text}" if under else text
    if not NAME.fullmatch(name):
        raise Untranslatable(f"{buffer}: {text!r} is no host name")
    if buffer.startswith("dns"):
        match["dns"] = [name]
    else:
        match["name"], match["name_in"] = [name], [NAMES[buffer]]
    match.pop("direction", None)


def cookie(content: dict[str, str], match: dict[str, Any]) -> None:
    """Add STUN to a match; raises Untranslatable for other octets."""
    octets = content["content"].strip('"').replace("|", "").replace(" ", "").lower()
    place = content.get("offset"), content.get("depth")
    if octets != COOKIE or place != ("4", "4"):
        raise Untranslatable("content: octets other than STUN's magic cookie at offset 4")
    match["stun"] = True


READERS: dict[str, Callable[[Sequence[str]], Callable[[str], Found]]] = {
    "suricata": suricata, "nftables": nftables, "iptables": iptables,
}  # fmt: skip


# ---- the file


def write(path: Path, found: Imported) -> None:
    """Write the rules as an operator's file with one hypothesis; raises TestbedError."""
    if path.exists():
        raise TestbedError(f"{path}: exists already; give another file")
    identity = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "imported"
    parts = [
        f"id = {toml(identity)}\ntitle = {toml(f'Rules of {found.engine}, imported')}\n"
        'country = "ZZ"\n',
        '[[period]]\naccess = ["3g", "4g", "adsl", "fibre", "wifi"]\nfrom = 2000-01-01\n'
        f'grade = "D"\nsource = {toml(found.file)}\n',
        block(
            "hypothesis",
            {
                "id": "imported",
                "title": f"Rules of {found.file}",
                "description": f"Imported from {found.engine}, without the lines that cannot be "
                "translated.",
            },
        ),
    ]
    for name, rule in found.rules.items():
        source = f"{found.file}:{name.partition('-')[2]}"
        evidence = {"grade": "D", "source": source, "hypothesis": True}
        parts.append(block("hypothesis.rule", {"name": name, **rule, **evidence}))
    try:
        path.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise TestbedError(f"{path}: cannot be written: {error.strerror or error}") from None
