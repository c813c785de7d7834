# SPDX-License-Identifier: BSD-3-Clause
"""The match/act table: a policy as arrays that the compiled middlebox walks per packet.

One RULE row per rule, in the policy's order; lists of names, prefixes and ports stand in arrays of
their own, of which a row names a stretch. A host name is matched by the hashes of its suffixes at
label boundaries, read backwards, so `*.example.com` never meets `badexample.com`.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, kernel
from captures.octets import Octets
from classifier.flow import Records, mix, record_hash
from classifier.verdicts import APPS, ROLES, VERDICTS
from testbed.policy import Policy, Rule, port_range, prefix

Numbers = NDArray[np.int64]

# Acts and scopes, as numbers of a row.
ACTS = ("pass", "drop", "drop-media", "dns-lie")
PASS, DROP, DROP_MEDIA, DNS_LIE = 0, 1, 2, 3
SCOPES = ("packet", "flow")
PACKET, FLOW_SCOPE = 0, 1

ANY = -1
UP, DOWN = 0, 1

#: Enforcement is drawn from 31 bits.
CERTAIN_CHANCE = 1 << 31

RULE = np.dtype(
    [
        ("act", "i8"),
        ("scope", "i8"),
        ("apps", "i8"),  # bit per app of classifier.verdicts; 0: any
        ("roles", "i8"),
        ("verdict", "i8"),  # at least this sure; 0: the classifier is not asked
        ("stun", "i8"),  # 1, 0 or ANY
        ("proto", "i8"),  # IP protocol number or ANY
        ("direction", "i8"),  # UP, DOWN or ANY
        ("ports", "i8"),  # row of the port table or ANY
        ("names", "i8", (2,)),  # stretch of `suffixes`; empty: not asked
        ("questions", "i8", (2,)),
        ("prefixes", "i8", (2,)),
        ("chance", "i8"),  # of 2**31
        ("per_client", "i8"),
        ("key", "i8"),  # 31 bits, of the rule's name and the seed
    ]
)
SUFFIX = np.dtype([("hash", "i8"), ("exact", "i8")])
PREFIX = np.dtype([("version", "i8"), ("lanes", "i8", (4,)), ("masks", "i8", (4,))])


class RuleTable(NamedTuple):
    """A policy in arrays, in the order in which the middlebox takes them."""

    rules: Records  # RULE[n]
    suffixes: Records  # SUFFIX[...]
    prefixes: Records  # PREFIX[...]
    ports: NDArray[np.uint8]  # [rows, 65536], 1 where the port is in the set


def rule_key(seed: int, name: str) -> int:
    """Return the key of a rule's draws: 31 bits of sha256 over the seed and the rule's name."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def table(policy: Policy, seed: int) -> RuleTable:
    """Return a policy as arrays; `seed` is that of the run."""
    rules = np.zeros(len(policy.rules), RULE)
    suffixes: list[tuple[int, int]] = []
    prefixes: list[tuple[int, list[int], list[int]]] = []
    ports: list[NDArray[np.uint8]] = []
    for row, rule in zip(rules, policy.rules, strict=True):
        fill_row(row, rule, seed)
        row["names"] = stretch(suffixes, [suffix(word) for word in rule.match.name])
        row["questions"] = stretch(suffixes, [suffix(word) for word in rule.match.dns])
        spelt = [prefix_row(word) for word in policy.prefixes(rule)]
        row["prefixes"] = stretch(prefixes, spelt)
        row["ports"] = len(ports) if rule.match.ports else ANY
        if rule.match.ports:
            ports.append(port_row(rule))
    return RuleTable(
        rules,
        np.array(suffixes, SUFFIX),
        np.array(prefixes, PREFIX),
        np.array(ports, np.uint8).reshape(len(ports), 65536),
    )


