# SPDX-License-Identifier: BSD-3-Clause
"""Rules of Suricata, nftables and iptables as rules of the policy language.

A rule is translated whole, or it is left out with the reason.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.captures.truth.strict_toml import block, toml
from midcall.errors import TestbedError
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
    for number, text in enumerate(lines, 1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        try:
            rule = READERS[engine](line)
        except Untranslatable as problem:
            found.left_out.append(LeftOut(number, line, str(problem)))
            continue
        if rule is not None:
            found.rules[f"line-{number}"] = rule
    return found


#: A rule, or None for a line that holds none.
Found = dict[str, Any] | None


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
    """Return prefixes; raises Untranslatable."""
    out = []
    for part in word.strip("{}[] ").replace(" ", "").split(","):
        try:
            out.append(str(ipaddress.ip_network(part, strict=False)))
        except ValueError:
            raise Untranslatable(f"addresses {word}") from None
    return out


# ---- nftables

NFT = re.compile(
    r"(?P<proto>meta l4proto (?P<l4>tcp|udp))"
    rf"|(?P<near>iifname \"?(?:\$subscriber|{SUBSCRIBER})\"?)"
    r"|(?:(?P<transport>tcp|udp|th) dport (?P<ports>\{[^}]*\}|\S+))"
    r"|(?:ip6? daddr (?P<to>\{[^}]*\}|\S+))"
    rf"|(?P<cookie>@ih,32,32 (?:0x{COOKIE}|{STUN_COOKIE}))"
    r"|(?:udp length (?P<length>>= \d+|<= \d+|\d+-\d+|\d+))"
    r"|(?P<counter>counter(?: packets \d+ bytes \d+)?)"
    r"|(?P<comment>comment \"[^\"]*\")"
)
NFT_ACTS = {"drop": "drop", "accept": "pass", "reject with tcp reset": "reset"}
#: Lines of a ruleset that hold no rule.
NFT_FRAME = re.compile(r"(table|chain|type|policy|flush|define|set|elements)\b|[{}]$")


def nftables(line: str) -> Found:
    """Return the rule of a line of a ruleset; raises Untranslatable."""
    if NFT_FRAME.match(line) or line == "}":
        return None
    act = next((word for word in NFT_ACTS if line.endswith(word)), None)
    if act is None:
        raise Untranslatable("its verdict is none of drop, accept, reject with tcp reset")
    rest, match = line.removesuffix(act).strip(), dict[str, Any]()
    at = 0
    while at < len(rest):
        hit = NFT.match(rest, at)
        if hit is None:
            raise Untranslatable(f"expression {rest[at:]!r}")
        nft_part(hit, match)
        at = hit.end()
        at += len(rest[at:]) - len(rest[at:].lstrip())
    return rule_of(NFT_ACTS[act], match)


def nft_part(hit: re.Match[str], match: dict[str, Any]) -> None:
    """Add one expression of a rule to its match."""
    if hit["l4"]:
        match["protocol"] = hit["l4"]
    elif hit["near"]:
        match["direction"] = "up"
    elif hit["ports"]:
        if hit["transport"] != "th":
            match["protocol"] = hit["transport"]
        match["ports"] = ports(hit["ports"])
        match["direction"] = "up"
    elif hit["to"]:
        match["addresses"] = addresses(hit["to"])
        match["direction"] = "up"
    elif hit["cookie"]:
        match["stun"] = True
    elif hit["length"]:
        match["protocol"] = "udp"
        match["size"] = length(hit["length"])


def length(word: str) -> str:
    """Return a range of payload octets of a range of lengths of UDP datagrams."""
    low, high = {">=": (word[2:], ""), "<=": ("8", word[2:])}.get(
        word[:2], (word.split("-")[0], word.split("-")[-1])
    )
    end = str(int(high) - 8) if high else ""
    return f"{max(int(low) - 8, 0)}-{end}"


# ---- iptables

IPTABLES_ACTS = {"DROP": "drop", "ACCEPT": "pass"}
#: Words that introduce a match and test nothing themselves.
MODULES = ("tcp", "udp", "multiport", "comment")


def iptables(line: str) -> Found:
    """Return the rule of a line of iptables-save; raises Untranslatable."""
    if line.startswith(("*", ":", "COMMIT")):
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        raise Untranslatable("its quotes do not close") from None
    if words[:1] != ["-A"] or words[1:2] != ["FORWARD"]:
        raise Untranslatable("it is no rule of the chain FORWARD")
    match: dict[str, Any] = {}
    act, at = "", 2
    while at < len(words):
        word, value = words[at], words[at + 1] if at + 1 < len(words) else ""
        if word == "!":
            raise Untranslatable("a negation")
        if word == "-j":
            act = IPTABLES_ACTS.get(value, "")
            if value == "REJECT" and words[at + 2 : at + 4] == ["--reject-with", "tcp-reset"]:
                act, at = "reset", at + 2
            if not act:
                raise Untranslatable(f"target {value}")
        elif word == "-p" and value in ("tcp", "udp"):
            match["protocol"] = value
        elif word in ("-d", "--destination"):
            match["addresses"], match["direction"] = addresses(value), "up"
        elif word in ("--dport", "--dports", "--destination-port"):
            match["ports"], match["direction"] = ports(value), "up"
        elif word == "-i" and value == SUBSCRIBER:
            match["direction"] = "up"
        elif word != "--comment" and (word != "-m" or value not in MODULES):
            raise Untranslatable(f"{word} {value}".strip())
        at += 2
    if not act:
        raise Untranslatable("it has no target")
    return rule_of(act, match)


# ---- Suricata

SURICATA = re.compile(
    r"(?P<act>\w+)\s+(?P<proto>\S+)\s+(?P<source>\S+)\s+(?P<sport>\S+)\s+->\s+(?P<to>\S+)\s+"
    r"(?P<dport>\S+)\s+\((?P<options>.*)\)\s*$"
)
SURICATA_ACTS = {"drop": "drop", "pass": "pass", "reject": "reset", "rejectboth": "reset"}
#: Options that test nothing of a packet.
NO_TEST = {"msg", "sid", "rev", "classtype", "reference", "metadata", "gid", "priority"}
NAMES = {"tls.sni": "tls", "tls_sni": "tls", "http.host": "http", "quic.sni": "quic"}


def suricata(line: str) -> Found:
    """Return the rule of a line of Suricata's rules; raises Untranslatable."""
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
    if match.keys() & {"addresses", "ports"} or hit["source"] == "$HOME_NET":
        match["direction"] = "up"
    options_of(hit["options"], hit["proto"], match)
    return rule_of(SURICATA_ACTS[hit["act"]], match)


def options_of(text: str, protocol: str, match: dict[str, Any]) -> None:
    """Add the options of a rule to its match; raises Untranslatable."""
    content: dict[str, str] = {}
    buffer = ""
    for part in re.findall(r"(?:[^;\"]|\"[^\"]*\")+", text):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key in NO_TEST or not key:
            continue
        if key in NAMES or key in ("dns.query", "dns_query"):
            buffer = key
        elif key == "dsize":
            match["size"] = dsize(value)
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


READERS: dict[str, Callable[[str], Found]] = {
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
