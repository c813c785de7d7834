# SPDX-License-Identifier: BSD-3-Clause
"""The flow table as columns, for tables and files."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.evidence import sentence
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.verdicts import APPS, FAMILIES, NOT_CALL, ROLES, UNDECIDED, VERDICTS

PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah"}
PROTOCOLS |= {58: "icmpv6", 89: "ospf", 103: "pim", 132: "sctp", 136: "udplite"}

#: The columns of `midcall classify`, in order.
COLUMNS = (
    "file",
    "proto",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "packets",
    "bytes",
    "first_ts",
    "last_ts",
    "verdict",
    "app",
    "family",
    "role",
    "confidence",
    "packets_to_verdict",
    "ms_to_verdict",
    "evidence",
)


def names(numbers: NDArray[Any], words: tuple[str, ...]) -> NDArray[np.object_]:
    """Return object[n], the word of each of n small integers."""
    out: NDArray[np.object_] = np.array(words, object)[numbers]
    return out


def addresses(lanes: NDArray[Any], version: NDArray[Any]) -> NDArray[np.object_]:
    """Return addresses as text from uint32[n, 4] lanes; versions are 4 or 6."""
    out = np.empty(len(lanes), object)
    four = np.flatnonzero(version == 4)
    octets = lanes[four, 0].astype(">u4").view(np.uint8).reshape(-1, 4)
    text = np.array([str(i) for i in range(256)], object)[octets]
    for column in range(1, 4):
        text[:, 0] = text[:, 0] + "." + text[:, column]
    out[four] = text[:, 0]
    for i in np.flatnonzero(version != 4):
        out[i] = str(ipaddress.IPv6Address(lanes[i].astype(">u4").tobytes()))
    return out


def seconds(ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return times in seconds since the epoch, rounded to a microsecond."""
    return np.round(ns / 1e9, 6)


def sentences(flows: Records) -> NDArray[np.object_]:
    """Return object[n], the evidence sentence of each of n flows."""
    keys = np.stack(
        (
            flows["evidence"].astype(np.int64),
            flows["argument"],
            np.where(flows["verdict"] == NOT_CALL, 0, flows["verdict_packets"]).astype(np.int64),
        )
    )
    distinct, which = np.unique(keys, axis=1, return_inverse=True)
    texts = np.array([sentence(*(int(x) for x in column)) for column in distinct.T], object)
    return texts[which] if len(flows) else np.empty(0, object)


def columns(flows: Records, file: str) -> dict[str, NDArray[Any]]:
    """Return the columns of `midcall classify` for FLOW[n], keyed and ordered as COLUMNS.

    Times are in seconds since the epoch, ms_to_verdict in milliseconds from the flow's first
    packet, packets_to_verdict in payload packets; both are -1 where no verdict was reached.
    """
    n = len(flows)
    verdict = np.where(flows["verdict"] == UNDECIDED, NOT_CALL, flows["verdict"])
    version = flows["version"]
    proto = np.array([PROTOCOLS.get(i, f"ip-{i}") for i in range(256)], object)
    waited = np.round((flows["verdict_time"] - flows["first_time"]) / 1e6, 3)
    reached = flows["verdict"] != UNDECIDED
    values = (
        np.full(n, file, object),
        proto[flows["proto"]],
        addresses(flows["source"], version),
        flows["source_port"],
        addresses(flows["target"], version),
        flows["target_port"],
        flows["packets_up"].astype(np.int64) + flows["packets_down"],
        flows["bytes_up"] + flows["bytes_down"],
        seconds(flows["first_time"]),
        seconds(flows["last_time"]),
        names(verdict, VERDICTS),
        names(flows["app"], APPS),
        names(flows["app"], FAMILIES),
        names(flows["role"], ROLES),
        flows["confidence"] / 100.0,
        np.where(reached, flows["verdict_packets"].astype(np.int64), -1),
        np.where(reached, waited, -1.0),
        sentences(flows),
    )
    return dict(zip(COLUMNS, values, strict=True))
