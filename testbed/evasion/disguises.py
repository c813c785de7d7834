# SPDX-License-Identifier: BSD-3-Clause
"""Disguises: changes by which the ends of a call could hide it from a box, and their cost.

A disguise rewrites a capture's calls as control arms do (testbed.evasion.controls), and may add
packets: a handshake, cover traffic. Both ends are assumed to use the disguise and to undo it. The
measurement covers what the box sees and does, the cost in bytes and delay, and the collateral of a
rule that still matches the call. This module explains no implementation; each disguise is in public
use somewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call
from midcall.testbed.evasion.controls import PORTS, octets, routed
from midcall.testbed.evasion.rewriter import Rewriter, carries
from midcall.testbed.evasion.tunnel import (
    TLS,
    TURN_TLS,
    WIREGUARD,
    Rewritten,
    ip,
    subscriber_address,
    tunnelled,
)
from midcall.testbed.replay.payload_addresses import COOKIE
from midcall.testbed.replay.script import Script, script
from midcall.testbed.replay.sides import CALLER
from midcall.testbed.replay.splice import Added, spliced

Numbers = NDArray[np.int64]

#: Padding goes up to the next multiple of this, and not over LARGEST, in octets.
BUCKET, LARGEST = 256, 1_200
#: A hopping flow changes its far port this often, in ns.
HOP = 5_000_000_000
#: Constant rate: the slot of a voice call, in ns, and the factor of its rate over the mean rate.
SLOT, ROOM = 20_000_000, 1.25
#: Cover traffic stops after this time without a packet of the flow, in ns.
QUIET = 5_000_000_000
#: Ports of the script's own flows of cover traffic (discard, RFC 863; never on the wire).
COVER_PORT = 9
#: A suite that replaces a hello's last one (TLS_ECDHE_ECDSA_WITH_AES_128_CCM, RFC 7251), and one
#: for hellos that end on it already.
SUITES = (b"\xc0\xac", b"\xc0\xad")
#: Octets of a TLS hello in its first segment.
FIRST_PIECE = 3

NOTHING = np.zeros(0, np.int64)


class Disguise(NamedTuple):
    """One disguise: its name, what it does and what it needs in words, and its function."""

    name: str
    says: str
    needs: str
    make: Callable[[Script, Sequence[Call], int], Rewritten]


def own_packets(orders: Script) -> Numbers:
    """Return the packets of the calls' own flows that carry a datagram's payload."""
    flows = sorted({flow for part in orders.calls for flow in part.flows})
    own = carries(orders.held)
    own = own[np.isin(orders.flow[own], flows) & (orders.side[own] <= 1)]
    return np.asarray(own[orders.held.facts["proto"][own] == UDP], np.int64)


def plain(
    orders: Script, calls: Sequence[Call], rewriter: Rewriter, added: Numbers = NOTHING
) -> Rewritten:
    """Return the result of a disguise without tunnels; added: its own packets."""
    return Rewritten(orders, tuple(calls), rewriter, (), tuple(added.tolist()))


# ---- the same packets, rewritten


def padded(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Fill every datagram of the calls up to a multiple of BUCKET with random octets."""
    rewriter = Rewriter(orders.held)
    for i in own_packets(orders).tolist():
        body = rewriter.body(i)
        size = max(min(-(-len(body) // BUCKET) * BUCKET, LARGEST), len(body))
        rewriter.put(i, body + octets(seed, "padding", i, size=size - len(body)))
    return plain(orders, calls, rewriter)


def hopping(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Change the far port of the calls' UDP flows at the begin, and then every HOP."""
    rewriter = Rewriter(orders.held)
    time, (first, last) = orders.held.packets.time, PORTS
    own = own_packets(orders)
    begins = {int(flow): int(time[own[orders.flow[own] == flow][0]]) for flow in orders.flow[own]}
    for i in own.tolist():
        flow = int(orders.flow[i])
        epoch = max(int(time[i]) - begins[flow], 0) // HOP
        draw = int.from_bytes(octets(seed, "hop", flow, epoch, size=4), "big")
        rewriter.port(i, bool(orders.side[i] != CALLER), first + draw % (last - first + 1))
    return plain(orders, calls, rewriter)


def masked(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Replace STUN's magic cookie by another constant in all packets of the calls."""
    rewriter, mask = Rewriter(orders.held), octets(seed, "cookie", size=4)
    flows = sorted({flow for part in orders.calls for flow in part.flows})
    carrying = carries(orders.held)
    for i in carrying[np.isin(orders.flow[carrying], flows)].tolist():
        body = rewriter.body(i)
        if COOKIE in body:
            rewriter.put(i, body.replace(COOKIE, mask))
    return plain(orders, calls, rewriter)


def other_hello(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Offer another cipher suite in DTLS ClientHellos: another fingerprint, of the same length."""
    del seed
    rewriter = Rewriter(orders.held)
    for i in own_packets(orders).tolist():
        body = rewriter.body(i)
        at = last_suite(body)
        if at is not None:
            rewriter.poke(i, at, SUITES[body[at : at + 2] == SUITES[0]])
    return plain(orders, calls, rewriter)


def last_suite(body: bytes) -> int | None:
    """Return the offset of a DTLS ClientHello's last cipher suite (RFC 6347), None for none."""
    if not (len(body) > 62 and body[0] == 22 and body[1] == 0xFE and body[13] == 1):
        return None
    at = 25 + 2 + 32
    for _ in ("session", "cookie"):
        at += 1 + body[at] if at < len(body) else len(body)
    if at + 2 > len(body):
        return None
    end = at + 2 + struct.unpack_from(">H", body, at)[0]
    return end - 2 if at + 4 <= end <= len(body) else None


# ---- with packets of its own


def split(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Send set-up in two pieces: datagrams as two IP fragments, TLS hellos as two segments.

    The first fragment holds only the UDP header. The second piece keeps the packet's number in the
    script; the first is an added packet (`pieces_lost` counts those that the box drops).
    """
    del seed
    index = orders.held
    chosen = [i for i in carries(index).tolist() if orders.side[i] <= 1 and is_setup(orders, i)]
    extra = [Added(int(index.packets.time[i]), cover(orders, i, 8), before=i) for i in chosen]
    inserted = spliced(index.packets, calls, extra)
    after = script(inserted.packets, inserted.calls)
    rewriter = Rewriter(after.held)
    for i, first in zip(inserted.kept[chosen].tolist(), inserted.added.tolist(), strict=True):
        pieces = in_fragments if after.held.facts["proto"][i] == UDP else in_segments
        one, two = pieces(rewriter, i)
        rewriter.replace(first, one)
        rewriter.replace(i, two)
    return plain(after, inserted.calls, rewriter, inserted.added)


def is_setup(orders: Script, i: int) -> bool:
    """Tell whether a packet is call set-up of a kind that boxes match, and can be split."""
    fact = orders.held.facts[i]
    body = orders.held.packets.data[int(fact["at"]) : int(fact["end"])].tobytes()
    whole = fact["ip_end"] - fact["ip_at"] == fact["ip_size"]
    if fact["version"] != 4 or not whole:
        return False
    if fact["proto"] == TCP:
        return len(body) > 9 and body[0] == 22 and body[5] == 1
    own = orders.call[i] >= 0
    return bool(own and (fact["stun"] > 0 or (body[:1] == b"\x16" and body[1:2] == b"\xfe")))


def in_fragments(rewriter: Rewriter, i: int) -> tuple[bytes, bytes]:
    """Return an IPv4 datagram as two fragments (RFC 791): the UDP header, and the rest."""
    packet, start = rewriter.packet(i), rewriter.header(i)
    head = bytearray(packet[:start])
    head[4:6] = struct.pack(">H", i & 0xFFFF)
    out = []
    for offset, last in ((0, False), (1, True)):
        part = packet[start + 8 :] if last else packet[start : start + 8]
        piece = head + part
        struct.pack_into(">H", piece, 2, len(piece))
        struct.pack_into(">H", piece, 6, offset if last else 0x2000)
        out.append(bytes(piece))
    return out[0], out[1]


def in_segments(rewriter: Rewriter, i: int) -> tuple[bytes, bytes]:
    """Return an IPv4 TCP segment as two: its first octets, and the rest."""
    packet, start = rewriter.packet(i), rewriter.header(i)
    at = len(packet) - len(rewriter.body(i))
    out = []
    for first, last in ((at, at + FIRST_PIECE), (at + FIRST_PIECE, len(packet))):
        piece = bytearray(packet[:at]) + packet[first:last]
        sequence = struct.unpack_from(">I", packet, start + 4)[0] + first - at
        struct.pack_into(">I", piece, start + 4, sequence & 0xFFFFFFFF)
        struct.pack_into(">H", piece, 2, len(piece))
        out.append(bytes(piece))
    return out[0], out[1]


def cover(orders: Script, i: int, size: int) -> bytes:
    """Return a packet for the script that no other packet waits for, on the path of packet i.

    It is the place of a packet that a disguise adds; the rewriter sets its content on the wire.
    """
    fact, up = orders.held.facts[i], bool(orders.side[i] == CALLER)
    subscriber = subscriber_address(orders, i)
    data, span = orders.held.packets.data, len(subscriber)
    first = int(fact["ip_at"]) + (12 if span == 4 else 8) + (span if up else 0)
    remote = data[first : first + span].tobytes()
    port = (
        COVER_PORT if up else COVER_PORT + 1
    )  # one flow per direction: neither waits for the other
    ports = (49_151, port) if up else (port, 49_151)
    return ip(subscriber, remote, UDP, up, struct.pack(">HHHH", *ports, 8 + size, 0) + bytes(size))


def constant(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Send the calls' media flows in datagrams of one size at one rate, with cover in between.

    Per flow and direction a slot is SLOT, or shorter where the mean rate needs ROOM times as many;
    a packet waits for the next free slot, an empty one carries random octets.
    """
    due, extra, models = dict[int, int](), [], []
    sizes: dict[int, int] = {}
    for own in media_streams(orders):
        size = int(orders.held.facts["size"][own].max())
        sent, empty = slots(orders.held.packets.time[own])
        due.update(zip(own.tolist(), sent, strict=True))
        sizes.update(dict.fromkeys(own.tolist(), size))
        packet = cover(orders, int(own[0]), size)
        extra += [Added(time, packet) for time in empty]
        models += [int(own[0])] * len(empty)
    inserted = spliced(orders.held.packets, calls, extra)
    after = script(inserted.packets, inserted.calls)
    rewriter = Rewriter(after.held)
    for i, time in due.items():
        place = int(inserted.kept[i])
        rewriter.time[place] = time
        body = rewriter.body(place)
        rewriter.put(place, body + octets(seed, "filling", i, size=max(sizes[i] - len(body), 0)))
    for place, model in zip(inserted.added.tolist(), models, strict=True):
        image = int(inserted.kept[model])
        cover_packet = bytearray(rewriter.packet(image))
        at = len(cover_packet) - len(rewriter.body(image))
        cover_packet[at:] = octets(seed, "cover", place, size=len(cover_packet) - at)
        rewriter.replace(place, bytes(cover_packet))
    return plain(after, inserted.calls, rewriter, inserted.added)


def media_streams(orders: Script) -> Iterator[Numbers]:
    """Yield the datagrams of each media flow and direction."""
    own = own_packets(orders)
    media = sorted({flow for part in orders.calls for flow in part.media})
    for flow in media:
        for side in (0, 1):
            datagrams = own[(orders.flow[own] == flow) & (orders.side[own] == side)]
            if len(datagrams) > 1:
                yield datagrams


def slots(times: Numbers) -> tuple[list[int], list[int]]:
    """Return when packets leave in slots, and the slots that stay empty, in ns."""
    times = np.maximum.accumulate(times)
    gaps = np.diff(times)
    busy = int(gaps[gaps < QUIET].sum()) or SLOT
    slot = int(min(SLOT, busy / (ROOM * len(times))))
    sent, empty, free = [], [], int(times[0])
    for time in times.tolist():
        if time - free > QUIET:
            free = time
        while free < time:
            empty.append(free)
            free += slot
        sent.append(free)
        free += slot
    return sent, empty


# ---- tunnels


def turn_tls(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Carry the calls' datagrams to a relay over TLS on port 443, as TURN's clients can."""
    return tunnelled(orders, list(calls), seed, TURN_TLS, own_packets(orders), whole=False)


def wireguard(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Carry all packets of the subscriber through a tunnel that looks like WireGuard."""
    return tunnelled(orders, list(calls), seed, WIREGUARD, all_routed(orders), whole=True)


def tls_tunnel(orders: Script, calls: Sequence[Call], seed: int) -> Rewritten:
    """Carry all packets of the subscriber through a tunnel that looks like TLS on port 443."""
    return tunnelled(orders, list(calls), seed, TLS, all_routed(orders), whole=True)


def all_routed(orders: Script) -> Numbers:
    """Return the TCP and UDP packets that meet a box, fragments' later pieces left out."""
    own = routed(orders)
    facts = orders.held.facts
    return own[np.isin(facts["proto"][own], (TCP, UDP)) & (facts["at"][own] > facts["ip_at"][own])]


DISGUISES = (
    Disguise("padding", f"datagrams filled up to a multiple of {BUCKET} octets",
             "both apps strip what was added", padded),
    Disguise("hopping", f"far ports drawn at random, anew every {HOP // 10**9} s",
             "a relay that listens on many ports", hopping),
    Disguise("stun-masked", "another constant for STUN's magic cookie",
             "both apps and the relay know the constant", masked),
    Disguise("dtls-hello", "another cipher suite in DTLS ClientHellos",
             "one end's library offers it", other_hello),
    Disguise("split", "set-up in two pieces: IP fragments, TCP segments",
             "the sender alone; networks that pass fragments", split),
    Disguise("constant-rate", "media in datagrams of one size at one rate, with cover traffic",
             "both apps pace, fill and strip", constant),
    Disguise("turn-tls", "media over TURN in TLS on port 443", "a relay that offers it", turn_tls),
    Disguise("wireguard", "everything in a tunnel like WireGuard", "a server elsewhere", wireguard),
    Disguise("tls-tunnel", "everything in a tunnel like TLS on port 443", "a server elsewhere",
             tls_tunnel),
)  # fmt: skip


def disguised(one: Disguise, packets: Packets, calls: Sequence[Call], seed: int) -> Rewritten:
    """Return a capture as rewritten by a disguise."""
    return one.make(script(packets, calls), calls, seed)
