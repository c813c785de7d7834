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
#: QUIC's initial salts: version 1 (RFC 9001, 5.2), version 2 (RFC 9369, 3.3.1), drafts 29-32,
#: drafts 23-28, draft 22.
QUIC_SALTS = (
    "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    "0dede3def700a6db819381be6e269dcbf9bd2ed9",
    "afbfec289993d24c9e9786f19c6111e04390a899",
    "c3eef712c72ebb5a11a7d2432bb46365bef9f502",
    "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",
)
