# SPDX-License-Identifier: BSD-3-Clause
"""Look for what a capture said about people in the packets that are to be shared.

Independent of the mapping: fields are found by their own means (dpkt, and patterns over raw bytes
that need no knowledge of the layers above), so that a mistake of one is not a mistake of both. Only
the list of kept names and words, and the opening of QUIC, are common to both.

Two searches. In fields: no decoded value of the original may be a decoded value of the copy. In
bytes: addresses and strings of six bytes and more, anywhere: plain, XORed with STUN's cookie (IPv6:
and transaction id), in reversed order, as text, as UTF-16, as hexadecimal text; letters in any
case. Four bytes of an address occur in encrypted data by chance: such hits are reported apart, with
the number to expect.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dpkt
import numpy as np
from numpy.typing import NDArray

from midcall.captures.own.protocol_words import HOST_WORDS, WORDS
from midcall.captures.own.public_names import kept, public_names
from midcall.captures.packets.headers import layers, payload, unwrapped
from midcall.captures.packets.pcap import Packets
from midcall.captures.wire.quic import crypto_frames, opened, salt_of

Values = dict[str, set[bytes]]

COOKIE = b"\x21\x12\xa4\x42"
#: Shorter strings are not looked for: they occur by chance.
SHORTEST = 6
#: Bytes around a hit that tell whether it is in data that looks random.
AROUND = 32
#: Share of different bytes above which such data looks random.
RANDOM = 0.75
STEP = 1 << 20
SLOT = 24

TEXT_RUN = re.compile(rb"[\x20-\x7e\t\r\n]{24,}")
MAIL = re.compile(rb"([\w.+-]{1,64})@([A-Za-z0-9.-]+)")
HOST = re.compile(rb"(?<![\w.-])(?:[\w-]+\.)+[A-Za-z]{2,}(?![\w.-])")
DOTTED = re.compile(rb"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
NUMBER = re.compile(rb"(?<!\w)\+?\d{9,15}(?!\w)")
TOKEN = re.compile(rb"(?<!\w)(?=\w*\d)(?=\w*[A-Za-z])\w{16,}(?!\w)")
HEADER = re.compile(
    rb"(?:^|[\r\n])(?:host|cookie|set-cookie|user-agent|authorization|call-id|server|referer"
    rb"|from|to|contact|x-[\w-]+|location|usn)[ \t]*:[ \t]*([^\r\n]{6,})",
    re.I,
)
KEYED = re.compile(
    rb"(?:;tag=|;branch=z9hG4bK|nonce=\"?|username=\"?|realm=\"?|cname:|ice-ufrag:|ice-pwd:"
    rb"|[\r\n]USER |[\r\n]PASS |^USER |^PASS |fingerprint:\S+ )([^\r\n\s\";,>]{6,})",
    re.I,
)
SERVER_NAME = re.compile(rb"\0\0(..)(..)\0(..)([A-Za-z0-9.-]{4,253})", re.S)
DER_TEXT = re.compile(rb"\x06\x03\x55\x04[\x03-\x0b\x2a][\x0c\x13\x14\x16](.)", re.S)
DER_HOST = re.compile(rb"\x82([\x06-\x7f])(?=[\w*])", re.S)
NETBIOS = re.compile(rb"\x20([A-P]{32})\0")
#: A label of a service type (RFC 6763), which is kept.
SERVICE = re.compile(rb"(?:(?<=\.)|^)_[a-z-]{2,31}(?=\.|$)")
#: STUN attributes whose values are no names, tokens or addresses.
NUMBERS = (3, 9, 0x0A, 0x0C, 0x0D, 0x0F, 0x10, 0x17, 0x18, 0x19, 0x24, 0x25, 0x26, 0x27, 0x8028,
           0x8029, 0x802A, 8, 0x1C, 0x13, 0xC057)  # fmt: skip
HIDDEN, SHOWN = (0x12, 0x16, 0x20, 0x8020), (1, 2, 4, 5, 0x0B, 0x8023, 0x802B, 0x802C)
PROTOCOLS = (1, 2, 4, 6, 17, 41, 47, 58, 132)


class Hit(NamedTuple):
    """An original value in a copy; frame counted from 1, offset in bytes from its start.

    size: bytes of the form that was found.
    """

    kind: str
    form: str
    value: bytes
    frame: int
    offset: int
    size: int = 4

    def line(self) -> str:
        """Return the hit as a line, the value shown as text where it is one."""
        text = shown(self.kind, self.value)
        where = f"frame {self.frame}, byte {self.offset}" if self.frame else "a decoded field"
        return f"{self.kind} {text} ({self.form}) in {where}"


@dataclass
class Check:
    """The result of a check. chance: hits that are to be expected in random data."""

    found: list[Hit] = field(default_factory=list)
    chance: list[Hit] = field(default_factory=list)
    expected: float = 0.0
    searched: dict[str, int] = field(default_factory=dict)
    patterns: int = 0


def shown(kind: str, value: bytes) -> str:
    """Return a value as text."""
    if kind == "address":
        return str(ipaddress.ip_address(value))
    if kind == "MAC address":
        return value.hex(":")
    plain = all(0x20 <= octet < 0x7F for octet in value)
    return repr(value.decode()) if plain else value.hex()


# ---- original values


def values(packets: Packets) -> Values:
    """Return the values of all fields that tell who, where or with whom, by kind."""
    result: Values = defaultdict(set)
    quic: dict[bytes, bytearray] = {}
    for i in range(packets.total):
        frame, link = packets.frame(i), int(packets.link[i])
        for reader in (link_values, brute_addresses, stun_values, tls_values, text_values):
            reader(frame, link, result)
        decoded_values(frame, link, result)
        stack = layers(frame, link)
        if stack and stack[-1].proto == 17:
            start, end = payload(frame, stack[-1])
            datagram_values(frame[start:end], result, quic)
    for stream in quic.values():
        tls_values(bytes(stream), 0, result)
    return {kind: {one for one in found if one} for kind, found in result.items()}


def link_values(frame: bytes, link: int, out: Values) -> None:
    """Add the MAC addresses of the link header, and the addresses of ARP."""
    macs = []
    inner, begin = unwrapped(frame, link)
    if inner == 1 and len(frame) >= begin + 14:
        macs = [frame[begin : begin + 6], frame[begin + 6 : begin + 12]]
    elif inner == 113 and len(frame) >= begin + 16 and frame[begin + 4 : begin + 6] == b"\0\6":
        macs = [frame[begin + 6 : begin + 12]]
    elif inner in (105, 127):
        at = begin + (int.from_bytes(frame[begin + 2 : begin + 4], "little") if inner == 127 else 0)
        macs = [frame[at + n : at + n + 6] for n in (4, 10, 16) if len(frame) >= at + n + 6]
    for place in (14, 16, 18):
        if frame[place - 2 : place + 6] == b"\x08\x06\0\1\x08\0\6\4" and len(frame) >= place + 28:
            macs += [frame[place + 8 : place + 14], frame[place + 18 : place + 24]]
            out["address"] |= {frame[place + 14 : place + 18], frame[place + 24 : place + 28]}
    out["MAC address"] |= {mac for mac in macs if not is_kept("MAC address", mac)}


def brute_addresses(frame: bytes, _link: int, out: Values) -> None:
    """Add the addresses of everything that is an IP header by its own checksum or length."""
    at = -1
    while (at := frame.find(b"\x45", at + 1)) >= 0:
        if len(frame) < at + 20 or frame[at + 9] not in PROTOCOLS or not frame[at + 8]:
            continue
        if sum(struct.unpack_from(">10H", frame, at)) % 0xFFFF == 0:
            out["address"] |= {frame[at + 12 : at + 16], frame[at + 16 : at + 20]}
    for hit in re.finditer(rb"\x60", frame):
        at = hit.start()
        if len(frame) < at + 40:
            break
        size = int.from_bytes(frame[at + 4 : at + 6], "big")
        if frame[at + 6] in (*PROTOCOLS, 0, 44) and at + 40 + size == len(frame) and size >= 8:
            source, target = frame[at + 8 : at + 24], frame[at + 24 : at + 40]
            if is_assigned(source) and (is_assigned(target) or target[0] == 0xFF):
                out["address"] |= {source, target}


def is_assigned(address: bytes) -> bool:
    """Return whether an IPv6 address is in a prefix that hosts have (RFC 4291 section 2.4)."""
    return address[0] >> 5 == 1 or address[0] in (0xFC, 0xFD) or address[:2] == b"\xfe\x80"


def decoded_values(frame: bytes, link: int, out: Values) -> None:
    """Add what dpkt decodes: the addresses of IP."""
    reader = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL}.get(link)
    if reader is None:
        return
    try:
        network = reader(frame).data
    except (dpkt.UnpackError, IndexError, ValueError, struct.error, AttributeError):
        return
    if isinstance(network, dpkt.ip.IP | dpkt.ip6.IP6):
        out["address"] |= {bytes(network.src), bytes(network.dst)}


def stun_values(frame: bytes, _link: int, out: Values) -> None:
    """Add the values of all attributes behind a STUN cookie, wherever it stands."""
    place = frame.find(COOKIE)
    while place >= 4:
        size = int.from_bytes(frame[place - 2 : place], "big")
        at, end = place + 16, place + 16 + size
        if frame[place - 4] < 0x40 and size % 4 == 0 and end <= len(frame):
            while at + 4 <= end:
                kind, length = struct.unpack_from(">HH", frame, at)
                stun_attribute(kind, frame[at + 4 : at + 4 + length], frame[place:], out)
                at += 4 + length + -length % 4
        place = frame.find(COOKIE, place + 4)


def stun_attribute(kind: int, value: bytes, cookie: bytes, out: Values) -> None:
    """Add the value of a STUN attribute; `cookie` begins with the cookie and transaction id."""
    if kind in HIDDEN + SHOWN and len(value) in (8, 20) and value[1:2] in (b"\1", b"\2"):
        address = value[4:]
        if kind in HIDDEN:
            address = bytes(a ^ b for a, b in zip(address, cookie, strict=False))
        out["address"].add(address)
    elif kind not in NUMBERS and len(value) >= SHORTEST + 2 and len(set(value)) > 4:
        if not value.startswith(b"1234567890"):
            out["string"].add(value)


def tls_values(frame: bytes, _link: int, out: Values) -> None:
    """Add server names, and the names in certificates that are not encrypted."""
    for hit in SERVER_NAME.finditer(frame):
        whole, listed, size = (int.from_bytes(hit[i], "big") for i in (1, 2, 3))
        if whole == listed + 2 == size + 5 and len(hit[4]) >= size:
            out["name"].add(hit[4][:size].lower())
    for pattern in (DER_TEXT, DER_HOST) if b"\x06\x03\x55" in frame else ():
        for hit in pattern.finditer(frame):
            text = frame[hit.end() : hit.end() + hit[1][0]]
            if len(text) >= SHORTEST and all(0x20 <= octet < 0x7F for octet in text):
                out["name"].add(text.lower())


def text_values(frame: bytes, _link: int, out: Values) -> None:
    """Add what long texts hold: users, hosts, addresses, numbers, tokens, values of headers."""
    for run in TEXT_RUN.findall(frame.replace(b"AESG", b"\0\0\0\0")):  # a tag of gQUIC
        for hit in MAIL.finditer(run):
            out["string"] |= {hit[1], hit[2]}
        out["name"] |= {host.lower() for host in HOST.findall(run)}
        out["string"] |= {number.lstrip(b"+") for number in NUMBER.findall(run)}
        out["string"] |= set(TOKEN.findall(run))
        out["string"] |= {hit[1].strip() for hit in HEADER.finditer(run)}
        out["string"] |= {hit[1] for hit in KEYED.finditer(run)}
        for text in DOTTED.findall(run):
            parts = [int(part) for part in text.split(b".")]
            if max(parts) < 256 and not is_version(run, text):
                out["address"].add(bytes(parts))


def is_version(run: bytes, text: bytes) -> bool:
    """Return whether four numbers in a text are a version: a product's name stands before them."""
    return re.search(rb"[A-Za-z]/" + re.escape(text), run) is not None


