# SPDX-License-Identifier: BSD-3-Clause
"""Packet trace of a replay: what each end sent and what reached the other end.

A trace is a pcapng file with two interfaces, one per end of the operator's network: the subscriber
side (0) and the remote side (1). A packet is on its sender's interface when it left, and on its
receiver's when it arrived; one that the box dropped is on the first only. Frames that the box
injected are on the interface of the end that received them. Each frame has a comment:

    frame 12, sending 2: dropped by rule stun-any-port

Frame numbers are those of the capture; times are on the capture's clock. Frames hold the IP packet
as captured, in Ethernet, without the access network's tunnel: what the ends see. The table of fates
has the same facts, one row per packet and sending.
"""

from __future__ import annotations

import csv
import io
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.scan import ENHANCED_PACKET, INTERFACE, SECTION
from midcall.captures.packets.writer import block, comment, option
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, FORGED, LOST, TOO_BIG
from midcall.testbed.middlebox.rule_table import UP
from midcall.testbed.network import access as networks
from midcall.testbed.network.access import ETHERNET_LENGTH
from midcall.testbed.replay.endpoints import leg
from midcall.testbed.replay.sides import CALLER, LOCAL
from midcall.testbed.replay.simulator import Simulation

SUBSCRIBER, REMOTE = 0, 1
INTERFACES = ("subscriber side", "remote side")
HARDWARE = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
DIRECTIONS = ("up", "down", "local")
COLUMNS = ("frame", "attempt", "direction", "sent_s", "box_s", "arrived_s", "fate", "rule")
FATE_WORDS = {DELIVERED: "delivered", DROPPED: "dropped", FORGED: "dropped", LOST: "lost",
              TOO_BIG: "lost"}  # fmt: skip
COUNTED = ("sent", "delivered", "dropped", "lost", "injected", "not_sent")


class Shown(NamedTuple):
    """A frame of a trace: its time (ns), interface, octets, length on the wire, comment."""

    time: int
    interface: int
    octets: bytes
    wire: int
    comment: str


def counts(simulation: Simulation) -> dict[str, int]:
    """Return how many sendings were delivered, dropped and lost, how many frames were injected, and
    how many packets were never sent; `sent` is all sendings."""
    fates = Counter(FATE_WORDS[int(fate)] for fate in simulation.attempts["fate"])
    counted = dict(fates) | {
        "sent": len(simulation.attempts),
        "injected": len(simulation.letters),
        "not_sent": int((~simulation.fates["sent"]).sum()),
    }
    return {name: counted.get(name, 0) for name in COUNTED}


# ---- the table


def rows(simulation: Simulation) -> Iterator[dict[str, Any]]:
    """Yield the table of fates in order of sending; packets that were not sent come last.

    frame: of the capture, from 1; attempt: 1 for the first sending, 0 for a packet that was never
    sent; sent_s, box_s, arrived_s: s since the capture's first packet, None for never; fate:
    delivered, dropped (by a rule, or answered by the box instead), lost (by the access link, or too
    large for it), injected, not_sent; rule: that decided, "" for none. An injected frame has the
    frame and the attempt that it answers.
    """
    packets, attempts = simulation.script.held.packets, simulation.attempts
    begin = int(packets.time.min()) if packets.total else 0

    def seconds(time: Any) -> float | None:
        return None if time < 0 else (int(time) - begin) / 1e9

    side = simulation.script.side
    for row in attempts:
        packet, rule = int(row["packet"]), int(row["rule"])
        yield {
            "frame": packet + 1,
            "attempt": int(row["number"]),
            "direction": DIRECTIONS[int(side[packet])],
            "sent_s": seconds(row["sent"]),
            "box_s": seconds(row["box"]),
            "arrived_s": seconds(row["arrived"]),
            "fate": FATE_WORDS[int(row["fate"])],
            "rule": simulation.rules[rule] if rule >= 0 else "",
        }
    for letter, attempt, arrived in injected(simulation):
        up = letter["toward"] == UP
        yield {
            "frame": int(letter["packet"]) + 1,
            "attempt": int(attempt["number"]),
            "direction": DIRECTIONS[0 if up else 1],
            "sent_s": None,
            "box_s": seconds(letter["time"]),
            "arrived_s": seconds(arrived),
            "fate": "injected",
            "rule": simulation.rules[int(letter["rule"])],
        }
    for packet in np.flatnonzero(~simulation.fates["sent"]).tolist():
        yield {
            "frame": packet + 1,
            "attempt": 0,
            "direction": DIRECTIONS[int(side[packet])],
            "sent_s": None,
            "box_s": None,
            "arrived_s": None,
            "fate": "not_sent",
            "rule": "",
        }


