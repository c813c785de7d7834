# SPDX-License-Identifier: BSD-3-Clause
"""The XDP program of decided flows: looks up a frame's key, then drops or forwards the frame.

It runs in the kernel where a frame arrives at a port of the box, before the rings. It walks
Ethernet, up to two VLAN tags, PPPoE, IPv4 or IPv6, and GTP-U with its extension headers around
another IPv4 or IPv6, down to UDP or TCP ports. What it cannot parse (fragments, IP options and
extension headers, other tunnels, anything damaged) goes up to the box, whose parser is complete.
`testbed.live.offload.flow_key` is the same walk in compiled Python; a test compares the two.

Registers: R6 the frame's first octet, R7 its end, R8 where the next layer begins, R9 where the
innermost packet ends (both counted from the first octet). R0 to R5 are scratch.

Sources: IEEE 802.1Q, RFC 2516 (PPPoE), RFC 791 and 8200 (IP), RFC 768 and 9293 (UDP, TCP), 3GPP TS
29.281 section 5 (GTP-U).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midcall.captures.packets.numbers import GTP_PORT, IP4, IP6, L2TP_PORT, TEREDO_PORT, VXLAN_PORT
from midcall.testbed.live.offload.bpf import (
    CLOCK,
    FRAME,
    MAP_LOOKUP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    REDIRECT,
    XDP_DROP,
    XDP_PASS,
    Program,
)

#: The key of a flow, one entry for each direction. Addresses, ports and the tunnel's id are as in
#: the packet (big-endian); IPv4 uses the first four octets of an address.
KEY = np.dtype(
    [
        ("source", "u1", (16,)),
        ("target", "u1", (16,)),
        ("source_port", ">u2"),
        ("target_port", ">u2"),
        ("teid", ">u4"),  # of GTP-U
        ("session", ">u2"),  # of PPPoE
        ("version", "u1"),
        ("proto", "u1"),
        ("vlans", "u4"),  # the inner tag's 12 bits, the outer's above them
        ("layers", "u4"),  # bits of this module: what the three above mean
        ("spare", "u4"),
    ]
)
KEY_SIZE = 56
assert KEY.itemsize == KEY_SIZE

#: The value of an entry; flow and rule are copied into the trace.
ENTRY = np.dtype([("action", "i4"), ("slot", "i4"), ("flow", "i4"), ("rule", "i4")])
TO_REDIRECT, TO_DROP = 0, 1

#: The program's counts per slot, in memory that the box reads: IP packets, their octets, and the
#: arrival of the last one (CLOCK_MONOTONIC, ns).
COUNT = np.dtype([("packets", "i8"), ("bytes", "i8"), ("last", "i8"), ("spare", "i8")])

#: The program's trace of a tagged frame: when (CLOCK_MONOTONIC, ns; 0: never), and the entry.
TRACE = np.dtype([("time", "i8"), ("action", "i4"), ("slot", "i4"), ("flow", "i4"), ("rule", "i4")])

# Bits of `layers`.
TAGGED, TAGGED_TWICE, IN_PPPOE, IN_GTP = 1, 2, 4, 8

#: GTP-U extension headers walked; TS 29.281 defines no packet with more.
EXTENSIONS = 4

VLANS = (0x8100, 0x88A8, 0x9100)

# Places on the stack, below FRAME.
KEY_AT = -KEY_SIZE
TIME_AT, SIZE_AT, SLOT_AT, NUMBER_AT = KEY_AT - 8, KEY_AT - 16, KEY_AT - 24, KEY_AT - 32


class Shared(NamedTuple):
    """Descriptors of the maps that a program uses; trace -1: nothing is traced."""

    entries: int  # hash: KEY -> ENTRY
    counts: int  # array: slot -> COUNT
    trace: int = -1  # array: packet number -> TRACE
    tag: int = 0  # the run's octet in the tags of its frames


def key_field(name: str) -> int:
    """Return the offset of a field of the key on the stack."""
    fields = KEY.fields
    assert fields is not None
    return KEY_AT + int(fields[name][1])


def shortcut(shared: Shared, other: int, name: str = "midcall") -> Program:
    """Return the program of a port; other: index of the interface that frames leave by."""
    p = Program(name)
    begin(p)
    tags(p)
    pppoe(p)
    p.section("IP")
    p.jump_if(R3, "==", IP4, "outer IPv4")
    p.jump_if(R3, "==", IP6, "outer IPv6")
    p.jump("up")
    ipv4(p, "outer")
    ipv6(p, "outer")
    transport(p, "outer")
    gtp(p)
    ipv4(p, "inner")
    ipv6(p, "inner")
    transport(p, "inner")
    look_up(p, shared)
    if shared.trace >= 0:
        trace(p, shared)
    act(p, other)
    return p


def need(p: Program, size: int) -> None:
    """Point R1 at the next layer, of which `size` octets must be in the frame."""
    p.do(R1, "=", R6)
    p.do(R1, "+=", R8)
    p.do(R2, "=", R1)
    p.do(R2, "+=", size)
    p.jump_if(R2, ">", R7, "up")


def within(p: Program, size: int) -> None:
    """Jump to "up" where fewer than `size` octets of the packet are left."""
    p.do(R2, "=", R8)
    p.do(R2, "+=", size)
    p.jump_if(R2, ">", R9, "up")


def begin(p: Program) -> None:
    """Clear the key and read the Ethernet header; leaves the EtherType in R3."""
    p.section("Ethernet")
    p.load(R6, 4, R1, 0)
    p.load(R7, 4, R1, 4)
    for place in range(0, KEY_SIZE, 8):
        p.store_number(8, FRAME, KEY_AT + place, 0)
    p.do(R8, "=", 0)
    p.do(R5, "=", 0)
    need(p, 14)
    p.load_network(R3, 2, R1, 12)
    p.do(R8, "=", 14)


def tags(p: Program) -> None:
    """Strip up to two VLAN tags; R3 is the EtherType behind them, R5 the layers' bits."""
    p.section("VLAN")
    p.do(R4, "=", 0)
    for bit in (TAGGED, TAGGED_TWICE):
        for word in VLANS:
            p.jump_if(R3, "==", word, f"tag {bit}")
        p.jump("tags done")
        p.label(f"tag {bit}")
        need(p, 4)
        p.load_network(R3, 2, R1, 0)
        p.do(R3, "&=", 0xFFF)
        p.do(R4, "<<=", 12)
        p.do(R4, "|=", R3)
        p.load_network(R3, 2, R1, 2)
        p.do(R8, "+=", 4)
        p.do(R5, "|=", bit)
    p.label("tags done")
    p.store(4, FRAME, key_field("vlans"), R4)