def datagram_values(body: bytes, out: Values, quic: dict[bytes, bytearray]) -> None:
    """Add what UDP payloads hold: DNS, DHCP, NetBIOS, RTCP, and hellos of QUIC."""
    if len(body) >= 240 and body[236:240] == b"\x63\x82\x53\x63":
        dhcp_values(body, out)
    elif len(body) > 200 and body[0] & 0x80 and salt_of(int.from_bytes(body[1:5], "big")):
        initial = opened(body, 0, list(quic))
        for offset, at, size in crypto_frames(initial.plain) if initial else ():
            stream = quic.setdefault(initial.connection if initial else b"", bytearray())
            if offset + size < 1 << 16:
                stream.extend(bytes(max(0, offset + size - len(stream))))
                stream[offset : offset + size] = initial.plain[at : at + size] if initial else b""
    elif len(body) >= 12 and body[2] & 0x70 == 0 and body[4] == 0 and body[6] == 0:
        dns_values(body, out)
    for code in NETBIOS.findall(body):
        raw = bytes((code[i] - 65) << 4 | code[i + 1] - 65 for i in range(0, 30, 2))
        out["string"].add(raw.rstrip(b" \0"))
    if len(body) >= 16 and body[0] >> 6 == 2 and body[1] in (200, 201):
        at = 4 + 4 * int.from_bytes(body[2:4], "big")
        if body[at + 1 : at + 2] == b"\xca" and body[at + 8 : at + 9] == b"\1":
            out["string"].add(body[at + 10 : at + 10 + body[at + 9]])


