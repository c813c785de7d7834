# SPDX-License-Identifier: BSD-3-Clause
"""Probes: packets sent through a box to find what it matches on.

A probe is a tuple of Sent in order of time. The prober controls both ends, so no packet waits for
another: a probe states only what is sent, when, and by which end. `probe_of` reads one from a
capture (tunnels taken off), `packets_of_probe` writes one as bare IP packets whose lengths,
checksums and TCP sequence numbers are correct after any change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets, packets_of
from midcall.errors import TestbedError
from midcall.testbed.middlebox.marking import dscp_of
from midcall.testbed.network.ip_packets import RAW_IP, UNSUMMED, ip_packet
from midcall.testbed.replay.script import script
from midcall.testbed.replay.sides import CALLER, FAR

#: Begin of probes, in ns since 1970 (arbitrary).
BEGIN = 1_456_000_000_000_000_000
PUSH = 0x18
#: Sequence numbers of TCP that the two ends begin with.
FIRST_UP, FIRST_DOWN = 1000, 5000
#: Octets of a payload, at most, so that the IP packet's length has room.
LONGEST = 65_000


class Ends(NamedTuple):
    """A flow's transport and ends; addresses are 4 or 16 octets, near is the subscriber's."""

    proto: int
    near: bytes
    near_port: int
    far: bytes
    far_port: int


class Sent(NamedTuple):
    """One packet of a probe. time: ns since the probe's begin; up: away from the subscriber.

    before: earlier payloads of its flow and direction, for readers of messages in several packets;
    they are not sent with it. dscp: code point of its IP header, 0 to 63 (RFC 2474).
    """

    time: int
    up: bool
    ends: Ends
    payload: bytes
    flags: int = PUSH  # of TCP
    before: tuple[bytes, ...] = ()
    dscp: int = 0


Probe = tuple[Sent, ...]


def in_order(packets: Iterable[Sent]) -> Probe:
    """Return packets as a probe: in order of time, the first one at 0."""
    ordered = sorted(packets, key=when)
    begin = ordered[0].time if ordered else 0
    return tuple(one._replace(time=one.time - begin) for one in ordered)


def when(one: Sent) -> int:
    """Return when a packet is sent."""
    return one.time


def flows_of(probe: Probe) -> list[Ends]:
    """Return a probe's flows, in order of their first packets."""
    return list(dict.fromkeys(one.ends for one in probe))


def flow_numbers(probe: Probe) -> NDArray[np.int64]:
    """Return the place of each packet's flow in `flows_of`, int64[packets]."""
    numbers = {ends: number for number, ends in enumerate(flows_of(probe))}
    return np.array([numbers[one.ends] for one in probe], np.int64)


def ip_size(one: Sent) -> int:
    """Return the octets of a packet from its IP header on."""
    return ip_head(one) + transport_head(one) + len(one.payload)


def ip_head(one: Sent) -> int:
    """Return the octets of a packet's IP header."""
    return 20 if len(one.ends.near) == 4 else 40


def transport_head(one: Sent) -> int:
    """Return the octets of a packet's transport header."""
    return {TCP: 20, UDP: 8}.get(one.ends.proto, 0)


# ---- from a capture


def probe_of(packets: Packets) -> Probe:
    """Return the packets of a capture that pass the box, as a probe.

    The part of a payload that a snaplen cut off is filled with zeros. Raises TestbedError for a
    capture in which no packet would meet a box.
    """
    orders = script(packets, (), "time")
    sent = []
    for i in range(packets.total):
        side, number = int(orders.side[i]), int(orders.flow[i])
        if number < 0 or side not in (CALLER, FAR):
            continue
        fact, flow = orders.held.facts[i], orders.held.flows[number]
        source = (address(flow, "source"), int(flow["source_port"]))
        target = (address(flow, "target"), int(flow["target_port"]))
        subscriber, remote = (source, target) if orders.near_is_source[number] else (target, source)
        body = packets.data[int(fact["at"]) : max(int(fact["end"]), int(fact["at"]))].tobytes()
        payload = body.ljust(int(fact["size"]), b"\0")[:LONGEST]
        ends = Ends(int(fact["proto"]), *subscriber, *remote)
        flags = int(fact["flags"]) & 0xFF if ends.proto == TCP else PUSH
        dscp = int(dscp_of(packets.data, int(fact["ip_at"]), int(fact["version"])))
        sent.append(Sent(int(packets.time[i]), side == CALLER, ends, payload, flags, dscp=dscp))
    if not sent:
        raise TestbedError("no packet of this capture would meet a box between its two sides")
    return in_order(sent)


def address(flow: object, end: str) -> bytes:
    """Return an address of a flow record as octets."""
    lanes = [int(lane) for lane in flow[end]]  # type: ignore[index]
    size = 1 if flow["version"] == 4 else 4  # type: ignore[index]
    return b"".join(struct.pack(">I", lane) for lane in lanes[:size])


# ---- as packets


def packets_of_probe(probe: Probe) -> Packets:
    """Return a probe as bare IP packets, times counted from BEGIN."""
    return packets_of(list(frames(probe)), [BEGIN + one.time for one in probe], RAW_IP)


def frames(probe: Probe) -> Iterator[bytes]:
    """Yield each packet of a probe from its IP header on."""
    sequences: dict[tuple[Ends, bool], int] = {}
    for one in probe:
        own_direction, other_direction = (one.ends, one.up), (one.ends, not one.up)
        sequence = sequences.get(own_direction, FIRST_UP if one.up else FIRST_DOWN)
        if one.ends.proto == TCP:
            flag_bytes = 1 if one.flags & 3 else 0  # SYN and FIN count (RFC 9293)
            sequences[own_direction] = (sequence + len(one.payload) + flag_bytes) & 0xFFFFFFFF
        yield frame(one, sequence, sequences.get(other_direction, 0))


def frame(one: Sent, sequence: int, acknowledged: int) -> bytes:
    """Return a packet as IPv4 or IPv6; sequence and acknowledged: of TCP."""
    ends = one.ends
    addresses = (ends.near, ends.far) if one.up else (ends.far, ends.near)
    ports = (ends.near_port, ends.far_port) if one.up else (ends.far_port, ends.near_port)
    head = b""
    if ends.proto == UDP:
        head = udp_head(ports, len(one.payload))
    elif ends.proto == TCP:
        head = tcp_head(ports, sequence, acknowledged, one.flags)
    return ip_packet(*addresses, ends.proto, head + one.payload, dscp=one.dscp)


def udp_head(ports: tuple[int, int], size: int) -> bytes:
    """Return a UDP header without its checksum; size: octets of the payload."""
    return struct.pack(">HHHH", *ports, 8 + size, UNSUMMED)


def tcp_head(ports: tuple[int, int], sequence: int, acknowledged: int, flags: int) -> bytes:
    """Return a TCP header without its checksum."""
    return struct.pack(
        ">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, flags, 65535, UNSUMMED, 0
    )
