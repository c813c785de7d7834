# SPDX-License-Identifier: BSD-3-Clause
"""Rules of Suricata as rules of the policy language."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from midcall.testbed.engines.condition import TCP, UDP
from midcall.testbed.engines.import_parts import (
    COOKIE,
    INSERTED,
    Found,
    Untranslatable,
    addresses,
    answered,
    ports,
    put,
    rule_of,
    stays,
)
from midcall.testbed.engines.suricata_rules import ANY_PACKET
from midcall.testbed.policy.syntax import NAME

SURICATA = re.compile(
    r"(?P<act>\w+)\s+(?P<proto>\S+)\s+(?P<source>\S+)\s+(?P<sport>\S+)\s+"
    r"(?P<way>->|<>)\s+(?P<to>\S+)\s+"
    r"(?P<dport>\S+)\s+\((?P<options>.*)\)\s*$"
)
SURICATA_ACTS = {"drop": "drop", "pass": "pass"}
#: Actions that reset, and which end of the packet they reset: "reject" is "rejectsrc".
RESETS = {"reject": "sender", "rejectsrc": "sender", "rejectdst": "receiver", "rejectboth": "both"}
#: Options that test nothing of a packet.
NO_TEST = {"msg", "sid", "rev", "classtype", "reference", "metadata", "gid", "priority", "target",
           "fast_pattern"}  # fmt: skip
#: Protocols of streams of TCP.
STREAMS = ("tcp", "tls", "http")
NAMES = {"tls.sni": "tls", "tls_sni": "tls", "http.host": "http", "quic.sni": "quic"}


def suricata(lines: Sequence[str]) -> Callable[[int, str], Found]:
    """Return a reader of lines of Suricata's rules, which raises Untranslatable."""
    del lines
    return lambda _, line: [suricata_rule(line)]


def suricata_rule(line: str) -> dict[str, Any]:
    """Return the rule of a line; raises Untranslatable."""
    hit = SURICATA.match(line)
    if hit is None:
        raise Untranslatable(
            "its header is not ACTION PROTOCOL SOURCE PORT -> TARGET PORT (OPTIONS)"
        )
    if hit["act"] not in SURICATA_ACTS and hit["act"] not in RESETS:
        raise Untranslatable(f"action {hit['act']}")
    match: dict[str, Any] = {}
    ends = [(hit["source"], hit["sport"]), (hit["to"], hit["dport"])]
    down = hit["way"] == "->" and (hit["to"] == "$HOME_NET" or hit["source"] == "$EXTERNAL_NET")
    (near, near_port), (far, far_port) = ends[::-1] if down else ends
    if near_port != "any" or near not in ("any", "$HOME_NET"):
        raise Untranslatable(f"{near} {near_port} at the subscriber's end")
    if hit["proto"] in ("tcp", "udp"):
        match["protocol"] = hit["proto"]
    elif hit["proto"] not in ("ip", "tls", "http", "quic", "dns"):
        raise Untranslatable(f"protocol {hit['proto']}")
    if far not in ("any", "$EXTERNAL_NET"):
        match["addresses"] = addresses(far)
    if far_port != "any":
        match["ports"] = ports(far_port)
    if hit["way"] == "->" and (match.keys() & {"addresses", "ports"} or near == "$HOME_NET"):
        match["direction"] = "down" if down else "up"
    if hit["way"] == "->" and near == "any":
        answered("", "$HOME_NET", match)
    sided = options_of(hit["options"], hit["proto"], match)
    # Suricata drops the rest of a flow, unless the rule tests a packet's octets, size or direction.
    named = match.keys() & {"name", "dns"}
    scope = "packet" if match.keys() & {"stun", "size"} or (sided and not named) else "flow"
    if hit["act"] in RESETS:
        return {**rule_of("reset", match, scope), **reset(hit["act"], hit["proto"], match)}
    rule = rule_of(SURICATA_ACTS[hit["act"]], match, scope)
    # Suricata applies every rule that passes packets before all others.
    return {**rule, INSERTED: True} if hit["act"] == "pass" else rule


def reset(act: str, protocol: str, match: dict[str, Any]) -> dict[str, str]:
    """Return the key of a reset that tells which end gets it; raises Untranslatable.

    act: of RESETS; protocol: of the rule's header.
    """
    if protocol not in STREAMS and match.get("protocol") != TCP:
        raise Untranslatable(f"{act} of other packets than TCP's: an ICMP error with its own code")
    end = RESETS[act]
    if end == "both":
        return {}
    if "direction" not in match:
        raise Untranslatable(f"{act}: the end that it resets depends on the packet's direction")
    return {"towards": "client" if (match["direction"] == "up") == (end == "sender") else "server"}


def options_of(text: str, protocol: str, match: dict[str, Any]) -> bool:
    """Add the options of a rule to its match; raises Untranslatable.

    Returns whether one of them makes the rule one of packets, not of flows.
    """
    sided = False  # a test of the direction, or one that every packet passes
    content: dict[str, str] = {}
    buffer = ""
    for part in re.findall(r"(?:[^;\"]|\"[^\"]*\")+", text):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key == "msg" and not re.fullmatch(r'"[^"]*"', value):
            raise Untranslatable(f"option msg: {value} is not one text in quotes")
        if key in NO_TEST or not key:
            continue
        if part.strip() == ANY_PACKET:
            sided = True
            continue
        if key in NAMES or key in ("dns.query", "dns_query"):
            buffer = key
        elif key == "ip_proto" and value in ("6", "17", "tcp", "udp"):
            put(match, "protocol", TCP if value in ("6", "tcp") else UDP)
        elif key == "dsize":
            match["size"] = dsize(value)
        elif key == "flow":
            way_of(value, protocol, match)
            sided = True
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
    return sided


def way_of(value: str, protocol: str, match: dict[str, Any]) -> None:
    """Add a direction to a match; raises Untranslatable for other words of a flow."""
    for word in value.replace(" ", "").split(","):
        if word in ("to_server", "from_client"):
            put(match, "direction", "up")
        elif word in ("to_client", "from_server"):
            put(match, "direction", "down")
        elif word != "no_stream" and (word != "established" or protocol not in ("tls", "http")):
            raise stays(f"flow {word}")


def dsize(value: str) -> str:
    """Return a range of payload octets; raises Untranslatable."""
    text = value.replace(" ", "")
    if text.isdigit():
        return f"{text}-{text}"
    if re.fullmatch(r">\d+", text):
        return f"{int(text[1:]) + 1}-"
    if re.fullmatch(r"<[1-9]\d*", text):
        return f"-{int(text[1:]) - 1}"
    hit = re.fullmatch(r"(\d+)<>(\d+)", text)
    if hit and int(hit[1]) + 1 < int(hit[2]):
        return f"{int(hit[1]) + 1}-{int(hit[2]) - 1}"
    raise Untranslatable(f"dsize {value}")


def name_of(buffer: str, content: dict[str, str], match: dict[str, Any]) -> None:
    """Add a server name or a DNS question to a match; raises Untranslatable."""
    given = content.get("content", "").strip('"')
    text = given.lower()
    if text != given and "nocase" not in content:
        raise Untranslatable(f"{buffer}: capitals without nocase")
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
    octets = content.get("content", "").strip('"').replace("|", "").replace(" ", "").lower()
    place = content.get("offset"), content.get("depth")
    if octets != COOKIE or place != ("4", "4"):
        raise Untranslatable("content: octets other than STUN's magic cookie at offset 4")
    match["stun"] = True
