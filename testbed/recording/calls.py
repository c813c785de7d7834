# SPDX-License-Identifier: BSD-3-Clause
"""The call of a recording, as the project's call files describe it: flows by role, and gates.

What gates the media is read from the packets: STUN transactions by their id (RFC 8489), an INVITE
and its 200 by its CSeq (RFC 3261). Inside TLS nothing can be read, so there the far side's first
answer stands for it, and the gate is marked as inferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from captures.calls import Alternative, Call, Gate
from captures.labels import Label
from captures.layers import TCP, End, ends, flows, layers, payload
from captures.pcap import Packets
from testbed.callers.account import CALLER, Account
from testbed.callers.verdict import PATHS
from testbed.payload_addresses import COOKIE

RFC8489 = "RFC 8489 section 6.2.1: RTO 500 ms, Rc 7, Rm 16, a request is given up after 39.5 s"
RFC3261 = "RFC 3261 section 17.1.1.2: Timer B, 64 times T1, an INVITE is given up after 32 s"
#: Pairs of a gate: enough to tell when a call was set up.
PAIRS = 4
CSEQ = re.compile(rb"\r\nCSeq: *(\d+) +INVITE", re.I)

#: A packet of a flow: its frame number, who sent it, its payload.
Said = tuple[int, End, bytes]


def call_of(account: Account, packets: Packets, labels: Sequence[Label]) -> Call:
    """Return the call of a recording whose flows are labelled."""
    plan = account.plan
    sip = plan.caller in ("baresip", "sipp")
    by_role = {
        role: sorted(row.frame for row in labels if row.role == role and row.call)
        for role in ("media", "setup", "control")
    }
    said = dict(payloads(packets))
    gates = [gate(frame, by_role["setup"], said, sip) for frame in by_role["media"]]
    relay = account.end(CALLER).relays[-1:] or ("",)
    way = PATHS[relay[0]]
    return Call(
        id="call-1",
        app="sip" if sip else "other-rtc",
        kind="video" if plan.media in ("audio+video", "screen") else "audio",
        media=by_role["media"],
        setup=by_role["setup"],
        control=by_role["control"],
        alternatives=[Alternative(flow=frame, path=way) for frame in by_role["media"]],
        inferred=any(one.note for one in gates),
        timer_s=32.0 if sip else 39.5,
        timer_source=RFC3261 if sip else RFC8489,
        consent_s=None if sip else 30.0,
        note="recorded in the lab; its flows are what the program said of itself",
        gates=gates,
    )


def payloads(packets: Packets) -> Iterator[tuple[int, list[Said]]]:
    """Yield (first frame, what was said) of each flow of a capture."""
    found = {frozenset((one.source, one.target)) | {one.proto}: one for one in flows(packets)}
    said: dict[int, list[Said]] = {one.frame: [] for one in found.values()}
    for i in range(packets.total):
        frame = packets.frame(i)
        stack = layers(frame, int(packets.link[i]))
        if not stack:
            continue
        source, target = ends(frame, stack[-1])
        proto = "tcp" if stack[-1].proto == TCP else "udp"
        flow = found.get(frozenset((source, target)) | {proto})
        start, end = payload(frame, stack[-1])
        if flow is not None and end > start:
            said[flow.frame].append((i + 1, source, frame[start:end]))
    yield from said.items()


def gate(media: int, setup: Sequence[int], said: dict[int, list[Said]], sip: bool) -> Gate:
    """Return what gates a media flow: transactions where they can be read."""
    if sip:
        for frame in setup:
            if pairs := invitations(said[frame]):
                return Gate(flow=media, by=[frame], kind="transaction", needs="all", pairs=pairs)
    elif pairs := transactions(said[media]):
        return Gate(flow=media, by=[media], kind="transaction", needs="all", pairs=pairs)
    own = said[media]
    answered = next((one[0] for one in own if one[1] != own[0][1]), None) if own else None
    if sip or answered is None:
        return Gate(flow=media, by=[media], kind="time", note="nothing that gates it can be read")
    pairs = [[own[0][0], answered]]
    note = "the set-up is encrypted: the far side's first answer stands for it"
    return Gate(flow=media, by=[media], kind="request-reply", pairs=pairs, note=note)


def transactions(said: Sequence[Said]) -> list[list[int]]:
    """Return the first pairs of STUN requests and their success responses, by transaction id."""
    asked: dict[bytes, tuple[int, End]] = {}
    pairs = []
    for frame, source, octets in said:
        if len(octets) < 20 or octets[4:8] != COOKIE or octets[0] > 3:
            continue
        kind, number = int.from_bytes(octets[:2], "big") & 0x0110, octets[8:20]
        if kind == 0:
            asked.setdefault(number, (frame, source))
        elif kind == 0x0100 and number in asked and asked[number][1] != source:
            pairs.append([asked.pop(number)[0], frame])
    return pairs[:PAIRS]


def invitations(said: Sequence[Said]) -> list[list[int]]:
    """Return the pair of an INVITE and its 200, by CSeq; [] where there is none."""
    asked: dict[bytes, int] = {}
    for frame, _, octets in said:
        hit = CSEQ.search(octets)
        if hit is None:
            continue
        if octets.startswith(b"INVITE "):
            asked.setdefault(hit[1], frame)
        elif octets.startswith(b"SIP/2.0 200") and hit[1] in asked:
            return [[asked[hit[1]], frame]]
    return []
