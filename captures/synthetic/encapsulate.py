# SPDX-License-Identifier: GPL-2.0-or-later
"""Envelopes: how one IP packet looks on the link where an operator taps it.

Each envelope turns an IP packet into the frames of one link: more than one where the tunnel makes
it too long and it is fragmented.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import GRE, GRE_PPTP, CookedLinux, Dot1AD, Dot1Q, Ether
from scapy.layers.l2tp import L2TP
from scapy.layers.ppp import PPP, PPPoE
from scapy.packet import Packet, Raw

from midcall.captures.packets import numbers

# LINKTYPE numbers: https://www.tcpdump.org/linktypes.html
LINK_ETHERNET, LINK_RAW, LINK_COOKED = 1, 101, 113

SUBSCRIBER_MAC, OPERATOR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
INNER, OUTER = ("192.0.2.10", "192.0.2.20"), ("2001:db8::10", "2001:db8::20")


class Envelope(NamedTuple):
    """A link type and the function (IP packet, upwards) -> frames."""

    name: str
    link: int
    wrap: Callable[[Packet, bool], list[bytes]]


def ether(layer: Packet, up: bool) -> Packet:
    """Return a packet in an Ethernet frame."""
    source, target = (SUBSCRIBER_MAC, OPERATOR_MAC) if up else (OPERATOR_MAC, SUBSCRIBER_MAC)
    return Ether(src=source, dst=target) / layer


def outer4(up: bool, proto: int | None = None) -> Packet:
    """Return an outer IPv4 header between the tunnel's ends."""
    source, target = INNER if up else INNER[::-1]
    return IP(src=source, dst=target, ttl=60, id=0, **({} if proto is None else {"proto": proto}))


def outer6(up: bool) -> Packet:
    """Return an outer IPv6 header between the tunnel's ends."""
    source, target = OUTER if up else OUTER[::-1]
    return IPv6(src=source, dst=target, hlim=60)


def ppp(layer: Packet) -> Packet:
    """Return a packet in PPP (RFC 1661): protocol 0021 for IPv4, 0057 for IPv6."""
    return PPP(proto=0x57 if isinstance(layer, IPv6) else 0x21) / layer


def gtp(up: bool, layer: Packet, extended: bool) -> Packet:
    """Return GTP-U (3GPP TS 29.281); extended: with a PDU session container (TS 38.415)."""
    teid = 0x00A1B2C3 if up else 0x00C3B2A1
    head = UDP(sport=2152, dport=2152) / GTP_U_Header(teid=teid, E=int(extended))
    if extended:
        head = head / GTPPDUSessionContainer(type=int(up), QFI=1)
    return head / layer


def one(build: Callable[[Packet, bool], Packet]) -> Callable[[Packet, bool], list[bytes]]:
    """Return an envelope's function that makes one frame of a packet."""
    return lambda layer, up: [bytes(build(layer, up))]


def six_over(layer: Packet, up: bool) -> Packet:
    """Return a packet inside IPv6: as it is, or an IPv4 packet in 4in6 (RFC 2473)."""
    return ether(outer6(up) / layer, up)


def teredo(layer: Packet, up: bool) -> Packet:
    """Return an IPv6 packet in UDP port 3544 (RFC 4380)."""
    ports = {"sport": 51413, "dport": 3544} if up else {"sport": 3544, "dport": 51413}
    return ether(outer4(up) / UDP(**ports) / layer, up)


def l2tp(layer: Packet, up: bool) -> Packet:
    """Return a packet in PPP in L2TP (RFC 2661): data message with a length field."""
    head = L2TP(version=2, tunnel_id=7, session_id=9, hdr="length")
    return ether(outer4(up) / UDP(sport=1701, dport=1701) / head / ppp(layer), up)


def pptp(layer: Packet, up: bool) -> Packet:
    """Return a packet in PPP in the GRE of PPTP (RFC 2637), with a sequence number."""
    head = GRE_PPTP(seqnum_present=1, sequence_number=1, call_id=77)
    return ether(outer4(up, 47) / head / Raw(b"\xff\x03" + bytes(ppp(layer))), up)


