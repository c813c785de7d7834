# SPDX-License-Identifier: BSD-3-Clause
"""Numbers of IANA's registries that packets carry: IP protocols, EtherTypes, STUN's cookie."""

from __future__ import annotations

#: IP protocol numbers.
ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
#: EtherTypes.
IP4, ARP, IP6, PPPOE = 0x0800, 0x0806, 0x86DD, 0x8864
#: STUN's magic cookie (RFC 8489, section 5).
STUN_COOKIE = 0x2112A442
