# SPDX-License-Identifier: BSD-3-Clause
"""The packets of a capture with every address, name and token replaced by its pseudonym.

Frames are walked through tunnels and quoted packets. TCP is mapped as a stream, so that what lies
across segments is seen whole, and a segment that was sent twice has one image; a hello of DTLS or
QUIC is put together from its datagrams. Checksums are adapted (RFC 1624): a wrong one stays wrong.
Frames of other protocols than IP and ARP keep their header only, and what follows an IP packet in
its frame becomes zero.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from midcall.captures.own.anonymise import PKTAP_NAMES, adapt, adapt_checksums
from midcall.captures.own.hello_pseudonyms import Hellos, is_dtls, is_record
from midcall.captures.own.payload_pseudonyms import (
    DNS_PORTS,
    PRINTABLE,
    STATIC_TYPES,
    TOKEN,
    is_text,
)
from midcall.captures.own.pseudonyms import Pseudonyms
from midcall.captures.packets.headers import Layer, inside, ip4, ip6, network, ports, unwrapped
from midcall.captures.packets.numbers import (
    ARP,
    ICMP,
    ICMP6,
    IP4,
    IP6,
    L2TP_PORT,
    PKTAP_APPLE_LINK,
    PKTAP_LINK,
    PPI_LINK,
    SCTP,
    TCP,
    TEREDO_PORT,
    UDP,
    VXLAN_PORT,
)
from midcall.captures.packets.pcap import Packets
from midcall.captures.wire.quic import Initial, crypto_frames, opened, salt_of

#: ICMP messages that quote the packet they are about: RFC 792, RFC 4443.
ICMP_ERRORS, ICMP6_ERRORS = (3, 4, 5, 11, 12), (1, 2, 3, 4)
#: Protocols whose payload stays: fragments of ESP and AH are encrypted, IGMP names groups only.
OTHER_PROTOCOLS = (2, 50, 51)
#: Bytes at the start of an unknown stream that decide what it is taken for.
OPENING = 512
#: Packets of one source and static type that make an RTP stream.
STREAM = 10
DEPTH = 6
#: Octets of 0x80 and more become other ones of 0x80 and more.
HIGH = re.compile(rb"[\x80-\xff]+")
LINKS = (
    0, 1, 12, 14, 101, 105, 108, 113, 127, 228, 229, 276, PPI_LINK, PKTAP_LINK, PKTAP_APPLE_LINK,
)  # fmt: skip


class Segment(NamedTuple):
    """Bytes of a stream at `offset`, in frame `frame` from `at` on."""

    offset: int
    frame: int
    at: int
    size: int


class Stream:
    """One direction of a TCP connection."""

    def __init__(self, ports_: tuple[int, int], first: int) -> None:
        self.ports, self.base, self.last = ports_, first, 0
        self.segments: list[Segment] = []

    def add(self, number: int, frame: int, at: int, size: int) -> None:
        """Add a segment; number: its sequence number."""
        difference = (number - self.base - self.last + (1 << 31)) % (1 << 32) - (1 << 31)
        self.last += difference
        self.segments.append(Segment(self.last, frame, at, size))


class Piece(NamedTuple):
    """Part of a message that several datagrams carry, in frame `frame` from `at` on."""

    offset: int
    frame: int
    at: int
    size: int
    total: int


class Quic:
    """The client's Initials of a flow."""

    def __init__(self) -> None:
        self.connections: list[bytes] = []
        self.initials: list[tuple[int, int, Initial]] = []  # frame, begin of the payload


class Fragment(NamedTuple):
    """The first fragment of a datagram: its frame and where its checksum is."""

    frame: int
    layer: Layer