def dhcp_values(body: bytes, out: Values) -> None:
    """Add the addresses and names of a DHCP message."""
    try:
        message = dpkt.dhcp.DHCP(body)
    except (dpkt.UnpackError, IndexError, ValueError, struct.error):
        return
    out["MAC address"].add(bytes(message.chaddr[:6]))
    out["address"] |= {body[at : at + 4] for at in (12, 16, 20, 24)}
    for code, value in message.opts:
        if code in (50, 54, 3, 6, 44, 28) and len(value) % 4 == 0:
            out["address"] |= {bytes(value[i : i + 4]) for i in range(0, len(value), 4)}
        elif code in (12, 15, 60, 81):
            out["string"].add(bytes(value[3:] if code == 81 else value))


def dns_values(body: bytes, out: Values) -> None:
    """Add the names and addresses of a DNS message."""
    try:
        message: Any = dpkt.dns.DNS(body)
    except Exception:  # dpkt raises several kinds for bytes that are no DNS
        return
    if not 1 <= len(message.qd) + len(message.an) <= 64:
        return
    names = [question.name for question in message.qd]
    for record in (*message.an, *message.ns, *message.ar):
        names.append(record.name)
        for key in ("cname", "ptrname", "srvname", "mxname", "nsname"):
            names.append(getattr(record, key, ""))
        for key in ("ip", "ip6"):
            address = getattr(record, key, b"")
            if isinstance(address, bytes) and len(address) in (4, 16):
                out["address"].add(address)
    for name in names:
        if re.fullmatch(r"[A-Pa-p]{32}.*", str(name)):  # NetBIOS: read by its own pattern
            continue
        raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else bytes(name)
        out["name"].add(raw.lower())


