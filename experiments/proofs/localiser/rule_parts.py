# SPDX-License-Identifier: BSD-3-Clause
"""Parts of random rules: single conditions of the policy language that a packet meets."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import NamedTuple

from midcall.experiments.localise.packet_fields import attribute_types, read
from midcall.testbed.probing.probe import Sent

Edges = dict[str, tuple[float, ...]]


class Part(NamedTuple):
    """One condition, drawn so that a packet meets it: its text in the policy language, its name as
    a factor, and its numbers."""

    text: str
    factor: str
    edges: Edges = {}  # noqa: RUF012 - read only


#: Draws a condition that a packet meets; None if it has no such property.
Draw = Callable[[random.Random, Sent], Part | None]


def around(rng: random.Random, value: int, most: int, low: int, high: int) -> tuple[int, int]:
    """Return a range that extends up to `most` to either side of a number, within low and high."""
    return (
        max(value - rng.choice((0, rng.randint(0, most))), low),
        min(value + rng.choice((0, rng.randint(0, most))), high),
    )


def port(rng: random.Random, packet: Sent) -> Part:
    """Draw ports around a packet's far port, and perhaps another one."""
    low, high = around(rng, packet.ends.far_port, rng.choice((3, 30, 900)), 1, 65_535)
    if low == high and rng.random() < 0.3:
        other = rng.choice((53, 80, 443, 3478, 5060))
        return Part(f"ports = [{low}, {other}]", "far port", {"port": (low, other)})
    return Part(f'ports = ["{low}-{high}"]', "far port", {"port": (low, high)})


def address(rng: random.Random, packet: Sent) -> Part:
    """Draw a prefix of a packet's far address."""
    length = rng.choice((32, 32, 29, 24, 22, 16, 13))
    network = ipaddress.ip_network((packet.ends.far, length), strict=False)
    return Part(f'addresses = ["{network}"]', "far address")


def protocol(rng: random.Random, packet: Sent) -> Part:
    """Draw a packet's transport."""
    return Part(f'protocol = "{"tcp" if packet.ends.proto == 6 else "udp"}"', "protocol")


def size(rng: random.Random, packet: Sent) -> Part | None:
    """Draw sizes around a packet's payload: a range, or an open one."""
    own = len(packet.payload)
    low, high = around(rng, own, rng.choice((4, 40, 200)), 1, 1300)
    if high < own:
        return None
    form = rng.choice(("both", "both", "low", "high"))
    if form == "low" and low > 1:
        return Part(f'size = "{low}-"', "size", {"size": (low,)})
    if form == "high":
        return Part(f'size = "1-{high}"', "size", {"size": (1, high)})
    return Part(f'size = "{low}-{high}"', "size", {"size": (low, high)})


def direction(rng: random.Random, packet: Sent) -> Part:
    """Draw a packet's direction."""
    return Part(f'direction = "{"up" if packet.up else "down"}"', "direction")


def stun(rng: random.Random, packet: Sent) -> Part | None:
    """Draw a property of a STUN message: STUN, its method, an attribute."""
    method = read(packet).method
    if method < 0:
        return None
    types = list(attribute_types(packet.payload))
    form = rng.choice(("any", "method", *(["attribute"] if types else [])))
    if form == "any":
        return Part("stun = true", "stun")
    if form == "method":
        return Part(f"stun_method = [{method}]", "stun method")
    return Part(f"stun_attribute = [{rng.choice(types)}]", "stun attribute")


def kind(rng: random.Random, packet: Sent) -> Part | None:
    """Draw the kind of a payload; kinds that depend on a port, and `stun`, are excluded."""
    word = read(packet).kind
    if word in ("unknown", "dns", "stun"):
        return None
    return Part(f'payload = ["{word}"]', "kind")


def name(rng: random.Random, packet: Sent) -> Part | None:
    """Draw a pattern that matches the name in a ClientHello, a request or a question."""
    reading = read(packet)
    if not reading.where:
        return None
    labels = reading.name.split(".")
    pattern = rng.choice([reading.name, *(f"*.{'.'.join(labels[n:])}" for n in range(len(labels)))])
    if reading.where == "dns":
        return Part(f'dns = ["{pattern}"]', "name")
    where = rng.choice(("", f', name_in = ["{reading.where}"]'))
    return Part(f'name = ["{pattern}"]{where}', "name")
