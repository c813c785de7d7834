# SPDX-License-Identifier: BSD-3-Clause
"""Pseudonyms in the payloads of datagrams: STUN and TURN, DNS, DHCP, NetBIOS, RTP, RTCP, text.

Each reader maps in place what identifies somebody, and keeps every length. What no reader knows is
searched for text (also UTF-16), which is mapped word by word. TLS, DTLS and QUIC are in
`hello_pseudonyms`.
"""

from __future__ import annotations

import ipaddress
import re
import struct
import zlib
from email.utils import formatdate, parsedate_to_datetime

from midcall.captures.own.anonymise import FINGERPRINT, FINGERPRINT_XOR, STUN_PLAIN, STUN_XORED
from midcall.captures.own.pseudonyms import Pseudonyms

COOKIE = b"\x21\x12\xa4\x42"
INTEGRITY, DATA = (0x0008, 0x001C), 0x0013
#: STUN attributes that name nobody: errors, channels, lifetimes, roles, priorities, padding.
PLAIN_ATTRIBUTES = (
    0x0003, 0x0009, 0x000A, 0x000C, 0x000D, 0x000F, 0x0010, 0x0017, 0x0018, 0x0019, 0x001A, 0x0024,
    0x0025, 0x0026, 0x0027, 0x002A, 0x8029, 0x802A, 0x8028, 0xC057,
)  # fmt: skip
STUN_TEXTS = (0x0014, 0x8022)
DIGITS = b"12345678901234567890"
#: Shorter values of unknown attributes are numbers, not tokens.
TOKEN = 8
#: Printable characters in a row that count as text within binary data, and in UTF-16.
RUN = re.compile(rb"[\x20-\x7e\t\r\n]{8,}")
SHORT_RUN = re.compile(rb"[\x20-\x7e\t\r\n]{3,}")
WIDE_RUN = re.compile(rb"(?:[\x20-\x7e]\0){4,}")
PRINTABLE = bytes(range(0x20, 0x7F)) + b"\t\r\n"
DATE = re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
#: Static payload types of RTP (RFC 3551): their audio and video are not encrypted as a rule.
STATIC_TYPES = 35
NTP_EPOCH = 2208988800
TRANSPORTS = (1, 2, 4, 6, 17, 41, 47, 58, 132)
DNS_PORTS, DHCP_PORTS, DHCP6_PORTS = (53, 5353, 5355), (67, 68), (546, 547)
#: GTP-C (telephone numbers), RADIUS (user names), CAPWAP and sFlow (frames of others): nothing
#: behind their first octets stays.
SECRET_PORTS = (2123, 1812, 1813, 1645, 1646, 5246, 5247, 6343)
TORRENT = b"\x13BitTorrent protocol"


