# SPDX-License-Identifier: BSD-3-Clause
"""Privacy: count the personal data in a capture, without showing it."""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass, field

from midcall.captures.own.anonymise import end_of_name
from midcall.captures.packets.headers import ends, layers, payload, ports, unwrapped
from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import Packets

HOST = re.compile(rb"\r\nHost: *([^\r\n]+)", re.I)
PHONE = re.compile(rb"(?<![\w.+])\+?\d{9,15}(?![\w.])")
MAIL = re.compile(rb"[\w.+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
TEXT = re.compile(rb"^[\t\r\n\x20-\x7e]{16}")


@dataclass
class Privacy:
    """Distinct items of a capture that may be personal data."""

    public: set[bytes] = field(default_factory=set)
    private: set[bytes] = field(default_factory=set)
    macs: set[bytes] = field(default_factory=set)
    names: set[bytes] = field(default_factory=set)
    users: set[bytes] = field(default_factory=set)
    phones: set[bytes] = field(default_factory=set)
    mails: set[bytes] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """Return the number of distinct items of each kind."""
        return {
            "public addresses": len(self.public),
            "private addresses": len(self.private),
            "MAC addresses": len(self.macs),
            "host names (SNI, DNS, Host)": len(self.names),
            "STUN user names": len(self.users),
            "strings like phone numbers": len(self.phones),
            "strings like e-mail or SIP addresses": len(self.mails),
        }

    def sentences(self, anonymised: bool = False) -> list[str]:
        """Return what a user should know before the capture is added."""
        items = ", ".join(f"{count} {kind}" for kind, count in self.counts().items() if count)
        lines = [f"The capture holds {items or 'no addresses or names that were recognised'}."]
        if anonymised:
            lines.append(
                "Addresses, names, user names, numbers and tokens are replaced in the copy; names "
                "of public services, sizes and times stay."
            )
        elif self.public or self.macs:
            lines.append(
                "Add it with --anonymise to replace addresses, names and numbers in the copy."
            )
        lines.append("It stays on this machine, in a folder that git ignores.")
        return lines


def privacy(packets: Packets) -> Privacy:
    """Return the personal data in a capture, as sets of distinct items."""
    items = Privacy()
    for i in range(packets.total):
        _collect_frame(items, packets.frame(i), int(packets.link[i]))
    return items


def _collect_frame(items: Privacy, frame: bytes, link: int) -> None:
    """Add the items of one frame."""
    inner, at = unwrapped(frame, link)
    if inner == 1 and len(frame) >= at + 14:
        macs = (frame[at : at + 6], frame[at + 6 : at + 12])
        items.macs |= {mac for mac in macs if not mac[0] & 1 and any(mac)}
    stack = layers(frame, link)
    for layer in stack:
        for address, _ in ends(frame, layer):
            kind = ipaddress.ip_address(address)
            (items.public if kind.is_global else items.private).add(address)
    if stack:
        start, end = payload(frame, stack[-1])
        dns = stack[-1].proto == UDP and {53, 5353} & set(ports(frame, stack[-1]))
        body = frame[start:end]
        name = question(body) if dns else client_hello_name(body)
        if name:
            items.names.add(name)
        _collect_text(items, body)


def _collect_text(items: Privacy, body: bytes) -> None:
    """Add names, numbers and users in a payload that is text or STUN."""
    if len(body) >= 20 and body[0] < 4 and body[4:8] == b"\x21\x12\xa4\x42":
        if body[20:22] == b"\x00\x06":
            items.users.add(body[24 : 24 + int.from_bytes(body[22:24], "big")])
    elif TEXT.match(body):
        items.names |= {hit.group(1) for hit in HOST.finditer(body)}
        items.phones |= set(PHONE.findall(body))
        items.mails |= set(MAIL.findall(body))


def question(body: bytes) -> bytes:
    """Return the name of a DNS message's first question, b"" for none."""
    if len(body) < 17 or body[4:6] == b"\0\0":
        return b""
    return body[12 : end_of_name(body, 12)]


def client_hello_name(body: bytes) -> bytes:
    """Return the server name of a TLS ClientHello (RFC 6066 section 3), b"" for none."""
    if len(body) < 48 or body[0] != 22 or body[5] != 1:
        return b""
    at = 43 + 1 + body[43]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 3 + (body[at] if at < len(body) else 0)
    while at + 4 <= len(body):
        kind, size = struct.unpack_from(">HH", body, at)
        if kind == 0 and at + 9 <= len(body):
            return body[at + 9 : at + 4 + size]
        at += 4 + size
    return b""