def table(simulation: Simulation) -> str:
    """Return the table of fates as CSV, times with nine decimals."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows(simulation):
        cells = {
            key: "" if value is None else f"{value:.9f}" if isinstance(value, float) else value
            for key, value in row.items()
        }
        writer.writerow(cells)
    return out.getvalue()


def injected(simulation: Simulation) -> Iterator[tuple[Any, Any, int]]:
    """Yield each injected frame: its LETTER, the ATTEMPT that it answers, its arrival in ns."""
    by_box: dict[tuple[int, int], Any] = {}
    for row in simulation.attempts[simulation.attempts["letters"] > 0]:
        by_box[int(row["packet"]), int(row["box"])] = row
    for letter in simulation.letters:
        packet, time = int(letter["packet"]), int(letter["time"])
        base = int(simulation.script.base[packet])
        yield letter, by_box[packet, time], time + leg(base, letter["toward"] != UP)


# ---- the capture


def trace(simulation: Simulation) -> bytes:
    """Return the trace as a pcapng file (draft-ietf-opsawg-pcapng), times in ns."""
    resolution = option(9, b"\x09")
    out = [block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for name in INTERFACES:
        options = option(2, name.encode()) + resolution + option(0, b"")
        out.append(block(INTERFACE, struct.pack("<HHI", 1, 0, 262144) + options))
    for one in sorted(frames(simulation), key=lambda one: (one.time, one.interface)):
        stamp = one.time & 0xFFFFFFFFFFFFFFFF
        head = struct.pack(
            "<IIIII", one.interface, stamp >> 32, stamp & 0xFFFFFFFF, len(one.octets), one.wire
        )
        padded = one.octets + b"\0" * (-len(one.octets) % 4)
        out.append(block(ENHANCED_PACKET, head + padded + comment(one.comment)))
    return b"".join(out)


def frames(simulation: Simulation) -> Iterator[Shown]:
    """Yield the frames of a trace, in no order."""
    script = simulation.script
    packets, facts, sides = script.held.packets, script.held.facts, script.side
    for row in simulation.attempts:
        packet = int(row["packet"])
        fact, side = facts[packet], int(sides[packet])
        if fact["flow"] < 0 and packets.link[packet] != 1:
            continue  # neither IP nor Ethernet: the file format has no place for it
        sender = SUBSCRIBER if side in (CALLER, LOCAL) else REMOTE
        octets = packets.data[int(fact["ip_at"]) : int(fact["ip_end"])].tobytes()
        wire = int(fact["ip_size"]) + ETHERNET_LENGTH
        if fact["flow"] < 0:  # no IP packet: as captured
            octets, wire = packets.frame(packet), int(packets.wire[packet])
        elif octets:
            octets = ethernet(octets, sender)
        words = (
            f"frame {packet + 1}, sending {int(row['number'])}: {fate_of(simulation, row, side)}"
        )
        yield Shown(int(row["sent"]), sender, octets, max(wire, len(octets)), words)
        if row["arrived"] >= 0 and side != LOCAL:
            yield Shown(int(row["arrived"]), 1 - sender, octets, max(wire, len(octets)), words)
    overhead = ETHERNET_LENGTH + networks.link(simulation.access).overhead
    for letter, attempt, arrived in injected(simulation):
        at, end = int(letter["at"]), int(letter["at"] + letter["length"])
        receiver = REMOTE if letter["toward"] == UP else SUBSCRIBER
        octets = ethernet(simulation.mail[at + overhead : end].tobytes(), 1 - receiver)
        rule = simulation.rules[int(letter["rule"])]
        words = (
            f"injected by rule {rule} in answer to frame {int(letter['packet']) + 1}, sending "
            f"{int(attempt['number'])}"
        )
        yield Shown(arrived, receiver, octets, len(octets), words)


def ethernet(packet: bytes, sender: int) -> bytes:
    """Return an IP packet in Ethernet, from an end's interface."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return HARDWARE[1 - sender] + HARDWARE[sender] + kind + packet


def fate_of(simulation: Simulation, row: Any, side: int) -> str:
    """Return the fate of a sending in words, with the rule that decided."""
    rule, fate = int(row["rule"]), int(row["fate"])
    by = f" by rule {simulation.rules[rule]}" if rule >= 0 else ""
    if side == LOCAL:
        return "delivered on the subscriber's own link"
    if fate == DELIVERED:
        return f"delivered{f', passed{by}' if by else ''}"
    if fate == TOO_BIG:
        return "lost: too large for the access network"
    if fate == LOST:
        return "lost by the access link"
    return f"dropped{by or ': the box could not read it'}"
