# SPDX-License-Identifier: BSD-3-Clause
"""The middlebox: one packet in, its fate out. No I/O, and no clock but the packet's time.

A packet walks the classifier's path first; then the first rule whose match it meets decides, and a
rule of scope flow condemns every later packet of that flow, both ways. The decision is kept in the
flow record's `mark`. What the classifier cannot place in a flow is let through and counted: this
box fails open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captures.compiled import I, kernel
from captures.octets import Octets
from classifier.flow import Records
from classifier.signs import (
    NAME_DNS_QUESTION,
    NAME_HTTP_HOST,
    NAME_QUIC_SNI,
    NAME_SNI,
    SIGN_NAME_KIND,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_STUN,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
    SIGN_UP,
)
from testbed.media import media_at, stun_at
from testbed.rules import (
    ANY,
    DNS_LIE,
    DROP_MEDIA,
    FLOW_SCOPE,
    PASS,
    UP,
    address_meets,
    enforced,
    name_meets,
)

Numbers = NDArray[np.int64]

# Fates of a packet.
FATES = ("not sent", "delivered", "dropped", "forged", "too big")
NOT_SENT, DELIVERED, DROPPED, FORGED, TOO_BIG = 0, 1, 2, 3, 4

#: The longest host name (RFC 1035 section 2.3.4), and room for a careless one.
NAME_ROOM = 256

# Slots of what `look` finds in one packet.
SEEN_STUN, SEEN_NAME, SEEN_KIND = 0, 1, 2
SEEN = 4


@kernel
def spell(signs: Numbers, name: Octets) -> int:
    """Write a packet's host name, dotted, into `name`; returns its length.

    The classifier spelt it already, wherever it stood: in the packet, in a hello that came in
    pieces, in a QUIC Initial.
    """
    length = min(I(signs[SIGN_TEXT_LENGTH]), NAME_ROOM)
    for i in range(length):
        name[i] = signs[SIGN_TEXT + i]
    return length


@kernel
def look(b: Octets, signs: Numbers, name: Octets, seen: Numbers) -> None:
    """Find what rules may ask of this packet beyond its flow: STUN, and a host name."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    seen[SEEN_STUN] = 1 if signs[SIGN_STUN] > 0 or stun_at(b, at, end) > 0 else 0
    kind = signs[SIGN_NAME_KIND]
    seen[SEEN_KIND], seen[SEEN_NAME] = kind, 0
    if kind > 0:
        seen[SEEN_NAME] = spell(signs, name)


@kernel
def flow_meets(rule: Any, flow: Any) -> bool:
    """Tell whether the classifier's verdict on a flow meets a rule."""
    if rule["verdict"] == 0:
        return True
    if I(flow["verdict"]) < rule["verdict"]:
        return False
    if rule["apps"] != 0 and (rule["apps"] >> I(flow["app"])) & 1 == 0:
        return False
    return bool(rule["roles"] == 0 or (rule["roles"] >> I(flow["role"])) & 1 == 1)


@kernel
def names_meet(rule: Any, suffixes: Records, name: Octets, seen: Numbers) -> bool:
    """Tell whether the packet's host name, if a rule asks for one, meets it."""
    first, last = rule["names"][0], rule["names"][1]
    asked_first, asked_last = rule["questions"][0], rule["questions"][1]
    if last == first and asked_last == asked_first:
        return True
    kind, length = seen[SEEN_KIND], seen[SEEN_NAME]
    if length == 0:
        return False
    if kind == NAME_DNS_QUESTION:
        return asked_last > asked_first and name_meets(
            name, length, suffixes, asked_first, asked_last
        )
    if kind in (NAME_SNI, NAME_HTTP_HOST, NAME_QUIC_SNI):
        return last > first and name_meets(name, length, suffixes, first, last)
    return False


@kernel
def rule_meets(
    rule: Any,
    suffixes: Records,
    prefixes: Records,
    ports: Octets,
    flow: Any,
    side: int,
    near_is_source: bool,
    name: Octets,
    seen: Numbers,
) -> bool:
    """Tell whether a packet meets a rule's match (its draw is another matter)."""
    if not flow_meets(rule, flow):
        return False
    if rule["proto"] != ANY and rule["proto"] != I(flow["proto"]):
        return False
    if rule["direction"] != ANY and rule["direction"] != side:
        return False
    if rule["stun"] != ANY and rule["stun"] != seen[SEEN_STUN]:
        return False
    if rule["ports"] != ANY:
        port = I(flow["target_port"]) if near_is_source else I(flow["source_port"])
        if ports[rule["ports"], port] == 0:
            return False
    first, last = rule["prefixes"][0], rule["prefixes"][1]
    if last > first:
        far = flow["target"] if near_is_source else flow["source"]
        if not address_meets(I(flow["version"]), far, prefixes, first, last):
            return False
    return names_meet(rule, suffixes, name, seen)


@kernel
def decide(
    rules: Records,
    suffixes: Records,
    prefixes: Records,
    ports: Octets,
    flow: Any,
    side: int,
    b: Octets,
    signs: Numbers,
    name: Octets,
    seen: Numbers,
    met: Numbers,
) -> tuple[int, int]:
    """Decide one packet after the classifier's step; returns (fate, rule, -1 for none).

    `side` is UP for a packet from the subscriber; `name` and `seen` are scratch; met[r] counts the
    packets that met rule r's match, enforced or not. A match that is not enforced on this flow or
    client leaves the packet to the rules behind it.
    """
    if len(rules) == 0:
        return DELIVERED, -1
    mark = I(flow["mark"])
    if mark > 0:
        met[mark - 1] += 1
        return DROPPED, mark - 1
    look(b, signs, name, seen)
    near_is_source = (signs[SIGN_UP] == 1) == (side == UP)
    for number in range(len(rules)):
        rule = rules[number]
        if not rule_meets(rule, suffixes, prefixes, ports, flow, side, near_is_source, name, seen):
            continue
        met[number] += 1
        if not enforced(rule, flow, near_is_source):
            continue
        act = rule["act"]
        if act == PASS:
            return DELIVERED, number
        if act == DNS_LIE:
            return FORGED, number
        if act == DROP_MEDIA:
            at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
            if media_at(b, at, end, I(flow["app"])):
                return DROPPED, number
            return DELIVERED, -1
        if rule["scope"] == FLOW_SCOPE:
            flow["mark"] = number + 1
        return DROPPED, number
    return DELIVERED, -1
