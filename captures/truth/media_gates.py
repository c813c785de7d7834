# SPDX-License-Identifier: BSD-3-Clause
"""Infer the gates of a call's media from requests and answers in the packets.

STUN transactions are matched by their id (RFC 8489 section 5), an INVITE and its 200 by its CSeq
(RFC 3261 section 17). Messages inside TLS cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from midcall.captures.packets.headers import End, ends, flows, layers, payload
from midcall.captures.packets.numbers import TCP
from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Gate

RFC3261_TIMER = "RFC 3261 section 17.1.1.2: Timer B, 64 times T1, an INVITE is given up after 32 s"
COOKIE = b"\x21\x12\xa4\x42"
#: The most pairs of a gate: enough to determine when a call was set up.
PAIRS = 4
CSEQ = re.compile(rb"\r\nCSeq: *(\d+) +INVITE", re.I)

#: A packet of a flow: its frame number, its sender, its payload.
FlowPacket = tuple[int, End, bytes]


def payloads(packets: Packets) -> Iterator[tuple[int, list[FlowPacket]]]:
    """Yield (first frame, packets with payload) of each flow of a capture."""
    by_ends = {frozenset((one.source, one.target)) | {one.proto}: one for one in flows(packets)}
    by_flow: dict[int, list[FlowPacket]] = {one.frame: [] for one in by_ends.values()}
    for i in range(packets.total):
        frame = packets.frame(i)
        stack = layers(frame, int(packets.link[i]))
        if not stack:
            continue
        source, target = ends(frame, stack[-1])
        proto = "tcp" if stack[-1].proto == TCP else "udp"
        flow = by_ends.get(frozenset((source, target)) | {proto})
        start, end = payload(frame, stack[-1])
        if flow is not None and end > start:
            by_flow[flow.frame].append((i + 1, source, frame[start:end]))
    yield from by_flow.items()


def gate_of(media: int, by: Sequence[int], by_flow: dict[int, list[FlowPacket]]) -> Gate | None:
    """Return the gate of a media flow by the first transactions of some flows; None for none.

    One of them opens the gate, because it is not known which of several relays or peers was chosen.
    """
    pairs = [
        (frame, pair)
        for frame in by
        for pair in (transactions(by_flow[frame]) or invitations(by_flow[frame]))
    ]
    if not pairs:
        return None
    return Gate(
        flow=media,
        by=sorted({frame for frame, _ in pairs}),
        kind="transaction",
        pairs=sorted(pair for _, pair in pairs),
    )


def gate(media: int, setup: Sequence[int], by_flow: dict[int, list[FlowPacket]], sip: bool) -> Gate:
    """Return the gate of a media flow: transactions if they can be read, else an answer or time."""
    if sip:
        for frame in setup:
            if pairs := invitations(by_flow[frame]):
                return Gate(flow=media, by=[frame], kind="transaction", needs="all", pairs=pairs)
    elif pairs := transactions(by_flow[media]):
        return Gate(flow=media, by=[media], kind="transaction", needs="all", pairs=pairs)
    own = by_flow[media]
    answered = next((one[0] for one in own if one[1] != own[0][1]), None) if own else None
    if sip or answered is None:
        return Gate(flow=media, by=[media], kind="time", note="nothing that gates it can be read")
    pairs = [[own[0][0], answered]]
    note = "the set-up is encrypted: the far side's first answer stands for it"
    return Gate(flow=media, by=[media], kind="request-reply", pairs=pairs, note=note)


def transactions(flow_packets: Sequence[FlowPacket]) -> list[list[int]]:
    """Return the first pairs of STUN requests and their success responses, by transaction id."""
    requests: dict[bytes, tuple[int, End]] = {}
    pairs = []
    for frame, source, octets in flow_packets:
        if len(octets) < 20 or octets[4:8] != COOKIE or octets[0] > 3:
            continue
        kind, number = int.from_bytes(octets[:2], "big") & 0x0110, octets[8:20]
        if kind == 0:
            requests.setdefault(number, (frame, source))
        elif kind == 0x0100 and number in requests and requests[number][1] != source:
            pairs.append([requests.pop(number)[0], frame])
    return pairs[:PAIRS]


def invitations(flow_packets: Sequence[FlowPacket]) -> list[list[int]]:
    """Return the pair of an INVITE and its 200, by CSeq; [] where there is none."""
    requests: dict[bytes, int] = {}
    for frame, _, octets in flow_packets:
        hit = CSEQ.search(octets)
        if hit is None:
            continue
        if octets.startswith(b"INVITE "):
            requests.setdefault(hit[1], frame)
        elif octets.startswith(b"SIP/2.0 200") and hit[1] in requests:
            return [[requests[hit[1]], frame]]
    return []
