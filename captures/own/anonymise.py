# SPDX-License-Identifier: BSD-3-Clause
"""Anonymise captures: replace addresses but preserve prefixes, so that a capture can be shared.

Addresses are mapped bit by bit under a key (the scheme of Crypto-PAn: Xu, Fan, Ammar and Moon,
ICNP 2002; the function is keyed BLAKE2b): two addresses that share a prefix of n bits share one of
n bits afterwards. Private, link-local and multicast prefixes map to themselves, so a private
address stays private; the bits after a private prefix are mapped. MAC addresses become locally
administered ones. IP, TCP, UDP and ICMPv6 checksums are adapted (RFC 1624), so a wrong one stays
wrong.

Best effort only: addresses inside payloads are replaced in STUN attributes (FINGERPRINT is
recomputed, MESSAGE-INTEGRITY becomes invalid), in DNS answers, and as dotted text in SIP and SDP.
Names (SNI, DNS questions, Host), user names, phone numbers and everything else in payloads are not
changed, nor are sizes and times, by which a call may be recognised.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
import struct
import zlib
from functools import lru_cache

from midcall.captures.packets.headers import Layer, layers, network, payload, ports, unwrapped
from midcall.captures.packets.numbers import ARP, ICMP6, PKTAP_APPLE_LINK, PKTAP_LINK, TCP, UDP
from midcall.captures.packets.pcap import Packets, packets_of

#: Octets of a PKTAP header that are set to 0: the interface's name; the processes, their names and
#: identifiers (Apple's bsd/net/pktap.h).
PKTAP_NAMES = ((12, 36), (52, 1 << 16))
#: Prefixes that map to themselves; True where the remaining bits stay too.
FIXED4 = {
    "0.0.0.0/8": True,
    "10.0.0.0/8": False,
    "100.64.0.0/10": False,
    "127.0.0.0/8": True,
    "169.254.0.0/16": False,
    "172.16.0.0/12": False,
    "192.168.0.0/16": False,
    "224.0.0.0/4": True,
    "255.255.255.255/32": True,
}
FIXED6 = {"::/127": True, "fc00::/7": False, "fe80::/10": False, "ff00::/8": True}
#: IPv6 prefixes whose last 32 bits are an IPv4 address (RFC 4291, RFC 6052).
EMBEDDED = (bytes(10) + b"\xff\xff", bytes.fromhex("0064ff9b") + bytes(8))

MAGIC = b"\x21\x12\xa4\x42"
STUN_PLAIN = (0x0001, 0x0002, 0x0004, 0x0005, 0x000B, 0x8023, 0x802B, 0x802C)
STUN_XORED = (0x0012, 0x0016, 0x0020, 0x8020)
FINGERPRINT, FINGERPRINT_XOR = 0x8028, 0x5354554E
DOTTED = re.compile(rb"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
#: The start of payloads that are text with addresses (SIP requests and answers, SDP).
TEXT_HEAD = re.compile(rb"SIP/2\.0|[A-Z]{3,9} sips?:|v=0[\r\n]")


class Anonymiser:
    """A mapping of addresses under one key; the same key gives the same mapping."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = hashlib.sha256(key if key is not None else secrets.token_bytes(32)).digest()
        self.address = lru_cache(maxsize=1 << 16)(self._address)
        self.fixed = {4: prefixes(FIXED4, 32), 6: prefixes(FIXED6, 128)}

    def _address(self, address: bytes) -> bytes:
        """Return the address that replaces a packed one (4 or 16 bytes)."""
        if address[:12] in EMBEDDED and len(address) == 16:
            return address[:12] + self._address(address[12:])
        width, fixed = len(address) * 8, self.fixed[4 if len(address) == 4 else 6]
        bits = int.from_bytes(address, "big")
        if any(stays and bits >> (width - size) == head for head, size, stays in fixed):
            return address
        out = 0
        for size in range(width):
            head = bits >> (width - size)
            inner = any(length > size and fixed_bits >> (length - size) == head
                        for fixed_bits, length, _ in fixed)  # fmt: skip
            flip = 0 if inner else self.bit(len(address), size, head)
            out = out << 1 | (bits >> (width - size - 1) & 1) ^ flip
        return out.to_bytes(len(address), "big")

    def bit(self, family: int, size: int, head: int) -> int:
        """Return 1 if the bit after a prefix of `size` bits is flipped, else 0."""
        about = struct.pack(">BB16s", family, size, head.to_bytes(16, "big"))
        return hashlib.blake2b(about, key=self.key, digest_size=1).digest()[0] & 1

    def mac(self, address: bytes) -> bytes:
        """Return a locally administered address for a MAC; group addresses stay."""
        if not any(address) or address[0] & 1:
            return address
        digest = hashlib.blake2b(b"mac" + address, key=self.key, digest_size=5).digest()
        return (b"\x02" + digest)[: len(address)]

    def frame(self, frame: bytes, link: int) -> bytes:
        """Return a frame with every address in it replaced."""
        new = bytearray(frame)
        self.link_addresses(new, link)
        ip_layers = layers(frame, link)
        for layer in ip_layers:
            source, target, size = layer.addresses
            for at in (source, target):
                new[at : at + size] = self.address(frame[at : at + size])
        if ip_layers:
            self.payload(new, frame, ip_layers[-1])
        for layer in reversed(ip_layers):
            adapt_checksums(new, frame, layer)
        return bytes(new)

    def link_addresses(self, new: bytearray, link: int) -> None:
        """Replace MAC addresses of the link header, and the addresses of ARP."""
        inner, at = unwrapped(bytes(new), link)
        if inner == 1 and len(new) >= at + 14:
            for place in (at, at + 6):
                new[place : place + 6] = self.mac(bytes(new[place : place + 6]))
        if link in (PKTAP_LINK, PKTAP_APPLE_LINK):
            end = at if inner >= 0 else len(new)
            for first, last in PKTAP_NAMES:
                stop = max(min(end, last), first)
                new[first:stop] = bytes(len(new[first:stop]))
        elif link == 113 and len(new) >= 16 and new[4:6] == b"\x00\x06":
            new[6:12] = self.mac(bytes(new[6:12]))
        kind, at = network(bytes(new), link)
        if kind == ARP and len(new) >= at + 28 and new[at + 4 : at + 6] == b"\x06\x04":
            for place in (at + 8, at + 18):
                new[place : place + 6] = self.mac(bytes(new[place : place + 6]))
            for place in (at + 14, at + 24):
                new[place : place + 4] = self.address(bytes(new[place : place + 4]))

    # ---- payloads, best effort

    def payload(self, new: bytearray, frame: bytes, layer: Layer) -> None:
        """Replace addresses in the payload of a packet, where its protocol is known."""
        start, end = payload(frame, layer)
        body = frame[start:end]
        if len(body) >= 20 and body[4:8] == MAGIC and body[0] < 4:
            body = self.stun(body)
        elif layer.proto == UDP and 53 in ports(frame, layer):
            body = self.dns(body)
        elif TEXT_HEAD.match(body):
            body = DOTTED.sub(self.text, body)
        new[start:end] = body

    def stun(self, body: bytes) -> bytes:
        """Replace the addresses of a STUN message's attributes (RFC 8489 section 14)."""
        out, at = bytearray(body), 20
        while at + 4 <= len(out):
            kind, size = struct.unpack_from(">HH", out, at)
            value = at + 8
            length = {1: 4, 2: 16}.get(out[at + 5], 0) if at + 5 < len(out) else 0
            if kind in STUN_PLAIN + STUN_XORED and size == 4 + length and length:
                mask = body[4:20][:length] if kind in STUN_XORED else bytes(length)
                plain = bytes(
                    a ^ b for a, b in zip(out[value : value + length], mask, strict=False)
                )
                if len(plain) == length:
                    hidden = zip(self.address(plain), mask, strict=True)
                    out[value : value + length] = bytes(a ^ b for a, b in hidden)
            if kind == FINGERPRINT and size == 4 and at + 8 <= len(out):
                crc = zlib.crc32(out[:at]) ^ FINGERPRINT_XOR
                struct.pack_into(">I", out, at + 4, crc)
            at += 4 + (size + 3) // 4 * 4
        return bytes(out)

    def dns(self, body: bytes) -> bytes:
        """Replace the addresses of A and AAAA records (RFC 1035 section 4.1)."""
        out = bytearray(body)
        if len(out) < 12:
            return body
        questions, *records = struct.unpack_from(">4H", out, 4)
        at = 12
        for _ in range(questions):
            if at >= len(out):  # fewer questions than its header claims
                return body
            at = end_of_name(out, at) + 4
        for _ in range(sum(records)):
            at = end_of_name(out, at)
            if at + 10 > len(out):
                break
            kind, _, _, size = struct.unpack_from(">HHIH", out, at)
            at += 10
            if (kind, size) in ((1, 4), (28, 16)) and at + size <= len(out):
                out[at : at + size] = self.address(bytes(out[at : at + size]))
            at += size
        return bytes(out)

    def text(self, hit: re.Match[bytes]) -> bytes:
        """Return a dotted address of the same length for one in a text."""
        old = hit.group()
        parts = [int(part) for part in old.split(b".")]
        if max(parts) > 255:
            return old
        octets = self.address(bytes(parts))
        new = ".".join(str(octet) for octet in octets)
        if len(new) > len(old):
            new = "0.0.0.0"
        head, rest = new.split(".", 1)
        while len(head) + 1 + len(rest) < len(old):
            if len(head) < 3:
                head = "0" + head
            else:
                rest = widened(rest)
        return f"{head}.{rest}".encode()


