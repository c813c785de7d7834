# SPDX-License-Identifier: BSD-3-Clause
"""From the localiser's clauses to matches of the policy language."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    PacketCondition,
    Range,
    Windows,
)
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.packet_fields import read, with_before
from midcall.experiments.localise.payload_conditions import (
    METHOD_WORDS,
    Attribute,
    Both,
    EntropyRange,
    FixedOctets,
    HelloFingerprint,
    HostName,
    IsStun,
    Method,
    OctetsAnywhere,
    PayloadCondition,
    PayloadKind,
)
from midcall.testbed.probing.probe import Probe, Sent

Match = dict[str, Any]


class Trigger(NamedTuple):
    """What a clause says in the policy language. inexact: words for what the language cannot say;
    after: an allowance; way: the direction of struck packets if it is not the trigger's; earlier:
    whether the struck packet is another one than the matching one."""

    match: Match
    after: dict[str, Any] | None = None
    inexact: tuple[str, ...] = ()
    other_flow: bool = False
    earlier: bool = False


def ranged(span: Range, unit: float = 1) -> Any:
    """Return a range as the policy language writes it."""
    low, high = span
    ends = [f"{value / unit:g}" if unit != 1 else str(value) for value in span]
    if high >= FOREVER:
        return f"{ends[0]}-"
    if low <= 0:
        return f"-{ends[1]}"
    return f"{ends[0]}-{ends[1]}" if low != high else (low if unit == 1 else f"{ends[0]}-{ends[1]}")


def match_of(condition: PacketCondition) -> tuple[Match, tuple[str, ...]]:
    """Return a condition on one packet as a match, and words for what the language cannot say."""
    match: Match = {}
    inexact: list[str] = []
    if condition.proto is not None:
        match["protocol"] = {TCP: "tcp", UDP: "udp"}.get(condition.proto, "other")
    if condition.ports is not None:
        match["ports"] = [low if low == high else f"{low}-{high}" for low, high in condition.ports]
    if condition.far is not None:
        octets, bits = condition.far
        match["addresses"] = [str(ipaddress.ip_network((octets, bits), strict=False))]
    elif condition.version is not None:
        match["addresses"] = ["0.0.0.0/0" if condition.version == 4 else "::/0"]
    if condition.up is not None:
        match["direction"] = "up" if condition.up else "down"
    if condition.size is not None:
        match["size"] = ranged(condition.size)
    if condition.near_ports is not None:
        inexact.append("a port of the subscriber")
    if condition.near is not None:
        inexact.append("an address of the subscriber")
    if condition.payload is not None:
        part, words = payload_match(condition.payload)
        match |= part
        inexact += words
    return match, tuple(inexact)


def payload_match(payload: PayloadCondition) -> tuple[Match, list[str]]:
    """Return a condition on a payload as a match, and words for what the language cannot say."""
    if isinstance(payload, IsStun):
        return {"stun": True}, []
    if isinstance(payload, Method):
        return {"stun_method": [METHOD_WORDS.get(one, one) for one in sorted(payload.methods)]}, []
    if isinstance(payload, Attribute):
        return {"stun_attribute": [payload.type]}, []
    if isinstance(payload, PayloadKind):
        return {"payload": sorted(payload.kinds)}, []
    if isinstance(payload, HostName):
        if "dns" in payload.where:
            return {"dns": [payload.pattern]}, []
        result: Match = {"name": [payload.pattern]}
        if len(payload.where) < 3:
            result["name_in"] = sorted(payload.where)
        return result, []
    if isinstance(payload, HelloFingerprint):
        return {"hello": [f"{payload.fingerprint:016x}"]}, []
    if isinstance(payload, EntropyRange):
        return {"entropy": f"{payload.low:.3g}-" + ("" if payload.high >= 1 else
                                                    f"{payload.high:.3g}")}, []  # fmt: skip
    if isinstance(payload, Both):
        first, words = payload_match(payload.first)
        second, more = payload_match(payload.second)
        return first | second, words + more
    if isinstance(payload, FixedOctets | OctetsAnywhere):
        return {}, [payload.words]
    return {}, [payload.words]


def windows_match(windows: Windows) -> Match:
    """Return windows of a flow as a match."""
    match: Match = {}
    if windows.packets != ALL:
        low, high = windows.packets
        match["packets"] = ranged((max(low, 1), high))
    if windows.octets != ALL:
        match["bytes"] = ranged(windows.octets)
    if windows.age != ALL:
        match["seconds"] = ranged(windows.age, 1e9)
    return match


def triggers(found: FoundClause) -> list[Trigger]:
    """Return what a clause can mean in the policy language, the likelier first."""
    clause = found.clause
    match, inexact = match_of(clause.condition)
    result: list[Trigger] = []
    if clause.earlier is None:
        windows = windows_match(clause.windows)
        result.append(Trigger(match | windows, None, inexact))
        after = allowance(clause.windows)
        if after and match:
            result.append(Trigger(match, after, inexact))
        elif after and not match:
            # of any packet: as an allowance of what any flow of this kind may send
            result.append(Trigger({"packets": "1-"}, after, inexact))
        return result
    before, more = match_of(clause.earlier.condition)
    if clause.earlier.place != ALL:
        before["packets"] = ranged((max(clause.earlier.place[0], 1), clause.earlier.place[1]))
    since = clause.earlier.since
    if clause.earlier.same_flow:
        after = allowance(since)
        result.append(Trigger(before, after, more, earlier=True))
        if match:
            result.append(Trigger(match | windows_match(clause.windows), None, inexact))
    else:
        result.append(Trigger(before, None, more, other_flow=True, earlier=True))
    return [one for one in result if one.match or one.inexact]


def allowance(windows: Windows) -> dict[str, Any] | None:
    """Return the least that must precede as an allowance of `after`; None for none."""
    after: dict[str, Any] = {}
    if windows.packets[0] > 1:
        after["packets"] = windows.packets[0] - 1
    if windows.octets[0] > 1:
        after["bytes"] = windows.octets[0] - 1
    if windows.age[0] > 0:
        after["seconds"] = windows.age[0] / 1e9
    return after or None


def language_matches(unit: Probe, at: int) -> list[Match]:
    """Return single conditions of the language on the payload that a packet meets, for triggers
    that the localiser can only give as octets."""
    one: Sent = with_before(unit, at)
    reading = read(one)
    result: list[Match] = [{"payload": [reading.kind]}]
    if reading.method >= 0:
        result += [{"stun": True}, {"stun_method": [METHOD_WORDS.get(reading.method,
                                                                     reading.method)]}]  # fmt: skip
        result += [{"stun_attribute": [kind]} for kind in sorted(reading.attributes)]
    if reading.hello:
        result.append({"hello": [f"{reading.hello:016x}"]})
    return result


def is_plain(clause: Clause) -> bool:
    """Return whether a clause has neither runs, gaps nor exemptions."""
    return clause.times == 1 and clause.gap == ALL and not clause.unless