# ---- what is kept


def is_kept(kind: str, value: bytes) -> bool:
    """Return whether a value names nobody, or a public service that a pack keeps."""
    if kind == "address":
        return kept_address(value)
    if kind == "MAC address":
        group = value[:2] == b"\x33\x33" and value[2] != 0xFF
        group |= value[:3] in (b"\x01\x80\xc2", b"\x01\0\x0c", b"\x01\0\x5e", b"\xff\xff\xff")
        return len(value) != 6 or not any(value) or group
    low = value.lower().strip(b". ")
    bracketed = re.fullmatch(rb"\[([0-9a-f:]+)\](?::\d+)?", low)
    if bracketed is not None:
        try:
            return kept_address(ipaddress.IPv6Address(bracketed[1].decode()).packed)
        except ValueError:
            return False
    if kind == "name":
        low = SERVICE.sub(b"", low.removeprefix(b"*.").removeprefix(b"www.")).strip(b".")
        if low in kept() or low.endswith(b".arpa") or begins_kept(low):
            return True
        before = low.removesuffix(public_names().kept_suffix(low))
        if before != low and all(map(is_kept_word, re.findall(rb"[^.-]+", before))):
            return True
    words = re.findall(rb"[a-z0-9\x80-\xff]+", low)
    if kind == "name":
        return all(word in HOST_WORDS or word in kept_words() for word in words)
    return all(is_kept_word(word) for word in words)