def fill_row(row: Any, rule: Rule, seed: int) -> None:
    """Fill the columns of a row that need no other array."""
    match = rule.match
    row["act"] = ACTS.index(rule.act)
    row["scope"] = SCOPES.index(rule.scope)
    row["apps"] = sum(1 << APPS.index(app) for app in match.app)
    row["roles"] = sum(1 << ROLES.index(role) for role in match.role)
    row["verdict"] = VERDICTS.index(match.verdict) if match.flow_words else 0
    row["stun"] = ANY if match.stun is None else int(match.stun)
    row["proto"] = {"tcp": 6, "udp": 17, None: ANY}[match.protocol]
    row["direction"] = {"up": UP, "down": DOWN, None: ANY}[match.direction]
    row["chance"] = round(rule.probability * CERTAIN_CHANCE)
    row["per_client"] = rule.per == "client"
    row["key"] = rule_key(seed, rule.name)


def stretch(rows: list[Any], more: list[Any]) -> tuple[int, int]:
    """Add rows to an array that many rules share; returns where they stand."""
    first = len(rows)
    rows.extend(more)
    return first, len(rows)


def suffix(word: str) -> tuple[int, int]:
    """Return the hash of a name pattern, and whether the whole name must equal it."""
    exact = not word.startswith("*.")
    text = np.frombuffer(word.removeprefix("*.").encode(), np.uint8).copy()
    return int(name_hash(text, len(text))), int(exact)


def prefix_row(word: str) -> tuple[int, list[int], list[int]]:
    """Return a prefix as (IP version, address lanes, mask lanes), 32 bits a lane."""
    network = prefix(word)
    size = 1 if network.version == 4 else 4
    parts = []
    for number in (int(network.network_address), int(network.netmask)):
        lanes = [(number >> 32 * (size - 1 - lane)) & 0xFFFFFFFF for lane in range(size)]
        parts.append(lanes + [0] * (4 - size))
    return network.version, parts[0], parts[1]


def port_row(rule: Rule) -> NDArray[np.uint8]:
    """Return a row of the port table: uint8[65536], 1 where the port is in the rule's set."""
    row = np.zeros(65536, np.uint8)
    for word in rule.match.ports:
        first, last = port_range(word)
        row[first : last + 1] = 1
    return row


# ---- compiled


@kernel
def lower(octet: int) -> int:
    """Return an ASCII letter in lower case."""
    return I(octet + 32 if 65 <= octet <= 90 else octet)


@kernel
def name_hash(text: Octets, length: int) -> int:
    """Return the 62-bit hash of a dotted name, read from its end."""
    one, two = I(0x1234567), I(0x89ABCDE)
    for back in range(1, length + 1):
        octet = lower(I(text[length - back]))
        one, two = mix(one, octet), mix(two, octet + 256)
    return ((one & 0x3FFFFFFF) << 32) | two


@kernel
def name_meets(text: Octets, length: int, suffixes: Records, first: int, last: int) -> bool:
    """Tell whether a dotted name meets one of a stretch of patterns."""
    one, two = I(0x1234567), I(0x89ABCDE)
    for back in range(1, length + 1):
        octet = lower(I(text[length - back]))
        one, two = mix(one, octet), mix(two, octet + 256)
        whole = back == length
        if whole or I(text[length - back - 1]) == 46:
            found = ((one & 0x3FFFFFFF) << 32) | two
            for row in range(first, last):
                if suffixes[row]["hash"] == found and (whole or suffixes[row]["exact"] == 0):
                    return True
    return False


@kernel
def address_meets(version: int, lanes: Any, prefixes: Records, first: int, last: int) -> bool:
    """Tell whether an address lies in one of a stretch of prefixes."""
    for row in range(first, last):
        entry = prefixes[row]
        if entry["version"] != version:
            continue
        same = True
        for lane in range(4):
            if I(lanes[lane]) & entry["masks"][lane] != entry["lanes"][lane]:
                same = False
        if same:
            return True
    return False


@kernel
def enforced(rule: Any, flow: Any, near_is_source: bool) -> bool:
    """Draw whether a rule is enforced on a flow or client: always the same for the same one."""
    if rule["chance"] >= CERTAIN_CHANCE:
        return True
    if rule["per_client"] == 0:
        return bool(record_hash(flow, rule["key"]) < rule["chance"])
    lanes = flow["source"] if near_is_source else flow["target"]
    h = I(rule["key"])
    for lane in range(4):
        h = mix(h, I(lanes[lane]))
    return bool((h & 0x7FFFFFFF) < rule["chance"])
