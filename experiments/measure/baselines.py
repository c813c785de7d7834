# SPDX-License-Identifier: BSD-3-Clause
"""Baselines: rules so simple that a classifier which does not beat them is not worth its cycles.

- null: claims nothing.
- ports: names a call by the server's port alone, from the vendors' own firewall pages.
- strict RTP: a flow is a call when three packets of one direction follow each other as RFC 3550
  (appendix A.1) asks: version 2, one SSRC, sequence numbers that rise by one. It names no app.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.apps import FIVE
from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PROTO,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_PORT,
    SIGNS,
)
from midcall.experiments.measure import metrics
from midcall.experiments.measure.metrics import NAMELESS, Scored
from midcall.experiments.results.tables import Baseline, SeenFlow

Numbers = NDArray[np.int64]


class Claim(TypedDict):
    """The verdict of a rule on a flow."""

    verdict: str
    app: str
    role: str


#: A row that a rule classifies.
Flow = SeenFlow | Mapping[str, Any]

RTP_HEADER = 12
#: Successive packets that make a stream.
IN_SEQUENCE = 3
# Columns of the state of one direction of a flow.
SSRC, SEQUENCE, RUN, FOUND = 0, 1, 2, 3

SILENT: Claim = {"verdict": "not-call", "app": "none", "role": "other"}

#: (first port, last port, protocols, app). STUN's ports are shared by all: no app can be named.
PORTS: list[tuple[int, int, str, str]] = [
    (3478, 3481, "udp tcp", NAMELESS),
    (5060, 5061, "udp tcp", "sip"),
    (5242, 5243, "udp", "viber"),
    (7985, 7987, "udp", "viber"),
    (9785, 9785, "udp", "viber"),
    (16384, 16403, "udp", "facetime"),
    (596, 599, "udp", "telegram"),
    (1400, 1400, "udp", "telegram"),
    (8801, 8810, "udp", "zoom"),
    (19302, 19309, "udp", "meet"),
    (50000, 50059, "udp", "teams"),
    (5004, 5005, "udp", NAMELESS),
    (9000, 9000, "udp", "webex"),
]


def null_rule(row: Flow) -> Claim:
    """Return a verdict that claims nothing."""
    return SILENT


def ports_rule(row: Flow) -> Claim:
    """Return the verdict that the flow's ports alone suggest, the target's port first."""
    for port in (row["dst_port"], row["src_port"]):
        for first, last, protocols, app in PORTS:
            if port is not None and first <= port <= last and row["proto"] in protocols.split():
                return {"verdict": "certain", "app": app, "role": "setup"}
    return SILENT


def strict_rtp_rule(row: Flow) -> Claim:
    """Return the verdict of the strict RTP rule, from the result of `rtp_flows` in the row."""
    if row.get("strict_rtp"):
        return {"verdict": "certain", "app": NAMELESS, "role": "media"}
    return SILENT


RULES: dict[str, Callable[[Flow], Claim]] = {
    "null": null_rule,
    "ports": ports_rule,
    "strict-rtp": strict_rtp_rule,
}


@kernel
def sequence_scan(
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    link: Numbers,
    numbers: Numbers,
    state: Numbers,
    signs: Numbers,
    fragments: Numbers,
) -> None:
    """Follow RTP sequence numbers per direction of every UDP flow.

    numbers: int64[packets], the flow of each packet; state: int64[2 * flows, 4] (SSRC, SEQUENCE,
    RUN, FOUND), which it changes.
    """
    for i in range(len(offset)):
        if numbers[i] < 0:
            continue
        end = offset[i] + captured[i]
        if decode(data, offset[i], end, wire[i], link[i], signs, fragments) != DECODED:
            continue
        at = signs[SIGN_PAYLOAD_AT]
        if signs[SIGN_PROTO] != UDP or signs[SIGN_PAYLOAD_END] - at < RTP_HEADER:
            continue
        side = 1 if signs[SIGN_SOURCE_PORT] > signs[SIGN_TARGET_PORT] else 0
        row = state[2 * numbers[i] + side]
        kind = u8(data, at + 1) & 0x7F
        if u8(data, at) >> 6 != 2 or 64 <= kind < 96:
            row[RUN] = 0
            continue
        ssrc, sequence = u32(data, at + 8), u16(data, at + 2)
        follows = row[RUN] > 0 and row[SSRC] == ssrc and sequence == (row[SEQUENCE] + 1) & 0xFFFF
        row[RUN] = row[RUN] + 1 if follows else 1
        row[SSRC], row[SEQUENCE] = ssrc, sequence
        if row[RUN] >= IN_SEQUENCE:
            row[FOUND] = 1


def rtp_flows(packets: Packets, numbers: Numbers, flows: int) -> NDArray[np.bool_]:
    """Return bool[flows]: whether the strict RTP rule calls a flow a call.

    numbers: int64[packets], the flow of each packet.
    """
    state = np.zeros((2 * max(flows, 1), 4), np.int64)
    sequence_scan(
        packets.data,
        packets.offset,
        packets.captured,
        packets.wire,
        packets.link,
        numbers,
        state,
        np.zeros(SIGNS, np.int64),
        np.zeros((FRAGMENTS, 2), np.int64),
    )
    sides = state[:, FOUND] > 0
    calls: NDArray[np.bool_] = (sides[0::2] | sides[1::2])[:flows]
    return calls


def compare(rows: Sequence[SeenFlow]) -> list[Baseline]:
    """Return one entry per rule, Midcall first, over the same scored (real) flows."""
    table = [_entry("midcall", rows)]
    for name, rule in RULES.items():
        table.append(_entry(name, [_judged(row, rule) for row in rows]))
    return table


def _judged(row: SeenFlow, rule: Callable[[Flow], Claim]) -> SeenFlow:
    """Return the row with the rule's verdict in the place of its own."""
    judged: SeenFlow = {**row, **rule(row)}
    if row["outcome"] != "unscored":
        judged["outcome"] = metrics.outcome(
            row["truth_app"] or "", row["truth_role"] or "", row["truth_confidence"] or "", judged
        )
    return judged


def _entry(name: str, rows: Sequence[Scored]) -> Baseline:
    flows = metrics.call_flows(rows)
    five = [row for row in flows if row["truth_app"] in FIVE]
    quiet = metrics.quiet_flows(rows)
    return {
        "name": name,
        "call_flows": len(flows),
        "called_a_call": sum(metrics.claims_call(row) for row in flows),
        "right": sum(row["outcome"] == "right" for row in flows),
        "five_flows": len(five),
        "five_right": sum(row["outcome"] == "right" for row in five),
        "innocent_flows": len(quiet),
        "false_calls": sum(row["outcome"] == "false_call" for row in quiet),
    }
