# SPDX-License-Identifier: BSD-3-Clause
"""Addressing: captured addresses mapped to the lab's own, in headers and in what payloads tell.

Emulated traffic stays on 198.18.0.0/15 (RFC 2544) and fd00::/8 (RFC 4193): each origin network (a
/24, of IPv6 a /48) gets a block of its own, no two addresses one image, and the address sets of a
policy become the images of the captured addresses that they hold. What no router forwards
(multicast, link-local, loopback) stays: it never meets the box.

Addresses in payloads follow: in STUN attributes (also within TURN's DATA and behind the length of
RFC 4571; FINGERPRINT is computed anew, MESSAGE-INTEGRITY no longer holds and is counted), in DNS
answers over UDP, in SIP and SDP, in Discord's IP discovery, and in the packets that ICMP errors
quote. In a datagram the text may grow with its addresses; in TCP it is filled up with leading
zeros, or is "0.0.0.0" where no image is short enough. Checksums are adapted: a wrong one stays
wrong. Names in DNS (in-addr.arpa), and addresses in what nobody can read, stay.
"""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.anonymise import DOTTED, TEXT_HEAD, Anonymiser
from classifier.decode import TCP, UDP
from classifier.flow import Records
from testbed.errors import TestbedError
from testbed.language import Rule
from testbed.places import unrouted
from testbed.policy import AddressSet, Policy
from testbed.survey import DNS_PORT, Survey
from testbed.words import prefix

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]
Image = Callable[[bytes], bytes]

MODES = ("map", "keep")

#: The lab's IPv4 addresses that captured ones are mapped to: all of 198.18.0.0/15 but the first
#: /24, where the ends of access networks' tunnels stand.
FIRST4, ROOM4 = 0xC6120100, (1 << 17) - 256
#: The lab's IPv6 block, 16 bits and a number of 32 bits for each origin /48 before the low 80.
FIRST6 = 0xFD4D
#: An address that no packet of the lab has, for sets that hold no captured address.
NOBODY = "255.255.255.255/32"

ICMP, ICMP6 = 1, 58
#: Messages that quote the packet they are about: RFC 792, RFC 4443.
ICMP_ERRORS, ICMP6_ERRORS = (3, 4, 5, 11, 12), (1, 2, 3, 4)
MULTICAST_DNS_PORT = 5353
DATA_ATTRIBUTE, MESSAGE_INTEGRITY = 0x0013, (0x0008, 0x001C)
COOKIE = b"\x21\x12\xa4\x42"
#: Discord's IP discovery: type, length of the rest, SSRC, address as text in 64 bytes, port.
DISCOVERY, DISCOVERY_SIZE = (b"\0\1\0\x46", b"\0\2\0\x46"), 74
#: Header lines of SIP whose dotted numbers are versions, not addresses.
VERSIONS = re.compile(rb"(?:user-agent|server)[ \t]*:", re.IGNORECASE)
CONTENT_LENGTH = re.compile(rb"(?im)^((?:content-length|l)[ \t]*:[ \t]*)(\d+)")
IP6_TEXT = re.compile(rb"(?<=IN IP6 )[0-9A-Fa-f:.]+")

#: Mapped captures are kept up to this many packets in all.
KEPT_PACKETS = 1_000_000


class Mapped(NamedTuple):
    """The IP packets of a capture as the lab sends them; rows as in the capture's survey.

    addresses: None where captured ones are kept; broken: STUN messages whose MESSAGE-INTEGRITY no
    longer holds; cut: addresses in texts that had no room for the image.
    """

    data: Octets
    ip_at: Numbers
    ip_end: Numbers
    size: Numbers  # bytes of each IP packet on the wire
    addresses: Addresses | None
    broken: int
    cut: int

    def policy(self, policy: Policy) -> Policy:
        """Return a policy whose address sets hold what they held in the capture."""
        return policy if self.addresses is None else on_lab(policy, [self.addresses])


