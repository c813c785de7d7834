# SPDX-License-Identifier: BSD-3-Clause
"""Neutral images: a probe with one property changed to a value that a box is unlikely to match.

For each property there are several distant values, so that a range which contains one of them does
not contain all.
"""

from __future__ import annotations

from collections.abc import Iterator

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import noise
from midcall.testbed.probing.probe import Ends, Probe, Sent

ACK = 0x10
PORTS = (27_011, 9, 60_123)
#: Ports that rules often list; they are tried although the probe has none of them.
LISTED = (53, 80, 123, 443, 853, 1194, 1400, 3478, 3479, 3480, 3481, 4244, 4500, 5060, 5061, 5222,
          5223, 5242, 5349, 7985, 8801, 16_384, 16_402, 19_302, 51_820)  # fmt: skip
NEAR = {4: bytes([10, 77, 3, 9]), 16: bytes.fromhex("fd4d4944000000000000000000000009")}
#: A far address of each IP version, by its length in octets.
FAR = {4: bytes([198, 51, 100, 133]), 16: bytes.fromhex("20010db8000000000000000000000085")}


def with_ends(probe: Probe, old: Ends, new: Ends) -> Probe:
    """Return a probe in which a flow has other ends."""
    return tuple(one._replace(ends=new) if one.ends == old else one for one in probe)


def with_packet(probe: Probe, at: int, packet: Sent) -> Probe:
    """Return a probe with the packet at one index replaced."""
    return (*probe[:at], packet, *probe[at + 1 :])


def with_payload(probe: Probe, at: int, payload: bytes) -> Probe:
    """Return a probe in which a packet has another payload."""
    return with_packet(probe, at, probe[at]._replace(payload=payload))


def with_client(probe: Probe, near: bytes) -> Probe:
    """Return a probe in which every flow belongs to one other subscriber."""
    size = len(near)
    return tuple(
        one._replace(ends=one.ends._replace(near=near)) if len(one.ends.near) == size else one
        for one in probe
    )


def with_version(probe: Probe) -> Probe:
    """Return a probe in which all flows have the other IP version."""
    return tuple(one._replace(ends=of_version(one.ends)) for one in probe)


def of_version(ends: Ends) -> Ends:
    """Return a flow's ends in the other IP version; flows remain distinct by their ports."""
    size = 20 - len(ends.far)
    last = FAR[size][:-1] + ends.far[-1:]
    return ends._replace(near=NEAR[size], far=last)


def with_port(ends: Ends, what: str, port: int) -> Ends:
    """Return a flow's ends with another "far_port" or "near_port"."""
    return ends._replace(far_port=port) if what == "far_port" else ends._replace(near_port=port)


def without_payload(packet: Sent) -> Sent:
    """Return a packet without its payload."""
    return packet._replace(payload=b"", flags=ACK)


def far_addresses(address: bytes) -> list[bytes]:
    """Return addresses different from one: its first bit and further bits are flipped."""
    size = len(address)
    turned = bytes([address[0] ^ 0x80]) + noise(size - 1, "far", address.hex())
    other = bytes([address[0] ^ 0x11]) + noise(size - 1, "far too", address.hex())
    return [turned, other, address[:-1] + bytes([address[-1] ^ 1])]


def near_addresses(address: bytes) -> list[bytes]:
    """Return addresses of other subscribers."""
    return [NEAR[len(address)], address[:-1] + bytes([address[-1] ^ 1])]


def flipped_bit(address: bytes, bit: int) -> bytes:
    """Return an address with one bit flipped; bit 0 is its first."""
    number = int.from_bytes(address, "big") ^ (1 << (8 * len(address) - 1 - bit))
    return number.to_bytes(len(address), "big")


def other_proto(ends: Ends) -> Ends:
    """Return a flow's ends over the other transport."""
    return ends._replace(proto=UDP if ends.proto == TCP else TCP)


def images(ends: Ends, field: str) -> Iterator[Ends]:
    """Yield a flow's ends with one property changed: "proto", "far_port", "near_port" or "far"."""
    if field == "proto":
        yield other_proto(ends)
    elif field == "far":
        for address in far_addresses(ends.far):
            yield ends._replace(far=address)
    else:
        for port in PORTS:
            if getattr(ends, field) != port:
                yield with_port(ends, field, port)
