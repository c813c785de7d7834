# SPDX-License-Identifier: BSD-3-Clause
"""Addresses in payloads, each replaced by its image.

In STUN attributes (also within TURN's DATA and behind the length of RFC 4571; FINGERPRINT is
recomputed, MESSAGE-INTEGRITY no longer holds and is counted), in DNS answers over UDP, in SIP
and SDP, in Discord's IP discovery, and in the packets that ICMP errors quote. In a datagram the
text may grow with its addresses; in TCP it is filled up with leading zeros, or is "0.0.0.0" where
no image is short enough. Names in DNS (in-addr.arpa), and addresses in encrypted payloads, stay.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from ipaddress import IPv6Address

from midcall.captures.own.anonymise import DOTTED, TEXT_HEAD, Anonymiser
from midcall.captures.packets.numbers import DNS_PORT, MULTICAST_DNS_PORT, UDP
from midcall.testbed.network.checksums import adapt, word_sum

Image = Callable[[bytes], bytes]

ICMP, ICMP6 = 1, 58
#: Messages that quote the packet they are about: RFC 792, RFC 4443.
ICMP_ERRORS, ICMP6_ERRORS = (3, 4, 5, 11, 12), (1, 2, 3, 4)
DATA_ATTRIBUTE, MESSAGE_INTEGRITY = 0x0013, (0x0008, 0x001C)
COOKIE = b"\x21\x12\xa4\x42"
#: Discord's IP discovery: type, length of the rest, SSRC, address as text in 64 bytes, port.
DISCOVERY, DISCOVERY_SIZE = (b"\0\1\0\x46", b"\0\2\0\x46"), 74
#: Header lines of SIP whose dotted numbers are versions, not addresses.
VERSIONS = re.compile(rb"(?:user-agent|server)[ \t]*:", re.IGNORECASE)
CONTENT_LENGTH = re.compile(rb"(?im)^((?:content-length|l)[ \t]*:[ \t]*)(\d+)")
IP6_TEXT = re.compile(rb"(?<=IN IP6 )[0-9A-Fa-f:.]+")


class Payloads(Anonymiser):
    """Rewrites the addresses in one IP packet's payload, each by `image`."""

    def __init__(self, image: Image) -> None:
        self.address = image  # type: ignore[assignment]
        self.broken = self.cut = 0

    def body(self, body: bytes, proto: int, ports: tuple[int, int], growing: bool) -> bytes:
        """Return a TCP or UDP payload with its addresses replaced; only text grows, if it may."""
        if body[4:8] == COOKIE:
            return self.message(body)
        if body[6:10] == COOKIE and int.from_bytes(body[:2], "big") <= len(body) - 2:
            return body[:2] + self.message(body[2:])
        if proto == UDP and {DNS_PORT, MULTICAST_DNS_PORT} & set(ports):
            return self.dns(body)
        if proto == UDP and len(body) == DISCOVERY_SIZE and body[:4] in DISCOVERY:
            return self.discovery(body)
        if TEXT_HEAD.match(body) or b"\nc=IN IP" in body:
            return self.session(body) if growing else self.filled(body)
        if proto == UDP and classic_stun(body):
            return self.stun(body)
        return body

    def message(self, body: bytes) -> bytes:
        """Return a STUN message with its addresses replaced, those of a message in DATA too."""
        at, whole = 20, bytearray(body)
        before = self.broken
        while at + 4 <= len(whole):
            kind, size = struct.unpack_from(">HH", whole, at)
            inner = bytes(whole[at + 4 : at + 4 + size])
            if kind == DATA_ATTRIBUTE and inner[4:8] == COOKIE and len(inner) == size:
                whole[at + 4 : at + 4 + size] = self.message(inner)
            if kind in MESSAGE_INTEGRITY:
                self.broken = before + 1
            at += 4 + (size + 3) // 4 * 4
        out = self.stun(bytes(whole))
        if out == body:
            self.broken = before
        return out

    def discovery(self, body: bytes) -> bytes:
        """Return Discord's IP discovery with its address replaced."""
        text = body[8:72].split(b"\0", 1)[0]
        if not DOTTED.fullmatch(text):
            return body
        return body[:8] + self.dotted(text).ljust(64, b"\0") + body[72:]

    def dotted(self, text: bytes) -> bytes:
        """Return the image of a dotted address as plain text; other text stays."""
        parts = [int(part) for part in text.split(b".")]
        if max(parts) > 255:
            return text
        return ".".join(str(octet) for octet in self.address(bytes(parts))).encode()

    def session(self, body: bytes) -> bytes:
        """Return SIP or SDP with its addresses replaced and its Content-Length adapted."""
        lines = body.split(b"\n")
        out = b"\n".join(
            line if VERSIONS.match(line) else IP6_TEXT.sub(self.colons, self.dots(line))
            for line in lines
        )
        head, gap, rest = out.partition(b"\r\n\r\n")
        grown = len(rest) - len(body.partition(b"\r\n\r\n")[2])
        if grown and gap:
            head = CONTENT_LENGTH.sub(lambda hit: hit[1] + b"%d" % (int(hit[2]) + grown), head)
        return head + gap + rest

    def dots(self, line: bytes) -> bytes:
        """Return a line with its dotted addresses replaced."""
        return DOTTED.sub(lambda hit: self.dotted(hit[0]), line)

    def colons(self, hit: re.Match[bytes]) -> bytes:
        """Return the image of an IPv6 address in a text; what is none stays."""
        try:
            packed = IPv6Address(hit[0].decode()).packed
        except ValueError:
            return hit[0]
        return IPv6Address(self.address(packed)).compressed.encode()

    def filled(self, body: bytes) -> bytes:
        """Return text of the same length with its dotted addresses replaced."""
        return b"\n".join(
            line if VERSIONS.match(line) else DOTTED.sub(self.padded, line)
            for line in body.split(b"\n")
        )

    def padded(self, hit: re.Match[bytes]) -> bytes:
        """Return the image of an address, of the same length as its text."""
        image = self.text(hit)
        self.cut += len(self.dotted(hit[0])) > len(hit[0])
        return image


def classic_stun(body: bytes) -> bool:
    """Tell whether a payload is a message of RFC 3489: no cookie, but attributes to its end."""
    if len(body) < 28 or body[0] > 1 or struct.unpack_from(">H", body, 2)[0] != len(body) - 20:
        return False
    at = 20
    while at + 4 <= len(body):
        at += 4 + int(struct.unpack_from(">H", body, at + 2)[0])
    return at == len(body)


def quoted(message: bytes, proto: int, payloads: Payloads) -> bytes:
    """Return an ICMP message with the addresses of the packet that it quotes replaced."""
    kinds, first, size = (ICMP_ERRORS, 12, 4) if proto == ICMP else (ICMP6_ERRORS, 8, 16)
    room = 8 + first + 2 * size
    if len(message) < room or message[0] not in kinds:
        return message
    out = bytearray(message)
    for at in (8 + first, 8 + first + size):
        out[at : at + size] = payloads.address(message[at : at + size])
    if proto == ICMP:
        adapt(out, 18, word_sum(bytes(out[20:28])) - word_sum(message[20:28]))
    return bytes(out)
