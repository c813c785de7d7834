# SPDX-License-Identifier: BSD-3-Clause
"""Parts of drawn rules: one condition of the policy language each, which a packet meets."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import NamedTuple

from midcall.experiments.localise.packet_fields import attribute_types, read
from midcall.testbed.probing.probe import Sent

Edges = dict[str, tuple[float, ...]]


class Part(NamedTuple):
    """One condition, drawn so that a packet meets it: as the policy language has it, what it is
    called in a set of what decides, and its numbers."""

    text: str
    called: str
    edges: Edges = {}  # noqa: RUF012 - read only


#: Draws the condition of a packet; None where it has none.
Draw = Callable[[random.Random, Sent], Part | None]


def around(dice: random.Random, value: int, most: int, low: int, high: int) -> tuple[int, int]:
    """Return a range of at most `most` on either side of a number, within low and high."""
    return (
        max(value - dice.choice((0, dice.randint(0, most))), low),
        min(value + dice.choice((0, dice.randint(0, most))), high),
    )


def port(dice: random.Random, one: Sent) -> Part:
    """Draw ports around a packet's, and perhaps another one."""
    low, high = around(dice, one.ends.far_port, dice.choice((3, 30, 900)), 1, 65_535)
    if low == high and dice.random() < 0.3:
        other = dice.choice((53, 80, 443, 3478, 5060))
        return Part(f"ports = [{low}, {other}]", "far port", {"port": (low, other)})
    return Part(f'ports = ["{low}-{high}"]', "far port", {"port": (low, high)})


def address(dice: random.Random, one: Sent) -> Part:
    """Draw a prefix of a packet's far address."""
    length = dice.choice((32, 32, 29, 24, 22, 16, 13))
    network = ipaddress.ip_network((one.ends.far, length), strict=False)
    return Part(f'addresses = ["{network}"]', "far address")


def protocol(dice: random.Random, one: Sent) -> Part:
    """Draw a packet's transport."""
    return Part(f'protocol = "{"tcp" if one.ends.proto == 6 else "udp"}"', "protocol")


def size(dice: random.Random, one: Sent) -> Part | None:
    """Draw sizes around a packet's: a range, or an open one."""
    own = len(one.payload)
    low, high = around(dice, own, dice.choice((4, 40, 200)), 1, 1300)
    if high < own:
        return None
    form = dice.choice(("both", "both", "low", "high"))
    if form == "low" and low > 1:
        return Part(f'size = "{low}-"', "size", {"size": (low,)})
    if form == "high":
        return Part(f'size = "1-{high}"', "size", {"size": (1, high)})
    return Part(f'size = "{low}-{high}"', "size", {"size": (low, high)})


def direction(dice: random.Random, one: Sent) -> Part:
    """Draw a packet's direction."""
    return Part(f'direction = "{"up" if one.up else "down"}"', "direction")


def stun(dice: random.Random, one: Sent) -> Part | None:
    """Draw what a STUN message is: STUN, a method, an attribute."""
    method = read(one).method
    if method < 0:
        return None
    held = list(attribute_types(one.payload))
    form = dice.choice(("any", "method", *(["attribute"] if held else [])))
    if form == "any":
        return Part("stun = true", "stun")
    if form == "method":
        return Part(f"stun_method = [{method}]", "stun method")
    return Part(f"stun_attribute = [{dice.choice(held)}]", "stun attribute")


def kind(dice: random.Random, one: Sent) -> Part | None:
    """Draw what a payload looks like; what depends on a port, or is `stun` too, is left out."""
    word = read(one).kind
    if word in ("unknown", "dns", "stun"):
        return None
    return Part(f'payload = ["{word}"]', "kind")


def name(dice: random.Random, one: Sent) -> Part | None:
    """Draw a pattern that the name of a hello, a request or a question meets."""
    told = read(one)
    if not told.where:
        return None
    labels = told.name.split(".")
    pattern = dice.choice([told.name, *(f"*.{'.'.join(labels[n:])}" for n in range(len(labels)))])
    if told.where == "dns":
        return Part(f'dns = ["{pattern}"]', "name")
    where = dice.choice(("", f', name_in = ["{told.where}"]'))
    return Part(f'name = ["{pattern}"]{where}', "name")
