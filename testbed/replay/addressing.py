# SPDX-License-Identifier: BSD-3-Clause
"""Addressing: captured addresses mapped to the lab's own, in headers and in payloads.

Emulated traffic stays on 198.18.0.0/15 (RFC 2544) and fd00::/8 (RFC 4193). Each origin network (a
/24, of IPv6 a /48) gets a block of its own. No two addresses have the same image. The address sets
of a policy become the images of the captured addresses in them. Addresses that no router forwards
(multicast, link-local, loopback) stay: their packets never meet the box.

Addresses in payloads follow (testbed.replay.payload_addresses), and lengths and checksums with them
(midcall.testbed.replay.rewriting).
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.errors import TestbedError
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import AddressSet, Policy
from midcall.testbed.policy.syntax import prefix
from midcall.testbed.replay import rewriting
from midcall.testbed.replay.packet_index import PacketIndex
from midcall.testbed.replay.payload_addresses import Payloads
from midcall.testbed.replay.rewriting import of_version, rewritten
from midcall.testbed.replay.sides import unrouted

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]

MODES = ("map", "keep")

#: The lab's IPv4 addresses that captured ones are mapped to: all of 198.18.0.0/15 but the first
#: /24, which the ends of access networks' tunnels use.
FIRST4, ROOM4 = 0xC6120100, (1 << 17) - 256
#: The lab's IPv6 block, 16 bits and a number of 32 bits for each origin /48 before the low 80.
FIRST6 = 0xFD4D
#: An address that no packet of the lab has, for sets without a captured address.
NO_ADDRESS = "255.255.255.255/32"

#: Mapped captures are cached up to this many packets in all.
KEPT_PACKETS = 1_000_000


class Mapped(NamedTuple):
    """The IP packets of a capture as the lab sends them; rows as in the capture's packet index.

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
        """Return a policy whose address sets match the same packets as in the capture."""
        return policy if self.addresses is None else on_lab(policy, [self.addresses])


class Addresses:
    """The images of one capture's addresses; an address that stays is its own image."""

    def __init__(self, images: dict[bytes, bytes]) -> None:
        self.images = images

    def image(self, address: bytes) -> bytes:
        """Return the lab's address for a captured one (4 or 16 bytes)."""
        return self.images.get(address, address)


# ---- which addresses, and their images


def captured(index: PacketIndex) -> set[bytes]:
    """Return every address of a capture that is mapped (packed): in headers and in payloads."""
    header_set = {bytes(one) for one in header_addresses(index)}
    payload_set: set[bytes] = set()

    def note(address: bytes) -> bytes:
        payload_set.add(address)
        return address

    for _ in rewritten(index, Payloads(note)):
        pass
    return {one for one in header_set | payload_set if routed(one)}


def header_addresses(index: PacketIndex) -> Iterable[bytes]:
    """Yield the distinct addresses of IP headers, packed."""
    data, facts = index.packets.data, index.facts
    for version, first, size in ((4, 12, 4), (6, 8, 16)):
        rows = of_version(facts, version)
        for shift in (0, size):
            bytes_at = facts["ip_at"][rows][:, None] + first + shift + np.arange(size)
            for row in np.unique(data[bytes_at], axis=0) if len(rows) else ():
                yield row.tobytes()


def routed(address: bytes) -> bool:
    """Tell whether routers forward to a packed address, so that it is mapped."""
    lanes = np.zeros((1, 4), np.int64)
    lanes[0, : len(address) // 4] = np.frombuffer(address, ">u4")
    return not unrouted(np.array([4 if len(address) == 4 else 6]), lanes)[0]


def assigned(captures: Sequence[set[bytes]]) -> list[Addresses]:
    """Return images for the addresses of captures that share one network, no block used twice.

    Raises TestbedError where the lab has too few addresses.
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
    return [Addresses(own) for own in images]


def on_lab(policy: Policy, maps: Sequence[Addresses]) -> Policy:
    """Return a policy whose address sets are the images of the captured addresses in them."""

    def images(words: list[str]) -> list[str]:
        nets = [
            (net.max_prefixlen // 8, int(net.network_address), int(net.netmask))
            for net in map(prefix, words)
        ]
        mapped_addresses = {
            new
            for one in maps
            for old, new in one.images.items()
            for size, bits, mask in nets
            if len(old) == size and int.from_bytes(old, "big") & mask == bits
        }
        return [written(new) for new in sorted(mapped_addresses)] or [NO_ADDRESS]

    def mapped_rule(rule: Rule) -> Rule:
        words = rule.match.addresses
        own = [word for word in words if word not in names]
        if not own:
            return rule
        words_on_lab = [word for word in words if word in names] + images(own)
        return rule.model_copy(
            update={"match": rule.match.model_copy(update={"addresses": words_on_lab})}
        )

    names = {one.name for one in policy.sets}
    sets = tuple(
        AddressSet.model_copy(one, update={"addresses": images(one.addresses)})
        for one in policy.sets
    )
    return replace(policy, rules=tuple(mapped_rule(rule) for rule in policy.rules), sets=sets)


def written(address: bytes) -> str:
    """Return a packed address as a prefix of full length."""
    return f"{ip_address(address)}/{len(address) * 8}"


# ---- packets


_cache: OrderedDict[tuple[int, str], tuple[PacketIndex, Mapped]] = OrderedDict()


def mapped(index: PacketIndex, mode: str = "map", keep: bool = True) -> Mapped:
    """Return a capture's packets as the lab sends them, its own addresses in blocks of their own.

    mode: "map", or "keep" for captured addresses. keep: whether to cache the result, since one
    capture is replayed under many policies. Raises TestbedError for an unknown mode.
    """
    if mode not in MODES:
        raise TestbedError(f"addressing: got {mode!r}, expected one of {', '.join(MODES)}")
    key = (id(index.facts), mode)
    cached = _cache.get(key)
    if cached is not None and cached[0].facts is index.facts:
        _cache.move_to_end(key)
        return cached[1]
    packets_on_lab = (
        rewrite(index, assigned([captured(index)])[0]) if mode == "map" else as_captured(index)
    )
    if not keep:
        return packets_on_lab
    _cache[key] = (index, packets_on_lab)
    while len(_cache) > 1 and sum(one.packets.total for one, _ in _cache.values()) > KEPT_PACKETS:
        _cache.popitem(last=False)
    return packets_on_lab


def together(captures: Sequence[PacketIndex], mode: str = "map") -> list[Mapped]:
    """Return the packets of captures that share one network, no address in two of them.

    mode: of `mapped`; "keep" takes one capture, as two may have the same addresses. Raises
    TestbedError for "keep" with more than one.
    """
    if len(captures) == 1:
        return [mapped(captures[0], mode, keep=False)]
    if mode != "map":
        raise TestbedError(
            f"addressing {mode!r}: got {len(captures)} captures at once, expected 1, as two may "
            "hold the same addresses; replay them one by one, or map them"
        )
    images = assigned([captured(index) for index in captures])
    return [rewrite(index, own) for index, own in zip(captures, images, strict=True)]


def as_captured(index: PacketIndex) -> Mapped:
    """Return a capture's packets as they were captured."""
    facts = index.facts
    return Mapped(index.packets.data, facts["ip_at"], facts["ip_end"], facts["ip_size"], None, 0, 0)


def rewrite(index: PacketIndex, addresses: Addresses) -> Mapped:
    """Return a capture's packets with every address replaced by its image."""
    data, at, end, size, broken, cut = rewriting.rewrite(index, addresses.image)
    return Mapped(data, at, end, size, addresses, broken, cut)