def widened(rest: str) -> str:
    """Return dotted numbers one character longer: the first short one gets a leading 0."""
    parts = rest.split(".")
    short = next(i for i, part in enumerate(parts) if len(part) < 3)
    parts[short] = "0" + parts[short]
    return ".".join(parts)


def prefixes(table: dict[str, bool], width: int) -> list[tuple[int, int, bool]]:
    """Return prefixes as (bits, length, whether the rest stays too)."""
    nets = [(ipaddress.ip_network(text), stays) for text, stays in table.items()]
    return [
        (int(net.network_address) >> (width - net.prefixlen), net.prefixlen, stays)
        for net, stays in nets
    ]


def end_of_name(body: bytes | bytearray, at: int) -> int:
    """Return the offset after a DNS name, or the message's length if the name is cut."""
    while at < len(body):
        size = body[at]
        if size >= 0xC0:
            return at + 2
        at += 1 + size
        if size == 0:
            return at
    return len(body)


# ---- checksums


def adapt_checksums(new: bytearray, old: bytes, layer: Layer) -> None:
    """Adapt the checksums of an IP layer and of its transport to the replaced octets."""
    if layer.version == 4 and layer.start <= len(old):
        adapt(new, old, layer.at + 10, [(layer.at, layer.start)])
    place = {TCP: 16, UDP: 6, ICMP6: 2}.get(layer.proto)
    if place is None or layer.later or layer.start + place + 2 > layer.end:
        return
    at = layer.start + place
    if layer.proto == UDP and old[at : at + 2] == b"\0\0":
        return
    source, _, size = layer.addresses
    adapt(new, old, at, [(source, source + 2 * size), (layer.start, layer.end)])
    if layer.proto == UDP and new[at : at + 2] == b"\0\0":
        new[at : at + 2] = b"\xff\xff"