class Addresses:
    """The images of one capture's addresses; an address that stays is its own image."""

    def __init__(self, images: dict[bytes, bytes]) -> None:
        self.images = images

    def image(self, address: bytes) -> bytes:
        """Return the lab's address for a captured one (4 or 16 bytes)."""
        return self.images.get(address, address)


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
        told = body[8:72].split(b"\0", 1)[0]
        if not DOTTED.fullmatch(told):
            return body
        return body[:8] + self.dotted(told).ljust(64, b"\0") + body[72:]

    def dotted(self, told: bytes) -> bytes:
        """Return the image of a dotted address as plain text; other text stays."""
        parts = [int(part) for part in told.split(b".")]
        if max(parts) > 255:
            return told
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
        """Return an image of the length of what it replaces."""
        told = self.text(hit)
        self.cut += len(self.dotted(hit[0])) > len(hit[0])
        return told


def classic_stun(body: bytes) -> bool:
    """Tell whether a payload is a message of RFC 3489: no cookie, but attributes to its end."""
    if len(body) < 28 or body[0] > 1 or struct.unpack_from(">H", body, 2)[0] != len(body) - 20:
        return False
    at = 20
    while at + 4 <= len(body):
        at += 4 + int(struct.unpack_from(">H", body, at + 2)[0])
    return at == len(body)


# ---- which addresses, and their images


def captured(held: Survey) -> set[bytes]:
    """Return every address in a capture that is mapped: of headers, and told in payloads."""
    found = {bytes(one) for one in header_addresses(held)}
    seen: set[bytes] = set()

    def note(address: bytes) -> bytes:
        seen.add(address)
        return address

    for _ in rewritten(held, Payloads(note)):
        pass
    return {one for one in found | seen if routed(one)}


def header_addresses(held: Survey) -> Iterable[bytes]:
    """Yield the distinct addresses of IP headers, packed."""
    data, facts = held.packets.data, held.facts
    for version, first, size in ((4, 12, 4), (6, 8, 16)):
        rows = of_version(facts, version)
        for shift in (0, size):
            places = facts["ip_at"][rows][:, None] + first + shift + np.arange(size)
            for row in np.unique(data[places], axis=0) if len(rows) else ():
                yield row.tobytes()


def of_version(facts: Records, version: int) -> Numbers:
    """Return the packets whose whole IP header of a version was captured."""
    room = 20 if version == 4 else 40
    held = (facts["flow"] >= 0) & (facts["version"] == version)
    return np.flatnonzero(held & (facts["ip_end"] - facts["ip_at"] >= room))


