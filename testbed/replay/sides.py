# SPDX-License-Identifier: BSD-3-Clause
"""Sides: which end of each flow is on the caller's side of the operator's box.

The capture point is not recorded; the caller's end is inferred. Of a flow's two ends, the private
one is near; of two of the lab, the caller's; of two equal ones, the one that takes part in more of
the capture's packets, where the IPv6 addresses of one network of 64 bits count as one end (a phone
has several: RFC 8981). Of two that are still equal, one with a port that no system gives to clients
(below 32768) is far where the other end's is not; else the one that sent first is near. This last
rule is applied to the first flow of two addresses and holds for all flows between them, so that no
address is on both sides. Traffic that no router forwards (multicast, broadcast, link-local, of an
address with itself) never meets the box. A private IPv4 address that ends in 255 and sends nothing
is taken to be the broadcast address of a local network (RFC 919).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.flow_table import Records

Numbers = NDArray[np.int64]

# Sides of a packet's sender.
CALLER, FAR, LOCAL = 0, 1, 2

PRIVATE = (  # prefixes that are near: RFC 1918, 6598 (carriers' NAT), 2544 (the lab's own)
    (0x0A000000, 0xFF000000),
    (0xAC100000, 0xFFF00000),
    (0xC0A80000, 0xFFFF0000),
    (0x64400000, 0xFFC00000),
    (0xC6120000, 0xFFFE0000),
)
#: The lab's callers (testbed.live.line), as the lab's own recordings hold them.
LAB_CALLERS = ((0xC6120000, 0xFFFF0000),)
UNROUTED = (  # RFC 1122 (this network), 3927 (link-local), 5771 and 1112 (multicast, reserved)
    (0x00000000, 0xFF000000),
    (0xA9FE0000, 0xFFFF0000),
    (0x7F000000, 0xFF000000),
    (0xE0000000, 0xE0000000),
)
#: Ports below this one are not given to clients: Linux begins at 32768, RFC 6335 at 49152.
SERVICE_PORTS = 32_768
#: RFC 5737, 3849: addresses of documents, which no network announces.
DOCUMENTS = (
    (0xC0000200, 0xFFFFFF00),
    (0xC6336400, 0xFFFFFF00),
    (0xCB007100, 0xFFFFFF00),
)


class Places(NamedTuple):
    """Per flow: whether its source is the near end, and whether it stays on the caller's link."""

    near_is_source: NDArray[np.bool_]
    local: NDArray[np.bool_]


def within(lane: Numbers, prefixes: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    """Return which IPv4 addresses lie in one of some (address, mask) prefixes."""
    out = np.zeros(len(lane), bool)
    for address, mask in prefixes:
        out |= lane & mask == address
    return out


def private(version: Numbers, lanes: Numbers) -> NDArray[np.bool_]:
    """Return which addresses are of a subscriber's own network; lanes: int64[n, 4]."""
    first = lanes[:, 0]
    unique_local = (version == 6) & (first >> 25 == 0xFC000000 >> 25)
    return np.asarray(((version == 4) & within(first, PRIVATE)) | unique_local)


def lab_caller(version: Numbers, lanes: Numbers) -> NDArray[np.bool_]:
    """Return which addresses are those of callers of the lab."""
    return np.asarray((version == 4) & within(lanes[:, 0], LAB_CALLERS))


def unrouted(version: Numbers, lanes: Numbers) -> NDArray[np.bool_]:
    """Return which addresses no router forwards to; lanes: int64[n, 4]."""
    first = lanes[:, 0]
    six = (first >> 24 == 0xFF) | (first >> 22 == 0xFE800000 >> 22) | (lanes.sum(axis=1) <= 1)
    return np.where(version == 6, six, within(first, UNROUTED))


def nowhere(version: Numbers, lanes: Numbers) -> NDArray[np.bool_]:
    """Return which addresses are not public, so that no operator's address set has them."""
    document = (version == 6) & (lanes[:, 0] == 0x20010DB8)
    fake = (version == 4) & within(lanes[:, 0], DOCUMENTS)
    return np.asarray(private(version, lanes) | unrouted(version, lanes) | document | fake)


def places(flows: Records) -> Places:
    """Return the side of the ends of each flow of a capture (FLOW[n])."""
    version = flows["version"].astype(np.int64)
    source, target = flows["source"].astype(np.int64), flows["target"].astype(np.int64)
    local = unrouted(version, source) | unrouted(version, target) | (source == target).all(axis=1)
    local |= to_broadcast(flows)
    packets = flows["packets_up"].astype(np.int64) + flows["packets_down"]
    ends = np.concatenate((source, target))
    _, which = np.unique(ends, axis=0, return_inverse=True)
    networks = ends.copy()
    networks[np.tile(version == 6, 2), 2:] = 0
    _, network = np.unique(networks, axis=0, return_inverse=True)
    busy = np.bincount(network.ravel(), weights=np.tile(np.where(local, 0, packets), 2))
    work = busy[network.ravel()].astype(np.int64)
    count = len(flows)
    ranks = (
        (private(version, source), private(version, target)),
        (lab_caller(version, source), lab_caller(version, target)),
        (work[:count], work[count:]),
    )
    near_is_source = opened_by_near(which.ravel(), flows["source_port"], flows["target_port"])
    for ours, theirs in reversed(ranks):
        near_is_source = np.where(ours == theirs, near_is_source, ours > theirs)
    return Places(near_is_source, local)


def to_broadcast(flows: Records) -> NDArray[np.bool_]:
    """Return which flows (FLOW[n]) go to the broadcast address of a private IPv4 network."""
    four = flows["version"] == 4
    source, target = (flows[end][:, 0].astype(np.int64) for end in ("source", "target"))
    senders = np.concatenate((source[four], target[four & (flows["packets_down"] > 0)]))
    suspect = four & within(target, PRIVATE) & (target & 0xFF == 0xFF)
    return np.asarray(suspect & ~np.isin(target, senders))


def opened_by_near(which: Numbers, source_port: Numbers, target_port: Numbers) -> NDArray[np.bool_]:
    """Return per flow whether its source is near, by the first flow of its two addresses.

    which: int64[2 n], the numbers of the sources' addresses, then of the targets'.
    """
    count = len(source_port)
    ends = which.reshape(2, count)
    service = (source_port < SERVICE_PORTS) & (target_port >= SERVICE_PORTS)
    low_is_source = ends[0] <= ends[1]
    low_is_near = low_is_source != service
    _, first, pair = np.unique(
        np.sort(ends, axis=0), axis=1, return_index=True, return_inverse=True
    )
    return np.asarray(low_is_near[first][pair.ravel()] == low_is_source)
