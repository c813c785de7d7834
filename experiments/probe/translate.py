# SPDX-License-Identifier: BSD-3-Clause
"""From the localiser's clauses to matches of the policy language."""

from __future__ import annotations

import ipaddress
from typing import Any

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.clause import (
    ALL,
    FOREVER,
    Clause,
    PacketCondition,
    Range,
    Windows,
)
from midcall.experiments.localise.payload_conditions import (
    METHOD_WORDS,
    Attribute,
    Both,
    EntropyRange,
    HelloFingerprint,
    HostName,
    IsStun,
    Method,
    PayloadCondition,
    PayloadKind,
)
from midcall.experiments.probe.atoms import Match, name_match


def matches_of(clause: Clause) -> list[Match]:
    """Return the matches that a clause can mean, without what the language cannot say."""
    windows = windows_match(clause.windows)
    match = match_of(clause.condition)
    if clause.earlier is None:
        since, listed = clause.windows, [match | windows]
        if since.packets[0] > 1 or since.octets[0] > 1 or since.age[0] > 0:
            # an allowance of what any flow of this kind may send
            listed.append(match or {"packets": "1-"})
    else:
        before = match_of(clause.earlier.condition)
        if clause.earlier.place != ALL:
            before["packets"] = packets_match(clause.earlier.place)
        listed = [before]
        if clause.earlier.same_flow and match:
            listed.append(match | windows)
    return [one for one in listed if one]


def match_of(condition: PacketCondition) -> Match:
    """Return a condition on one packet as a match, without ports and addresses of the subscriber,
    which the language cannot say."""
    match: Match = {}
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
    return match | payload_match(condition.payload)


def payload_match(payload: PayloadCondition | None) -> Match:
    """Return a condition on a payload as a match, {} where the language cannot say it."""
    match payload:
        case IsStun():
            return {"stun": True}
        case Method():
            return {"stun_method": [METHOD_WORDS.get(one, one) for one in sorted(payload.methods)]}
        case Attribute():
            return {"stun_attribute": [payload.type]}
        case PayloadKind():
            return {"payload": sorted(payload.kinds)}
        case HostName():
            return name_match(payload)
        case HelloFingerprint():
            return {"hello": [f"{payload.fingerprint:016x}"]}
        case EntropyRange():
            high = "" if payload.high >= 1 else f"{payload.high:.3g}"
            return {"entropy": f"{payload.low:.3g}-{high}"}
        case Both():
            return payload_match(payload.first) | payload_match(payload.second)
    return {}


def windows_match(windows: Windows) -> Match:
    """Return windows of a flow as a match."""
    match: Match = {}
    if windows.packets != ALL:
        match["packets"] = packets_match(windows.packets)
    if windows.octets != ALL:
        match["bytes"] = ranged(windows.octets)
    if windows.age != ALL:
        match["seconds"] = ranged(windows.age, 1e9)
    return match


def packets_match(span: Range) -> Any:
    """Return a range of positions in a flow as the policy language writes it: from 1."""
    return ranged((max(span[0], 1), span[1]))


def ranged(span: Range, unit: float = 1) -> Any:
    """Return a range as the policy language writes it."""
    low, high = span
    ends = [f"{value / unit:g}" if unit != 1 else str(value) for value in span]
    if high >= FOREVER:
        return f"{ends[0]}-"
    if low <= 0:
        return f"-{ends[1]}"
    return f"{ends[0]}-{ends[1]}" if low != high else (low if unit == 1 else f"{ends[0]}-{ends[1]}")
