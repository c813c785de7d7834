# SPDX-License-Identifier: BSD-3-Clause
"""Rules of the benchmark: a box whose rule is known to the benchmark and to nobody who localises.

Most are written in the policy language and played by our own middlebox; what the language cannot
say (octets at a place, gaps, order) is a few lines of Python. `needs` are the minimal sets that
suffice for a block, in the words of a report ("far port", "octets[4:8]"), () where more than one
description is as good. `edges` are the numbers of the rule, so that the test set can look just
beside them; `beside` its names and prefixes. No rule knows how the localiser works, which sees
nothing of this file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from midcall.captures.packets.pcap import read
from midcall.classifier.engine import Engine
from midcall.classifier.state.packet_fields import SIGN_HELLO_PRINT
from midcall.testbed.conformance.transcript import HOSTS, scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.oracle import Oracle, PolicyOracle
from midcall.testbed.probing.probe import Ends, Probe, Sent, probe_of

#: A capture of a call and what goes on beside it, as a scene (testbed.scenes).
CALL = """
    0.00 > udp resolver:53/5353 question www.a.example
    0.03 < udp resolver:53/5353 answer www.a.example
    0.05 > udp resolver:53/5354 question call.b.example
    0.08 < udp resolver:53/5354 answer call.b.example
    0.10 > tcp peer:443/40010 syn
    0.14 < tcp peer:443/40010 syn-ack
    0.15 > tcp peer:443/40010 ack
    0.16 > tcp peer:443/40010 tls-hello www.a.example
    0.20 < tcp peer:443/40010 tls 900
    0.30 > tcp peer:443/40010 tls 120 x5 0.4
    0.40 > tcp other:80/40015 syn
    0.44 < tcp other:80/40015 syn-ack
    0.45 > tcp other:80/40015 http web.b.example
    0.50 < tcp other:80/40015 page
    0.70 > udp relay:3478/40011 stun-allocate 4000
    0.74 < udp relay:3478/40011 stun-allocate-answer 4002
    0.80 > udp relay:3478/40011 stun-refresh
    0.84 < udp relay:3478/40011 stun-refresh-answer
    0.90 > udp relay:3478/40011 stun-channel-bind 0012
    1.00 > udp relay:3478/40011 rtp 160 x40 0.02
    1.01 < udp relay:3478/40011 rtp 160 x40 0.02
    1.90 > udp peer:40100/40012 stun-binding 0006
    1.94 < udp peer:40100/40012 stun-binding-answer 0020
    2.00 > udp peer:40100/40012 dtls-hello
    2.10 < udp peer:40100/40012 dtls 200
    2.20 > udp other:443/40013 quic-hello
    2.30 > udp other:443/40013 noise 700 x3 0.1
    2.50 > udp relay:5060/40016 sip
    2.60 > udp relay:3479/40017 channel
    2.70 > udp peer:40102/40018 rtp 400 x10 0.03
    2.75 < udp peer:40102/40018 rtcp
    3.00 > udp other:9000/40014 noise 300 x14 0.5
    4.00 > udp other:51820/40019 zeros 80 x3 3.0
"""

#: Hellos whose fingerprints rules name.
HELLOS = {
    "TLS": "0.0 > tcp peer:443 tls-hello www.a.example",
    "DTLS": "0.0 > udp peer:40100 dtls-hello",
}

#: Sees one packet and its own memory; returns whether it drops the packet.
Box = Callable[[Sent, dict[str, Any]], bool]


class Planted(NamedTuple):
    """A planted rule.

    edges: numbers of the rule by what they are of; beside: its words ("name", "prefix"), and those
    that its call cannot show ("unseen"); implied: names that may stand beside those of `needs`;
    call: what it is asked with, a scene or a capture's file; access: where the box stands.
    """

    name: str
    kind: str
    rule: str | Box | Policy
    needs: tuple[frozenset[str], ...] = ()
    edges: dict[str, tuple[float, ...]] = {}  # noqa: RUF012 - read only
    call: str | Path = CALL
    beside: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - read only
    implied: frozenset[str] = frozenset()
    access: str = "fibre"

    def oracle(self) -> Oracle:
        """Return the box that has this rule."""
        if isinstance(self.rule, str):
            return policy_box(self.rule, self.access)
        if isinstance(self.rule, Policy):
            return PolicyOracle(self.rule, self.access)
        return PlainBox(self.rule)

    def base(self) -> Probe:
        """Return the packets that the box is asked with first."""
        return base_of(self.call)


@cache
def base_of(call: str | Path) -> Probe:
    """Return the probe of a scene or of a capture's file."""
    return probe_of(scene(call) if isinstance(call, str) else read(call))


