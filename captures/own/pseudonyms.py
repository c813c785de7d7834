# SPDX-License-Identifier: BSD-3-Clause
"""Pseudonyms under one key: addresses, words, texts and tokens, each of its original's length.

Addresses are mapped in one of two modes, both prefix-preserving. "bits": the scheme of Crypto-PAn
(see anonymise.py). "octets", where a capture has addresses in texts: octet by octet, each to one of
as many digits (IPv6: groups of as many hexadecimal digits, zero stays zero), so that texts keep
their lengths; then prefixes of whole octets are preserved. In both modes the bits of FIXED4, FIXED6
and of the kept networks of public services stay, and no other address is mapped into these.

Words are mapped letter to letter, digit to digit, in the same case; words of protocols stay.
"""

from __future__ import annotations

import hashlib
import ipaddress
import random
import re
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from midcall.captures.own.anonymise import FIXED4, FIXED6
from midcall.captures.own.protocol_words import HOST_WORDS, WORDS
from midcall.captures.own.public_names import CLOUD_BITS, in_text, public_names, server_lists

#: IPv6 prefixes whose last 32 bits are an IPv4 address (RFC 4291, RFC 6052).
TAILS = (bytes(10) + b"\xff\xff", bytes.fromhex("0064ff9b") + bytes(8))
#: Digits of a number that a text keeps at most: ports, sizes, versions, answer codes.
SHORT_NUMBER = 5
#: Groups of IEEE, IPv4 and IPv6, and the broadcast address.
GROUPS = (b"\x01\x80\xc2", b"\x01\0\x0c", b"\x01\0\x5e", b"\x33\x33", b"\xff" * 6)
LETTERS, DIGITS, HEX_LETTERS = b"abcdefghijklmnopqrstuvwxyz", b"0123456789", b"abcdef"

PIECES = re.compile(
    rb"(?P<name>" + in_text().pattern + rb")"
    rb"|(?P<v4>(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d))"
    rb"|(?P<mac>(?<![\w:-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})(?![\w:-]))"
    rb"|(?P<v6>(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d))"
    rb"|(?P<dashed>(?<![\w-])(?:\d{1,3}-){3}\d{1,3}(?![\w-]))"
    rb"|(?P<guid>(?<![\w-])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-]))"
    rb"|(?P<cookie>z9hG4bK|SpotUdp0)"
    rb"|(?P<host>(?<![\w.-])(?:[A-Za-z0-9_-]+\.)+[A-Za-z]{2,}(?![\w-]))"
    rb"|(?P<chunk>(?<=\r\n)[0-9A-Fa-f]{1,5}(?=\r\n))"
    rb"|(?P<word>[A-Za-z0-9\x80-\xff]+)",
    re.I,
)  # fmt: skip

WORD = re.compile(rb"[A-Za-z0-9\x80-\xff]+")
#: What stands before the user of a SIP address.
BEFORE_USER = (b"sip:", b"tel:", b"ips:")


def personal(hit: re.Match[bytes]) -> bool:
    """Return whether a word stands where user names stand."""
    text, start, end = hit.string, hit.start(), hit.end()
    if text[end : end + 1] == b"@":
        return True
    head = text[max(start - 4, 0) : start].lower()
    if head.endswith(b'"'):
        about = text[max(start - 11, 0) : start - 1].lower()
        return text[end : end + 1] == b'"' and not about.endswith((b"qop=", b"algorithm="))
    return head.endswith(BEFORE_USER) or (head[-2:] == b"o=" and text[end : end + 1] == b" ")


#: Salts of a cloud's kept prefix, or of a list of servers, after which that is no block any more.
DENSE = 40
#: Begin of the text of a block that is a list of servers.
SERVERS = "servers of "


