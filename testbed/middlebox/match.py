# SPDX-License-Identifier: BSD-3-Clause
"""Matching: extract a packet's features, and decide whether it meets a rule's match."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u16, u32
from midcall.captures.packets.numbers import DNS_PORT, TCP, UDP
from midcall.classifier.protocols.dns import skip_name
from midcall.classifier.state.flow_table import QUIC, Records
from midcall.classifier.state.packet_fields import (
    NAME_DNS_ANSWER,
    NAME_DNS_QUESTION,
    SIGN_HELLO_PRINT,
    SIGN_IP_AT,
    SIGN_NAME_KIND,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_TEXT,
    SIGN_TEXT_LENGTH,
    SIGN_VERSION,
)
from midcall.testbed.middlebox.inject import after_question
from midcall.testbed.middlebox.marking import dscp_of
from midcall.testbed.middlebox.media import stun_at
from midcall.testbed.middlebox.payload_type import entropy, has_attribute, payload_kind, stun_method
from midcall.testbed.middlebox.rule_table import (
    ANY,
    FOREVER,
    METER_BEGAN,
    METER_FORGOTTEN,
    MORE_CONTENT,
    MORE_COUNTS,
    MORE_DSCP,
    MORE_PHASE,
    MORE_RARE,
    MORE_RESOLVED,
    MORE_SAMPLE,
    NAME_ROOM,
    NEED_ENTROPY,
    NEED_KIND,
    NEED_MORE,
    NEED_STUN,
    OTHER_PROTO,
    SEEN_DSCP,
    SEEN_ENTROPY,
    SEEN_KIND,
    SEEN_NAME,
    SEEN_PACKET,
    SEEN_PAYLOAD,
    SEEN_STUN,
    SEEN_TALLY,
    RuleTable,
    address_meets,
    name_meets,
)
from midcall.testbed.middlebox.state import address_key, known, recall
from midcall.testbed.network.link import draw

Numbers = NDArray[np.int64]

#: The purpose of a packet's draw by a sampling rule (testbed.network.link.draw; 1 to 5 are there).
SAMPLING = 6
#: Most records that are read in a DNS answer.
RECORDS = 32


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


@inlined
def look(
    needs: int, flow: Any, b: Octets, signs: Numbers, packet: int, name: Octets, seen: Numbers
) -> None:
    """Fill `seen` with the packet's features that at least one rule needs."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    if needs & NEED_STUN:
        seen[SEEN_STUN] = stun_at(b, at, end)
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
    if needs & NEED_MORE:
        seen[SEEN_PACKET] = packet
        seen[SEEN_DSCP] = dscp_of(b, signs[SIGN_IP_AT], signs[SIGN_VERSION])


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


@inlined
def payload_meets(rule: Any, seen: Numbers) -> bool:
    """Tell whether a packet's payload is STUN, or of a kind, as a rule asks."""
    if rule["stun"] != ANY and rule["stun"] != (1 if seen[SEEN_STUN] > 0 else 0):
        return False
    return bool(rule["payloads"] == 0 or (rule["payloads"] >> seen[SEEN_PAYLOAD]) & 1)


@kernel
def content_meets(rule: Any, words: Numbers, b: Octets, signs: Numbers, seen: Numbers) -> bool:
    """Tell whether a packet's payload meets a rule: STUN method, attribute, hello, entropy."""
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
def resolved_meets(rule: Any, memory: Records, flow: Any, near_is_source: bool) -> bool:
    """Tell whether a DNS answer gave the remote end's address for one of a rule's names."""
    remote = flow["target"] if near_is_source else flow["source"]
    lanes = I(remote[0]), I(remote[1]), I(remote[2]), I(remote[3])
    return known(memory, address_key(lanes[0], lanes[1], lanes[2], lanes[3], rule["key"])) >= 0


@kernel
def learn_answers(box: RuleTable, b: Octets, signs: Numbers, time: int) -> None:
    """Remember the addresses of a DNS answer for every rule that names its question."""
    if signs[SIGN_NAME_KIND] != NAME_DNS_ANSWER or signs[SIGN_PROTO] != UDP:
        return
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    place = after_question(b, at, end)
    if place == 0 or u16(b, at + 4) != 1:
        return
    length, forgotten = spell(signs, box.name), box.meter[METER_FORGOTTEN:]
    for number in range(len(box.rules)):
        rule = box.rules[number]
        first, last = rule["resolved"][0], rule["resolved"][1]
        if last > first and name_meets(box.name, length, box.suffixes, first, last):
            count = min(u16(b, at + 6), RECORDS)
            learn_records(b, place, end, count, rule["key"], box.memory, time, forgotten)


@kernel
def learn_records(
    b: Octets,
    place: int,
    end: int,
    count: int,
    key: int,
    memory: Records,
    time: int,
    forgotten: Numbers,
) -> None:
    """Remember the addresses of A and AAAA records that begin at `place`, under a rule's key.

    Their names are not compared, so that a chain of CNAMEs is followed (RFC 1035 section 3.6.2).
    """
    for _ in range(count):
        place = I(skip_name(b, place, end))
        if place < 0 or end - place < 10:
            return
        kind, size = u16(b, place), u16(b, place + 8)
        place += 10
        if end - place < size:
            return
        one = two = three = four = I(0)
        if (kind == 1 and size == 4) or (kind == 28 and size == 16):
            one = u32(b, place)
            if kind == 28:
                two, three, four = u32(b, place + 4), u32(b, place + 8), u32(b, place + 12)
            recall(memory, address_key(one, two, three, four, key), time, forgotten)
        place += size


@kernel
def rarely_meets(
    rule: Any,
    memory: Records,
    began: int,
    flow: Any,
    near_is_source: bool,
    seen: Numbers,
    time: int,
) -> bool:
    """Tell whether a packet meets a rule's conditions of MORE_RARE; began: the box's first time."""
    more = rule["more"]
    if more & MORE_RESOLVED and not resolved_meets(rule, memory, flow, near_is_source):
        return False
    if more & MORE_PHASE and (time - began) % rule["phase"][1] >= rule["phase"][0]:
        return False
    if more & MORE_DSCP and (rule["dscp"] >> seen[SEEN_DSCP]) & 1 == 0:
        return False
    if more & MORE_SAMPLE:
        return bool(draw(rule["key"], seen[SEEN_PACKET], SAMPLING) < rule["one_in"])
    return True


@inlined
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
    if not payload_meets(rule, box.seen):
        return False
    if not names_meet(rule, box.suffixes, box.name, box.seen):
        return False
    more = rule["more"]
    if more == 0:
        return True
    if more & MORE_COUNTS and not counts_meet(rule, flow, signs, time):
        return False
    if more & MORE_CONTENT and not content_meets(rule, box.words, b, signs, box.seen):
        return False
    began = box.meter[METER_BEGAN]
    return bool(
        more & MORE_RARE == 0
        or rarely_meets(rule, box.memory, began, flow, near_is_source, box.seen, time)
    )
