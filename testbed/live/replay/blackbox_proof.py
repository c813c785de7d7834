# SPDX-License-Identifier: BSD-3-Clause
"""Witnesses: what a box that writes nothing down did to each packet, by the taps alone.

Somebody else's box is seen from outside. What came in at it and came out at the other end was
passed; what came in and never came out was dropped by the box; why, nobody is told, so every drop
has the one rule that is called after the box. A frame that is none of those that were sent, of a
flow that is there, was made by the box.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.flow_table import Records
from midcall.testbed.live.box.pump import BOX_LOG, TAGGED
from midcall.testbed.live.devices.blackbox import kind_of
from midcall.testbed.live.network.untagged import CHECKSUM, HOPS, TTL
from midcall.testbed.live.replay.fate_proof import AT_BOX, AT_CALLER, AT_SERVER, BEHIND_BOX, Record
from midcall.testbed.live.replay.merge import Frames
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED
from midcall.testbed.replay.sides import CALLER

Numbers = NDArray[np.int64]

#: A packet that came out this much later, in ns, was held up by the box: more than a busy lab is
#: late, and less than spoils a call.
HELD_UP = 20_000_000


class Account(NamedTuple):
    """What the witnesses tell of a run, by row of its sendings.

    log: BOX_LOG[n], written from the taps; the rule of a dropped packet is 0; changed: packets that
    came with other octets than they were sent with.
    """

    log: Records
    changed: int


def name_of(middlebox: str) -> str:
    """Return what the one rule of somebody else's box is called."""
    return f"blackbox:{kind_of(middlebox)}"


def blank(count: int) -> Records:
    """Return the log of a box that writes none."""
    return np.zeros(count, BOX_LOG)


def account(held: Record, seen: Records) -> Account:
    """Return what became of each packet. seen: SEEN[n] of testbed.live.replay.fate_proof, by the
    same taps.

    Writes `proven` and `whole` of `seen`: a fate is proven where the packet was seen to leave and
    to come in at the box as it was sent, and both ends and the taps say the same of its arrival.
    """
    sent, came = seen["times"] > 0, seen["came"] > 0
    log = blank(len(seen))
    log["times"] = np.minimum(seen["times"], 255)
    log["in_time"] = seen["box_in"]
    log["fate"] = np.where(sent, np.where(came, DELIVERED, DROPPED), 0)
    log["rule"] = np.where(sent & ~came, 0, -1)
    log["flow"] = -1
    before = whole_before(held)
    changed = int((sent & came & ~seen["whole"] & before).sum())
    seen["whole"] = before
    launched = held.played["due"] >= 0
    told = (launched == seen["times"]) & ((held.played["stamp"] >= 0) == came)
    seen["proven"] = sent & told & before & (seen["box_in"] >= seen["sent"])
    return Account(log, changed)


def whole_before(held: Record) -> NDArray[np.bool_]:
    """Return which packets the taps before the box saw octet by octet as they were sent."""
    rows = held.rows[(held.rows["kind"] == TAGGED) & (held.rows["row"] >= 0)]
    up = held.side[rows["row"]] == CALLER
    near = rows["out"] & (rows["tap"] == np.where(up, AT_CALLER, AT_SERVER))
    near |= ~rows["out"] & (rows["tap"] == np.where(up, AT_BOX, BEHIND_BOX))
    out = np.ones(len(held.side), bool)
    out[rows["row"][near & ~rows["whole"]]] = False
    return out


def held_up(seen: Records) -> NDArray[np.bool_]:
    """Return which packets the box held up: they came, far later than they came in at it."""
    late = seen["came"] - seen["box_in"]
    return np.asarray((seen["came"] > 0) & (seen["box_in"] > 0) & (late > HELD_UP))


# ---- frames without a tag


def recognised(rows: Records, store: NDArray[np.uint8], frames: Frames, around: int) -> Records:
    """Return what the taps saw, packets whose tag the box took off known by their content.

    Identical packets are told apart by their order: the first that came is the first that was sent.
    """
    rows = rows.copy()
    at_end = ~rows["out"] & np.isin(rows["tap"], (AT_CALLER, AT_SERVER))
    strays = np.flatnonzero(at_end & (rows["kind"] != TAGGED))
    if not len(strays):
        return rows
    waiting = waiting_packets(rows, frames, around)
    for number in strays[np.argsort(rows["stamp"][strays], kind="stable")]:
        row = rows[number]
        start = int(row["at"]) + around
        body = store[start : int(row["at"]) + int(row["size"])].tobytes()
        queue = waiting.get((int(row["tap"]), lasting(body)))
        if queue:
            row["kind"], row["row"], row["whole"] = TAGGED, queue.pop(0), True
    return rows


def waiting_packets(
    rows: Records, frames: Frames, around: int
) -> dict[tuple[int, bytes], list[int]]:
    """Return the packets that left and never came with their tag, by receiving tap and content."""
    tagged = rows[(rows["kind"] == TAGGED) & (rows["row"] >= 0)]
    ends = np.isin(tagged["tap"], (AT_CALLER, AT_SERVER))
    came = set(tagged["row"][ends & ~tagged["out"]].tolist())
    left = tagged[ends & tagged["out"]]
    waiting: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for row in left[np.argsort(left["stamp"], kind="stable")]:
        packet = int(row["row"])
        if packet not in came:
            at, size = int(frames.at[packet]), int(frames.size[packet])
            body = frames.data[at + around : at + size].tobytes()
            far = AT_SERVER if row["tap"] == AT_CALLER else AT_CALLER
            waiting[far, lasting(body)].append(packet)
    return waiting


def lasting(packet: bytes) -> bytes:
    """Return what of an IP packet no hop writes anew."""
    if not packet:
        return packet
    if packet[0] >> 4 == 4:
        return packet[:TTL] + packet[TTL + 1 : CHECKSUM] + packet[CHECKSUM + 2 :]
    return packet[:HOPS] + packet[HOPS + 1 :]