class Block(NamedTuple):
    """Addresses whose first `length` bits are `bits` stay among themselves.

    keeps: bits of an address that stay, at least `length`; text: of the network.
    """

    bits: int
    length: int
    stays: bool
    text: str
    keeps: int = 0

    def within(self, address: int, width: int) -> Block:
        """Return the part of a cloud's network whose kept bits an address has; self elsewhere."""
        if self.keeps <= self.length:
            return self
        bits = address >> (width - self.keeps)
        network = ipaddress.ip_network((bits << (width - self.keeps), self.keeps))
        return Block(bits, self.keeps, self.stays, str(network))


@lru_cache(maxsize=1)
def blocks() -> dict[int, list[Block]]:
    """Return the blocks of each family (its address length in bytes), longest first."""
    tables = [*FIXED4.items(), *FIXED6.items()]
    tables += [(str(net), False) for net in public_names().networks()]
    clouds = {str(net): CLOUD_BITS for net in public_names().cloud_networks()}
    tables += [(text, False) for text in clouds]
    result: dict[int, list[Block]] = {4: [], 16: []}
    for text, stays in tables:
        net = ipaddress.ip_network(text)
        width = net.max_prefixlen
        bits = int(net.network_address) >> (width - net.prefixlen)
        result[width // 8].append(Block(bits, net.prefixlen, stays, text, clouds.get(text, 0)))
    for table in result.values():
        table.sort(key=lambda block: -block.length)
    return result


@lru_cache(maxsize=1)
def listed_servers() -> dict[int, str]:
    """Return address as a number -> name of its list of servers."""
    return {one: name for name, numbers in server_lists().items() for one in numbers}


def digits_of(address: bytes) -> tuple[int, ...]:
    """Return how many decimal digits each octet has."""
    return tuple(len(str(octet)) for octet in address)


class Pseudonyms:
    """A mapping under one key; the same key, mode and salts give the same mapping.

    salts: of each block (its text; "": of all other addresses), changed where an image was also an
    original. A cloud's network with a salt is one block, without one a block for each kept prefix.
    `images` holds what was mapped, by kind; `kept_names` and `kept_prefixes` what stayed.
    """

    def __init__(self, key: bytes, octets: bool, salts: dict[str, int] | None = None) -> None:
        self.key, self.octets = hashlib.sha256(key).digest(), octets
        self.salts = salts or {}
        self.blocks = blocks()
        self.images: dict[str, dict[bytes, bytes]] = {}
        self.kept_names: set[bytes] = set()
        self.kept_prefixes: set[str] = set()
        self.taken: set[bytes] = set()
        self.permutation = lru_cache(maxsize=1 << 14)(self._permutation)
        self.piece = lru_cache(maxsize=1 << 16)(self._word)
        self.shuffled = lru_cache(maxsize=1 << 8)(self._shuffled)

    def note(self, kind: str, old: bytes, new: bytes) -> bytes:
        """Remember an image and return it."""
        self.images.setdefault(kind, {})[old] = new
        return new

    def digest(self, about: bytes, size: int) -> bytes:
        """Return `size` bytes that follow from the key and a text."""
        out = b""
        while len(out) < size:
            head = struct.pack(">I", len(out))
            out += hashlib.blake2b(head + about, key=self.key, digest_size=64).digest()
        return out[:size]

    # ---- addresses

    def block(self, address: bytes) -> Block:
        """Return the block of a packed address; length 0: it is in none."""
        name = self.server_list(address)
        if name:
            return Block(int.from_bytes(address, "big"), 32, False, f"{SERVERS}{name}")
        network = self.network(address)
        if network.text in self.salts:
            return network
        return network.within(int.from_bytes(address, "big"), len(address) * 8)

    def network(self, address: bytes) -> Block:
        """Return the listed network of a packed address; length 0: it is in none."""
        bits, width = int.from_bytes(address, "big"), len(address) * 8
        for block in self.blocks[len(address)]:
            if bits >> (width - block.length) == block.bits:
                return block
        return Block(0, 0, False, "")

    def address(self, address: bytes) -> bytes:
        """Return the image of a packed address (4 or 16 bytes)."""
        known = self.images.setdefault("addresses", {}).get(address)
        return known if known is not None else self.note("addresses", address, self.new(address))

    def new(self, address: bytes) -> bytes:
        """Return the image of an address, computed without the cache."""
        if len(address) == 16:
            special = self.special(address)
            if special:
                return special
        block = self.block(address)
        if block.stays:
            return address
        if block.length and block.text not in FIXED4 and block.text not in FIXED6:
            self.kept_prefixes.add(block.text)
        if block.text.startswith(SERVERS):
            return self.server(address, block.text)
        image = self.once(address, block)
        while self.server_list(image) or (not block.length and self.block(image).length):
            image = self.once(image, block)
        return image

    def server_list(self, address: bytes) -> str:
        """Return the name of the list of servers that a packed address is in, "" for none.

        A list of which a capture has too many servers is not used.
        """
        if len(address) != 4:
            return ""
        name = listed_servers().get(int.from_bytes(address, "big"), "")
        return name if self.salts.get(f"{SERVERS}{name}", 0) < DENSE else ""

    def server(self, address: bytes, text: str) -> bytes:
        """Return the image of a server: another one of its list, of as many digits in octets."""
        return self.shuffled(text, digits_of(address) if self.octets else ())[address]

    def _shuffled(self, text: str, digits: tuple[int, ...]) -> dict[bytes, bytes]:
        own = [number.to_bytes(4, "big") for number in server_lists()[text.removeprefix(SERVERS)]]
        own = [one for one in own if not digits or digits_of(one) == digits]
        images = list(own)
        seed = self.digest(b"%s/%d" % (text.encode(), self.salts.get(text, 0)), 32)
        random.Random(seed).shuffle(images)
        return dict(zip(own, images, strict=True))

    def special(self, address: bytes) -> bytes:
        """Return the image of an IPv6 address that holds an IPv4 or a MAC address, b"" for none."""
        if address[:12] in TAILS:
            return address[:12] + self.address(address[12:])
        if address[:4] == b"\x20\x01\0\0":  # Teredo: RFC 4380 section 4
            client = bytes(octet ^ 255 for octet in address[12:])
            hidden = bytes(octet ^ 255 for octet in self.address(client))
            return address[:4] + self.address(address[4:8]) + address[8:12] + hidden
        if address[:2] == b"\x20\x02":  # 6to4: RFC 3056
            return address[:2] + self.address(address[2:6]) + self.by_digits(address[6:], 0, b"")
        if address[:13] == bytes.fromhex("ff0200000000000000000001ff"):
            return address[:13] + self.tail(address[13:])
        return b""

    def tail(self, last: bytes) -> bytes:
        """Return the image of the last three bytes of an address in a solicited-node group."""
        return self.note("group tails", last, self.digest(b"tail" + last, 3))

    def once(self, address: bytes, block: Block) -> bytes:
        """Return an address mapped once, its block's bits kept."""
        salt = b"%s/%d/" % (block.text.encode(), self.salts.get(block.text, 0))
        if self.octets:
            return self.by_digits(address, block.length, salt)
        width, bits, out = len(address) * 8, int.from_bytes(address, "big"), 0
        for size in range(width):
            about = salt + struct.pack(">B16s", size, (bits >> (width - size)).to_bytes(16, "big"))
            flip = 0 if size < block.length else self.digest(about, 1)[0] & 1
            out = out << 1 | (bits >> (width - size - 1) & 1) ^ flip
        return out.to_bytes(len(address), "big")

    def by_digits(self, address: bytes, length: int, salt: bytes) -> bytes:
        """Return an address mapped octet by octet (IPv6: group by group), digits kept."""
        step = 1 if len(address) == 4 else 2  # of IPv6, also parts of an even length
        out = b""
        for at in range(0, len(address), step):
            part = int.from_bytes(address[at : at + step], "big")
            fixed = min(max(length - at * 8, 0), step * 8)
            image = self.digits(part, step, fixed, salt + address[:at])
            out += image.to_bytes(step, "big")
        return out

    def digits(self, part: int, step: int, fixed: int, about: bytes) -> int:
        """Return the image of an octet or group: as many digits, the first `fixed` bits kept."""
        if fixed == step * 8 or (step == 2 and part == 0):
            return part
        base = 10 if step == 1 else 16
        count = len(str(part) if base == 10 else f"{part:x}")
        low = base ** (count - 1) if count > 1 else (0 if step == 1 else 1)
        high = min(base**count, 1 << step * 8)
        shift = step * 8 - fixed
        low = max(low, part >> shift << shift)
        high = min(high, ((part >> shift) + 1) << shift)
        if step == 1:
            return self.permutation(low, high, about)[part - low]
        image = part
        while True:  # a Feistel network of 16 bits, walked until it is back in the range
            left, right = image >> 8, image & 255
            for turn in range(4):
                head = about + bytes([turn, right])
                left, right = right, left ^ self.digest(head, 1)[0]
            image = left << 8 | right
            if low <= image < high:
                return image

    def _permutation(self, low: int, high: int, about: bytes) -> list[int]:
        numbers = list(range(low, high))
        seed = self.digest(b"permutation" + about + bytes([low, high - low & 255]), 32)
        random.Random(seed).shuffle(numbers)
        return numbers

    def mac(self, address: bytes) -> bytes:
        """Return the image of a MAC address; groups stay, but not the tails of solicited nodes."""
        if address[:3] == b"\x33\x33\xff":
            return address[:3] + self.tail(address[3:])
        if len(address) != 6 or not any(address) or address.startswith(GROUPS):
            return address
        first = bytes([2 | address[0] & 1])
        return self.note("MAC addresses", address, first + self.digest(b"mac" + address, 5))

    # ---- words, texts, tokens

    def opaque(self, token: bytes) -> bytes:
        """Return the image of a token: as text where it is text, else as many random bytes."""
        if not token:
            return token
        if all(0x20 <= octet < 0x7F for octet in token):
            return self.text(token)
        return self.note("tokens", token, self.digest(b"token" + token, len(token)))

    def _word(self, word: bytes) -> bytes:
        """Return the image of a run of letters and digits."""
        low = word.lower()
        if low in WORDS or (word.isdigit() and len(word) <= SHORT_NUMBER):
            return word
        return self.forced(word)

    def forced(self, word: bytes) -> bytes:
        """Return the image of a word that is mapped even if it is one of a protocol or short."""
        low = word.lower()
        cased = zip(self.letters(low), word, strict=True)
        image = bytes(new - 32 if 65 <= old <= 90 else new for new, old in cased)
        return self.note("words", word, image)

    def letters(self, low: bytes) -> bytes:
        """Return the image of a word in lower case: never itself, of another word or of WORDS."""
        known = self.images.setdefault("plain words", {}).get(low)
        if known is not None:
            return known
        letters = (
            HEX_LETTERS if len(low) >= 8 and not set(low) - set(b"0123456789abcdef") else LETTERS
        )
        for turn in range(64):
            noise = struct.unpack(
                f">{len(low)}H", self.digest(b"%d word" % turn + low, 2 * len(low))
            )
            image = bytes(
                self.letter(old, number, letters) for old, number in zip(low, noise, strict=True)
            )
            fresh = len(low) < 3 or image not in self.taken
            if image != low and image not in WORDS and fresh:
                break
        self.taken.add(image)
        return self.note("plain words", low, image)

    @staticmethod
    def letter(old: int, number: int, letters: bytes) -> int:
        """Return another character of the same class."""
        if 48 <= old <= 57:
            return DIGITS[number % 10]
        if 97 <= old <= 122:
            return letters[number % len(letters)]
        return 0x80 | number & 0x3F if 0x80 <= old < 0xC0 else old

    def text(self, text: bytes) -> bytes:
        """Return the image of a text of the same length, punctuation and protocol words kept."""
        return PIECES.sub(self.one, text)

    def one(self, hit: re.Match[bytes]) -> bytes:
        """Return the image of one piece of a text."""
        old = hit[0]
        if hit["word"] is not None:
            return self.forced(old) if personal(hit) else self.piece(old)
        if hit["host"] is not None:
            return self.words(old)
        if hit["dashed"] is not None:
            return self.dotted(old.replace(b"-", b".")).replace(b".", b"-")
        if hit["name"] is not None:
            self.kept_names.add(hit[3].lower())
            return self.labels(hit[2], hit[3].lower()) + hit[3]
        if hit["v4"] is not None:
            return self.dotted(old)
        if hit["mac"] is not None:
            return self.written_mac(old)
        if hit["guid"] is not None:
            return self.guid(old)
        if hit["v6"] is not None:
            return self.colons(old)
        return old

    def labels(self, before: bytes, suffix: bytes) -> bytes:
        """Return the image of the labels before a kept suffix, the job of a meeting's host kept."""
        first, dot, rest = before.partition(b".")
        for job in public_names().jobs.get(suffix.decode(), ()):
            if first.lower().endswith(job.encode()) and len(first) > len(job):
                return self.words(first[: -len(job)]) + first[-len(job) :] + dot + self.words(rest)
        return self.words(before)

    def words(self, text: bytes) -> bytes:
        """Return the image of a host name or label: only domains of HOST_WORDS stay."""
        return WORD.sub(
            lambda hit: hit[0] if hit[0].lower() in HOST_WORDS else self.forced(hit[0]), text
        )

    def hosts(self, text: bytes) -> bytes:
        """Return the image of a host name: its kept suffix stays, every number is mapped."""
        hit = in_text().search(text)
        if hit is None or hit.end() != len(text):
            return self.words(text)
        self.kept_names.add(hit[2].lower())
        return self.words(text[: hit.start()]) + self.labels(hit[1], hit[2].lower()) + hit[2]

    def dotted(self, text: bytes) -> bytes:
        """Return the image of an address in dots; zeros in front of a number stay as many."""
        parts = text.split(b".")
        if max(map(int, parts)) > 255:
            return text
        image = self.address(bytes(map(int, parts)))
        return b".".join(
            str(octet).encode().rjust(len(part), b"0")
            for octet, part in zip(image, parts, strict=True)
        )

    def colons(self, text: bytes) -> bytes:
        """Return the image of an IPv6 address in a text; what is none is mapped word by word."""
        try:
            packed = ipaddress.IPv6Address(text.decode()).packed
        except ValueError:
            return self.words(text)
        image = ipaddress.IPv6Address(self.address(packed))
        long = iter(image.exploded.split(":"))
        groups = text.split(b":")
        missing = 8 - sum(1 for group in groups if group)
        out = []
        for place, group in enumerate(groups):
            if group:
                out.append(next(long)[-len(group) :].encode())
            else:
                out.append(b"")
                first = place == 0 or groups[place - 1]
                for _ in range(missing if first and missing else 0):
                    next(long)
                missing = 0
        return b":".join(out)

    def guid(self, text: bytes) -> bytes:
        """Return the image of a GUID: hexadecimal digits in the same case, dashes kept."""
        low = text.lower()
        noise = self.digest(b"guid" + low, 32).hex()
        image = "".join("-" if octet == 45 else noise[i] for i, octet in enumerate(low)).encode()
        return self.note("words", text, image if text == low else image.upper())

    def written_mac(self, text: bytes) -> bytes:
        """Return the image of a MAC address in a text."""
        sign = text[2:3]
        image = self.mac(bytes.fromhex(text.replace(sign, b"").decode())).hex(sign.decode())
        return image.upper().encode() if text.isupper() else image.encode()

    def collisions(self) -> Iterable[bytes]:
        """Return the originals that are an image of another one, for new salts."""
        addresses = self.images.get("addresses", {})
        return [
            old for old, new in addresses.items() if new in addresses and not self.block(old).stays
        ]