class PlainBox:
    """A box in plain Python; each probe meets one that remembers nothing."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box drops a packet of a probe."""
        memory: dict[str, Any] = {}
        return sum(self.box(one, memory) for one in probe) > 0


def policy_box(rules: str, access: str = "fibre") -> Oracle:
    """Return our own middlebox under rules of the policy language, their acts `drop` if unsaid."""
    text = rules if "[[rule]]" in rules else f"[[rule]]\n{rules}"
    for word, line in HELLOS.items():
        if f'"{word}"' in text:
            text = text.replace(f'"{word}"', f'"{print_of(line)}"')
    about = {"grade": "A", "source": "planted", "act": "drop"}
    made = [
        Rule.model_validate({**about, "name": f"r{number}", **table})
        for number, table in enumerate(tomllib.loads(text)["rule"], 1)
    ]
    return PolicyOracle(Policy(tuple(made)), access)


def print_of(line: str) -> str:
    """Return the fingerprint of the hello in a line of a scene, as policies give it."""
    engine = Engine(room=64, model=None)
    engine.feed(scene(line))
    return f"{int(engine.signs[SIGN_HELLO_PRINT]):016x}"


def match(text: str, more: str = "") -> str:
    """Return a rule of the policy language that drops what meets a match."""
    return f"match = {{ {text} }}\n{more}"


def either(*texts: str) -> str:
    """Return rules of the policy language, one of which is enough."""
    return "\n".join(f"[[rule]]\n{match(text)}" for text in texts)


def sets(*words: str) -> tuple[frozenset[str], ...]:
    """Return minimal sets, each given as names between commas."""
    return tuple(frozenset(part.strip() for part in word.split(",") if part.strip())
                 for word in words)  # fmt: skip


# ---- boxes in plain Python


def at(place: int, octets: str) -> Box:
    """Return a box that looks for octets at a place of any payload."""
    wanted = bytes.fromhex(octets)
    return lambda one, memory: one.payload[place : place + len(wanted)] == wanted


def octet(place: int, test: Callable[[int], bool]) -> Box:
    """Return a box that tests one octet of any payload."""
    return lambda one, memory: len(one.payload) > place and test(one.payload[place])


def all_of(*boxes: Box) -> Box:
    """Return a box that drops what all of some boxes drop."""
    return lambda one, memory: all(box(one, memory) for box in boxes)


def any_of(*boxes: Box) -> Box:
    """Return a box that drops what one of some boxes drops."""
    return lambda one, memory: any(box(one, memory) for box in boxes)


def gap(low: float, high: float, count: int = 2, size: tuple[int, int] = (0, 65_000)) -> Box:
    """Return a box that looks for packets of a flow in a row, of a size, a gap (s) apart."""

    def box(one: Sent, memory: dict[str, Any]) -> bool:
        if not size[0] <= len(one.payload) <= size[1]:
            return False
        last, row = memory.get(repr(one.ends), (None, 0))
        near = last is not None and low * 1e9 <= one.time - last <= high * 1e9
        row = row + 1 if near else 1
        memory[repr(one.ends)] = one.time, row
        return row >= count

    return box


def order(first: Callable[[Sent], bool], then: Callable[[Sent], bool], within: float) -> Box:
    """Return a box that drops what comes within some seconds of something else, by subscriber."""

    def box(one: Sent, memory: dict[str, Any]) -> bool:
        key = one.ends.near.hex()
        came = [time for time in memory.get(key, []) if one.time - time <= within * 1e9]
        hit = bool(came) and then(one)
        if first(one):
            memory.setdefault(key, []).append(one.time)
        return hit

    return box


def to_port(port: int) -> Callable[[Sent], bool]:
    """Return the test for packets of flows to a port."""
    return lambda one: one.ends.far_port == port


def is_up(one: Sent) -> bool:
    """Tell whether the subscriber sent a packet."""
    return one.up


def same(ends: Ends, host: str) -> bool:
    """Tell whether a flow's far end is a host of the scene."""
    return ends.far == bytes(int(part) for part in HOSTS[host].split("."))
