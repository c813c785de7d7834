# SPDX-License-Identifier: BSD-3-Clause
"""Collateral: what a policy did to traffic that is no call of anybody's, by kind of traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.labels import Label
from classifier.flow import Records
from testbed.places import LOCAL
from testbed.replay import Script
from testbed.virtual import Simulation

Mask = NDArray[np.bool_]


class Bystanders(NamedTuple):
    """Innocent flows of one kind of traffic, and those that the box struck."""

    protocol: str
    flows: int
    hit: int
    bytes: int
    bytes_hit: int


SERVICES = {53: "dns", 80: "http", 123: "ntp", 443: "tls", 853: "dns", 5060: "sip", 5061: "sip",
            500: "vpn", 4500: "vpn", 1194: "vpn", 51820: "vpn", 3478: "stun"}  # fmt: skip


def traffic(script: Script, flow: int) -> str:
    """Name the kind of traffic of a flow by its transport, what it carries, and its port."""
    record: Records = script.held.flows[flow]
    proto = {6: "tcp", 17: "udp"}.get(int(record["proto"]))
    if proto is None:
        return "other"
    own = script.held.facts["flow"] == flow
    if (script.held.facts["stun"][own] > 0).any():
        return "stun"
    for port in (int(record["target_port"]), int(record["source_port"])):
        name = SERVICES.get(port)
        if name is not None:
            return "quic" if (name, proto) == ("tls", "udp") else name
    return f"other {proto}"


def innocent_flows(script: Script, labels: Sequence[Label]) -> Mask:
    """Return per flow of a call's capture whether its label says chat or other traffic.

    Flows of unknown role or low confidence are not counted as innocent.
    """
    innocent = np.zeros(len(script.held.flows), bool)
    for label in labels:
        flow = int(script.flow[label.frame - 1]) if 0 < label.frame <= len(script.flow) else -1
        if flow >= 0 and label.scored and label.role in ("messaging", "other"):
            innocent[flow] = True
    return innocent


def collateral(simulation: Simulation, labels: Sequence[Label] | None = None) -> list[Bystanders]:
    """Return what a policy did to innocent flows, by kind of traffic, sorted by name.

    labels: those of a call's capture; None for an innocent capture, whose flows all count. A flow
    is hit when the box dropped or forged one of its packets; bytes are those of IP packets, hit
    ones those struck. What stays on the caller's own link is left out.
    """
    innocent = None if labels is None else innocent_flows(simulation.script, labels)
    orders = simulation.script
    totals: dict[str, list[int]] = {}
    routed = orders.side != LOCAL
    size = orders.held.facts["ip_size"]
    for flow in range(len(orders.held.flows)):
        own = (orders.flow == flow) & routed
        if (innocent is not None and not innocent[flow]) or not own.any():
            continue
        entry = totals.setdefault(traffic(orders, flow), [0, 0, 0, 0])
        struck = own & simulation.struck
        entry[0] += 1
        entry[1] += bool(struck.any())
        entry[2] += int(size[own].sum())
        entry[3] += int(size[struck].sum())
    return [Bystanders(name, *entry) for name, entry in sorted(totals.items())]
