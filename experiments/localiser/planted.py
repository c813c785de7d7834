# SPDX-License-Identifier: BSD-3-Clause
"""Planted rules: boxes whose rule is known to the benchmark and to nobody who localises.

Most are written in the policy language and played by our own middlebox; what the language cannot
say (octets at a place, gaps, order) is a few lines of Python. `needs` are the minimal sets that
suffice for a block, in the words of a report ("far port", "octets[4:8]"), () where more than one
description is as good. `edges` are the numbers of the rule, so that the test set can look just
beside them. No rule knows how the localiser works, which sees nothing of this file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

from classifier.engine import Engine
from classifier.signs import SIGN_HELLO_PRINT
from testbed.language import Rule
from testbed.oracle import Oracle, PolicyOracle
from testbed.policy import Policy
from testbed.probe import Ends, Probe, Sent
from testbed.scenes import HOSTS, scene

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
    """A planted rule. edges: numbers of the rule by what they are of; call: what it is asked with,
    a scene."""

    name: str
    kind: str
    rule: str | Box
    needs: tuple[frozenset[str], ...] = ()
    edges: dict[str, tuple[float, ...]] = {}  # noqa: RUF012 - read only
    call: str = CALL

    def oracle(self) -> Oracle:
        """Return the box that has this rule."""
        return policy_box(self.rule) if isinstance(self.rule, str) else PlainBox(self.rule)


class PlainBox:
    """A box in plain Python; each probe meets one that remembers nothing."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box drops a packet of a probe."""
        memory: dict[str, Any] = {}
        return sum(self.box(one, memory) for one in probe) > 0


def policy_box(rules: str) -> Oracle:
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
    return PolicyOracle(Policy(tuple(made)))


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