def pppoe(p: Program) -> None:
    """Strip a PPPoE session header and the PPP protocol; R3 is the EtherType of the content."""
    p.section("PPPoE")
    p.jump_if(R3, "!=", 0x8864, "no session")
    need(p, 8)
    p.load_network(R3, 2, R1, 0)
    p.jump_if(R3, "!=", 0x1100, "up")
    p.load(R3, 2, R1, 2)
    p.store(2, FRAME, key_field("session"), R3)
    p.do(R5, "|=", IN_PPPOE)
    p.do(R8, "+=", 8)
    p.load_network(R4, 2, R1, 6)
    p.do(R3, "=", IP4)
    p.jump_if(R4, "==", 0x0021, "no session")
    p.do(R3, "=", IP6)
    p.jump_if(R4, "!=", 0x0057, "up")
    p.label("no session")
    p.store(4, FRAME, key_field("layers"), R5)


def ipv4(p: Program, which: str) -> None:
    """Read an IPv4 header without options; leaves the protocol in R3."""
    p.section(f"{which} IPv4")
    p.label(f"{which} IPv4")
    need(p, 20)
    p.load(R3, 1, R1, 0)
    p.jump_if(R3, "!=", 0x45, "up")
    p.load_network(R3, 2, R1, 6)
    p.jump_if(R3, "&", 0x3FFF, "up")
    p.store_number(1, FRAME, key_field("version"), 4)
    for name, place in (("source", 12), ("target", 16)):
        p.load(R3, 4, R1, place)
        p.store(4, FRAME, key_field(name), R3)
    p.load(R3, 1, R1, 9)
    p.load_network(R4, 2, R1, 2)
    p.jump_if(R4, "<", 20, "up")
    end_of_packet(p, which)
    p.do(R8, "+=", 20)
    p.jump(f"{which} transport")


