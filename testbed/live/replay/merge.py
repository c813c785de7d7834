# SPDX-License-Identifier: BSD-3-Clause
"""Merge captures: several scripts into one, and their frames as they go on the wire.

Packet k of capture c is packet `starts[c] + k` of the joint script, which is the number that its
frame carries. Flows, latches, calls and streams are renumbered likewise, so that the kernels of
testbed.replay.endpoints play all captures as if they were one. Times count from the run's begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.captures.packets.pcap import Packets
from midcall.testbed.middlebox.inject import checksum, summed
from midcall.testbed.network.access import put16
from midcall.testbed.replay.packet_index import PacketIndex
from midcall.testbed.replay.script import Script, timed
from midcall.testbed.replay.sides import LOCAL
from midcall.testbed.replay.tcp_stream import Streams

Numbers = NDArray[np.int64]


class Joint(NamedTuple):
    """Several captures merged into one script.

    script: times in ns from the run's begin; the offsets in its packet index refer to each
    capture's own buffer. starts: the first packet of each capture; begins: int64[captures], the
    time in each capture at which the run begins.
    """

    script: Script
    starts: tuple[int, ...]
    begins: Numbers

    def part(self, number: int) -> slice:
        """Return the slice of packets that belong to a capture."""
        ends = (*self.starts[1:], len(self.script.flow))
        return slice(self.starts[number], ends[number])


def joined(scripts: Sequence[Script]) -> Joint:
    """Return several scripts merged into one; all begin at the same moment."""
    counts = np.array([len(one.flow) for one in scripts])
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    begins = np.array([beginning(one) for one in scripts], np.int64)
    flows = shifts([len(one.held.flows) for one in scripts])
    latches = shifts([len(one.need) for one in scripts])
    calls = shifts([len(one.timer) for one in scripts])

    def column(name: str, by: Numbers | None = None) -> NDArray[Any]:
        parts = [getattr(one, name) for one in scripts]
        if by is None:
            return np.concatenate(parts)
        moved = zip(parts, by, strict=True)
        return np.concatenate([np.where(part >= 0, part + more, part) for part, more in moved])

    sends = [one.send - begin for one, begin in zip(scripts, begins, strict=True)]
    first_child, child = lists([(one.first_child, one.child) for one in scripts], starts)
    first_opens, opens = lists([(one.first_opens, one.opens) for one in scripts], latches)
    empty = np.zeros(0, np.int64)
    script = timed(
        Script(
            held=joint_index([one.held for one in scripts]),
            near_is_source=column("near_is_source"),
            flow=column("flow", flows),
            side=column("side"),
            send=np.concatenate(sends),
            base=column("base"),
            gate=column("gate", starts),
            think=empty,
            first_child=first_child,
            child=child,
            before=column("before", starts),
            gap=empty,
            after=column("after", starts),
            latches=column("latches", latches),
            need=column("need"),
            first_opens=first_opens,
            opens=opens,
            opens_at=empty,
            heard=column("heard"),
            first_reception=empty,
            call=column("call", calls),
            timer=column("timer"),
            latch_call=column("latch_call", calls),
            media=column("media"),
            law=column("law"),
            consent=column("consent"),
            consent_ns=joint_slots([one.consent_ns for one in scripts]),
            streams=joint_streams([one.streams for one in scripts]),
            calls=[],
            model=scripts[0].model,
        )
    )
    return Joint(script, tuple(int(start) for start in starts), begins)


def beginning(script: Script) -> int:
    """Return the time, ns, at which the first packet that crosses the box leaves its sender."""
    routed = script.send[script.side != LOCAL]
    some = routed if len(routed) else script.send
    return int(some.min()) if len(some) else 0


def shifts(lengths: Sequence[int]) -> Numbers:
    """Return the offset added to each capture's numbers: the lengths of those before it."""
    return np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)


def lists(parts: Sequence[tuple[Numbers, Numbers]], by: Numbers) -> tuple[Numbers, Numbers]:
    """Return per-packet lists, (first[n + 1], values), merged; `by` is added to the values."""
    more = shifts([len(values) for _, values in parts])
    firsts = [first[:-1] + shift for (first, _), shift in zip(parts, more, strict=True)]
    total = sum(len(values) for _, values in parts)
    values = [values + shift for (_, values), shift in zip(parts, by, strict=True)]
    return np.concatenate((*firsts, [total])).astype(np.int64), np.concatenate(values)


def joint_slots(parts: Sequence[Numbers]) -> Numbers:
    """Return int64[2 * flows + 2] of several captures; the last two slots belong to no flow."""
    return np.concatenate((*(one[:-2] for one in parts), np.zeros(2, np.int64)))


def joint_streams(parts: Sequence[Streams]) -> Streams:
    """Return the streams of several captures, merged."""
    own = shifts([len(one.base) - 1 for one in parts])
    pieces = shifts([int(one.base[-1]) for one in parts])
    first_piece, piece = lists([(one.first_piece, one.piece) for one in parts], pieces)
    streams = zip(parts, own, pieces, strict=True)
    moved = [
        (np.where(one.stream >= 0, one.stream + more, -1), one.after + room, one.base[:-1] + room)
        for one, more, room in streams
    ]
    stream, after, base = (np.concatenate(column) for column in zip(*moved, strict=True))
    total = sum(int(one.base[-1]) for one in parts)
    return Streams(stream, after, first_piece, piece, np.append(base, total).astype(np.int64))


def joint_index(parts: Sequence[PacketIndex]) -> PacketIndex:
    """Return the facts and flows of several captures, concatenated."""
    facts = np.concatenate([one.facts for one in parts])
    return PacketIndex(parts[0].packets, facts, np.concatenate([one.flows for one in parts]))


class Frames(NamedTuple):
    """The frames of the joint script: packet i is data[at[i] : at[i] + size[i]]."""

    data: Octets
    at: Numbers
    size: Numbers
    clipped: int  # frames too large for a ring (captured with offloads), sent truncated


def frames(parts: Sequence[Packets], run: int, largest: int) -> Frames:
    """Return the frames of several captures, each with its number in its MAC source.

    parts: Ethernet frames as testbed.network.access wraps them; run: the octet that marks the run;
    largest: octets of the largest frame that the network takes.
    """
    at = np.concatenate(
        [
            one.offset + shift
            for one, shift in zip(parts, shifts([len(p.data) for p in parts]), strict=True)
        ]
    )
    data = np.concatenate([one.data for one in parts])
    captured = np.concatenate([one.captured for one in parts])
    numbers = np.flatnonzero(captured >= 14)
    place = at[numbers]
    data[place + 6], data[place + 7] = 2, run
    for octet in range(4):
        data[place + 8 + octet] = (numbers >> (24 - 8 * octet)) & 0xFF
    return Frames(data, at, np.minimum(captured, largest), int((captured > largest).sum()))


@kernel
def write_checksums(data: Octets, at: Numbers, size: Numbers, around: int) -> int:
    """Write the header checksum (RFC 791) of every IPv4 packet in frames; returns how many changed.

    around: octets before a frame's IP packet. Captures taken at the sending machine often lack the
    checksum, because the network card writes it; on a wire it is present, and kernels check it.
    """
    changed = I(0)
    for i in range(len(at)):
        start = at[i] + around
        if size[i] < around + 20 or u8(data, start) >> 4 != 4:
            continue
        length = 4 * (u8(data, start) & 15)
        if length < 20 or size[i] < around + length:
            continue
        current = u16(data, start + 10)
        correct = checksum(summed(data, start, start + length) - current)
        if current != correct:
            put16(data, start + 10, correct)
            changed += 1
    return changed
