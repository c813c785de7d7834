# SPDX-License-Identifier: BSD-3-Clause
"""Host: one end of a crafted flow, in address ranges reserved for tests and documentation."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import NamedTuple

#: RFC 2544 and RFC 5180 benchmarking, RFC 5737 and RFC 3849 documentation.
RANGES = ("198.18.0.0/15", "192.0.2.0/24", "2001:2::/48", "2001:db8::/32")


class Host(NamedTuple):
    """An address; `inside`: it is on the subscriber's side of the capture point."""

    address: str
    inside: bool = False

    @property
    def version(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def packed(self) -> bytes:
        """Return the address as on the wire, 4 or 16 octets."""
        return ipaddress.ip_address(self.address).packed

    @property
    def mac(self) -> str:
        """Return a locally administered MAC address made from the address."""
        digest = hashlib.sha256(self.address.encode()).digest()
        return ":".join(f"{octet:02x}" for octet in b"\x02" + digest[:5])


def phone(number: int) -> Host:
    """Return a subscriber's device."""
    return Host(f"198.18.{number >> 8 & 255}.{number & 255}", True)


def server(number: int) -> Host:
    """Return a machine of the network's far side."""
    return Host(f"198.19.{number >> 8 & 255}.{number & 255}")


def resolver() -> Host:
    """Return the operator's DNS resolver."""
    return Host("192.0.2.53")
