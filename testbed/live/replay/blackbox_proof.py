# SPDX-License-Identifier: BSD-3-Clause
"""Derive the fate of each packet from the tap traces alone, for a box that keeps no log.

A third-party box is observed from outside. A packet that came in at the box and arrived at the
other end was passed; one that came in and never arrived was dropped by the box. The reason is
unknown, so every drop is attributed to the one rule that is named after the box. A frame of a known
flow that no end sent was made by the box.
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

#: A packet that arrived this much later, in ns, was delayed by the box: more than the lateness of a
#: busy lab, and less than degrades a call.
DELAYED_NS = 20_000_000


class DerivedFates(NamedTuple):
    """The fates that the tap traces prove, by row of the run's sendings.

    log: BOX_LOG[n], derived from the taps; the rule of a dropped packet is 0; changed: number of
    packets that arrived with other octets than they were sent with.
    """

    log: Records
    changed: int


def name_of(middlebox: str) -> str:
    """Return the name of the one rule of a third-party box."""
    return f"blackbox:{kind_of(middlebox)}"


def blank(count: int) -> Records:
    """Return BOX_LOG[count], all zero, for a box that keeps no log."""
    return np.zeros(count, BOX_LOG)


def derive_fates(record: Record, seen: Records) -> DerivedFates:
    """Return the fate of each packet. seen: SEEN[n] of testbed.live.replay.fate_proof, from the
    same taps.

    Writes `proven` and `whole` of `seen`. A fate is proven where the taps recorded the packet at
    its sender and at the box as it was sent, and both ends and the taps agree on its arrival.
    """
    sent, came = seen["times"] > 0, seen["came"] > 0
    log = blank(len(seen))
    log["times"] = np.minimum(seen["times"], 255)
    log["in_time"] = seen["box_in"]
    log["fate"] = np.where(sent, np.where(came, DELIVERED, DROPPED), 0)
    log["rule"] = np.where(sent & ~came, 0, -1)
    log["flow"] = -1
    before = whole_before(record)
    changed = int((sent & came & ~seen["whole"] & before).sum())
    seen["whole"] = before
    launched = record.played["due"] >= 0
    ends_agree = (launched == seen["times"]) & ((record.played["stamp"] >= 0) == came)
    seen["proven"] = sent & ends_agree & before & (seen["box_in"] >= seen["sent"])
    return DerivedFates(log, changed)


def whole_before(record: Record) -> NDArray[np.bool_]:
    """Return bool[n]: packets that the taps before the box recorded exactly as they were sent."""
    rows = record.rows[(record.rows["kind"] == TAGGED) & (record.rows["row"] >= 0)]
    up = record.side[rows["row"]] == CALLER
    before_box = rows["out"] & (rows["tap"] == np.where(up, AT_CALLER, AT_SERVER))
    before_box |= ~rows["out"] & (rows["tap"] == np.where(up, AT_BOX, BEHIND_BOX))
    out = np.ones(len(record.side), bool)
    out[rows["row"][before_box & ~rows["whole"]]] = False
    return out


def delayed_by_box(seen: Records) -> NDArray[np.bool_]:
    """Return bool[n]: packets that arrived over DELAYED_NS ns after they came in at the box."""
    late = seen["came"] - seen["box_in"]
    return np.asarray((seen["came"] > 0) & (seen["box_in"] > 0) & (late > DELAYED_NS))


# ---- frames without a tag


def restore_tags(rows: Records, store: NDArray[np.uint8], frames: Frames, around: int) -> Records:
    """Return the tap records with the tags that the box removed restored, by packet content.

    Identical packets are distinguished by order: the first that arrived is the first that was sent.
    """
    rows = rows.copy()
    at_end = ~rows["out"] & np.isin(rows["tap"], (AT_CALLER, AT_SERVER))
    untagged = np.flatnonzero(at_end & (rows["kind"] != TAGGED))
    if not len(untagged):
        return rows
    waiting = waiting_packets(rows, frames, around)
    for number in untagged[np.argsort(rows["stamp"][untagged], kind="stable")]:
        row = rows[number]
        start = int(row["at"]) + around
        body = store[start : int(row["at"]) + int(row["size"])].tobytes()
        queue = waiting.get((int(row["tap"]), without_hop_fields(body)))
        if queue:
            row["kind"], row["row"], row["whole"] = TAGGED, queue.pop(0), True
    return rows


def waiting_packets(
    rows: Records, frames: Frames, around: int
) -> dict[tuple[int, bytes], list[int]]:
    """Return the packets that left and did not arrive tagged, by receiving tap and content."""
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
            receiving_tap = AT_SERVER if row["tap"] == AT_CALLER else AT_CALLER
            waiting[receiving_tap, without_hop_fields(body)].append(packet)
    return waiting


def without_hop_fields(packet: bytes) -> bytes:
    """Return an IP packet without the octets that each hop rewrites: hop count and checksum."""
    if not packet:
        return packet
    if packet[0] >> 4 == 4:
        return packet[:TTL] + packet[TTL + 1 : CHECKSUM] + packet[CHECKSUM + 2 :]
    return packet[:HOPS] + packet[HOPS + 1 :]