def adapt(new: bytearray, old: bytes, at: int, spans: list[tuple[int, int]]) -> None:
    """Adapt the checksum at `at` to the changes within spans (RFC 1624 equation 3)."""
    new[at : at + 2] = old[at : at + 2]
    before = sum(words(old[first:last]) for first, last in spans)
    after = sum(words(bytes(new[first:last])) for first, last in spans)
    if before == after:
        return
    total = (~int.from_bytes(old[at : at + 2], "big") & 0xFFFF) + (after - before) % 0xFFFF
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    new[at : at + 2] = (~total & 0xFFFF).to_bytes(2, "big")


def words(data: bytes) -> int:
    """Return the sum of the big-endian 16-bit words of some bytes."""
    data += b"\0" * (len(data) & 1)
    return sum(struct.unpack(f">{len(data) // 2}H", data))


def anonymised(packets: Packets, key: bytes | None = None) -> Packets:
    """Return the packets of a capture with every address replaced; key None: a random key.

    All packets must be of one link type; raises ValueError otherwise.
    """
    links = {int(link) for link in packets.link} or {1}
    if len(links) > 1:
        raise ValueError(f"one link type is needed, got {sorted(links)}")
    link, mapping = links.pop(), Anonymiser(key)
    frames = [mapping.frame(packets.frame(i), link) for i in range(packets.total)]
    times = [int(time) for time in packets.time]
    return packets_of(frames, times, link, [int(size) for size in packets.wire])