class SharedPackets(Hellos):
    """Maps the frames of a capture."""

    def __init__(self, packets: Packets, names: Pseudonyms, shift_days: int = 0) -> None:
        super().__init__(names, shift_days * 86400)
        self.packets, self.days = packets, shift_days
        self.old = [packets.frame(i) for i in range(packets.total)]
        self.new = [bytearray(frame) for frame in self.old]
        self.layers: list[list[Layer]] = [[] for _ in self.old]
        self.payload_at = [len(frame) for frame in self.old]
        self.streams: dict[tuple[bytes, bytes, int, int], Stream] = {}
        self.all_streams: list[Stream] = []
        self.quic: dict[frozenset[tuple[bytes, int]], Quic] = {}
        self.pieces: dict[tuple[object, ...], list[Piece]] = {}
        self.firsts: dict[tuple[bytes, bytes], Fragment] = {}
        self.later: list[tuple[tuple[bytes, bytes], int, Layer]] = []
        self.emptied: Counter[str] = Counter()
        self.where = (0, 0)  # frame and begin of the datagram that is mapped
        self.flow: tuple[tuple[bytes, int], tuple[bytes, int]] = ((b"", 0), (b"", 0))

    def result(self) -> Packets:
        """Return the mapped packets."""
        self.find_media()
        for i, frame in enumerate(self.old):
            self.now = int(self.packets.time[i]) // 1_000_000_000
            self.frame(i, frame, self.new[i], int(self.packets.link[i]))
        for stream in self.all_streams:
            self.now = int(self.packets.time[stream.segments[0].frame]) // 1_000_000_000
            self.stream(stream)
        self.put_pieces()
        self.sweep()
        for quic in self.quic.values():
            self.put_initials(quic)
        for i, layers in enumerate(self.layers):
            if self.new[i] != self.old[i]:
                self.checksums(i, layers)
        self.fragments()
        data = np.frombuffer(b"".join(self.new), np.uint8).copy()
        sizes = np.array([len(frame) for frame in self.new], np.int64)
        offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[:-1].astype(np.int64)
        time = self.packets.time + self.days * 86400 * 1_000_000_000
        return Packets(
            data, offset, sizes, self.packets.wire.copy(), time, self.packets.link.copy()
        )

    def sweep(self) -> None:
        """Replace what is left of known addresses in payloads of protocols that no reader knows.

        Addresses of IPv4 are looked for plain, XORed with STUN's cookie and in reversed order, but
        not if two of their bytes are zero; those of IPv6 and MAC addresses plain.
        """
        whole = bytearray().join(self.new)
        ends = np.cumsum([len(frame) for frame in self.new])
        known: dict[bytes, bytes] = {}
        for old, new in self.names.images.get("addresses", {}).items():
            if len(old) == 4 and old != new and old.count(0) < 2:
                known[old], known[old[::-1]] = new, new[::-1]
                known[hidden(old)] = hidden(new)
        long = self.long_values()
        for place, new in [*places(bytes(whole), known), *finds(bytes(whole), long)]:
            i = int(np.searchsorted(ends, place, "right"))
            at = place - (int(ends[i - 1]) if i else 0)
            if at >= self.payload_at[i] and at + len(new) <= len(self.new[i]):
                self.new[i][at : at + len(new)] = new

    def long_values(self) -> dict[bytes, bytes]:
        """Return the images of MAC addresses, IPv6 addresses, their identifiers, and tokens."""
        images = self.names.images
        found: dict[bytes, bytes] = {}
        for old, new in images.get("tokens", {}).items():
            if len(old) >= TOKEN:
                found[old] = new
                if old[0] == 0 and len(old) > TOKEN:  # mapped as binary: see `opaque`
                    found[old[1:]] = new[1:]
        for old, new in images.get("addresses", {}).items():
            if len(old) == 16 and old != new:
                found[old] = new
                if len(set(old[8:])) > 4:
                    found[old[8:]] = new[8:]
        for old, new in images.get("MAC addresses", {}).items():
            found[old] = new
            found[eui64(old)] = eui64(new)
        return found

    def find_media(self) -> None:
        """Find RTP streams of static types, whose media are not encrypted as a rule."""
        seen: Counter[tuple[bytes, int]] = Counter()
        for hit in (self.media_of(frame, int(link)) for frame, link in
                    zip(self.old, self.packets.link, strict=True)):  # fmt: skip
            if hit is not None:
                seen[hit] += 1
        self.media = {stream for stream, count in seen.items() if count >= STREAM}

    def media_of(self, frame: bytes, link: int) -> tuple[bytes, int] | None:
        """Return source and type of an RTP packet of a static type, None for other frames."""
        for layer in self.walked(frame, link):
            at = layer.start + 8
            if layer.proto == UDP and not layer.later and layer.end >= at + 12:
                kind = frame[at + 1] & 0x7F
                if frame[at] >> 6 == 2 and kind < STATIC_TYPES and kind != 13:
                    return frame[at + 8 : at + 12], kind
        return None

    def walked(self, frame: bytes, link: int) -> Iterator[Layer]:
        """Yield the IP layers of a frame that headers.py knows."""
        kind, at = network(frame, link)
        for _ in range(DEPTH):
            layer = self.layer(frame, kind, at)
            if layer is None:
                return
            yield layer
            kind, at = (0, 0) if layer.later else inside(frame, layer)

    @staticmethod
    def layer(frame: bytes, kind: int, at: int) -> Layer | None:
        """Return the IP header of that EtherType at `at`, None for none."""
        return ip4(frame, at) if kind == IP4 else ip6(frame, at) if kind == IP6 else None

    # ---- frames

    def frame(self, i: int, old: bytes, new: bytearray, link: int) -> None:
        """Map one frame, TCP payloads not yet."""
        inner, begin = unwrapped(old, link)
        if link == PPI_LINK:
            new[8:begin] = bytes(max(0, begin - 8))  # may hold a place on earth
        elif link in (PKTAP_LINK, PKTAP_APPLE_LINK):
            for first, last in PKTAP_NAMES:
                last = max(first, min(last, begin))
                new[first:last] = bytes(len(new[first:last]))
        if inner == 113 and len(old) >= begin + 16:
            at = begin + 6
            new[at : at + 6] = self.names.mac(old[at : at + 6])  # whatever its length is said to be
            new[at + 6 : at + 8] = b"\0\0"
        elif inner == 276 and len(old) >= begin + 20:
            if old[begin + 11] == 6:
                at = begin + 12
                new[at : at + 6] = self.names.mac(old[at : at + 6])
        kind, at = network(old, link)
        if inner == 1:
            self.ethernet(i, old, new, begin, kind, at)
        elif inner in (105, 127):
            self.radio(i, old, new, begin, inner, kind, at)
        else:
            self.network(i, old, new, kind, at if kind else begin)

    def radio(
        self, i: int, old: bytes, new: bytearray, begin: int, link: int, kind: int, at: int
    ) -> None:
        """Map an 802.11 frame, with or without radiotap: its addresses, and what is readable."""
        begin += int.from_bytes(old[begin + 2 : begin + 4], "little") if link == 127 else 0
        for place in (begin + 4, begin + 10, begin + 16):
            if place + 6 <= len(old):
                new[place : place + 6] = self.names.mac(old[place : place + 6])
        if len(old) > begin + 24 and old[begin + 1] & 3 == 3:
            new[begin + 24 : begin + 30] = self.names.mac(old[begin + 24 : begin + 30])
        self.network(i, old, new, kind, at if kind else min(len(old), begin + 24))

    def ethernet(self, i: int, old: bytes, new: bytearray, start: int, kind: int, at: int) -> None:
        """Map an Ethernet frame that starts at `start`."""
        if len(old) >= start + 14:
            for place in (start, start + 6):
                new[place : place + 6] = self.names.mac(old[place : place + 6])
        self.network(i, old, new, kind, at if at > start else min(len(old), start + 14))

    def network(self, i: int, old: bytes, new: bytearray, kind: int, at: int) -> None:
        """Map what a link layer carries."""
        if kind == ARP and len(old) >= at + 28 and old[at + 4 : at + 6] == b"\6\4":
            for place in (at + 8, at + 18):
                new[place : place + 6] = self.names.mac(old[place : place + 6])
            for place in (at + 14, at + 24):
                new[place : place + 4] = self.names.address(old[place : place + 4])
            new[at + 28 :] = bytes(len(old) - at - 28)
            return
        layer = self.layer(old, kind, at)
        if layer is not None:
            self.ip(i, old, new, layer, 0)
            if layer.end < len(old):
                new[layer.end :] = bytes(len(old) - layer.end)
            return
        if at < len(old):
            self.emptied[f"EtherType {kind:#06x}"] += 1
            new[at:] = bytes(len(old) - at)

    def ip(self, i: int, old: bytes, new: bytearray, layer: Layer, depth: int) -> None:
        """Map an IP packet and what it carries."""
        self.layers[i].append(layer)
        source, target, size = layer.addresses
        for place in (source, target):
            new[place : place + size] = self.names.address(old[place : place + size])
        self.options(old, new, layer)
        if layer.later or depth >= DEPTH:
            self.later.append((self.fragment_key(old, layer), i, layer))
            new[layer.start : layer.end] = self.generic(old[layer.start : layer.end])
            self.payload_at[i] = layer.start
            return
        if is_first(old, layer):
            self.firsts[self.fragment_key(old, layer)] = Fragment(i, layer)
        kind, at = inside(old, layer)
        inner = self.layer(old, kind, at)
        if inner is not None and inner.start <= layer.end:
            self.ip(i, old, new, inner, depth + 1)
        elif layer.proto == UDP:
            self.udp(i, old, new, layer, depth)
        elif layer.proto == TCP:
            self.tcp(i, old, layer)
        elif layer.proto in (ICMP, ICMP6):
            self.icmp(i, old, new, layer)
        elif layer.proto not in OTHER_PROTOCOLS:
            kept = layer.start + (16 if layer.proto == SCTP else 4)
            if kept < layer.end:
                self.emptied[f"IP protocol {layer.proto}"] += 1
                new[kept : layer.end] = bytes(layer.end - kept)

    def options(self, old: bytes, new: bytearray, layer: Layer) -> None:
        """Map the addresses in IPv4 options (RFC 791) and in IPv6 routing headers."""
        at, stop = layer.at + 20, min(layer.start, len(old))
        if layer.version == 6:
            kind, at = old[layer.at + 6], layer.at + 40
            while kind in (0, 43, 44, 60) and at + 8 <= stop:
                size = 8 if kind == 44 else 8 + old[at + 1] * 8
                if kind == 43:
                    for place in range(at + 8, min(at + size, stop) - 15, 16):
                        new[place : place + 16] = self.names.address(old[place : place + 16])
                kind, at = old[at], at + size
            return
        while at + 2 <= stop and old[at]:
            size = 1 if old[at] == 1 else max(old[at + 1], 2)
            if old[at] in (7, 68, 131, 137):
                for place in range(at + (4 if old[at] == 68 else 3), min(at + size, stop) - 3, 4):
                    new[place : place + 4] = self.names.address(old[place : place + 4])
            at += size

    def fragment_key(self, old: bytes, layer: Layer) -> tuple[bytes, bytes]:
        """Return what the fragments of a datagram have in common."""
        source, _, size = layer.addresses
        about = old[layer.at + 4 : layer.at + 6] if layer.version == 4 else b""
        if layer.version == 6:
            about = old[layer.start - 4 : layer.start]
        return old[source : source + 2 * size], about

    # ---- transport

    def udp(self, i: int, old: bytes, new: bytearray, layer: Layer, depth: int) -> None:
        """Map the payload of a UDP packet."""
        start, end, both = layer.start + 8, layer.end, ports(old, layer)
        if end <= start:
            return
        if VXLAN_PORT in both and end >= start + 22 and old[start] & 8:
            kind, at = network(old[:end][start + 8 :], 1)
            self.ethernet(i, old[:end], new, start + 8, kind, at + start + 8)
            return
        inner = self.tunnelled(old, new, start, end, both)
        if inner is not None:
            self.ip(i, old, new, inner, depth + 1)
            return
        source, target, size = layer.addresses
        self.flow = ((old[source : source + size], both[0]), (old[target : target + size], both[1]))
        self.where, self.payload_at[i] = (i, start), start
        new[start:end] = self.datagram(old[start:end], both)

    def tunnelled(
        self, old: bytes, new: bytearray, start: int, end: int, both: tuple[int, int]
    ) -> Layer | None:
        """Return the IP packet within Teredo (RFC 4380) or L2TP (RFC 2661), None for none."""
        at = start
        if TEREDO_PORT in both:
            if old[at : at + 2] == b"\0\1" and at + 4 <= end:
                at += 13 + old[at + 2] + old[at + 3]
            if old[at : at + 2] == b"\0\0" and at + 8 <= end:
                hidden = bytes(octet ^ 255 for octet in old[at + 4 : at + 8])
                new[at + 4 : at + 8] = bytes(octet ^ 255 for octet in self.names.address(hidden))
                at += 8
            return ip6(old[:end], at)
        if L2TP_PORT in both and at + 12 <= end and not old[at] & 0x80 and old[at + 1] & 15 == 2:
            flags = old[at]
            at += 6 + (2 if flags & 0x40 else 0) + (4 if flags & 0x08 else 0)
            at += 2 + int.from_bytes(old[at : at + 2], "big") if flags & 0x02 else 0
            at += 2 if old[at : at + 2] == b"\xff\x03" else 0
            for head, kind in ((b"\0\x21", IP4), (b"\x21", IP4), (b"\0\x57", IP6), (b"\x57", IP6)):
                if old[at : at + len(head)] == head:
                    return self.layer(old[:end], kind, at + len(head))
        return None

    def inner(self, body: bytes) -> bytes:
        """Return the image of a datagram within one, whose place is found in the outer one."""
        frame, start = self.where
        at = self.old[frame].find(body, start) if body and frame >= 0 else -1
        self.where = (frame, at if at >= 0 else start)
        result = self.datagram(body, (0, 0))
        self.where = (frame, start)
        return result

    def datagram(self, body: bytes, ports: tuple[int, int]) -> bytes:
        """Return the image of a UDP payload; hellos in pieces are mapped later."""
        if is_dtls(body):
            return self.dtls(body)
        key = frozenset(self.flow)
        if key in self.quic or (
            len(body) >= 7 and body[0] & 0x80 and salt_of(int.from_bytes(body[1:5], "big"))
        ):
            if 443 not in ports and not body[:1] > b"\x7f" and key not in self.quic:
                return super().datagram(body, ports)
            return self.initial(body, self.quic.setdefault(key, Quic()))
        at = body.find(b"CHLO", 0, 64)
        at = at if at >= 0 else body.find(b"REJ\0", 0, 64)
        if at >= 0 and at + 8 <= len(body) and body[at + 6 : at + 8] == b"\0\0":
            return self.chlo(body, at)
        return super().datagram(body, ports)

    def dtls(self, body: bytes) -> bytes:
        """Return a datagram of DTLS records with its plain handshake mapped."""
        out, at = bytearray(body), 0
        while is_dtls(body, at):
            start = at + 13
            end = min(start + int.from_bytes(body[at + 11 : at + 13], "big"), len(body))
            if body[at] == 22 and body[at + 3 : at + 5] == b"\0\0":
                self.dtls_handshake(out, start, end)
            at = end
        return bytes(out)

    def dtls_handshake(self, out: bytearray, at: int, end: int) -> None:
        """Map the messages of a DTLS handshake record; put aside what is in pieces."""
        while at + 12 <= end:
            total = int.from_bytes(out[at + 1 : at + 4], "big")
            offset = int.from_bytes(out[at + 6 : at + 9], "big")
            size = int.from_bytes(out[at + 9 : at + 12], "big")
            stop = min(at + 12 + size, end)
            if total == size and offset == 0:
                self.message(out, out[at], at + 12, stop, True)
            elif self.where[0] < 0:  # in a stream: no datagram to put it together from
                out[at + 12 : stop] = self.names.opaque(b"\0" + bytes(out[at + 12 : stop]))[1:]
            elif total <= 1 << 17:
                frame, start = self.where
                key = (self.flow, out[at], bytes(out[at + 4 : at + 6]), total)
                piece = Piece(offset, frame, start + at + 12, stop - at - 12, total)
                self.pieces.setdefault(key, []).append(piece)
            at = stop if stop > at else end

    def put_pieces(self) -> None:
        """Map messages of DTLS that came in pieces."""
        for key, pieces in self.pieces.items():
            whole = bytearray(pieces[0].total)
            for piece in pieces:
                seen = self.old[piece.frame][piece.at : piece.at + piece.size]
                whole[piece.offset : piece.offset + len(seen)] = seen
            kind = key[1]
            assert isinstance(kind, int)
            self.message(whole, kind, 0, len(whole), True)
            for piece in pieces:
                part = whole[piece.offset : piece.offset + piece.size]
                self.new[piece.frame][piece.at : piece.at + len(part)] = part

    def initial(self, body: bytes, quic: Quic) -> bytes:
        """Return a QUIC datagram; the client's Initials in it are put aside."""
        frame, start = self.where
        at = 0
        while at < len(body) and frame >= 0:
            found = opened(body, at, quic.connections)
            if found is None:
                break
            if found.connection not in quic.connections:
                quic.connections.append(found.connection)
            quic.initials.append((frame, start, found))
            at = found.end
        if at == 0 and body[0] & 0xF0 == 0xF0 and len(body) > 30:  # Retry: its token
            place = 6 + body[5]
            place += 1 + body[place] if place < len(body) else 0
            token = body[place:-16]
            return body[:place] + self.names.opaque(b"\0" + token)[1:] + body[-16:]
        return body

    def put_initials(self, quic: Quic) -> None:
        """Map the hello in the Initials of a flow, and seal them again."""
        streams: dict[bytes, bytearray] = {}
        for _, _, initial in quic.initials:
            whole = streams.setdefault(initial.connection, bytearray())
            for offset, at, size in crypto_frames(initial.plain):
                if offset + size <= 1 << 16:
                    whole.extend(bytes(max(0, offset + size - len(whole))))
                    whole[offset : offset + size] = initial.plain[at : at + size]
        for whole in streams.values():
            self.handshake(whole)
        for frame, start, initial in quic.initials:
            plain, whole = bytearray(initial.plain), streams[initial.connection]
            for offset, at, size in crypto_frames(initial.plain):
                if offset + size <= 1 << 16:
                    plain[at : at + size] = whole[offset : offset + size]
            body = bytearray(self.old[frame][start:])
            first, last = initial.token
            body[first:last] = self.names.opaque(b"\0" + bytes(body[first:last]))[1:]
            place = start + initial.at
            sealed = initial.sealed(bytes(plain), bytes(body))
            self.new[frame][place : place + len(sealed)] = sealed

    def tcp(self, i: int, old: bytes, layer: Layer) -> None:
        """Add the payload of a TCP packet to its stream."""
        if layer.end < layer.start + 20:
            return
        start = layer.start + (old[layer.start + 12] >> 4) * 4
        source, target, size = layer.addresses
        both = ports(old, layer)
        key = (old[source : source + size], old[target : target + size], *both)
        number = int.from_bytes(old[layer.start + 4 : layer.start + 8], "big")
        stream = self.streams.get(key)
        if old[layer.start + 13] & 2:
            number += 1
            fresh = stream is None or number % (1 << 32) != stream.base
            stream = None if fresh else stream
        if stream is None:
            stream = self.streams[key] = Stream(both, number % (1 << 32))
        self.payload_at[i] = start
        if start < layer.end:
            if not stream.segments:
                self.all_streams.append(stream)
            stream.add(number, i, start, layer.end - start)

    def stream(self, stream: Stream) -> None:
        """Map one direction of a connection."""
        self.where, self.flow = (-1, 0), ((b"stream", stream.ports[0]), (b"", stream.ports[1]))
        ordered = sorted(stream.segments)
        parts: list[tuple[int, bytearray]] = []
        for one in ordered:
            body = self.old[one.frame][one.at : one.at + one.size]
            end = parts[-1][0] + len(parts[-1][1]) if parts else None
            if end is None or one.offset > end:
                parts.append((one.offset, bytearray(body)))
            elif one.offset + one.size > end:
                parts[-1][1].extend(body[end - one.offset :])
        images = []
        sort = ""
        for offset, part in parts:
            sort = sort or kind_of(part, stream.ports)
            images.append((offset, self.content(bytes(part), sort)))
        place = 0
        for one in ordered:
            while images[place][0] + len(images[place][1]) < one.offset + one.size:
                place += 1
            offset, image = images[place]
            first = one.offset - offset
            self.new[one.frame][one.at : one.at + one.size] = image[first : first + one.size]

    def content(self, body: bytes, sort: str) -> bytes:
        """Return the image of a part of a stream without gaps."""
        if sort == "tls":
            return self.tls(body) if is_record(body) else self.runs(body)
        if sort == "dns":
            out, at = bytearray(body), 0
            while at + 2 < len(body):
                end = min(at + 2 + int.from_bytes(body[at : at + 2], "big"), len(body))
                out[at + 2 : end] = self.dns(body[at + 2 : end])
                at = max(end, at + 2)
            return bytes(out)
        if sort == "text":
            hit = re.search(rb"\r\n(?=[\x16\x17]\x03[\0-\4])", body)
            if hit is not None:
                return self.document(body[: hit.end()]) + self.tls(body[hit.end() :])
            return self.document(body)
        if sort == "stun":
            return self.generic(body)
        if sort == "framed":
            out, at = bytearray(body), 0
            while at + 2 < len(body):
                end = min(at + 2 + int.from_bytes(body[at : at + 2], "big"), len(body))
                out[at + 2 : end] = self.datagram(body[at + 2 : end], (0, 0))
                at = max(end, at + 2)
            return bytes(out)
        return self.generic(body[:OPENING]) + self.noise(self.generic(body[OPENING:]))

    def document(self, body: bytes) -> bytes:
        """Return the image of a stream that starts as text: its text mapped, the rest noise."""
        out = bytearray(self.noise(body))
        for hit in re.finditer(rb"[\x20-\x7e\t\r\n]{3,}", body):
            answers = re.split(rb"(?=HTTP/1\.[01] )", hit[0])  # may follow binary data at once
            out[hit.start() : hit.end()] = b"".join(map(self.text, answers))
        for hit in re.finditer(rb"(?:[\x20-\x7e]\0){3,}", body):
            out[hit.start() : hit.end() : 2] = self.names.text(hit[0][::2])
        return bytes(out)

    def noise(self, body: bytes) -> bytes:
        """Return a body whose octets of 0x80 and more are other ones."""
        return HIGH.sub(
            lambda hit: bytes(
                octet | 0x80 for octet in self.names.digest(b"noise" + hit[0], len(hit[0]))
            ),
            body,
        )

    def icmp(self, i: int, old: bytes, new: bytearray, layer: Layer) -> None:
        """Map the packet that an error quotes, and the addresses of neighbour discovery."""
        at, kind = layer.start, old[layer.start] if layer.start < layer.end else 0
        errors = ICMP_ERRORS if layer.proto == ICMP else ICMP6_ERRORS
        if kind in errors:
            inner = self.layer(old[: layer.end], IP4 if layer.proto == ICMP else IP6, at + 8)
            if inner is not None:
                self.quoted(i, old[: layer.end], new, inner)
            if kind == 5 and layer.proto == ICMP:
                new[at + 4 : at + 8] = self.names.address(old[at + 4 : at + 8])
            return
        self.payload_at[i] = min(at + 8, layer.end)
        if layer.proto == ICMP and kind == 9:  # routers: RFC 1256
            for place in range(at + 8, layer.end - 3, 8):
                new[place : place + 4] = self.names.address(old[place : place + 4])
            return
        if layer.proto == ICMP:
            new[at + 8 : layer.end] = self.generic(old[at + 8 : layer.end])
            return
        if kind in (130, 131, 132, 135, 136, 137) and layer.end >= at + 24:
            new[at + 8 : at + 24] = self.names.address(old[at + 8 : at + 24])
        if kind == 137 and layer.end >= at + 40:
            new[at + 24 : at + 40] = self.names.address(old[at + 24 : at + 40])
        if kind == 143:  # MLDv2 reports
            place = at + 8
            while place + 20 <= layer.end:
                count = int.from_bytes(old[place + 2 : place + 4], "big")
                for one in range(place + 4, min(place + 20 + 16 * count, layer.end) - 15, 16):
                    new[one : one + 16] = self.names.address(old[one : one + 16])
                place += 20 + 16 * count + 4 * old[place + 1]
        first = {133: 8, 134: 16, 135: 24, 136: 24, 137: 40}.get(kind)
        if first:
            self.neighbour_options(old, new, at + first, layer.end)

    def neighbour_options(self, old: bytes, new: bytearray, at: int, end: int) -> None:
        """Map the options of neighbour discovery (RFC 4861 section 4.6, RFC 8106)."""
        while at + 8 <= end and old[at + 1]:
            stop = min(at + 8 * old[at + 1], end)
            if old[at] in (1, 2):
                new[at + 2 : at + 8] = self.names.mac(old[at + 2 : at + 8])
            elif old[at] == 3 and stop >= at + 32:
                new[at + 16 : at + 32] = self.names.address(old[at + 16 : at + 32])
            elif old[at] == 25:
                for one in range(at + 8, stop - 15, 16):
                    new[one : one + 16] = self.names.address(old[one : one + 16])
            elif old[at] == 31:
                new[at + 8 : stop] = self.names.words(old[at + 8 : stop])
            elif old[at] == 24 and stop >= at + 16:
                image = self.names.address(old[at + 8 : stop].ljust(16, b"\0")[:16])
                new[at + 8 : stop] = image[: stop - at - 8]
            at = stop

    def quoted(self, i: int, old: bytes, new: bytearray, inner: Layer) -> None:
        """Map a packet that an ICMP error quotes: it is mostly cut."""
        self.layers[i].append(inner)
        source, target, size = inner.addresses
        for place in (source, target):
            new[place : place + size] = self.names.address(old[place : place + size])
        self.options(old, new, inner)
        if inner.proto == UDP and inner.end > inner.start + 8:
            self.flow = ((b"quoted", i), (b"", 0))
            start = inner.start + 8
            self.where = (i, start)
            both = ports(old, inner)
            new[start : inner.end] = self.datagram(old[start : inner.end], both)
            self.quic.pop(frozenset(self.flow), None)
        elif inner.proto == TCP and inner.end > inner.start + 20:
            start = inner.start + (old[inner.start + 12] >> 4) * 4
            body = old[start : inner.end]
            new[start : inner.end] = self.content(body, kind_of(body, ports(old, inner)))

    # ---- checksums

    def checksums(self, i: int, layers: list[Layer]) -> None:
        """Adapt the checksums of a frame, innermost first."""
        old, new = self.old[i], self.new[i]
        for layer in sorted(layers, key=lambda layer: -layer.at):
            adapt_checksums(new, old, layer)
            if layer.proto == ICMP and not layer.later and layer.end >= layer.start + 4:
                adapt(new, old, layer.start + 2, [(layer.start, layer.start + 2),
                                                  (layer.start + 4, layer.end)])  # fmt: skip

    def fragments(self) -> None:
        """Adapt the checksum of a datagram to the changes in its later fragments."""
        for key, i, layer in self.later:
            first = self.firsts.get(key)
            if first is None:
                continue
            place = {TCP: 16, UDP: 6, ICMP6: 2, ICMP: 2}.get(first.layer.proto)
            if place is None or first.layer.start + place + 2 > first.layer.end:
                continue
            at, target = first.layer.start + place, self.new[first.frame]
            if first.layer.proto == UDP and target[at : at + 2] == b"\0\0":
                continue
            old = self.old[i][layer.start : layer.end]
            before = bytes(target[at : at + 2]) + old
            after = bytearray(before[:2]) + self.new[i][layer.start : layer.end]
            adapt(after, before, 0, [(2, len(before))])
            target[at : at + 2] = after[:2]


