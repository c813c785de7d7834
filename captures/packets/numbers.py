# SPDX-License-Identifier: BSD-3-Clause
"""Numbers of registries: IP protocols, EtherTypes, ports, link types; the magic cookie of STUN."""

from __future__ import annotations

#: IP protocol numbers.
ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
#: EtherTypes.
IP4, ARP, IP6, PPPOE = 0x0800, 0x0806, 0x86DD, 0x8864
#: UDP ports.
DNS_PORT, MULTICAST_DNS_PORT = 53, 5353
L2TP_PORT, GTP_PORT, TEREDO_PORT, VXLAN_PORT = 1701, 2152, 3544, 4789
#: LINKTYPE numbers of headers that state the link type of the frame behind them: PPI, and PKTAP by
#: its registered number and by the one that Apple's programs write (LINKTYPE_USER2).
PPI_LINK, PKTAP_LINK, PKTAP_APPLE_LINK = 192, 258, 149
#: Octets of a PKTAP header, at least.
PKTAP_HEAD = 108
#: STUN's magic cookie (RFC 8489, section 5).
STUN_COOKIE = 0x2112A442