def routed(address: bytes) -> bool:
    """Tell whether routers forward to a packed address, so that it is mapped."""
    lanes = np.zeros((1, 4), np.int64)
    lanes[0, : len(address) // 4] = np.frombuffer(address, ">u4")
    return not unrouted(np.array([4 if len(address) == 4 else 6]), lanes)[0]


def assigned(captures: Sequence[set[bytes]]) -> list[Addresses]:
    """Return images for the addresses of captures that share one network, no block used twice.

    Raises TestbedError where they are more than the lab has.
    """
    blocks: OrderedDict[tuple[int, bytes], list[bytes]] = OrderedDict()
    for number, addresses in enumerate(captures):
        for one in sorted(addresses, key=lambda packed: (len(packed), packed)):
            blocks.setdefault((number, one[: 3 if len(one) == 4 else 6]), []).append(one)
    images: list[dict[bytes, bytes]] = [{} for _ in captures]
    four = [key for key in blocks if len(key[1]) == 3]
    roomy = len(four) * 256 <= ROOM4
    at = 0
    for key in sorted(four, key=lambda one: 0 if roomy else -len(blocks[one])):
        size = 256 if roomy else 1 << (len(blocks[key]) - 1).bit_length()
        for rank, one in enumerate(blocks[key]):
            inner = one[3] if roomy else rank
            images[key[0]][one] = (FIRST4 + at + inner).to_bytes(4, "big")
        at += size
    if at > ROOM4:
        total = sum(len(blocks[key]) for key in four)
        raise TestbedError(
            f"addresses: {total} captured ones of {len(four)} networks do not fit into "
            "198.18.0.0/15; replay fewer captures at once"
        )
    for rank, key in enumerate(key for key in blocks if len(key[1]) == 6):
        head = struct.pack(">HI", FIRST6, rank)
        images[key[0]] |= {one: head + one[6:] for one in blocks[key]}
    return [Addresses(held) for held in images]


def on_lab(policy: Policy, maps: Sequence[Addresses]) -> Policy:
    """Return a policy whose address sets are the images of the captured addresses they hold."""

    def images(words: list[str]) -> list[str]:
        nets = [prefix(word) for word in words]
        found = {
            new
            for one in maps
            for old, new in one.images.items()
            for net in nets
            if len(old) * 8 == net.max_prefixlen and within(old, net)
        }
        return [written(new) for new in sorted(found)] or [NOBODY]

    def mapped_rule(rule: Rule) -> Rule:
        words = rule.match.addresses
        own = [word for word in words if word not in names]
        if not own:
            return rule
        spelt = [word for word in words if word in names] + images(own)
        return rule.model_copy(update={"match": rule.match.model_copy(update={"addresses": spelt})})

    names = {one.name for one in policy.sets}
    sets = tuple(
        AddressSet.model_copy(one, update={"addresses": images(one.addresses)})
        for one in policy.sets
    )
    return replace(policy, rules=tuple(mapped_rule(rule) for rule in policy.rules), sets=sets)


def within(address: bytes, net: object) -> bool:
    """Tell whether a packed address lies in a prefix of its version."""
    bits, mask = int(net.network_address), int(net.netmask)  # type: ignore[attr-defined]
    return int.from_bytes(address, "big") & mask == bits


def written(address: bytes) -> str:
    """Return a packed address as a prefix that holds it alone."""
    return f"{ip_address(address)}/{len(address) * 8}"


# ---- packets


_kept: OrderedDict[tuple[int, str], tuple[Survey, Mapped]] = OrderedDict()


def mapped(held: Survey, mode: str = "map", keep: bool = True) -> Mapped:
    """Return a capture's packets as the lab sends them, its own addresses in blocks of their own.

    mode: "map", or "keep" for captured addresses. With `keep` the last ones are kept, since one
    capture is replayed under many policies.
    """
    if mode not in MODES:
        raise TestbedError(f"addressing: got {mode!r}, expected one of {', '.join(MODES)}")
    key = (id(held.facts), mode)
    found = _kept.get(key)
    if found is not None and found[0].facts is held.facts:
        _kept.move_to_end(key)
        return found[1]
    made = rewrite(held, assigned([captured(held)])[0]) if mode == "map" else as_captured(held)
    if not keep:
        return made
    _kept[key] = (held, made)
    while len(_kept) > 1 and sum(one.packets.total for one, _ in _kept.values()) > KEPT_PACKETS:
        _kept.popitem(last=False)
    return made


def together(captures: Sequence[Survey], mode: str = "map") -> list[Mapped]:
    """Return the packets of captures that share one network, no address in two of them.

    mode: of `mapped`; "keep" takes one capture, as two may hold the same addresses.
    """
    if len(captures) == 1:
        return [mapped(captures[0], mode, keep=False)]
    if mode != "map":
        raise TestbedError(
            f"addressing {mode!r}: got {len(captures)} captures at once, expected 1, as two may "
            "hold the same addresses; replay them one by one, or map them"
        )
    images = assigned([captured(held) for held in captures])
    return [rewrite(held, own) for held, own in zip(captures, images, strict=True)]


def as_captured(held: Survey) -> Mapped:
    """Return a capture's packets as they were captured."""
    facts = held.facts
    return Mapped(held.packets.data, facts["ip_at"], facts["ip_end"], facts["ip_size"], None, 0, 0)


def rewrite(held: Survey, addresses: Addresses) -> Mapped:
    """Return a capture's packets with every address replaced by its image."""
    facts = held.facts
    data = held.packets.data.copy()
    for version in (4, 6):
        rewrite_headers(data, facts, version, addresses)
    at, end, size = (facts[name].copy() for name in ("ip_at", "ip_end", "ip_size"))
    payloads = Payloads(addresses.image)
    longer: list[bytes] = []
    free = len(data)
    for i, change in rewritten(held, payloads):
        packet = change.applied(bytearray(data[at[i] : end[i]]))
        if change.grown == 0:
            data[at[i] : end[i]] = np.frombuffer(packet, np.uint8)
            continue
        longer.append(packet)
        size[i] += change.grown
        at[i], end[i] = free, free + len(packet)
        free += len(packet)
    if longer:
        data = np.concatenate((data, np.frombuffer(b"".join(longer), np.uint8)))
    return Mapped(data, at, end, size, addresses, payloads.broken, payloads.cut)


class Change(NamedTuple):
    """What becomes of a part of an IP packet's payload.

    at, header: where the part and the transport header begin, from the packet's begin.
    """

    version: int
    proto: int
    header: int
    at: int
    old: bytes
    new: bytes

    @property
    def grown(self) -> int:
        """Return by how many bytes the packet grows."""
        return len(self.new) - len(self.old)

    def applied(self, packet: bytearray) -> bytes:
        """Return the packet after the change, its lengths and checksums adapted.

        A checksum that was wrong by something stays wrong by it; UDP's 0 (none) stays.
        """
        packet[self.at : self.at + len(self.old)] = self.new
        more = 0
        if self.grown:
            more = lengthen(packet, 2 if self.version == 4 else 4, self.grown)
            if self.version == 4:
                adapt(packet, 10, more)
            # The length counts twice: in UDP's header, and in the pseudo header of RFC 768.
            more = 2 * lengthen(packet, self.header + 4, self.grown)
        place = self.header + {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}[self.proto]
        if place + 2 > len(packet) or (self.proto == UDP and packet[place : place + 2] == b"\0\0"):
            return bytes(packet)
        adapt(packet, place, word_sum(self.new) - word_sum(self.old) + more)
        return bytes(packet)


def rewritten(held: Survey, payloads: Payloads) -> Iterator[tuple[int, Change]]:
    """Yield (packet, change) for packets whose payload tells of addresses that change."""
    data, facts, flows = held.packets.data, held.facts, held.flows
    for i in telling(held):
        fact = facts[i]
        ip, version, proto = int(fact["ip_at"]), int(fact["version"]), int(fact["proto"])
        header = 40 if version == 6 else 4 * int(data[ip] & 15)
        begin, end = int(fact["at"]) - ip, int(fact["end"])
        if proto in (ICMP, ICMP6):
            begin, end = header, int(fact["ip_end"])
        elif proto == UDP:
            header = begin - 8
        old = data[ip + begin : end].tobytes()
        if proto in (ICMP, ICMP6):
            new = quoted(old, proto, payloads)
        else:
            slot = int(fact["flow"])
            ports = int(flows["source_port"][slot]), int(flows["target_port"][slot])
            growing = proto == UDP and not fragment(data, ip, version)
            new = payloads.body(old, proto, ports, growing)
        if new != old:
            yield int(i), Change(version, proto, header, begin, old, new)


def fragment(data: Octets, at: int, version: int) -> bool:
    """Tell whether an IP packet is a fragment (RFC 791, RFC 8200 section 4.5)."""
    if version == 6:
        return bool(data[at + 6] == 44)
    return bool(data[at + 6] & 0x3F or data[at + 7])


def telling(held: Survey) -> Numbers:
    """Return the packets whose payload may tell of addresses, by their first octets and ports."""
    data, facts, flows = held.packets.data, held.facts, held.flows
    inside = (facts["flow"] >= 0) & (facts["ip_end"] > facts["ip_at"])
    slot = np.where(inside, facts["flow"], 0)
    long = inside & (facts["end"] - facts["at"] >= 20)
    place = np.where(long, facts["at"], 0)
    first = data[place] if len(data) else np.zeros(len(facts), np.uint8)
    ported = np.zeros(len(facts), bool)
    for port in (DNS_PORT, MULTICAST_DNS_PORT):
        for end in ("source_port", "target_port"):
            ported |= (flows[end] == port)[slot] if len(flows) else False
    letter = (first >= 65) & (first <= 118)
    datagram = facts["proto"] == UDP
    old = datagram & (first <= 1)
    known = (facts["stun"] > 0) | (datagram & ported) | letter | old
    stream = (facts["proto"] == TCP) | datagram
    errors = np.isin(facts["proto"], (ICMP, ICMP6))
    return np.flatnonzero((long & stream & known) | (inside & errors))


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


def lengthen(packet: bytearray, at: int, grown: int) -> int:
    """Add to a 16-bit length; returns by how much the packet's sum grew."""
    struct.pack_into(">H", packet, at, struct.unpack_from(">H", packet, at)[0] + grown)
    return grown


def adapt(packet: bytearray, at: int, change: int) -> None:
    """Adapt the checksum at `at` to a changed sum (RFC 1624 equation 3)."""
    spot = np.frombuffer(packet, np.uint8).copy()
    adapt_all(spot, np.array([at]), np.array([change]))
    packet[at : at + 2] = spot[at : at + 2].tobytes()


def word_sum(data: bytes) -> int:
    """Return the sum of the big-endian 16-bit words of some bytes."""
    return int(np.frombuffer(data + b"\0" * (len(data) & 1), ">u2").sum(dtype=np.int64))


def rewrite_headers(data: Octets, facts: Records, version: int, addresses: Addresses) -> None:
    """Replace the addresses of all IP headers of a version, in place, checksums adapted."""
    rows = of_version(facts, version)
    first, size = (12, 4) if version == 4 else (8, 16)
    if not len(rows):
        return
    at = facts["ip_at"][rows]
    change = np.zeros(len(rows), np.int64)
    for shift in (0, size):
        places = at[:, None] + first + shift + np.arange(size)
        old = data[places]
        distinct, which = np.unique(old, axis=0, return_inverse=True)
        images = [addresses.image(one.tobytes()) for one in distinct]
        new = np.frombuffer(b"".join(images), np.uint8).reshape(len(images), size)[which.ravel()]
        data[places] = new
        change += sums(new) - sums(old)
    if version == 4:
        adapt_all(data, at + 10, change)
    adapt_all(data, *transport_checksums(data, facts, rows, version, change))


def sums(octets: Octets) -> Numbers:
    """Return per row the sum of its big-endian 16-bit words."""
    wide = octets.astype(np.int64)
    return np.asarray((wide[:, ::2] << 8).sum(axis=1) + wide[:, 1::2].sum(axis=1))


def transport_checksums(
    data: Octets, facts: Records, rows: Numbers, version: int, change: Numbers
) -> tuple[Numbers, Numbers]:
    """Return where the checksums stand that cover a pseudo header, and what it changed by."""
    at, proto = facts["ip_at"][rows], facts["proto"][rows]
    payload, end = facts["at"][rows], facts["ip_end"][rows]
    if version == 4:
        header = at + 4 * (data[at] & 15).astype(np.int64)
        later = ((data[at + 6].astype(np.int64) & 0x1F) << 8 | data[at + 7]) > 0
    else:
        # Behind extension headers the transport header is found from its payload.
        plain = np.isin(data[at + 6], (TCP, UDP, ICMP6))
        header = np.where(plain, at + 40, np.where(proto == UDP, payload - 8, 0))
        later = ~plain & (proto != UDP)
    place = np.select([proto == TCP, proto == UDP, proto == ICMP6], [16, 6, 2], -1)
    checksum = header + place
    held = (place >= 0) & ~later & (checksum + 2 <= end) & (header > 0)
    spot = np.where(held, checksum, 0)
    held &= ~((proto == UDP) & (data[spot] == 0) & (data[spot + 1] == 0))
    return checksum[held], change[held]


def adapt_all(data: Octets, at: Numbers, change: Numbers) -> None:
    """Adapt checksums to changed sums (RFC 1624 equation 3); 0 is written as FFFF, for UDP."""
    moved = change != 0
    at, change = at[moved], change[moved]
    old = data[at].astype(np.int64) << 8 | data[at + 1]
    total = (~old & 0xFFFF) + change % 0xFFFF
    total = (total & 0xFFFF) + (total >> 16)
    new = 0xFFFF - np.where(total == 0xFFFF, 0, total)
    data[at], data[at + 1] = new >> 8, new & 0xFF
