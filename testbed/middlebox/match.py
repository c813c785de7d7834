# SPDX-License-Identifier: BSD-3-Clause
"""Matching: extract a packet's features, and decide whether it meets a rule's match."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import DNS_PORT, TCP, UDP
from midcall.classifier.state.flow_table import QUIC, Records
from midcall.classifier.state.packet_fields import (
    NAME_DNS_QUESTION,
    SIGN_HELLO_PRINT,
    SIGN_NAME_KIND,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_STUN,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
)
from midcall.testbed.middlebox.media import stun_at
from midcall.testbed.middlebox.payload_type import entropy, has_attribute, payload_kind, stun_method
from midcall.testbed.middlebox.rule_table import (
    ANY,
    FOREVER,
    NAME_ROOM,
    NEED_ENTROPY,
    NEED_KIND,
    OTHER_PROTO,
    SEEN_ENTROPY,
    SEEN_KIND,
    SEEN_NAME,
    SEEN_PAYLOAD,
    SEEN_STUN,
    SEEN_TALLY,
    RuleTable,
    address_meets,
    name_meets,
)

Numbers = NDArray[np.int64]


@kernel
def spell(signs: Numbers, name: Octets) -> int:
    """Write a packet's host name, dotted, into `name`; returns its length.

    The classifier has decoded it already: from the packet, from a hello in several pieces, or from
    a QUIC Initial.
    """
    length = min(I(signs[SIGN_TEXT_LENGTH]), NAME_ROOM)
    for i in range(length):
        name[i] = signs[SIGN_TEXT + i]
    return length


@kernel
def look(needs: int, flow: Any, b: Octets, signs: Numbers, name: Octets, seen: Numbers) -> None:
    """Fill `seen` with the packet's features that at least one rule needs."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    seen[SEEN_STUN] = I(signs[SIGN_STUN]) or stun_at(b, at, end)
    kind = signs[SIGN_NAME_KIND]
    seen[SEEN_KIND], seen[SEEN_NAME] = kind, 0
    if kind > 0:
        seen[SEEN_NAME] = spell(signs, name)
    if needs & NEED_KIND:
        dns = flow["source_port"] == DNS_PORT or flow["target_port"] == DNS_PORT
        quic = I(flow["state"]) & QUIC != 0
        seen[SEEN_PAYLOAD] = payload_kind(b, at, end, I(flow["proto"]), dns, quic)
    if needs & NEED_ENTROPY:
        seen[SEEN_ENTROPY] = entropy(b, at, end, seen[SEEN_TALLY:])


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
    """Tell whether the packet's host name, if a rule matches names, meets it."""
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
    if (rule["name_kinds"] >> kind) & 1:
        return last > first and name_meets(name, length, suffixes, first, last)
    return False


@kernel
def proto_meets(wanted: int, proto: int) -> bool:
    """Tell whether a transport is the one that a rule matches."""
    if wanted == OTHER_PROTO:
        return proto not in (TCP, UDP)
    return wanted in (ANY, proto)


@kernel
def place_meets(
    rule: Any, prefixes: Records, ports: Octets, flow: Any, near_is_source: bool
) -> bool:
    """Tell whether a flow's fixed fields meet a rule: transport, remote port, remote address."""
    if not proto_meets(rule["proto"], I(flow["proto"])):
        return False
    if rule["ports"] != ANY:
        port = I(flow["target_port"]) if near_is_source else I(flow["source_port"])
        if ports[rule["ports"], port] == 0:
            return False
    first, last = rule["prefixes"][0], rule["prefixes"][1]
    if last > first:
        remote = flow["target"] if near_is_source else flow["source"]
        return address_meets(I(flow["version"]), remote, prefixes, first, last)
    return True


@kernel
def within(span: Any, value: int) -> bool:
    """Tell whether a number lies in a range, both ends included."""
    return bool(span[0] <= value <= span[1])


@kernel
def counts_meet(rule: Any, flow: Any, signs: Numbers, time: int) -> bool:
    """Tell whether the packet's size and its flow's counts so far meet a rule."""
    if not within(rule["size"], signs[SIGN_PAYLOAD_SIZE]):
        return False
    if not within(rule["packets"], I(flow["packets_up"]) + I(flow["packets_down"])):
        return False
    if not within(rule["bytes"], flow["bytes_up"] + flow["bytes_down"]):
        return False
    return within(rule["age"], time - flow["first_time"])


@kernel
def listed(words: Numbers, first: int, last: int, word: int) -> bool:
    """Tell whether a number is in words[first:last]."""
    for row in range(first, last):
        if words[row] == word:
            return True
    return False


@kernel
def content_meets(rule: Any, words: Numbers, b: Octets, signs: Numbers, seen: Numbers) -> bool:
    """Tell whether a packet's payload meets a rule: kind, STUN, fingerprint, entropy."""
    if rule["stun"] != ANY and rule["stun"] != (1 if seen[SEEN_STUN] > 0 else 0):
        return False
    if rule["payloads"] != 0 and (rule["payloads"] >> seen[SEEN_PAYLOAD]) & 1 == 0:
        return False
    first, last = rule["methods"][0], rule["methods"][1]
    if last > first:
        kind = seen[SEEN_STUN]
        if kind == 0 or not listed(words, first, last, stun_method(kind - 1)):
            return False
    first, last = rule["attributes"][0], rule["attributes"][1]
    if last > first:
        at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
        if not has_attribute(b, at, end, words, first, last):
            return False
    first, last = rule["hellos"][0], rule["hellos"][1]
    if last > first and not listed(words, first, last, signs[SIGN_HELLO_PRINT]):
        return False
    if rule["entropy"][0] > -FOREVER:
        return within(rule["entropy"], seen[SEEN_ENTROPY])
    return True


@kernel
def rule_meets(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    near_is_source: bool,
    b: Octets,
    signs: Numbers,
    time: int,
) -> bool:
    """Tell whether a packet meets a rule's match (`enforced` decides its probability)."""
    rule = box.rules[number]
    if not flow_meets(rule, flow):
        return False
    if rule["direction"] != ANY and rule["direction"] != side:
        return False
    if not place_meets(rule, box.prefixes, box.ports, flow, near_is_source):
        return False
    if not names_meet(rule, box.suffixes, box.name, box.seen):
        return False
    if not counts_meet(rule, flow, signs, time):
        return False
    return content_meets(rule, box.words, b, signs, box.seen)
