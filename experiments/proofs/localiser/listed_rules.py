# SPDX-License-Identifier: BSD-3-Clause
"""Planted rules: the list of rules on which the search was developed."""

from __future__ import annotations

from midcall.experiments.proofs.localiser.rule import (
    Planted,
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
