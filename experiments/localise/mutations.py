# SPDX-License-Identifier: BSD-3-Clause
"""Neutral images: a probe with one thing changed into what a box is not likely to look for.

Of everything there are images far apart, so that a range which holds one of them does not hold all.
"""

from __future__ import annotations

from collections.abc import Iterator

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import noise
from midcall.testbed.probing.probe import Ends, Probe, Sent

ACK = 0x10
PORTS = (27_011, 9, 60_123)
#: Ports that boxes list, to look for more of them than a probe shows.
LISTED = (53, 80, 123, 443, 853, 1194, 1400, 3478, 3479, 3480, 3481, 4244, 4500, 5060, 5061, 5222,
          5223, 5242, 5349, 7985, 8801, 16_384, 16_402, 19_302, 51_820)  # fmt: skip
NEAR = {4: bytes([10, 77, 3, 9]), 16: bytes.fromhex("fd4d4944000000000000000000000009")}
#: A far end of each version of IP, by its octets.
FAR = {4: bytes([198, 51, 100, 133]), 16: bytes.fromhex("20010db8000000000000000000000085")}


def with_ends(probe: Probe, old: Ends, new: Ends) -> Probe:
    """Return a probe in which a flow has other ends."""
    return tuple(one._replace(ends=new) if one.ends == old else one for one in probe)


def with_packet(probe: Probe, at: int, one: Sent) -> Probe:
    """Return a probe with another packet in a place."""
    return (*probe[:at], one, *probe[at + 1 :])


def with_payload(probe: Probe, at: int, payload: bytes) -> Probe:
    """Return a probe in which a packet has another payload."""
    return with_packet(probe, at, probe[at]._replace(payload=payload))


def with_client(probe: Probe, near: bytes) -> Probe:
    """Return a probe in which every flow is another subscriber's, one and the same."""
    size = len(near)
    return tuple(
        one._replace(ends=one.ends._replace(near=near)) if len(one.ends.near) == size else one
        for one in probe
    )


def with_version(probe: Probe) -> Probe:
    """Return a probe in which all flows are of the other version of IP."""
    return tuple(one._replace(ends=of_version(one.ends)) for one in probe)


def of_version(ends: Ends) -> Ends:
    """Return a flow's ends in the other version of IP; flows keep apart by their ports."""
    size = 20 - len(ends.far)
    last = FAR[size][:-1] + ends.far[-1:]
    return ends._replace(near=NEAR[size], far=last)


def with_port(ends: Ends, what: str, port: int) -> Ends:
    """Return a flow's ends with another "far_port" or "near_port"."""
    return ends._replace(far_port=port) if what == "far_port" else ends._replace(near_port=port)


def bare(one: Sent) -> Sent:
    """Return a packet without its payload."""
    return one._replace(payload=b"", flags=ACK)


def far_addresses(address: bytes) -> list[bytes]:
    """Return addresses unlike one: its first bit, and then others, turned."""
    size = len(address)
    turned = bytes([address[0] ^ 0x80]) + noise(size - 1, "far", address.hex())
    other = bytes([address[0] ^ 0x11]) + noise(size - 1, "far too", address.hex())
    return [turned, other, address[:-1] + bytes([address[-1] ^ 1])]


def near_addresses(address: bytes) -> list[bytes]:
    """Return addresses of subscribers unlike one."""
    return [NEAR[len(address)], address[:-1] + bytes([address[-1] ^ 1])]


def turned_bit(address: bytes, bit: int) -> bytes:
    """Return an address with one bit turned, counted from its first."""
    number = int.from_bytes(address, "big") ^ (1 << (8 * len(address) - 1 - bit))
    return number.to_bytes(len(address), "big")


def other_proto(ends: Ends) -> Ends:
    """Return a flow's ends over the other transport."""
    return ends._replace(proto=UDP if ends.proto == TCP else TCP)


def images(ends: Ends, what: str) -> Iterator[Ends]:
    """Yield a flow's ends with one thing changed: "proto", "far_port", "near_port" or "far"."""
    if what == "proto":
        yield other_proto(ends)
    elif what == "far":
        for address in far_addresses(ends.far):
            yield ends._replace(far=address)
    else:
        for port in PORTS:
            if getattr(ends, what) != port:
                yield with_port(ends, what, port)