def ipv6(p: Program, which: str) -> None:
    """Read an IPv6 header; leaves the protocol in R3. Extension headers are not parsed."""
    p.section(f"{which} IPv6")
    p.label(f"{which} IPv6")
    need(p, 40)
    p.load(R3, 1, R1, 0)
    p.do(R3, ">>=", 4)
    p.jump_if(R3, "!=", 6, "up")
    p.store_number(1, FRAME, key_field("version"), 6)
    for name, place in (("source", 8), ("target", 24)):
        for half in (0, 8):  # in halves, as the address may be unaligned
            for part in (0, 4):
                p.load(R3, 4, R1, place + half + part)
                p.store(4, FRAME, key_field(name) + half + part, R3)
    p.load(R3, 1, R1, 6)
    p.load_network(R4, 2, R1, 4)
    p.jump_if(R4, "==", 0, "up")
    p.do(R4, "+=", 40)
    end_of_packet(p, which)
    p.do(R8, "+=", 40)


def end_of_packet(p: Program, which: str) -> None:
    """Require the R4 octets of the packet; R9 becomes their end."""
    p.store(8, FRAME, SIZE_AT, R4)
    p.store(1, FRAME, key_field("proto"), R3)
    p.do(R4, "+=", R8)
    if which == "outer":
        p.do(R1, "=", R6)
        p.do(R1, "+=", R4)
        p.jump_if(R1, ">", R7, "up")
    else:
        p.jump_if(R4, ">", R9, "up")
    p.do(R9, "=", R4)


def transport(p: Program, which: str) -> None:
    """Read the ports; packets on a GTP-U port are unwrapped, those of other tunnels go up."""
    p.section(f"{which} transport")
    p.label(f"{which} transport")
    p.jump_if(R3, "==", 17, f"{which} UDP")
    p.jump_if(R3, "!=", 6, "up")
    within(p, 20)
    need(p, 20)
    p.load(R3, 1, R1, 12)
    p.jump_if(R3, "<", 0x50, "up")
    p.load(R3, 4, R1, 0)
    p.store(4, FRAME, key_field("source_port"), R3)
    p.jump("look")
    p.label(f"{which} UDP")
    within(p, 8)
    need(p, 8)
    p.load(R3, 4, R1, 0)
    p.store(4, FRAME, key_field("source_port"), R3)
    p.load_network(R3, 2, R1, 0)
    p.load_network(R4, 2, R1, 2)
    for port in (R3, R4):
        p.jump_if(port, "==", GTP_PORT, "GTP-U" if which == "outer" else "up")
        p.jump_if(port, "==", L2TP_PORT, "up")
        p.jump_if(port, "==", TEREDO_PORT, "up")
    p.jump_if(R4, "==", VXLAN_PORT, "up")
    p.jump("look")


def gtp(p: Program) -> None:
    """Strip the UDP and GTP-U headers of a user's packet, including extension headers."""
    p.section("GTP-U")
    p.label("GTP-U")
    p.do(R8, "+=", 8)
    within(p, 8)
    need(p, 8)
    p.load(R5, 1, R1, 0)
    p.do(R3, "=", R5)
    p.do(R3, "&=", 0xF0)
    p.jump_if(R3, "!=", 0x30, "up")
    p.load(R3, 1, R1, 1)
    p.jump_if(R3, "!=", 0xFF, "up")
    p.load(R3, 4, R1, 4)
    p.store(4, FRAME, key_field("teid"), R3)
    p.load(R3, 4, FRAME, key_field("layers"))
    p.do(R3, "|=", IN_GTP)
    p.store(4, FRAME, key_field("layers"), R3)
    for place in range(0, 32, 8):  # the outer addresses are no part of the key
        p.store_number(8, FRAME, key_field("source") + place, 0)
    p.load_network(R4, 2, R1, 2)
    p.do(R8, "+=", 8)
    p.do(R4, "+=", R8)
    p.jump_if(R4, ">", R9, "up")
    p.do(R9, "=", R4)
    p.do(R3, "=", 0)
    p.do(R4, "=", R5)
    p.do(R4, "&=", 7)
    p.jump_if(R4, "==", 0, "user's packet")
    extensions(p)
    p.label("user's packet")
    need(p, 20)
    p.load(R3, 1, R1, 0)
    p.do(R3, ">>=", 4)
    p.jump_if(R3, "==", 6, "inner IPv6")
    p.jump_if(R3, "!=", 4, "up")


