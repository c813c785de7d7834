# SPDX-License-Identifier: BSD-3-Clause
"""Rules of the benchmark: boxes whose rule is known to the benchmark and not to the localiser.

Most are written in the policy language and carried out by our own middlebox; what the language
cannot express (octets at a place, gaps, order) is a few lines of Python. `needs` are the minimal
sets of factors that suffice for a block, with the names of a report ("far port", "octets[4:8]"), ()
if several descriptions are equally right. `edges` are the numbers of the rule, so that the test set
has probes just below and above them; `edge_words` its names and prefixes. The localiser does not
import this file.
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

#: A call with background traffic, as a scene (testbed.scenes).
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

#: ClientHellos whose fingerprints rules name.
HELLOS = {
    "TLS": "0.0 > tcp peer:443 tls-hello www.a.example",
    "DTLS": "0.0 > udp peer:40100 dtls-hello",
}

#: Takes one packet and the state of the box; returns whether the box drops the packet.
Box = Callable[[Sent, dict[str, Any]], bool]


class BenchmarkRule(NamedTuple):
    """A rule of the benchmark.

    edges: numbers of the rule by their unit; edge_words: its names ("name") and prefixes
    ("prefix"), and those prefixes that do not occur in its call ("unseen"); implied: factors that a
    correct result may have besides those of `needs`; call: the packets that the box is first probed
    with, a scene or a capture's file; access: the access network of the box.
    """

    name: str
    kind: str
    rule: str | Box | Policy
    needs: tuple[frozenset[str], ...] = ()
    edges: dict[str, tuple[float, ...]] = {}  # noqa: RUF012 - read only
    call: str | Path = CALL
    edge_words: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - read only
    implied: frozenset[str] = frozenset()
    access: str = "fibre"

    def oracle(self) -> Oracle:
        """Return a box with this rule."""
        if isinstance(self.rule, str):
            return policy_box(self.rule, self.access)
        if isinstance(self.rule, Policy):
            return PolicyOracle(self.rule, self.access)
        return PlainBox(self.rule)

    def base(self) -> Probe:
        """Return the packets that the box is first probed with."""
        return base_of(self.call)


@cache
def base_of(call: str | Path) -> Probe:
    """Return the probe of a scene or of a capture's file."""
    return probe_of(scene(call) if isinstance(call, str) else read(call))


class PlainBox:
    """A box in plain Python; each probe starts with empty state."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box drops any packet of a probe."""
        state: dict[str, Any] = {}
        return sum(self.box(one, state) for one in probe) > 0


def policy_box(rules: str, access: str = "fibre") -> Oracle:
    """Return our own middlebox with rules of the policy language; the default act is `drop`."""
    text = rules if "[[rule]]" in rules else f"[[rule]]\n{rules}"
    for word, line in HELLOS.items():
        if f'"{word}"' in text:
            text = text.replace(f'"{word}"', f'"{print_of(line)}"')
    about = {"grade": "A", "source": "planted", "act": "drop"}
    parsed = [
        Rule.model_validate({**about, "name": f"r{number}", **table})
        for number, table in enumerate(tomllib.loads(text)["rule"], 1)
    ]
    return PolicyOracle(Policy(tuple(parsed)), access)


def print_of(line: str) -> str:
    """Return the fingerprint of the ClientHello in a line of a scene, in the form of policies."""
    engine = Engine(room=64, model=None)
    engine.feed(scene(line))
    return f"{int(engine.signs[SIGN_HELLO_PRINT]):016x}"


def match(text: str, more: str = "") -> str:
    """Return a rule of the policy language that drops packets that meet a match."""
    return f"match = {{ {text} }}\n{more}"


def either(*texts: str) -> str:
    """Return rules of the policy language, one for each match."""
    return "\n".join(f"[[rule]]\n{match(text)}" for text in texts)


def sets(*words: str) -> tuple[frozenset[str], ...]:
    """Return minimal sets of factors, each given as names between commas."""
    return tuple(frozenset(part.strip() for part in word.split(",") if part.strip())
                 for word in words)  # fmt: skip


# ---- boxes in plain Python


def at(place: int, octets: str) -> Box:
    """Return a box that drops payloads with the given octets (hex) at a place."""
    wanted = bytes.fromhex(octets)
    return lambda one, state: one.payload[place : place + len(wanted)] == wanted


def octet(place: int, test: Callable[[int], bool]) -> Box:
    """Return a box that drops payloads whose octet at a place passes a test."""
    return lambda one, state: len(one.payload) > place and test(one.payload[place])


def all_of(*boxes: Box) -> Box:
    """Return a box that drops what all of some boxes drop."""
    return lambda one, state: all(box(one, state) for box in boxes)


def any_of(*boxes: Box) -> Box:
    """Return a box that drops what at least one of some boxes drops."""
    return lambda one, state: any(box(one, state) for box in boxes)


def gap(low: float, high: float, count: int = 2, size: tuple[int, int] = (0, 65_000)) -> Box:
    """Return a box that drops a run of `count` packets of a flow and of some sizes, `low` to `high`
    s apart."""

    def box(packet: Sent, state: dict[str, Any]) -> bool:
        if not size[0] <= len(packet.payload) <= size[1]:
            return False
        last, length = state.get(repr(packet.ends), (None, 0))
        in_gap = last is not None and low * 1e9 <= packet.time - last <= high * 1e9
        length = length + 1 if in_gap else 1
        state[repr(packet.ends)] = packet.time, length
        return length >= count

    return box


def order(first: Callable[[Sent], bool], then: Callable[[Sent], bool], within: float) -> Box:
    """Return a box that drops what comes within some seconds after another packet of the
    subscriber."""

    def box(packet: Sent, state: dict[str, Any]) -> bool:
        key = packet.ends.near.hex()
        came = [time for time in state.get(key, []) if packet.time - time <= within * 1e9]
        matches = bool(came) and then(packet)
        if first(packet):
            state.setdefault(key, []).append(packet.time)
        return matches

    return box


def to_port(port: int) -> Callable[[Sent], bool]:
    """Return the test whether a packet belongs to a flow to a port."""
    return lambda one: one.ends.far_port == port


def is_up(packet: Sent) -> bool:
    """Return whether the subscriber sent a packet."""
    return packet.up


def same(ends: Ends, host: str) -> bool:
    """Return whether a flow's far end is a host of the scene."""
    return ends.far == bytes(int(part) for part in HOSTS[host].split("."))
