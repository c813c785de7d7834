# SPDX-License-Identifier: BSD-3-Clause
"""The listed rules of the benchmark, on which the search was developed."""

from __future__ import annotations

from midcall.experiments.proofs.localiser.rule import (
    BenchmarkRule,
    all_of,
    any_of,
    at,
    either,
    gap,
    match,
    octet,
    order,
    same,
    sets,
    to_port,
)

LISTED_RULES: tuple[BenchmarkRule, ...] = (
    # ---- octets at a place
    BenchmarkRule("cookie", "literal", at(4, "2112a442"), sets("octets[4:8]")),
    BenchmarkRule("allocate-octets", "literal", at(0, "0003"), sets("octets[0:2]")),
    BenchmarkRule("rtp-octets", "literal", at(0, "806f"), sets("octets[0:2]")),
    BenchmarkRule("version-bits", "literal", octet(0, lambda o: o >> 6 == 2), sets("octets[0:1]")),
    BenchmarkRule(
        "payload-type", "literal", octet(1, lambda o: o & 0x7F == 111), sets("octets[1:2]")
    ),
    BenchmarkRule("attribute-at-20", "literal", at(20, "4000"), sets("octets[20:22]")),
    BenchmarkRule("dtls-range", "literal", octet(0, lambda o: 20 <= o <= 63), sets("octets[0:1]")),
    BenchmarkRule(
        "two-places",
        "literal",
        all_of(at(0, "00"), at(4, "21"), at(21, "12")),
        sets("octets[0:1] octets[4:5] octets[21:22]"),
    ),
    BenchmarkRule(
        "word", "literal", lambda one, state: b"example" in one.payload, sets("octets anywhere")
    ),
    BenchmarkRule(
        "word-folded",
        "literal",
        lambda one, state: b"web.b.ex" in one.payload.lower(),
        sets("octets anywhere"),
    ),
    # ---- prefixes
    BenchmarkRule("invite", "prefix", at(0, b"INVITE".hex()), sets("octets[0:6]")),
    BenchmarkRule("record", "prefix", at(0, "1603"), sets("octets[0:2]")),
    BenchmarkRule("quic-one", "prefix", at(0, "c300000001"), sets("octets[0:5]")),
    BenchmarkRule("get", "prefix", at(0, b"GET ".hex()), sets("octets[0:4]")),
    BenchmarkRule("channel-octets", "prefix", at(0, "4001"), sets("octets[0:2]")),
    # ---- STUN
    BenchmarkRule("stun", "stun", match("stun = true"), sets("stun")),
    BenchmarkRule("allocate", "stun", match('stun_method = ["allocate"]'), sets("stun method")),
    BenchmarkRule(
        "refreshes", "stun", match('stun_method = ["refresh", "channel-bind"]'), sets("stun method")
    ),
    BenchmarkRule(
        "whatsapp-attribute", "stun", match("stun_attribute = [0x4000]"), sets("stun attribute")
    ),
    BenchmarkRule(
        "username", "stun", match("stun_attribute = [0x0006, 0x0013]"), sets("stun attribute")
    ),
    BenchmarkRule(
        "stun-answers", "stun", match('stun = true, direction = "down"'), sets("stun, direction")
    ),
    # ---- names
    BenchmarkRule("sni", "sni", match('name = ["www.a.example"]'), sets("name")),
    BenchmarkRule("sni-under", "sni", match('name = ["*.a.example"]'), sets("name")),
    BenchmarkRule(
        "sni-tls", "sni", match('name = ["www.a.example"], name_in = ["tls"]'), sets("name")
    ),
    BenchmarkRule(
        "sni-quic", "sni", match('name = ["a.example"], name_in = ["quic"]'), sets("name")
    ),
    BenchmarkRule(
        "sni-http", "sni", match('name = ["*.b.example"], name_in = ["http"]'), sets("name")
    ),
    BenchmarkRule("sni-top", "sni", match('name = ["*.example"]'), sets("name")),
    BenchmarkRule("dns", "dns", match('dns = ["www.a.example"]'), sets("name")),
    BenchmarkRule("dns-under", "dns", match('dns = ["*.b.example"]'), sets("name")),
    BenchmarkRule("dns-top", "dns", match('dns = ["*.example"]'), sets("name")),
    # ---- ports, addresses, transport
    BenchmarkRule("port", "port", match("ports = [5060]"), sets("far port"), {"port": (5060,)}),
    BenchmarkRule(
        "ports-near",
        "port",
        match('ports = ["3478-3481"]'),
        sets("far port"),
        {"port": (3478, 3481)},
    ),
    BenchmarkRule(
        "ports-high",
        "port",
        match('ports = ["40000-41000"]'),
        sets("far port"),
        {"port": (40000, 41000)},
    ),
    BenchmarkRule(
        "ports-two", "port", match("ports = [443, 3478]"), sets("far port"), {"port": (443, 3478)}
    ),
    BenchmarkRule(
        "port-own",
        "port",
        lambda one, state: one.ends.near_port == 40018,
        sets("near port"),
        {"near_port": (40018,)},
    ),
    BenchmarkRule(
        "prefix-24", "address", match('addresses = ["198.51.100.0/24"]'), sets("far address")
    ),
    BenchmarkRule(
        "prefix-32", "address", match('addresses = ["203.0.113.7/32"]'), sets("far address")
    ),
    BenchmarkRule(
        "prefix-13", "address", match('addresses = ["203.0.0.0/13"]'), sets("far address")
    ),
    BenchmarkRule(
        "subscriber",
        "address",
        lambda one, state: one.ends.near[3] == 10 and one.ends.near[:3] == bytes([192, 168, 1]),
        sets("near address"),
    ),
    BenchmarkRule("all-udp", "protocol", match('protocol = "udp"'), sets("protocol")),
    BenchmarkRule("all-tcp", "protocol", match('protocol = "tcp"'), sets("protocol")),
    # ---- sizes
    BenchmarkRule(
        "size-range", "size", match('size = "150-200"'), sets("size"), {"size": (150, 200)}
    ),
    BenchmarkRule("size-large", "size", match('size = "600-"'), sets("size"), {"size": (600,)}),
    BenchmarkRule("size-one", "size", match("size = 172"), sets("size"), {"size": (172,)}),
    BenchmarkRule("size-small", "size", match('size = "1-30"'), sets("size"), {"size": (1, 30)}),
    # ---- windows of packets, bytes, seconds
    BenchmarkRule(
        "port-late",
        "packets",
        match('ports = [9000], packets = "5-"'),
        sets("far port, packets"),
        {"port": (9000,), "packets": (5,)},
    ),
    BenchmarkRule(
        "stun-first",
        "packets",
        match('stun = true, packets = "-3"', 'scope = "packet"'),
        sets("stun, packets"),
        {"packets": (3,)},
    ),
    BenchmarkRule(
        "size-window",
        "packets",
        match('size = "150-200", packets = "10-20"'),
        sets("size, packets"),
        {"size": (150, 200), "packets": (10, 20)},
    ),
    BenchmarkRule(
        "bytes-late",
        "bytes",
        match('protocol = "udp", bytes = "2000-"'),
        sets("protocol, bytes"),
        {"bytes": (2000,)},
    ),
    BenchmarkRule(
        "rtp-early",
        "bytes",
        match('payload = ["rtp"], bytes = "-3000"', 'scope = "packet"'),
        sets("kind, bytes"),
        {"bytes": (3000,)},
    ),
    BenchmarkRule(
        "seconds-late",
        "seconds",
        match('protocol = "udp", seconds = "3.5-"'),
        sets("protocol, seconds"),
        {"seconds": (3.5,)},
    ),
    BenchmarkRule(
        "large-early",
        "seconds",
        match('size = "600-", seconds = "-1.5"', 'scope = "packet"'),
        sets("size, seconds"),
        {"size": (600,), "seconds": (1.5,)},
    ),
    # ---- rates and gaps
    BenchmarkRule(
        "fast-start",
        "rate",
        match('packets = "10-", seconds = "-1"'),
        sets("packets, seconds"),
        {"packets": (10,), "seconds": (1.0,)},
    ),
    BenchmarkRule(
        "steady-pair", "gap", gap(0.015, 0.025), sets("times, gap"), {"gap": (0.015, 0.025)}
    ),
    BenchmarkRule(
        "steady-voice",
        "gap",
        gap(0.01, 0.03, 8, (150, 200)),
        sets("times, gap, size"),
        {"gap": (0.01, 0.03), "size": (150, 200)},
    ),
    BenchmarkRule("silence", "gap", gap(2.0, 5.0), sets("times, gap"), {"gap": (2.0, 5.0)}),
    # ---- order
    BenchmarkRule(
        "dns-then-relay",
        "order",
        order(to_port(53), to_port(3478), 20.0),
        sets("earlier, earlier far port, far port, since seconds"),
        {"since": (20.0,)},
    ),
    BenchmarkRule(
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
    BenchmarkRule(
        "stun-then-down",
        "order",
        match('stun = true, direction = "up"', 'scope = "client"\nway = "down"'),
        (),
        {},
    ),
    BenchmarkRule(
        "sip-then-any",
        "order",
        order(to_port(5060), to_port(51820), 9.0),
        sets("earlier, earlier far port, far port, since seconds"),
        {"since": (9.0,)},
    ),
    # ---- fields of TLS, DTLS, QUIC and others
    BenchmarkRule("tls-hello", "field", match('payload = ["tls-hello"]'), sets("kind")),
    BenchmarkRule("dtls-hello", "field", match('payload = ["dtls-hello"]'), sets("kind")),
    BenchmarkRule("dtls", "field", match('payload = ["dtls", "dtls-hello"]'), sets("kind")),
    BenchmarkRule("quic", "field", match('payload = ["quic"]', 'scope = "packet"'), sets("kind")),
    BenchmarkRule("rtp", "field", match('payload = ["rtp"]', 'scope = "packet"'), sets("kind")),
    BenchmarkRule("rtcp", "field", match('payload = ["rtcp"]'), sets("kind")),
    BenchmarkRule("channel", "field", match('payload = ["channel"]'), sets("kind")),
    BenchmarkRule("tls-print", "field", match('hello = ["TLS"]'), sets("hello")),
    BenchmarkRule("dtls-print", "field", match('hello = ["DTLS"]'), sets("hello")),
    BenchmarkRule(
        "random",
        "entropy",
        match('entropy = "0.9-", size = "256-"', 'scope = "packet"'),
        (),
        {"size": (256,)},
    ),
    # ---- all of several
    BenchmarkRule(
        "stun-and-port",
        "and",
        match("stun = true, ports = [3478]"),
        sets("stun, far port"),
        {"port": (3478,)},
    ),
    BenchmarkRule(
        "size-and-port",
        "and",
        match('size = "150-200", ports = ["3478-3480"]'),
        sets("size, far port"),
        {"size": (150, 200), "port": (3478, 3480)},
    ),
    BenchmarkRule(
        "three",
        "and",
        match('protocol = "udp", addresses = ["198.51.100.0/24"], size = "290-310"'),
        sets("protocol, far address, size"),
        {"size": (290, 310)},
    ),
    BenchmarkRule(
        "method-and-attribute",
        "and",
        match('stun_method = ["allocate"], stun_attribute = [0x4000]'),
        sets("stun method stun attribute"),
    ),
    BenchmarkRule(
        "rtp-up",
        "and",
        match('payload = ["rtp"], direction = "down"', 'scope = "packet"'),
        sets("kind, direction"),
    ),
    BenchmarkRule(
        "name-and-address",
        "and",
        match('name = ["*.a.example"], addresses = ["198.51.100.9/32"]'),
        sets("name, far address"),
    ),
    BenchmarkRule(
        "octets-and-size",
        "and",
        all_of(at(0, "80"), lambda one, state: 150 <= len(one.payload) <= 250),
        sets("octets[0:1], size"),
        {"size": (150, 250)},
    ),
    # ---- one of several
    BenchmarkRule(
        "stun-or-hello",
        "or",
        either("stun = true", 'payload = ["dtls-hello"]'),
        sets("stun", "kind"),
    ),
    BenchmarkRule(
        "port-or-name",
        "or",
        either("ports = [5060]", 'name = ["*.a.example"]'),
        sets("far port", "name"),
        {"port": (5060,)},
    ),
    BenchmarkRule(
        "size-or-attribute",
        "or",
        either('size = "600-"', "stun_attribute = [0x4000]"),
        sets("size", "stun attribute"),
        {"size": (600,)},
    ),
    BenchmarkRule(
        "dns-or-sni",
        "or",
        either('dns = ["www.a.example"]', 'name = ["www.a.example"]'),
        sets("name"),
    ),
    BenchmarkRule(
        "and-or-and",
        "or",
        either("stun = true, ports = [3478]", 'size = "290-", addresses = ["198.51.100.77/32"]'),
        sets("stun, far port", "size, far address"),
        {"size": (290,), "port": (3478,)},
    ),
    BenchmarkRule(
        "three-octets",
        "or",
        any_of(at(0, b"INVITE".hex()), at(0, "0003"), at(0, "1603")),
        sets("octets[0:6]", "octets[0:2]"),
    ),
    # ---- after packets, bytes, seconds
    BenchmarkRule(
        "stun-after-packets",
        "after",
        match("stun = true", "after = { packets = 3 }"),
        (),
        {"packets": (3, 4)},
    ),
    BenchmarkRule(
        "port-after-bytes",
        "after",
        match("ports = [9000]", "after = { bytes = 1500 }"),
        (),
        {"port": (9000,), "bytes": (1500,)},
    ),
    BenchmarkRule(
        "stun-after-seconds",
        "after",
        match("stun = true", "after = { seconds = 0.25 }"),
        (),
        {"since": (0.25,)},
    ),
    BenchmarkRule(
        "name-after-bytes",
        "after",
        match('name = ["*.a.example"]', "after = { bytes = 1200 }"),
        (),
        {"bytes": (1200,)},
    ),
    BenchmarkRule(
        "size-after-packets",
        "after",
        match('size = "150-200"', "after = { packets = 12 }"),
        (),
        {"size": (150, 200), "packets": (12,)},
    ),
    # ---- lists of what passes
    BenchmarkRule(
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