class Payloads:
    """Maps payloads by one mapping of names; counts what it broke.

    shift: seconds that are added to clocks in payloads; now: seconds since 1970 of the packet.
    """

    def __init__(self, names: Pseudonyms, shift: int = 0) -> None:
        self.names, self.shift, self.now = names, shift, 0
        self.broken_integrity = self.scrambled_media = 0
        self.media: set[tuple[bytes, int]] = set()  # source and type of RTP that is not encrypted

    def clock(self, seconds: int) -> int:
        """Return a clock's reading, shifted if it is within a week of the packet's time."""
        return seconds + self.shift if abs(seconds - self.now) < 7 * 86400 else seconds

    # ---- text

    def text(self, body: bytes) -> bytes:
        """Return the image of a text, dates shifted."""
        if not self.shift:
            return self.names.text(body)
        out, at = [], 0
        for hit in DATE.finditer(body):
            out.append(self.names.text(body[at : hit.start()]))
            out.append(self.date(hit[0]))
            at = hit.end()
        return b"".join([*out, self.names.text(body[at:])])

    def date(self, text: bytes) -> bytes:
        """Return a date of RFC 9110, shifted; what is none is mapped as text."""
        try:
            then = parsedate_to_datetime(text.decode()).timestamp()
        except ValueError:
            return self.names.text(text)
        return formatdate(then + self.shift, usegmt=True).encode()

    def generic(self, body: bytes) -> bytes:
        """Return a payload of an unknown protocol: STUN in it, and its text, are mapped."""
        if is_text(body):
            return self.text(body)
        at = body.find(COOKIE, 4)
        while at >= 0:
            size = int.from_bytes(body[at - 2 : at], "big")
            if body[at - 4] < 0x40 and size < 2048:
                end = min(at + 16 + size, len(body))
                head, tail = self.generic(body[: at - 4]), self.generic(body[end:])
                return head + self.stun(body[at - 4 : end]) + tail
            at = body.find(COOKIE, at + 4)
        self.headers_within(body)
        if body[:20] == TORRENT:  # what is exchanged, and the peer
            return body[:28] + self.names.opaque(b"\0" + body[28:68])[1:] + self.runs(body[68:])
        if len(body) >= 16 and not body[:16].translate(None, PRINTABLE):
            return SHORT_RUN.sub(lambda hit: self.text(hit[0]), body)
        return self.runs(body)

    def headers_within(self, body: bytes) -> None:
        """Give every address in an IP header that a payload holds an image; see `swept`.

        A header is what has a right checksum, or (IPv6) the length of what follows.
        """
        at = -1
        while (at := body.find(b"\x45", at + 1)) >= 0 and at + 20 <= len(body):
            if body[at + 9] in TRANSPORTS and body[at + 8]:
                if sum(struct.unpack_from(">10H", body, at)) % 0xFFFF == 0:
                    self.names.address(body[at + 12 : at + 16])
                    self.names.address(body[at + 16 : at + 20])
        at = -1
        while (at := body.find(b"\x60", at + 1)) >= 0 and at + 40 <= len(body):
            size = int.from_bytes(body[at + 4 : at + 6], "big")
            if body[at + 6] in (*TRANSPORTS, 0, 44) and 8 <= size == len(body) - at - 40:
                for place in (at + 8, at + 24):
                    if body[place] in (0x20, 0x24, 0x26, 0x28, 0x2A, 0xFC, 0xFD, 0xFE, 0xFF):
                        self.names.address(body[place : place + 16])

    def runs(self, body: bytes) -> bytes:
        """Return binary data with the text in it mapped."""
        out = bytearray(body)
        for hit in WIDE_RUN.finditer(body):
            out[hit.start() : hit.end() : 2] = self.names.text(hit[0][::2])
        for hit in RUN.finditer(bytes(out)):
            out[hit.start() : hit.end()] = self.text(hit[0])
        return bytes(out)

    # ---- STUN and TURN

    def stun(self, body: bytes) -> bytes:
        """Return a STUN message with its addresses, names and tokens mapped (RFC 8489, 8656)."""
        out, at = bytearray(body), 20
        length = struct.unpack_from(">H", body, 2)[0]
        end = min(len(out), 20 + length)
        step = 1 if length % 4 else 4  # Microsoft's older relays do not pad attributes
        while at + 4 <= end:
            kind, size = struct.unpack_from(">HH", out, at)
            stop = min(at + 4 + size, end)
            if kind == FINGERPRINT and size == 4 and stop == at + 8:
                wrong = zlib.crc32(body[:at]) ^ FINGERPRINT_XOR
                wrong ^= int.from_bytes(body[at + 4 : stop], "big")
                crc = zlib.crc32(out[:at]) ^ FINGERPRINT_XOR ^ wrong
                struct.pack_into(">I", out, at + 4, crc)
            else:
                out[at + 4 : stop] = self.attribute(kind, size, bytes(out[at + 4 : stop]), body)
            at += 4 + size + -size % step
        return bytes(out)

    def attribute(self, kind: int, size: int, value: bytes, body: bytes) -> bytes:
        """Return the image of an attribute's value."""
        length = {1: 4, 2: 16}.get(value[1], 0) if len(value) > 1 else 0
        if kind in STUN_PLAIN + STUN_XORED and length and size == 4 + length:
            return self.stun_address(value, body[4:20] if kind in STUN_XORED else bytes(16))
        if kind in INTEGRITY:
            self.broken_integrity += 1
            return self.names.digest(b"integrity" + value, len(value))
        if kind == DATA:
            return self.inner(value)
        if kind in STUN_TEXTS and all(0x20 <= octet < 0x7F for octet in value):
            return self.names.hosts(value) if kind == STUN_TEXTS[0] else self.names.text(value)
        if DIGITS.startswith(value.rstrip(b"\0")):  # of Zoom's NAT probe
            return value
        if kind in PLAIN_ATTRIBUTES or (size < TOKEN and kind not in (0x0006, 0x0014, 0x0015)):
            return value
        return self.names.opaque(value)

    def stun_address(self, value: bytes, mask: bytes) -> bytes:
        """Return an address attribute's value with its address mapped; a cut one is made zero."""
        length = 4 if value[1] == 1 else 16
        old = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
        if len(old) < length:
            return value[:4] + bytes(len(old))
        new = bytes(a ^ b for a, b in zip(self.names.address(old), mask, strict=False))
        return value[:4] + new

    def inner(self, body: bytes) -> bytes:
        """Return the image of a datagram within a datagram."""
        return self.datagram(body, (0, 0))

    # ---- DNS

    def dns(self, body: bytes) -> bytes:
        """Return a DNS message with its names and addresses mapped (RFC 1035, 6762, 9460)."""
        if len(body) < 12:
            return body
        out = bytearray(body)
        questions, *records = struct.unpack_from(">4H", body, 4)
        done: set[int] = set()
        at = 12
        for _ in range(questions):
            if at >= len(body):
                return bytes(out)
            at = self.dns_name(body, out, at, done) + 4
        for _ in range(sum(records)):
            at = self.dns_name(body, out, at, done)
            if at + 10 > len(body):
                break
            kind, _, _, size = struct.unpack_from(">HHIH", body, at)
            end = min(at + 10 + size, len(body))
            self.dns_data(body, out, kind, at + 10, end, done)
            at += 10 + size
        out[at:] = bytes(max(0, len(body) - at))  # what no record announces
        return bytes(out)

    def dns_name(self, body: bytes, out: bytearray, at: int, done: set[int]) -> int:
        """Map the labels of a name in place; returns the place behind it."""
        labels: list[tuple[int, int]] = []
        behind, jumps = 0, 0
        while at < len(body):
            size = body[at]
            if size >= 0xC0:
                behind = behind or at + 2
                if at + 2 > len(body) or jumps > 20:
                    break
                at, jumps = (size & 0x3F) << 8 | body[at + 1], jumps + 1
                continue
            if size == 0:
                at += 1
                break
            labels.append((at + 1, min(at + 1 + size, len(body))))
            at += 1 + size
        name = b".".join(body[start:end] for start, end in labels)
        image = self.name_image(name)
        place = 0
        for start, end in labels:
            if start not in done:
                out[start:end] = image[place : place + end - start]
                done.add(start)
            place += end - start + 1
        return behind or min(at, len(body))

    def name_image(self, name: bytes) -> bytes:
        """Return the image of a DNS name in dots; addresses of reverse names as addresses."""
        low = name.lower()
        parts = name.split(b".")
        if low.endswith(b".in-addr.arpa") and len(parts) == 6 and b"".join(parts[:4]).isdigit():
            if max(map(int, parts[:4])) < 256:
                turned = self.names.dotted(b".".join(parts[3::-1])).split(b".")
                if all(len(a) == len(b) for a, b in zip(turned[::-1], parts, strict=False)):
                    return b".".join([*turned[::-1], *parts[4:]])
        if low.endswith(b".ip6.arpa") and len(parts) == 34:
            try:
                packed = bytes.fromhex(b"".join(parts[31::-1]).decode())
            except ValueError:
                return self.names.hosts(name)
            nibbles = self.names.address(packed).hex()[::-1]
            return ".".join(nibbles).encode() + name[63:]
        if b"._" in b"." + name:
            services = [self.service(label) for label in parts]
            return b".".join(services)
        return self.names.hosts(name)

    def service(self, label: bytes) -> bytes:
        """Return a label of a service's name: a service type stays (RFC 6763 section 4.1)."""
        if re.fullmatch(rb"_[A-Za-z][A-Za-z-]{1,30}", label):
            return label
        return self.names.words(label)

    def dns_data(
        self, body: bytes, out: bytearray, kind: int, at: int, end: int, done: set[int]
    ) -> None:
        """Map the data of a record in place."""
        size = end - at
        if (kind, size) in ((1, 4), (28, 16)):
            out[at:end] = self.names.address(body[at:end])
        elif kind in (2, 5, 12, 39):  # NS, CNAME, PTR, DNAME
            self.dns_name(body, out, at, done)
        elif kind in (15, 33):  # MX, SRV
            self.dns_name(body, out, at + (2 if kind == 15 else 6), done)
        elif kind == 6:  # SOA
            self.dns_name(body, out, self.dns_name(body, out, at, done), done)
        elif kind in (64, 65):  # SVCB, HTTPS
            place = self.dns_name(body, out, at + 2, done)
            while place + 4 <= end:
                key, length = struct.unpack_from(">HH", body, place)
                step = {4: 4, 6: 16}.get(key, 0)
                for one in range(place + 4, min(place + 4 + length, end) - step + 1, step or end):
                    if step:
                        out[one : one + step] = self.names.address(body[one : one + step])
                place += 4 + length
        elif kind == 47:  # NSEC
            self.dns_name(body, out, at, done)
        elif kind == 41:  # EDNS: the client's subnet, cookies, identifiers
            while at + 4 <= end:
                option, length = struct.unpack_from(">HH", body, at)
                stop = min(at + 4 + length, end)
                if option == 8 and stop - at > 8:
                    family = 4 if body[at + 5] == 1 else 16
                    part = body[at + 8 : stop]
                    image = self.names.address(part[:family].ljust(family, b"\0"))
                    out[at + 8 : stop] = image[: len(part)].ljust(len(part), b"\0")
                elif option in (3, 5, 10, 4, 65001) and length:
                    out[at + 4 : stop] = self.names.opaque(body[at + 4 : stop])
                elif option != 12:
                    out[at + 4 : stop] = self.generic(body[at + 4 : stop])
                at = stop if length else at + 4
        elif kind in (13, 16):  # HINFO, TXT
            place = at
            while place < end:
                stop = min(place + 1 + body[place], end)
                out[place + 1 : stop] = self.names.words(body[place + 1 : stop])
                place = stop if stop > place + 1 else place + 1
        elif size >= TOKEN:
            out[at:end] = self.names.opaque(b"\0" + body[at:end])[1:]

    # ---- DHCP and NetBIOS

    def dhcp(self, body: bytes) -> bytes:
        """Return a DHCP message with addresses and names mapped (RFC 2131, 2132)."""
        if len(body) < 240 or body[236:240] != b"\x63\x82\x53\x63":
            return self.generic(body)
        out = bytearray(body)
        for at in (12, 16, 20, 24):
            out[at : at + 4] = self.names.address(body[at : at + 4])
        out[28:34] = self.names.mac(body[28:34])
        for start, end in ((44, 108), (108, 236)):
            used = start + len(body[start:end].rstrip(b"\0"))
            out[start:used] = self.names.opaque(body[start:used])
        at = 240
        while at + 2 <= len(body) and body[at] != 255:
            if body[at] == 0:
                at += 1
                continue
            stop = min(at + 2 + body[at + 1], len(body))
            out[at + 2 : stop] = self.dhcp_option(body[at], body[at + 2 : stop])
            at = stop
        return bytes(out)

    def dhcp_option(self, code: int, value: bytes) -> bytes:
        """Return the image of an option's value."""
        if code in (1, 2, 51, 52, 53, 55, 57, 58, 59, 23, 26, 116):
            return value
        if code in (3, 4, 5, 6, 28, 32, 41, 42, 44, 45, 50, 54, 69, 70, 150) and not len(value) % 4:
            pieces = (value[i : i + 4] for i in range(0, len(value), 4))
            return b"".join(map(self.names.address, pieces))
        if code == 61 and len(value) == 7 and value[0] == 1:
            return value[:1] + self.names.mac(value[1:])
        if code == 81 and len(value) > 3:
            return value[:3] + self.names.words(value[3:])
        if code in (12, 15, 40, 60, 66, 67, 119, 252, 64):
            return self.names.words(value)
        return self.names.opaque(value) if len(value) >= 4 else value

    def dhcp6(self, body: bytes, at: int = 4) -> bytes:
        """Return a DHCPv6 message with identifiers, addresses and names mapped (RFC 8415)."""
        out = bytearray(body)
        if body and body[0] in (12, 13) and at == 4:  # relayed: two addresses stand first
            for place in (2, 18):
                out[place : place + 16] = self.names.address(body[place : place + 16].ljust(16))
            at = 34
        while at + 4 <= len(body):
            code, size = struct.unpack_from(">HH", body, at)
            start, end = at + 4, min(at + 4 + size, len(body))
            value = body[start:end]
            if code in (1, 2):
                place = {1: 8, 3: 4}.get(int.from_bytes(value[:2], "big"), 0)
                if place and len(value) == place + 6:
                    time = self.names.opaque(b"\0" + value[4:8])[1:] if place == 8 else b""
                    out[start:end] = value[:4] + time + self.names.mac(value[place:])
                else:
                    out[start:end] = value[:2] + self.names.opaque(value[2:])
            elif code in (3, 4, 25):
                skip = 4 if code == 4 else 12
                out[start:end] = self.dhcp6(value, skip) if len(value) > skip else value
            elif code in (5, 26) and len(value) >= 24:
                place = 0 if code == 5 else 9
                address = self.names.address(value[place : place + 16])
                out[start:end] = value[:place] + address + value[place + 16 :]
            elif code in (21, 22, 23, 27, 31) and size % 16 == 0:
                pieces = (value[i : i + 16] for i in range(0, len(value) - 15, 16))
                out[start : start + len(value) // 16 * 16] = b"".join(
                    map(self.names.address, pieces)
                )
            elif code == 9:
                out[start:end] = self.dhcp6(value)
            elif code not in (6, 7, 8, 13, 14, 19, 32, 82, 83):
                out[start:end] = (
                    self.names.words(value) if code in (24, 39) else self.generic(value)
                )
            at += 4 + size
        return bytes(out)

    def netbios(self, body: bytes) -> bytes:
        """Return a NetBIOS message with its encoded names mapped (RFC 1002)."""
        out = bytearray(body)
        for hit in re.finditer(rb"\x20([A-P]{32})(?=[\0-\x3f])", body):
            code = hit[1]
            raw = bytes((code[i] - 65) << 4 | code[i + 1] - 65 for i in range(0, 32, 2))
            image = self.names.words(raw[:15]) + raw[15:]
            coded = bytes(c for octet in image for c in (65 + (octet >> 4), 65 + (octet & 15)))
            out[hit.start() + 1 : hit.end()] = coded
        return bytes(out)

    def netbios_names(self, body: bytes) -> bytes:
        """Return a message of the name service: names, addresses and status answers."""
        out = bytearray(self.netbios(body))
        hit = re.search(rb"\x20[A-P]{32}\0\0\x20\0\x01.{4}(..)", body[12:], re.S)
        if len(body) > 12 and body[2] & 0x80 and hit:
            start, size = 12 + hit.end(), int.from_bytes(hit[1], "big")
            for at in range(start, min(start + size, len(body)) - 5, 6):
                out[at + 2 : at + 6] = self.names.address(body[at + 2 : at + 6])
        additional = re.search(rb"\xc0\x0c\0\x20\0\x01.{4}\0\x06..(....)", body, re.S)
        if additional:
            place = additional.start(1)
            out[place : place + 4] = self.names.address(additional[1])
        status = re.search(rb"\0\x21\0\x01\0\0\0\0..(.)", body, re.S)
        if status and len(body) > 12 and body[2] & 0x80:
            at, count = status.end(), status[1][0]
            for _ in range(count):
                out[at : at + 15] = self.names.words(bytes(out[at : at + 15]))
                at += 18
            out[at : at + 6] = self.names.mac(body[at : at + 6]) if at + 6 <= len(body) else b""
        return bytes(out[: len(body)])

    def netbios_datagram(self, body: bytes) -> bytes:
        """Return a datagram of NetBIOS: its source, names, and the text of what it holds."""
        out = bytearray(self.netbios(body))
        if len(body) >= 14 and body[0] in (0x10, 0x11, 0x12):
            out[4:8] = self.names.address(body[4:8])
        place = body.find(b"\xffSMB")
        if place > 0:
            out[place + 4 :] = self.short_runs(bytes(out[place + 4 :]))
        return bytes(out)

    def short_runs(self, body: bytes) -> bytes:
        """Return a body with runs of four printable characters or more mapped."""
        return re.sub(rb"[\x20-\x7e]{4,}", lambda hit: self.names.words(hit[0]), body)

    # ---- RTP, RTCP, NTP

    def rtcp(self, body: bytes) -> bytes:
        """Return a compound RTCP packet: SDES items and reasons mapped, clocks shifted."""
        out, at = bytearray(body), 0
        while at + 4 <= len(body) and body[at] >> 6 == 2 and 192 <= body[at + 1] <= 223:
            count, kind = body[at] & 31, body[at + 1]
            end = min(at + 4 + 4 * struct.unpack_from(">H", body, at + 2)[0], len(body))
            if kind == 200 and end - at >= 28:
                self.ntp_time(out, at + 8)
            elif kind == 202:
                self.sdes(body, out, at + 4, end, count)
            elif kind == 203 and end > at + 4 + 4 * count:
                place = at + 5 + 4 * count
                stop = min(place + body[place - 1], end)
                out[place:stop] = self.names.words(body[place:stop])
            elif kind == 204:
                out[at + 12 : end] = self.generic(body[at + 12 : end])
            at = end
        return bytes(out)

    def sdes(self, body: bytes, out: bytearray, at: int, end: int, count: int) -> None:
        """Map the items of an SDES packet in place (RFC 3550 section 6.5)."""
        for _ in range(count):
            at += 4
            while at + 2 <= end and body[at]:
                stop = min(at + 2 + body[at + 1], end)
                item = body[at + 2 : stop]
                image = self.names.words(item)
                if image == item and item:  # what has no letters is a token
                    image = self.names.digest(b"item" + item, len(item))
                out[at + 2 : stop] = self.dotted_or(item, image)
                at = stop
            at += 4 - at % 4 if at < end else 0

    def dotted_or(self, item: bytes, image: bytes) -> bytes:
        """Return the mapped text of an item that holds an address, else its image."""
        return self.names.text(item) if re.search(rb"\d\.\d+\.\d+\.\d", item) else image

    def ntp_time(self, out: bytearray, at: int) -> None:
        """Shift an NTP time in place."""
        seconds = struct.unpack_from(">I", out, at)[0] - NTP_EPOCH
        struct.pack_into(">I", out, at, self.clock(seconds) + NTP_EPOCH & 0xFFFFFFFF)

    def ntp(self, body: bytes) -> bytes:
        """Return an NTP packet with its reference mapped and its clocks shifted (RFC 5905)."""
        out = bytearray(body)
        if len(body) < 48:
            return self.generic(body)
        if body[1] > 1:
            out[12:16] = self.names.address(body[12:16])
        for at in (16, 24, 32, 40):
            self.ntp_time(out, at)
        return bytes(out)

    def rtp(self, body: bytes) -> bytes:
        """Return an RTP packet; audio and video of static types are replaced by noise."""
        kind, at = body[1] & 0x7F, 12 + 4 * (body[0] & 15)
        if body[0] & 0x10 and at + 4 <= len(body):
            at += 4 + 4 * int.from_bytes(body[at + 2 : at + 4], "big")
        if (body[8:12], kind) not in self.media or at >= len(body):
            return body
        self.scrambled_media += 1
        size = len(body) - at
        stop = len(body) - (min(body[-1], size) if body[0] & 0x20 else 0)
        return body[:at] + self.names.digest(b"media" + body[:12], stop - at) + body[stop:]

    # ---- any datagram

    def datagram(self, body: bytes, ports: tuple[int, int]) -> bytes:
        """Return the image of a UDP payload, of the same length."""
        if not body:
            return body
        if len(body) >= 20 and body[4:8] == COOKIE and body[0] < 0x40:
            return self.stun(body)
        known = self.by_port(body, ports)
        if known is not None:
            return known
        if 0x40 <= body[0] < 0x80 and len(body) >= 12:  # ChannelData: RFC 8656 section 12.4
            size = int.from_bytes(body[2:4], "big")
            if 4 + size <= len(body) <= 7 + size and not is_text(body):
                return body[:4] + self.inner(body[4 : 4 + size]) + body[4 + size :]
        if len(body) >= 22 and body[6:10] == COOKIE:
            return body[:2] + self.stun(body[2:])
        if classic(body):
            return self.stun(body)
        if body[0] >> 6 == 2 and len(body) >= 12:
            return self.rtcp(body) if 192 <= body[1] <= 223 else self.rtp(body)
        return self.generic(body)

    def by_port(self, body: bytes, ports: tuple[int, int]) -> bytes | None:
        """Return the image of a payload whose protocol its port tells, None for others."""
        either = set(ports)
        if either & set(DNS_PORTS):
            return self.dns(body)
        if either & set(DHCP_PORTS):
            return self.dhcp(body)
        if either & set(DHCP6_PORTS):
            return self.dhcp6(body)
        if 137 in either:
            return self.netbios_names(body)
        if 138 in either:
            return self.netbios_datagram(body)
        if 123 in either:
            return self.ntp(body)
        if either & set(SECRET_PORTS):
            return body[:8] + self.names.opaque(b"\0" + body[8:])[1:]
        return None


def is_text(body: bytes) -> bool:
    """Return whether a body is text: its start, and most of it."""
    start = body[:8].translate(None, PRINTABLE)
    return not start and len(body[:256].translate(None, PRINTABLE)) <= min(len(body), 256) // 8


def classic(body: bytes) -> bool:
    """Return whether a body is a message of RFC 3489: no cookie, but attributes to its end."""
    if len(body) < 24 or body[0] > 1 or int.from_bytes(body[2:4], "big") != len(body) - 20:
        return False
    at = 20
    while at + 4 <= len(body):
        at += 4 + int.from_bytes(body[at + 2 : at + 4], "big")
    return at == len(body)


def has_written_address(body: bytes) -> bool:
    """Return whether a body has an IP address as text, or a reverse DNS name."""
    if b"\7in-addr" in body.lower():
        return True
    if re.search(rb"(?<![\w.])(?:\d{1,3}[.-]){3}\d{1,3}(?!\w)", body):
        return True
    for hit in re.finditer(rb"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}", body):
        try:
            ipaddress.IPv6Address(hit[0].decode())
        except ValueError:
            continue
        if len(hit[0]) >= 6:
            return True
    return False