def begins_kept(text: bytes) -> bool:
    """Return whether a text is the beginning of a kept name: a field that was cut off."""
    return len(text) >= SHORTEST and any(name.startswith(text) for name in kept())


def is_kept_word(word: bytes) -> bool:
    """Return whether a word alone tells nothing: of a protocol, of a kept name, a short number."""
    return (
        word in WORDS
        or word in kept_words()
        or len(word) < 3
        or (word.isdigit() and len(word) <= 5)
    )


def kept_words() -> frozenset[bytes]:
    """Return the words of the kept names."""
    return frozenset(word for name in kept() for word in re.split(rb"[.-]", name))


def kept_address(value: bytes) -> bool:
    """Return whether an address names no host."""
    if len(value) not in (4, 16):
        return True
    address = ipaddress.ip_address(value)
    if address.version == 6 and value[:13] == bytes.fromhex("ff0200000000000000000001ff"):
        return False
    return bool(
        address.is_multicast or address.is_loopback or address.is_unspecified
        or (address.version == 4 and (value[0] == 0 or value == b"\xff" * 4))
        or (value[:12] == bytes(10) + b"\xff\xff" and kept_address(value[12:]))
    )  # fmt: skip


# ---- the search in bytes


class Pattern(NamedTuple):
    """Bytes to look for, and what they stand for."""

    kind: str
    form: str
    value: bytes


Test = Callable[[bytes, int], bool]


def patterns(originals: Values) -> dict[bytes, Pattern]:
    """Return what is looked for, in lower case, by its bytes."""
    found: dict[bytes, Pattern] = {}

    def put(form: str, pattern: bytes, kind: str, value: bytes) -> None:
        if len(pattern) >= 4 and len(set(pattern)) > 2:
            found.setdefault(pattern.lower() if len(pattern) > 4 else pattern,
                             Pattern(kind, form, value))  # fmt: skip

    for kind, all_values in originals.items():
        for value in all_values:
            if not is_kept(kind, value):
                for form, pattern in forms(kind, value):
                    put(form, pattern, kind, value)
    return found