def extensions(p: Program) -> None:
    """Skip GTP-U's optional fields and its extension headers; R5 is the first octet."""
    p.section("GTP-U extension headers")
    within(p, 4)
    need(p, 4)
    p.do(R8, "+=", 4)
    p.do(R5, "&=", 4)
    p.jump_if(R5, "==", 0, "user's packet")
    p.load(R3, 1, R1, 3)
    for _ in range(EXTENSIONS):
        p.jump_if(R3, "==", 0, "user's packet")
        need(p, 4)
        p.load(R4, 1, R1, 0)
        p.jump_if(R4, "<", 1, "up")
        p.do(R4, "<<=", 2)
        p.do(R8, "+=", R4)
        p.jump_if(R8, ">", R9, "up")
        p.do(R4, "-=", 1)  # the type of the next header is the last octet of this one
        p.do(R1, "+=", R4)
        p.do(R2, "=", R1)
        p.do(R2, "+=", 1)
        p.jump_if(R2, ">", R7, "up")
        p.load(R3, 1, R1, 0)
    p.jump_if(R3, "!=", 0, "up")


def look_up(p: Program, shared: Shared) -> None:
    """Find the key's entry and count the frame; leaves the action in R8 and the entry in R9."""
    p.section("look up")
    p.label("look")
    element(p, shared.entries, KEY_AT)
    p.do(R9, "=", R0)
    p.load(R8, 4, R9, 0)
    p.load(R1, 4, R9, 4)
    p.store(4, FRAME, SLOT_AT, R1)
    p.call(CLOCK)
    p.store(8, FRAME, TIME_AT, R0)
    element(p, shared.counts, SLOT_AT)
    p.section("count")
    p.do(R1, "=", 1)
    p.count(R0, 0, R1)
    p.load(R1, 8, FRAME, SIZE_AT)
    p.count(R0, 8, R1)
    p.load(R1, 8, FRAME, TIME_AT)
    p.store(8, R0, 16, R1)


def element(p: Program, descriptor: int, key: int, missing: str = "up") -> None:
    """Point R0 at the element of a map whose key is on the stack."""
    p.load_map(R1, descriptor)
    p.do(R2, "=", FRAME)
    p.do(R2, "+=", key)
    p.call(MAP_LOOKUP)
    p.jump_if(R0, "==", 0, missing)


def trace(p: Program, shared: Shared) -> None:
    """Write the action on a frame of this run (MAC source 02:run:number) into the trace map."""
    p.section("trace")
    p.load_network(R1, 2, R6, 6)
    p.jump_if(R1, "!=", 0x0200 | shared.tag, "act")
    p.load_network(R1, 4, R6, 8)
    p.store(4, FRAME, NUMBER_AT, R1)
    element(p, shared.trace, NUMBER_AT, "act")
    p.load(R1, 8, R9, 0)
    p.store(8, R0, 8, R1)
    p.load(R1, 8, R9, 8)
    p.store(8, R0, 16, R1)
    p.load(R1, 8, FRAME, TIME_AT)
    p.store(8, R0, 0, R1)


def act(p: Program, other: int) -> None:
    """Drop the frame, or send it out of the other port; unknown frames go up."""
    p.section("act")
    p.label("act")
    p.jump_if(R8, "==", TO_DROP, "drop")
    p.do(R1, "=", other)
    p.do(R2, "=", 0)
    p.call(REDIRECT)
    p.exit()
    p.label("drop")
    p.exit(XDP_DROP)
    p.section("up")
    p.label("up")
    p.exit(XDP_PASS)