def hidden(address: bytes) -> bytes:
    """Return an IPv4 address XORed with STUN's cookie."""
    return bytes(a ^ b for a, b in zip(address, b"\x21\x12\xa4\x42", strict=True))


def places(whole: bytes, known: dict[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (place, image) of each known address of four bytes."""
    wanted = np.array([int.from_bytes(old, "big") for old in known], np.uint32)
    for turn in range(4):
        words = np.frombuffer(whole, ">u4", count=max(0, len(whole) - turn) // 4, offset=turn)
        for at in np.flatnonzero(np.isin(words, wanted)).tolist():
            place = 4 * at + turn
            yield place, known[whole[place : place + 4]]


def finds(whole: bytes, known: dict[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (place, image) of each of some longer values, found by their first four bytes."""
    heads: dict[bytes, list[bytes]] = {}
    for old in known:
        heads.setdefault(old[:4], []).append(old)
    for place, head in places(whole, {head: head for head in heads}):
        for old in heads[head]:
            if whole.startswith(old, place):
                yield place, known[old]


def eui64(mac: bytes) -> bytes:
    """Return the interface identifier that a MAC address gives (RFC 4291 appendix A)."""
    return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def is_first(old: bytes, layer: Layer) -> bool:
    """Return whether an IP packet is the first of several fragments."""
    if layer.version == 4:
        return bool(old[layer.at + 6] & 0x20)
    return old[layer.at + 6] == 44


def kind_of(body: bytes | bytearray, ports_: tuple[int, int]) -> str:
    """Return what a stream is taken for by its first bytes."""
    body = bytes(body[:OPENING])
    if set(DNS_PORTS) & set(ports_):
        return "dns"
    if is_record(body):
        return "tls"
    if b"\x21\x12\xa4\x42" in body[4:12]:
        return "stun"
    if len(body) >= 14 and body[2] >> 6 == 2 and 12 <= int.from_bytes(body[:2], "big") < 2048:
        return "framed"  # RTP: RFC 4571
    begin = body[:16].translate(None, PRINTABLE)
    return "text" if is_text(body) or (len(body) >= 16 and not begin) else "binary"