def cooked(layer: Packet, up: bool) -> Packet:
    """Return a packet in the Linux cooked header (LINKTYPE_LINUX_SLL)."""
    proto = numbers.IP6 if isinstance(layer, IPv6) else numbers.IP4
    return CookedLinux(pkttype=4 if up else 0, src=b"\x02\0\0\0\0\x01\0\0", proto=proto) / layer


def fragments(layer: Packet, up: bool) -> list[bytes]:
    """Return a packet in fragments of at most 576 bytes (IPv4), 1280 (IPv6)."""
    if isinstance(layer, IPv6):
        parts = [layer]
        if len(layer) > 1280:
            head = IPv6(src=layer.src, dst=layer.dst, hlim=layer.hlim) / IPv6ExtHdrFragment(id=1)
            parts = fragment6(head / layer.payload, 1280)
    else:
        parts = fragment(layer, 552)
    return [bytes(ether(part, up)) for part in parts]


ETHERNET = Envelope("ethernet", LINK_ETHERNET, one(ether))
ENVELOPES = [
    ETHERNET,
    Envelope("raw-ip", LINK_RAW, one(lambda layer, up: layer)),
    Envelope("linux-cooked", LINK_COOKED, one(cooked)),
    Envelope("vlan", LINK_ETHERNET, one(lambda layer, up: ether(Dot1Q(vlan=100) / layer, up))),
    Envelope(
        "qinq",
        LINK_ETHERNET,
        one(lambda layer, up: ether(Dot1AD(vlan=100) / Dot1Q(vlan=200) / layer, up)),
    ),
    Envelope(
        "pppoe",
        LINK_ETHERNET,
        one(lambda layer, up: ether(PPPoE(sessionid=0x1234) / ppp(layer), up)),
    ),
    Envelope(
        "pppoe-vlan",
        LINK_ETHERNET,
        one(lambda layer, up: ether(Dot1Q(vlan=35) / PPPoE(sessionid=5) / ppp(layer), up)),
    ),
    Envelope(
        "mpls",
        LINK_ETHERNET,
        one(lambda layer, up: ether(MPLS(label=16, s=0) / MPLS(label=99, s=1) / layer, up)),
    ),
    Envelope(
        "gtp-u",
        LINK_ETHERNET,
        one(lambda layer, up: ether(outer4(up) / gtp(up, layer, False), up)),
    ),
    Envelope(
        "gtp-u-extended",
        LINK_ETHERNET,
        one(lambda layer, up: ether(outer4(up) / gtp(up, layer, True), up)),
    ),
    Envelope(
        "gtp-u-over-ipv6",
        LINK_ETHERNET,
        one(lambda layer, up: ether(outer6(up) / gtp(up, layer, True), up)),
    ),
    Envelope("gre", LINK_ETHERNET, one(lambda layer, up: ether(outer4(up) / GRE() / layer, up))),
    Envelope("pptp", LINK_ETHERNET, one(pptp)),
    Envelope("l2tp", LINK_ETHERNET, one(l2tp)),
    Envelope("ip-in-ip", LINK_ETHERNET, one(lambda layer, up: ether(outer4(up) / layer, up))),
    Envelope("ip-in-ipv6", LINK_ETHERNET, one(six_over)),
    Envelope("fragments", LINK_ETHERNET, fragments),
]

#: Only an IPv6 packet fits in these.
ENVELOPES_OF_IPV6 = [
    Envelope("6in4", LINK_ETHERNET, one(lambda layer, up: ether(outer4(up) / layer, up))),
    Envelope("teredo", LINK_ETHERNET, one(teredo)),
]


def envelope(name: str) -> Envelope:
    """Return an envelope by its name; raises KeyError."""
    return {each.name: each for each in [*ENVELOPES, *ENVELOPES_OF_IPV6]}[name]