def forms(kind: str, value: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the forms in which a value is looked for."""
    if kind == "address":
        text = str(ipaddress.ip_address(value)).encode()
        yield from (("text", text), ("UTF-16", wide(text))) if len(text) >= 7 else ()
        if len(value) == 4:
            if value.count(0) < 2:
                yield "plain", value
                yield "XORed", xored(value)
                yield "reversed", value[::-1]
            yield "hexadecimal", value.hex().encode()
            turned = b".".join(text.split(b".")[::-1])
            yield (
                "reversed text",
                b"".join(bytes([len(part)]) + part for part in turned.split(b".")) + b"\7in-addr",
            )
            return
        yield "plain", value
        yield "XORed", xored(value[:4])
        yield "hexadecimal", value.hex().encode()
        if len(set(value[8:])) > 4:
            yield "interface identifier", value[8:]
    elif kind == "MAC address":
        yield "plain", value
        yield "hexadecimal", value.hex().encode()
        yield "text", value.hex(":").encode()
        yield "text", value.hex("-").encode()
        yield "EUI-64", bytes([value[0] ^ 2]) + value[1:3] + b"\xff\xfe" + value[3:]
    else:
        whole = {value}
        if kind == "name":
            labels = value.split(b".")
            whole.add(b"".join(bytes([min(len(label), 63)]) + label for label in labels))
        whole |= {
            word for word in re.findall(rb"[A-Za-z0-9\x80-\xff]+", SERVICE.sub(b"", value))
            if len(word) > SHORTEST and not is_kept_word(word.lower())
        }  # fmt: skip
        for text in whole:
            if len(text) < SHORTEST:
                continue
            yield "plain", text
            yield "UTF-16", wide(text)
            yield "hexadecimal", text.hex().encode()
            for turn in range(4):
                key = (COOKIE[turn:] + COOKIE[:turn]) * (len(text) // 4 + 1)
                yield "XORed", bytes(a ^ b for a, b in zip(text, key, strict=False))


def wide(text: bytes) -> bytes:
    """Return a text with a zero between any two bytes: UTF-16 of either order."""
    return b"\0".join(bytes([octet]) for octet in text)


def xored(value: bytes) -> bytes:
    """Return a value XORed with STUN's cookie."""
    return bytes(a ^ b for a, b in zip(value, COOKIE, strict=False))


def table_of(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return bool[2**SLOT], true at the slot of each key."""
    table = np.zeros(1 << SLOT, np.bool_)
    table[slots(keys)] = True
    return table


def slots(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of SLOT bits of each key."""
    return (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - SLOT)


def places(data: NDArray[np.uint8], wanted: dict[bytes, Pattern], size: int) -> Iterator[int]:
    """Yield where the first `size` bytes of a pattern stand in the data."""
    heads = {pattern[:size] for pattern in wanted}
    if not heads:
        return
    exact = np.array(sorted(int.from_bytes(head, "big") for head in heads), np.uint64)
    table = table_of(exact)
    for start in range(0, len(data), STEP):
        part = data[start : start + STEP + size - 1]
        if len(part) < size:
            return
        count = len(part) - size + 1
        keys = np.zeros(count, np.uint64)
        for place in range(size):
            keys <<= np.uint64(8)
            keys |= part[place : place + count]
        likely = np.flatnonzero(table[slots(keys)])
        where = np.searchsorted(exact, keys[likely])
        where[where == len(exact)] = 0
        yield from (start + likely[exact[where] == keys[likely]]).tolist()


def hits(packets: Packets, wanted: dict[bytes, Pattern]) -> Iterator[Hit]:
    """Yield every place of a pattern in the frames of a capture."""
    raw = b"".join(packets.frame(i) for i in range(packets.total))
    low = raw.lower()
    ends = np.cumsum(packets.captured)

    def inside(place: int, size: int) -> tuple[int, int]:
        frame = int(np.searchsorted(ends, place, "right"))
        start = int(ends[frame - 1]) if frame else 0
        return (frame, place - start) if place + size <= ends[frame] else (-1, 0)

    short = {pattern: about for pattern, about in wanted.items() if len(pattern) == 4}
    long = {pattern: about for pattern, about in wanted.items() if len(pattern) >= SHORTEST}
    for place in places(np.frombuffer(raw, np.uint8), short, 4):
        about = short[raw[place : place + 4]]
        frame, offset = inside(place, 4)
        if frame < 0 or (len(about.value) == 16 and not hidden6(packets, about, frame, offset)):
            continue
        yield Hit(about.kind, about.form, about.value, frame + 1, offset)
    by_head: dict[bytes, list[bytes]] = defaultdict(list)
    for pattern in long:
        by_head[pattern[:SHORTEST]].append(pattern)
    for place in places(np.frombuffer(low, np.uint8), long, SHORTEST):
        for pattern in by_head[low[place : place + SHORTEST]]:
            if low.startswith(pattern, place):
                frame, offset = inside(place, len(pattern))
                about = long[pattern]
                if frame >= 0:
                    yield Hit(*about, frame + 1, offset, len(pattern))


def hidden6(packets: Packets, about: Pattern, frame: int, offset: int) -> bool:
    """Return whether an IPv6 address stands at a place XORed with a transaction id before it."""
    body = packets.frame(frame)
    place = body.find(COOKIE)
    while 0 <= place < offset:
        mask = body[place : place + 16]
        if bytes(a ^ b for a, b in zip(body[offset:], mask, strict=False)) == about.value:
            return True
        place = body.find(COOKIE, place + 1)
    return False


# ---- the check


def check(original: Packets, copy: Packets, declared: Iterable[bytes] = ()) -> Check:
    """Return what of an original capture is still in its copy.

    declared: values (in lower case) that may stay.
    """
    before, after = values(original), values(copy)
    result = Check(searched={kind: len(found) for kind, found in before.items()})
    stays = set(declared)
    for kind, found in before.items():
        for value in sorted(found & after.get(kind, set())):
            if not is_kept(kind, value) and value.lower() not in stays and long_enough(kind, value):
                result.found.append(Hit(kind, "field", value, 0, 0))
    wanted = patterns(before)
    result.patterns = len(wanted)
    for hit in hits(copy, wanted):
        text = copy.frame(hit.frame - 1)[hit.offset : hit.offset + hit.size].lower()
        if any(hit.value.lower() == value or text in value for value in stays):
            continue
        if covered(copy, hit):
            continue
        short = hit.kind == "address" and hit.form in ("plain", "XORed", "reversed")
        if short and len(hit.value) == 4 and by_chance(copy, hit):
            result.chance.append(hit)
        else:
            result.found.append(hit)
    short_patterns = sum(len(pattern) == 4 for pattern in wanted)
    result.expected = short_patterns * int(copy.captured.sum()) / 2.0**32
    return result


#: What may stand around a hit, in lower case: kept names (in dots, or as labels), service types.
COVER = re.compile(
    b"|".join(
        re.escape(name).replace(rb"\.", b"[\\x01-\\x3f.]")
        for name in sorted(kept(), key=len, reverse=True)
    )
    + rb"|_[a-z-]{2,31}(?![a-z0-9-])",
    re.S,
)
WORD = re.compile(rb"[a-z0-9\x80-\xff]+")


def covered(copy: Packets, hit: Hit) -> bool:
    """Return whether a hit is part of a kept name or word, or a longer number's digits."""
    if hit.kind in ("address", "MAC address") and hit.form != "text":
        return False
    frame = copy.frame(hit.frame - 1).lower()
    start, end = hit.offset, hit.offset + hit.size
    start += frame[start] < 0x20  # the length of a label
    if hit.form == "text":
        around = frame[start - 1 : start] + frame[end : end + 1]
        return re.search(rb"[0-9a-f]", around) is not None
    stack = layers(frame, int(copy.link[hit.frame - 1]))
    begin = payload(frame, stack[-1])[0] if stack else start
    if begin <= start:  # a kept name that begins in the packet before
        if any(name.endswith(frame[begin:end]) for name in kept()):
            return True
    first = max(0, start - 64)
    for pattern in (COVER, WORD):
        for one in pattern.finditer(frame, first, end + 64):
            if one.start() <= start and end <= one.end():
                if pattern is COVER or (is_kept_word(one[0]) and not one[0].isdigit()):
                    return True
    return False


def long_enough(kind: str, value: bytes) -> bool:
    """Return whether a value of a field is long enough to distinguish it from another one."""
    return kind in ("address", "MAC address") or len(value) >= SHORTEST


def by_chance(copy: Packets, hit: Hit) -> bool:
    """Return whether four bytes stand in data that looks random, or across fields of a header."""
    frame = copy.frame(hit.frame - 1)
    stack = layers(frame, int(copy.link[hit.frame - 1]))
    if not stack:
        return False
    start, end = payload(frame, stack[-1])
    if (hit.offset < start and start < end) or start == end:
        return not any(hit.offset in (layer.addresses[0], layer.addresses[1]) for layer in stack)
    part = frame[max(start, hit.offset - AROUND) : min(end, hit.offset + 4 + AROUND)]
    expected = 256 * (1 - (255 / 256) ** len(part))
    return len(part) >= 24 and len(set(part)) >= RANDOM * expected