PLANTED: tuple[Planted, ...] = (
    # ---- octets at a place
    Planted("cookie", "literal", at(4, "2112a442"), sets("octets[4:8]")),
    Planted("allocate-octets", "literal", at(0, "0003"), sets("octets[0:2]")),
    Planted("rtp-octets", "literal", at(0, "806f"), sets("octets[0:2]")),
    Planted("version-bits", "literal", octet(0, lambda o: o >> 6 == 2), sets("octets[0:1]")),
    Planted("payload-type", "literal", octet(1, lambda o: o & 0x7F == 111), sets("octets[1:2]")),
    Planted("attribute-at-20", "literal", at(20, "4000"), sets("octets[20:22]")),
    Planted("dtls-range", "literal", octet(0, lambda o: 20 <= o <= 63), sets("octets[0:1]")),
    Planted(
        "two-places",
        "literal",
        all_of(at(0, "00"), at(4, "21"), at(21, "12")),
        sets("octets[0:1] octets[4:5] octets[21:22]"),
    ),
    Planted(
        "word", "literal", lambda one, memory: b"example" in one.payload, sets("octets anywhere")
    ),
    Planted(
        "word-folded",
        "literal",
        lambda one, memory: b"web.b.ex" in one.payload.lower(),
        sets("octets anywhere"),
    ),
    # ---- prefixes
    Planted("invite", "prefix", at(0, b"INVITE".hex()), sets("octets[0:6]")),
    Planted("record", "prefix", at(0, "1603"), sets("octets[0:2]")),
    Planted("quic-one", "prefix", at(0, "c300000001"), sets("octets[0:5]")),
    Planted("get", "prefix", at(0, b"GET ".hex()), sets("octets[0:4]")),
    Planted("channel-octets", "prefix", at(0, "4001"), sets("octets[0:2]")),
    # ---- STUN
    Planted("stun", "stun", match("stun = true"), sets("stun")),
    Planted("allocate", "stun", match('stun_method = ["allocate"]'), sets("stun method")),
    Planted(
        "refreshes", "stun", match('stun_method = ["refresh", "channel-bind"]'), sets("stun method")
    ),
    Planted(
        "whatsapp-attribute", "stun", match("stun_attribute = [0x4000]"), sets("stun attribute")
    ),
    Planted("username", "stun", match("stun_attribute = [0x0006, 0x0013]"), sets("stun attribute")),
    Planted(
        "stun-answers", "stun", match('stun = true, direction = "down"'), sets("stun, direction")
    ),
    # ---- names
    Planted("sni", "sni", match('name = ["www.a.example"]'), sets("name")),
    Planted("sni-under", "sni", match('name = ["*.a.example"]'), sets("name")),
    Planted("sni-tls", "sni", match('name = ["www.a.example"], name_in = ["tls"]'), sets("name")),
    Planted("sni-quic", "sni", match('name = ["a.example"], name_in = ["quic"]'), sets("name")),
    Planted("sni-http", "sni", match('name = ["*.b.example"], name_in = ["http"]'), sets("name")),
    Planted("sni-top", "sni", match('name = ["*.example"]'), sets("name")),
    Planted("dns", "dns", match('dns = ["www.a.example"]'), sets("name")),
    Planted("dns-under", "dns", match('dns = ["*.b.example"]'), sets("name")),
    Planted("dns-top", "dns", match('dns = ["*.example"]'), sets("name")),
    # ---- ports, addresses, transport
    Planted("port", "port", match("ports = [5060]"), sets("far port"), {"port": (5060,)}),
    Planted(
        "ports-near",
        "port",
        match('ports = ["3478-3481"]'),
        sets("far port"),
        {"port": (3478, 3481)},
    ),
    Planted(
        "ports-high",
        "port",
        match('ports = ["40000-41000"]'),
        sets("far port"),
        {"port": (40000, 41000)},
    ),
    Planted(
        "ports-two", "port", match("ports = [443, 3478]"), sets("far port"), {"port": (443, 3478)}
    ),
    Planted(
        "port-own",
        "port",
        lambda one, memory: one.ends.near_port == 40018,
        sets("near port"),
        {"near_port": (40018,)},
    ),
    Planted("prefix-24", "address", match('addresses = ["198.51.100.0/24"]'), sets("far address")),
    Planted("prefix-32", "address", match('addresses = ["203.0.113.7/32"]'), sets("far address")),
    Planted("prefix-13", "address", match('addresses = ["203.0.0.0/13"]'), sets("far address")),
    Planted(
        "subscriber",
        "address",
        lambda one, memory: one.ends.near[3] == 10 and one.ends.near[:3] == bytes([192, 168, 1]),
        sets("near address"),
    ),
    Planted("all-udp", "protocol", match('protocol = "udp"'), sets("protocol")),
    Planted("all-tcp", "protocol", match('protocol = "tcp"'), sets("protocol")),
    # ---- sizes
    Planted("size-range", "size", match('size = "150-200"'), sets("size"), {"size": (150, 200)}),
    Planted("size-large", "size", match('size = "600-"'), sets("size"), {"size": (600,)}),
    Planted("size-one", "size", match("size = 172"), sets("size"), {"size": (172,)}),
    Planted("size-small", "size", match('size = "1-30"'), sets("size"), {"size": (1, 30)}),
    # ---- windows of packets, bytes, seconds
    Planted(
        "port-late",
        "packets",
        match('ports = [9000], packets = "5-"'),
        sets("far port, packets"),
        {"port": (9000,), "packets": (5,)},
    ),
    Planted(
        "stun-first",
        "packets",
        match('stun = true, packets = "-3"', 'scope = "packet"'),
        sets("stun, packets"),
        {"packets": (3,)},
    ),
    Planted(
        "size-window",
        "packets",
        match('size = "150-200", packets = "10-20"'),
        sets("size, packets"),
        {"size": (150, 200), "packets": (10, 20)},
    ),
    Planted(
        "bytes-late",
        "bytes",
        match('protocol = "udp", bytes = "2000-"'),
        sets("protocol, bytes"),
        {"bytes": (2000,)},
    ),
    Planted(
        "rtp-early",
        "bytes",
        match('payload = ["rtp"], bytes = "-3000"', 'scope = "packet"'),
        sets("kind, bytes"),
        {"bytes": (3000,)},
    ),
    Planted(
        "seconds-late",
        "seconds",
        match('protocol = "udp", seconds = "3.5-"'),
        sets("protocol, seconds"),
        {"seconds": (3.5,)},
    ),
    Planted(
        "large-early",
        "seconds",
        match('size = "600-", seconds = "-1.5"', 'scope = "packet"'),
        sets("size, seconds"),
        {"size": (600,), "seconds": (1.5,)},
    ),
    # ---- rates and gaps
    Planted(
        "fast-start",
        "rate",
        match('packets = "10-", seconds = "-1"'),
        sets("packets, seconds"),
        {"packets": (10,), "seconds": (1.0,)},
    ),
    Planted("steady-pair", "gap", gap(0.015, 0.025), sets("times, gap"), {"gap": (0.015, 0.025)}),
    Planted(
        "steady-voice",
        "gap",
        gap(0.01, 0.03, 8, (150, 200)),
        sets("times, gap, size"),
        {"gap": (0.01, 0.03), "size": (150, 200)},
    ),
    Planted("silence", "gap", gap(2.0, 5.0), sets("times, gap"), {"gap": (2.0, 5.0)}),
    # ---- order
    Planted(
        "dns-then-relay",
        "order",
        order(to_port(53), to_port(3478), 20.0),
        sets("earlier, earlier far port, far port, since seconds"),
        {"since": (20.0,)},
    ),
    Planted(
        "relay-then-peer",
        "order",
        order(
            lambda one: one.payload[4:8] == b"\x21\x12\xa4\x42" and same(one.ends, "relay"),
            lambda one: one.payload[:1] == b"\x16" and one.ends.proto == 17,
            5.0,
        ),
        (),
        {"since": (5.0,)},
    ),
    Planted(
        "stun-then-down",
        "order",
        match('stun = true, direction = "up"', 'scope = "client"\nway = "down"'),
        (),
        {},
    ),
    Planted(
        "sip-then-any",
        "order",
        order(to_port(5060), to_port(51820), 9.0),
        sets("earlier, earlier far port, far port, since seconds"),
        {"since": (9.0,)},
    ),
    # ---- fields of TLS, DTLS, QUIC and others
    Planted("tls-hello", "field", match('payload = ["tls-hello"]'), sets("kind")),
    Planted("dtls-hello", "field", match('payload = ["dtls-hello"]'), sets("kind")),
    Planted("dtls", "field", match('payload = ["dtls", "dtls-hello"]'), sets("kind")),
    Planted("quic", "field", match('payload = ["quic"]', 'scope = "packet"'), sets("kind")),
    Planted("rtp", "field", match('payload = ["rtp"]', 'scope = "packet"'), sets("kind")),
    Planted("rtcp", "field", match('payload = ["rtcp"]'), sets("kind")),
    Planted("channel", "field", match('payload = ["channel"]'), sets("kind")),
    Planted("tls-print", "field", match('hello = ["TLS"]'), sets("hello")),
    Planted("dtls-print", "field", match('hello = ["DTLS"]'), sets("hello")),
    Planted(
        "random",
        "entropy",
        match('entropy = "0.9-", size = "256-"', 'scope = "packet"'),
        (),
        {"size": (256,)},
    ),
    # ---- all of several
    Planted(
        "stun-and-port",
        "and",
        match("stun = true, ports = [3478]"),
        sets("stun, far port"),
        {"port": (3478,)},
    ),
    Planted(
        "size-and-port",
        "and",
        match('size = "150-200", ports = ["3478-3480"]'),
        sets("size, far port"),
        {"size": (150, 200), "port": (3478, 3480)},
    ),
    Planted(
        "three",
        "and",
        match('protocol = "udp", addresses = ["198.51.100.0/24"], size = "290-310"'),
        sets("protocol, far address, size"),
        {"size": (290, 310)},
    ),
    Planted(
        "method-and-attribute",
        "and",
        match('stun_method = ["allocate"], stun_attribute = [0x4000]'),
        sets("stun method stun attribute"),
    ),
    Planted(
        "rtp-up",
        "and",
        match('payload = ["rtp"], direction = "down"', 'scope = "packet"'),
        sets("kind, direction"),
    ),
    Planted(
        "name-and-address",
        "and",
        match('name = ["*.a.example"], addresses = ["198.51.100.9/32"]'),
        sets("name, far address"),
    ),
    Planted(
        "octets-and-size",
        "and",
        all_of(at(0, "80"), lambda one, memory: 150 <= len(one.payload) <= 250),
        sets("octets[0:1], size"),
        {"size": (150, 250)},
    ),
    # ---- one of several
    Planted(
        "stun-or-hello",
        "or",
        either("stun = true", 'payload = ["dtls-hello"]'),
        sets("stun", "kind"),
    ),
    Planted(
        "port-or-name",
        "or",
        either("ports = [5060]", 'name = ["*.a.example"]'),
        sets("far port", "name"),
        {"port": (5060,)},
    ),
    Planted(
        "size-or-attribute",
        "or",
        either('size = "600-"', "stun_attribute = [0x4000]"),
        sets("size", "stun attribute"),
        {"size": (600,)},
    ),
    Planted(
        "dns-or-sni",
        "or",
        either('dns = ["www.a.example"]', 'name = ["www.a.example"]'),
        sets("name"),
    ),
    Planted(
        "and-or-and",
        "or",
        either("stun = true, ports = [3478]", 'size = "290-", addresses = ["198.51.100.77/32"]'),
        sets("stun, far port", "size, far address"),
        {"size": (290,), "port": (3478,)},
    ),
    Planted(
        "three-octets",
        "or",
        any_of(at(0, b"INVITE".hex()), at(0, "0003"), at(0, "1603")),
        sets("octets[0:6]", "octets[0:2]"),
    ),
    # ---- after packets, bytes, seconds
    Planted(
        "stun-after-packets",
        "after",
        match("stun = true", "after = { packets = 3 }"),
        (),
        {"packets": (3, 4)},
    ),
    Planted(
        "port-after-bytes",
        "after",
        match("ports = [9000]", "after = { bytes = 1500 }"),
        (),
        {"port": (9000,), "bytes": (1500,)},
    ),
    Planted(
        "stun-after-seconds",
        "after",
        match("stun = true", "after = { seconds = 0.25 }"),
        (),
        {"since": (0.25,)},
    ),
    Planted(
        "name-after-bytes",
        "after",
        match('name = ["*.a.example"]', "after = { bytes = 1200 }"),
        (),
        {"bytes": (1200,)},
    ),
    Planted(
        "size-after-packets",
        "after",
        match('size = "150-200"', "after = { packets = 12 }"),
        (),
        {"size": (150, 200), "packets": (12,)},
    ),
    # ---- lists of what passes
    Planted(
        "udp-allow-list",
        "allow-list",
        """
[[rule]]
match = { protocol = "udp", payload = ["dns", "quic", "stun"] }
act = "pass"
scope = "packet"

[[rule]]
match = { protocol = "udp" }
act = "drop"
scope = "packet"
""",
    ),
)
