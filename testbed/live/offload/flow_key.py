# SPDX-License-Identifier: BSD-3-Clause
"""The key of a frame, read in compiled Python: the same walk as the XDP program's.

The box hands a decided flow over by the key of the current packet, so it need not store tunnel ids,
and each direction is handed over with its own key. A frame that the program would send up has no
key here either. The walk is stricter than `classifier.path.decode`: a frame with a key was decoded
to the same addresses and ports.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.captures.packets.numbers import (
    GTP_PORT,
    IP4,
    IP6,
    L2TP_PORT,
    PPPOE,
    TCP,
    TEREDO_PORT,
    UDP,
    VXLAN_PORT,
)
from midcall.testbed.live.offload.xdp import (
    EXTENSIONS,
    IN_GTP,
    IN_PPPOE,
    KEY,
    KEY_SIZE,
    TAGGED,
    TAGGED_TWICE,
)

assert KEY.fields is not None
SOURCE, TARGET = KEY.fields["source"][1], KEY.fields["target"][1]
PORTS, TEID, SESSION = (
    KEY.fields["source_port"][1],
    KEY.fields["teid"][1],
    KEY.fields["session"][1],
)
VERSION, PROTO = KEY.fields["version"][1], KEY.fields["proto"][1]
VLAN_IDS, LAYERS = KEY.fields["vlans"][1], KEY.fields["layers"][1]

NOTHING = 0


@kernel
def copy(b: Octets, at: int, size: int, key: Octets, place: int) -> None:
    """Copy octets of the frame into the key."""
    for i in range(size):
        key[place + i] = b[at + i]


@kernel
def link(b: Octets, at: int, end: int, key: Octets) -> tuple[int, int]:
    """Strip Ethernet, VLAN tags and PPPoE; returns (EtherType, offset), NOTHING: no key."""
    if end - at < 14:
        return NOTHING, at
    word, at, layers, ids = u16(b, at + 12), at + 14, I(0), I(0)
    for bit in (TAGGED, TAGGED_TWICE):
        if word in (0x8100, 0x88A8, 0x9100):
            if end - at < 4:
                return NOTHING, at
            ids = (ids << 12) | (u16(b, at) & 0xFFF)
            word, at, layers = u16(b, at + 2), at + 4, layers | bit
        else:
            break
    if word == PPPOE:
        if end - at < 8 or u16(b, at) != 0x1100:
            return NOTHING, at
        copy(b, at + 2, 2, key, SESSION)
        inner, layers = u16(b, at + 6), layers | IN_PPPOE
        word, at = IP4 if inner == 0x0021 else (IP6 if inner == 0x0057 else NOTHING), at + 8
    for i in range(4):  # in the machine's order, as the program stores it
        key[VLAN_IDS + i] = (ids >> 8 * i) & 0xFF
    key[LAYERS] = layers
    return word, at


@kernel
def ip4(b: Octets, at: int, end: int, key: Octets) -> tuple[int, int]:
    """Read an IPv4 header; returns (its packet's octets, offset of the transport), 0: no key."""
    if end - at < 20 or u8(b, at) != 0x45 or u16(b, at + 6) & 0x3FFF:
        return 0, at
    size = u16(b, at + 2)
    if size < 20 or at + size > end:
        return 0, at
    key[VERSION], key[PROTO] = 4, b[at + 9]
    copy(b, at + 12, 4, key, SOURCE)
    copy(b, at + 16, 4, key, TARGET)
    return size, at + 20


@kernel
def ip6(b: Octets, at: int, end: int, key: Octets) -> tuple[int, int]:
    """Read an IPv6 header; returns (its packet's octets, offset of the transport), 0: no key."""
    if end - at < 40 or u8(b, at) >> 4 != 6 or u16(b, at + 4) == 0:
        return 0, at
    size = u16(b, at + 4) + 40
    if at + size > end:
        return 0, at
    key[VERSION], key[PROTO] = 6, b[at + 6]
    copy(b, at + 8, 16, key, SOURCE)
    copy(b, at + 24, 16, key, TARGET)
    return size, at + 40


@kernel
def user_packet(b: Octets, at: int, end: int, key: Octets) -> tuple[int, int]:
    """Strip a GTP-U header; returns (offset of the user's packet, its end), 0: no key."""
    if end - at < 8 or u8(b, at) & 0xF0 != 0x30 or u8(b, at + 1) != 0xFF:
        return 0, 0
    flags, stop = u8(b, at), at + 8 + u16(b, at + 2)
    if stop > end:
        return 0, 0
    copy(b, at + 4, 4, key, TEID)
    key[LAYERS] = I(key[LAYERS]) | IN_GTP
    at += 8
    if flags & 7 == 0:
        return at, stop
    if stop - at < 4:
        return 0, 0
    more = u8(b, at + 3) if flags & 4 else I(0)
    at += 4
    for _ in range(EXTENSIONS):
        if more == 0:
            break
        if end - at < 4:
            return 0, 0
        size = u8(b, at) * 4
        if size == 0 or at + size > stop:
            return 0, 0
        more = u8(b, at + size - 1)
        at += size
    return (0, 0) if more else (at, stop)


@kernel
def ports(b: Octets, at: int, end: int, key: Octets) -> bool:
    """Read the ports of UDP or TCP into the key; returns whether the packet has them."""
    proto = I(key[PROTO])
    if proto == TCP:
        if end - at < 20 or u8(b, at + 12) < 0x50:
            return False
    elif proto != UDP or end - at < 8:
        return False
    copy(b, at, 4, key, PORTS)
    return True


@kernel
def tunnel_port(b: Octets, at: int, key: Octets) -> int:
    """Return the tunnel port (GTP-U, L2TP, Teredo, VXLAN) of a datagram, 0 for none."""
    if key[PROTO] != UDP:
        return 0
    for port in (u16(b, at), u16(b, at + 2)):
        if port in (GTP_PORT, L2TP_PORT, TEREDO_PORT):
            return port
    return VXLAN_PORT if u16(b, at + 2) == VXLAN_PORT else 0


@kernel
def read_key(b: Octets, at: int, end: int, key: Octets) -> int:
    """Read the key of the frame b[at:end] into key (uint8[KEY_SIZE]).

    Returns the octets of its innermost IP packet, -1 where the frame has no key.
    """
    for i in range(KEY_SIZE):
        key[i] = 0
    word, at = link(b, at, end, key)
    for depth in range(2):
        if word == IP4:
            size, start = ip4(b, at, end, key)
        elif word == IP6:
            size, start = ip6(b, at, end, key)
        else:
            return -1
        if size == 0 or not ports(b, start, at + size, key):
            return -1
        tunnel = tunnel_port(b, start, key)
        if tunnel == 0:
            return size
        if tunnel != GTP_PORT or depth == 1:
            return -1
        inner, stop = user_packet(b, start + 8, at + size, key)
        if inner == 0 or stop - inner < 20:
            return -1
        for i in range(SOURCE, SOURCE + 32):  # the outer addresses are no part of the key
            key[i] = 0
        word = IP6 if u8(b, inner) >> 4 == 6 else (IP4 if u8(b, inner) >> 4 == 4 else NOTHING)
        at, end = inner, stop
    return -1
