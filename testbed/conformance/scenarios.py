# SPDX-License-Identifier: BSD-3-Clause
"""The scenarios of testbed.conformance.run: at least one per keyword, in the language's order."""

from __future__ import annotations

import datetime
from typing import Literal, NamedTuple


class Scenario(NamedTuple):
    """One keyword of the language: its meaning, a rule, a scene, and the fate of each packet."""

    key: str  # "match.stun", "act.drop", "scope.pair", "after.bytes", "rule.way" ...
    says: str
    rules: str
    scene: str
    fates: str = ""
    forged: str = ""
    frames: tuple[str, ...] = ()  # the headers of each forged frame (run.headers)
    measured: tuple[tuple[str, float], ...] = ()
    access: str = "fibre"
    day: datetime.date | None = None
    clock: datetime.time | None = None
    closed: bool = False
    sees: Literal["up", "down"] | None = None
    torn: tuple[int, ...] = ()  # packets that the box cannot read
    sets: dict[str, list[str]] = {}  # noqa: RUF012 - read only


# ---- scenes that several scenarios share

CALL = """
    0.00 > udp relay:3478 stun-allocate
    0.04 < udp relay:3478 stun-allocate-answer
    0.10 > udp relay:3478 rtp
    0.12 < udp relay:3478 rtp
    0.20 > udp peer:9999 noise
"""
WHATSAPP = """
    0.000 > udp relay:3478 stun-allocate 4000
    0.001 > udp relay:3478 stun-allocate 4000
    0.200 > udp peer:9999/50000 noise
"""
WEB = """
    0.00 > tcp peer:443 syn
    0.04 < tcp peer:443 syn-ack
    0.05 > tcp peer:443 ack
    0.06 > tcp peer:443 tls-hello a.example
    0.10 < tcp peer:443 tls
    0.11 > tcp peer:443 tls
"""
FAR_WEB = """
    0.00 > tcp peer:443 syn ttl=63
    0.04 < tcp peer:443 syn-ack ttl=52
    0.05 > tcp peer:443 ack ttl=63
    0.06 > tcp peer:443 tls-hello a.example ttl=63
    0.10 < tcp peer:443 tls ttl=52
    0.11 > tcp peer:443 tls ttl=63
"""
PAGE = """
    0.00 > tcp peer:80 syn
    0.04 < tcp peer:80 syn-ack
    0.05 > tcp peer:80 ack
    0.06 > tcp peer:80 http a.example
    0.10 < tcp peer:80 page
"""
NAMES = """
    0.00 > udp resolver:53/5353 question a.example
    0.03 < udp resolver:53/5353 answer a.example
    0.05 > tcp peer:443 syn
    0.09 < tcp peer:443 syn-ack
"""
AGAIN = (
    WEB
    + """
    20.0 > tcp peer:443/40001 syn
    20.0 > tcp other:443/40002 syn
    20.0 > tcp peer:443/b40003 syn
    200. > tcp peer:443/40004 syn
"""
)
CORRUPTED = "xddxxxdxd"
TALK = "0.00 > udp relay:3478 rtp 172 x3000 0.02"
PING = "0.00 > udp relay:3478 rtp 172 x4000 0.10"

SCENARIOS: tuple[Scenario, ...] = (
    # ---- the classifier's verdict
    Scenario(
        "match.app",
        "Flows of an app, from the packet on that gives it away.",
        'match = { app = ["whatsapp"] }\nact = "drop"',
        WHATSAPP,
        "xxd",
    ),
    Scenario(
        "match.role",
        "Of an app, what sets calls up; its chat would pass.",
        'match = { app = ["whatsapp"], role = ["setup"] }\nact = "drop"',
        WHATSAPP,
        "xxd",
    ),
    Scenario(
        "match.role",
        "A role that the flow does not have is not met.",
        'match = { app = ["whatsapp"], role = ["messaging"] }\nact = "drop"',
        WHATSAPP,
        "ddd",
    ),
    Scenario(
        "match.verdict",
        "The classifier may be unsure, as of a STUN request that nobody answers.",
        'match = { role = ["setup"], verdict = "unsure" }\nact = "drop"\nscope = "packet"',
        "0.0 > udp relay:3478 stun-binding x3 0.5\n0.1 > udp other:9999/50000 noise",
        "xdxx",
    ),
    # ---- what one packet shows
    Scenario(
        "match.stun",
        "STUN's magic cookie on any port; the flow is lost from then on.",
        'match = { stun = true }\nact = "drop"',
        CALL,
        "x.x.d",
    ),
    Scenario(
        "match.stun_method",
        "Allocate requests and answers, and no other STUN.",
        'match = { stun_method = ["allocate"] }\nact = "drop"\nscope = "packet"',
        """
        0.00 > udp relay:3478 stun-binding
        0.04 < udp relay:3478 stun-binding-answer
        0.10 > udp relay:3478 stun-allocate
        0.20 > udp relay:3478 stun-refresh
        """,
        "ddxd",
    ),
    Scenario(
        "match.stun_attribute",
        "Messages that hold an attribute, here WhatsApp's 0x4000.",
        'match = { stun_attribute = [0x4000] }\nact = "drop"\nscope = "packet"',
        """
        0.00 > udp relay:3478 stun-allocate 4000
        0.10 > udp relay:3478 stun-allocate 0019
        0.20 > udp relay:3478 stun-allocate
        """,
        "xdd",
    ),
    Scenario(
        "match.payload",
        "What a payload looks like: here an allow-list of UDP, all else dropped.",
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
        """
        0.00 > udp resolver:53/5353 question a.example
        0.10 > udp peer:443/40001 quic-hello
        0.20 > udp relay:3478/40002 stun-binding
        0.30 > udp relay:3478/40002 channel
        0.40 > udp peer:40100/40003 rtp
        0.50 > udp peer:40100/40003 rtcp
        0.60 > udp peer:40100/40003 dtls-hello
        0.70 > udp peer:40100/40003 dtls
        0.80 > udp peer:51820/40004 zeros
        0.90 > tcp peer:443/40005 tls-hello a.example
        """,
        "dddxxxxxxd",
    ),
    Scenario(
        "match.payload",
        "Each kind by itself; `unknown` is what is none of them.",
        """
[[rule]]
match = { payload = ["dtls-hello", "rtcp", "channel", "tls-hello", "sip", "http", "unknown"] }
act = "drop"
scope = "packet"
""",
        """
        0.00 > udp peer:40100/40003 dtls-hello
        0.10 > udp peer:40100/40003 dtls
        0.20 > udp peer:40100/40003 rtcp
        0.30 > udp peer:40100/40003 rtp
        0.40 > udp relay:3478/40002 channel
        0.50 > udp peer:5060/40004 sip
        0.60 > udp peer:51820/40005 zeros
        0.70 > tcp peer:443/40006 tls-hello a.example
        0.80 > tcp peer:443/40006 tls
        0.90 > tcp peer:80/40007 http a.example
        """,
        "xdxdxxxxdx",
    ),
    Scenario(
        "match.name",
        "A server name in TLS; the name itself, or with *. also every name under it.",
        'match = { name = ["*.a.example"] }\nact = "drop"',
        """
        0.0 > tcp peer:443/40001 tls-hello a.example
        0.1 > tcp peer:443/40002 tls-hello www.a.example
        0.2 > tcp peer:443/40003 tls-hello ba.example
        0.3 > tcp peer:80/40004 http a.example
        0.4 > udp peer:443/40005 quic-hello
        """,
        "xxdxx",
    ),
    Scenario(
        "match.name_in",
        "Only where QUIC names the server; TLS and HTTP pass.",
        'match = { name = ["a.example"], name_in = ["quic"] }\nact = "drop"',
        """
        0.0 > tcp peer:443/40001 tls-hello a.example
        0.3 > tcp peer:80/40004 http a.example
        0.4 > udp peer:443/40005 quic-hello
        """,
        "ddx",
    ),
    Scenario(
        "match.dns",
        "A question for a name; its answer never comes, so nothing is opened.",
        'match = { dns = ["a.example"] }\nact = "drop"\nscope = "packet"',
        NAMES + "    0.01 > udp resolver:53/5354 question b.example",
        "xd...",
    ),
    Scenario(
        "match.hello",
        "One DTLS ClientHello by its fingerprint; another stack's would pass.",
        'match = { hello = ["0e419e51db7f84b7"] }\nact = "drop"',
        """
        0.0 > udp peer:40100 dtls-hello
        0.1 > udp peer:40100 dtls
        0.2 > tcp peer:443/40001 tls-hello a.example
        """,
        "xxd",
    ),
    Scenario(
        "match.size",
        "Payloads of 200 octets and more.",
        'match = { size = "200-" }\nact = "drop"\nscope = "packet"',
        """
        0.0 > udp peer:9999 zeros 199
        0.1 > udp peer:9999 zeros 200
        0.2 > udp peer:9999 zeros 20
        """,
        "dxd",
    ),
    Scenario(
        "match.entropy",
        "Payloads that look like noise, whatever they are.",
        'match = { entropy = "0.9-" }\nact = "drop"\nscope = "packet"',
        """
        0.0 > udp peer:9999 zeros 400
        0.1 > udp peer:9999 noise 400
        0.2 > udp peer:5060 sip
        """,
        "dxd",
    ),
    Scenario(
        "match.direction",
        "What comes from the subscriber.",
        'match = { direction = "up" }\nact = "drop"\nscope = "packet"',
        "0.0 < udp peer:9999 noise\n0.1 > udp peer:9999 noise\n0.2 < udp peer:9999 noise",
        "dxd",
    ),
    Scenario(
        "match.one_in",
        "A box that inspects one packet in four: drawn at random, the same in every run.",
        'match = { payload = ["rtp"], one_in = 4 }\nact = "drop"\nscope = "packet"',
        "0.00 > udp relay:3478 rtp 172 x20000 0.02",
        measured=(("loss", 0.25),),
    ),
    Scenario(
        "match.dscp",
        "What is marked as voice (EF) or as lower effort.",
        'match = { dscp = ["ef", 1] }\nact = "drop"\nscope = "packet"',
        """
        0.0 > udp peer:9999 noise dscp=46
        0.1 > udp peer:9999 noise dscp=1
        0.2 > udp peer:9999 noise dscp=8
        0.3 > udp peer:9999 noise
        """,
        "xxdd",
    ),
    Scenario(
        "match.packets",
        "Only the first datagram of a flow is inspected (China, QUIC): noise before it blinds.",
        'match = { name = ["a.example"], name_in = ["quic"], packets = 1 }\nact = "drop"',
        """
        0.0 > udp peer:443/40001 quic-hello
        0.1 > udp peer:443/40002 noise 30
        0.2 > udp peer:443/40002 quic-hello
        """,
        "xdd",
    ),
    Scenario(
        "match.resolved",
        "The addresses that a DNS answer gave for a name, from then on and for every client.",
        'match = { resolved = ["*.a.example"] }\nact = "drop"',
        """
        0.00 > udp peer:9999/40000 noise
        0.10 > udp resolver:53/5353 question www.a.example
        0.13 < udp resolver:53/5353 answer www.a.example
        0.20 > udp other:9999/40001 noise
        0.30 > udp peer:9999/b40002 noise
        0.40 > udp peer:9999/40000 noise
        """,
        "ddddxx",
    ),
    Scenario(
        "match.resolved",
        "Another name's answer, with the same address, is not meant.",
        'match = { resolved = ["*.b.example"] }\nact = "drop"',
        """
        0.10 > udp resolver:53/5353 question www.a.example
        0.13 < udp resolver:53/5353 answer www.a.example
        0.30 > udp peer:9999 noise
        """,
        "ddd",
    ),
    # ---- where it goes
    Scenario(
        "match.addresses",
        "A prefix, or a set by its name; always of the far end.",
        'match = { addresses = ["198.51.100.0/26", "relays"] }\nact = "drop"',
        """
        0.0 > udp peer:9999/40001 noise
        0.1 > udp other:9999/40002 noise
        0.2 > udp relay:9999/40003 noise
        """,
        "xdx",
        sets={"relays": ["203.0.113.0/28"]},
    ),
    Scenario(
        "match.ports",
        "Ports of the far end.",
        'match = { protocol = "udp", ports = [1400, "3478-3497"] }\nact = "drop"',
        """
        0.0 > udp relay:3478/40001 noise
        0.1 > udp relay:3498/40002 noise
        0.2 > udp relay:1400/40003 noise
        0.3 > tcp relay:3478/40004 syn
        """,
        "xdxd",
    ),
    Scenario(
        "match.protocol",
        "UDP.",
        'match = { protocol = "udp" }\nact = "drop"',
        "0.0 > udp peer:443 noise\n0.1 > tcp peer:443 syn\n0.2 > esp peer:0 noise",
        "xdd",
    ),
    Scenario(
        "match.protocol",
        "Neither TCP nor UDP: ESP, GRE and their like.",
        'match = { protocol = "other" }\nact = "drop"',
        "0.0 > udp peer:443 noise\n0.1 > tcp peer:443 syn\n0.2 > esp peer:0 noise",
        "ddx",
    ),
    # ---- what the flow has done
    Scenario(
        "match.packets",
        "From the flow's fourth packet on.",
        'match = { packets = "4-" }\nact = "drop"\nscope = "packet"',
        "0.0 > udp peer:9999 noise x6 0.1\n0.05 > udp other:9999/40001 noise",
        "ddddxxx",
    ),
    Scenario(
        "match.bytes",
        "Once a flow has carried more than 400 bytes (100 octets make 128 bytes of IP).",
        'match = { bytes = "401-" }\nact = "drop"\nscope = "packet"',
        "0.0 > udp peer:9999 noise 100 x6 0.1",
        "dddxxx",
    ),
    Scenario(
        "match.seconds",
        "In a flow's first half second.",
        'match = { seconds = "-0.5" }\nact = "drop"\nscope = "packet"',
        "0.0 > udp peer:9999 noise x6 0.2",
        "xxxddd",
    ),
    # ---- where and when a rule holds
    Scenario(
        "rule.access",
        "On mobile networks alone: not on fibre ...",
        'match = { stun = true }\nact = "drop"\naccess = ["3g", "4g"]',
        CALL,
        "ddddd",
    ),
    Scenario(
        "rule.access",
        "... but inside the tunnels of 4G.",
        'match = { stun = true }\nact = "drop"\naccess = ["3g", "4g"]',
        CALL,
        "x.x.d",
        access="4g",
    ),
    Scenario(
        "rule.from",
        "Before its first day a rule does not hold.",
        'match = { stun = true }\nact = "drop"\nfrom = 2026-02-01\nto = 2026-03-01',
        CALL,
        "ddddd",
    ),
    Scenario(
        "rule.from",
        "On its first day it does.",
        'match = { stun = true }\nact = "drop"\nfrom = 2026-02-01\nto = 2026-03-01',
        CALL,
        "x.x.d",
        day=datetime.date(2026, 2, 1),
    ),
    Scenario(
        "rule.to",
        "From the day of `to` on no more.",
        'match = { stun = true }\nact = "drop"\nfrom = 2026-02-01\nto = 2026-03-01',
        CALL,
        "ddddd",
        day=datetime.date(2026, 3, 1),
    ),
    Scenario(
        "rule.hours",
        "In the evening and at night alone: not at noon ...",
        'match = { stun = true }\nact = "drop"\nhours = ["20:00-02:00"]',
        CALL,
        "ddddd",
        clock=datetime.time(12),
    ),
    Scenario(
        "rule.hours",
        "... but after midnight.",
        'match = { stun = true }\nact = "drop"\nhours = ["20:00-02:00"]',
        CALL,
        "x.x.d",
        clock=datetime.time(1, 30),
    ),
    Scenario(
        "rule.on_s",
        "A block that comes and goes: 10 s of every 30 s.",
        'match = { payload = ["rtp"] }\nact = "drop"\nscope = "packet"\non_s = 10\noff_s = 20',
        "0.0 > udp relay:3478 rtp x9 6",
        "xxdddxxdd",
    ),
    Scenario(
        "rule.off_s",
        "A flow that was met in such a time stays blocked.",
        'match = { protocol = "udp" }\nact = "drop"\non_s = 10\noff_s = 20',
        "0.0 > udp peer:9999/40001 noise x3 11\n12. > udp peer:9999/40002 noise x3 11",
        "xxdxdx",
    ),
    # ---- what the box cannot read
    Scenario(
        "fail.open",
        "What the box cannot read goes through, here a torn header: no rule can be asked about it.",
        'match = { protocol = "udp" }\nact = "drop"',
        "0.0 > udp peer:9999 noise x3 0.1",
        "xdx",
        torn=(1,),
    ),
    Scenario(
        "fail.closed",
        "A box that fails closed drops it, although no rule would have.",
        'match = { protocol = "tcp" }\nact = "drop"',
        "0.0 > udp peer:9999 noise x3 0.1",
        "dxd",
        closed=True,
        torn=(1,),
    ),
    Scenario(
        "sees.up",
        "The box sees what comes from the subscriber; so it counts three packets of six.",
        'match = { protocol = "udp", packets = "3-" }\nact = "drop"\nscope = "packet"',
        "0.0 > udp peer:9999 noise x3 0.2\n0.1 < udp peer:9999 noise x3 0.2",
        "ddddxd",
        sees="up",
    ),
    Scenario(
        "sees.down",
        "The box sees what goes to the subscriber: neither the hello nor the flow is met before.",
        'match = { payload = ["tls-hello", "tls"] }\nact = "reset"',
        WEB,
        "ddddx.",
        "reset to server, reset to client",
        sees="down",
    ),
    # ---- acts
    Scenario(
        "act.pass",
        "Spares a flow from the rules behind it: rules are tried in order, the first that is met "
        "decides.",
        """
[[rule]]
match = { addresses = ["203.0.113.7/32"] }
act = "pass"

[[rule]]
match = { protocol = "udp" }
act = "drop"
""",
        CALL,
        "ddddx",
    ),
    Scenario(
        "act.drop",
        "Drops a flow from the packet on that met the rule.",
        'match = { payload = ["rtp"] }\nact = "drop"',
        CALL,
        "ddxxd",
    ),
    Scenario(
        "act.stall",
        "Lets a flow do something first, then nothing comes any more.",
        'match = { name = ["a.example"] }\nact = "stall"\nafter = { bytes = 2000 }',
        """
        0.00 > tcp peer:443 tls-hello a.example
        0.10 < tcp peer:443 tls 500 x5 0.1
        """,
        "dddd" + "xx",
    ),
    Scenario(
        "act.drop-media",
        "Set-up passes, voice and video do not.",
        'match = { ports = [3478] }\nact = "drop-media"',
        CALL,
        "ddxxd",
    ),
    Scenario(
        "act.dns-lie",
        "The question goes no further, a false answer comes: what needed it is not opened.",
        'match = { dns = ["a.example"] }\nact = "dns-lie"',
        NAMES,
        "f...",
        "dns answer to client",
        measured=(("answers", 1),),
    ),
    Scenario(
        "rule.answer",
        "The false answer denies the name.",
        'match = { dns = ["*.a.example"] }\nact = "dns-lie"\nanswer = "nxdomain"',
        NAMES,
        "f...",
        "dns answer to client",
        measured=(("answers", 0),),
    ),
    Scenario(
        "act.reset",
        "Each end gets a reset in the other's name; the hello goes no further.",
        'match = { name = ["a.example"] }\nact = "reset"',
        WEB,
        "dddx..",
        "reset to client, reset to server",
    ),
    Scenario(
        "rule.resets",
        "Three resets to each end, as China's: two lie ahead, for data that is under way.",
        'match = { name = ["a.example"] }\nact = "reset"\nresets = [0, 1460, 4380]',
        WEB,
        "dddx..",
        ", ".join(["reset to client"] * 3 + ["reset to server"] * 3),
        frames=(
            "ttl 64, id 0, tcp rst ack, sequence 5001, acknowledged 1083",
            "ttl 64, id 0, tcp rst ack, sequence 6461, acknowledged 1083",
            "ttl 64, id 0, tcp rst ack, sequence 9381, acknowledged 1083",
            "ttl 64, id 0, tcp rst ack, sequence 1001, acknowledged 5001",
            "ttl 64, id 0, tcp rst ack, sequence 2461, acknowledged 5001",
            "ttl 64, id 0, tcp rst ack, sequence 5381, acknowledged 5001",
        ),
    ),
    Scenario(
        "rule.hops",
        "Resets whose TTL is that of the end whose address they have.",
        'match = { name = ["a.example"] }\nact = "reset"\nhops = "own"',
        FAR_WEB,
        "dddx..",
        "reset to client, reset to server",
        frames=(
            "ttl 52, id 0, tcp rst ack, sequence 5001, acknowledged 1083",
            "ttl 63, id 0, tcp rst ack, sequence 1001, acknowledged 5001",
        ),
    ),
    Scenario(
        "rule.ip_id",
        "... and whose identification goes on from the last one of that end.",
        'match = { name = ["a.example"] }\nact = "reset"\nhops = 200\nip_id = "own"\n'
        "resets = [0, 1460]",
        FAR_WEB,
        "dddx..",
        frames=(
            "ttl 200, id 2, tcp rst ack, sequence 5001, acknowledged 1083",
            "ttl 200, id 3, tcp rst ack, sequence 6461, acknowledged 1083",
            "ttl 200, id 4, tcp rst ack, sequence 1001, acknowledged 5001",
            "ttl 200, id 5, tcp rst ack, sequence 2461, acknowledged 5001",
        ),
    ),
    Scenario(
        "act.unreachable",
        "The packet is dropped, and its sender gets an ICMP error: a connection is not opened.",
        'match = { addresses = ["198.51.100.9/32"] }\nact = "unreachable"',
        "0.0 > udp peer:9999 noise\n0.1 > tcp peer:443/40001 syn\n0.2 > tcp peer:443/40001 ack",
        "xx.",
        "unreachable to client, refused to client",
        frames=("ttl 64, id 0, icmp 3 13, of udp", "ttl 64, id 0, icmp 3 13, of tcp"),
    ),
    Scenario(
        "rule.code",
        "As a host answers for a closed port; a program that goes on sending is answered again.",
        'match = { ports = [9999] }\nact = "unreachable"\ncode = "port"\nscope = "packet"',
        "0.0 > udp peer:9999 noise x2 0.1",
        "xx",
        "unreachable to client, unreachable to client",
        frames=("ttl 64, id 0, icmp 3 3, of udp", "ttl 64, id 0, icmp 3 3, of udp"),
    ),
    Scenario(
        "act.finish",
        "Each end gets a FIN in the other's name.",
        'match = { name = ["a.example"] }\nact = "finish"',
        WEB,
        "dddx..",
        "finish to client, finish to server",
    ),
    Scenario(
        "rule.towards",
        "Only the client gets it; the server goes on until nothing more comes.",
        'match = { name = ["a.example"] }\nact = "reset"\ntowards = "client"',
        WEB,
        "dddx..",
        "reset to client",
    ),
    Scenario(
        "act.block-page",
        "An HTTP request is answered with a page, and the server gets a reset.",
        'match = { name = ["a.example"], name_in = ["http"] }\nact = "block-page"',
        PAGE,
        "dddx.",
        "block page to client, reset to server",
    ),
    Scenario(
        "rule.path",
        "An on-path box can only inject: the question and its true answer pass, too late.",
        'match = { dns = ["a.example"] }\nact = "dns-lie"\npath = "on"',
        NAMES,
        "dd..",
        "dns answer to client",
    ),
    Scenario(
        "rule.path",
        "The hello passes, and the resets are as fast as it.",
        'match = { name = ["a.example"] }\nact = "reset"\npath = "on"\nscope = "packet"',
        WEB,
        "dddd..",
        "reset to client, reset to server",
    ),
    Scenario(
        "act.censor",
        "A function in Python decides: of large DTLS records, those that end on an odd octet go.",
        'match = { protocol = "udp" }\nact = "censor"\nfile = "shared/half-of-large-dtls.censor"',
        "0.0 > udp peer:40100 dtls 180 x8 0.1\n1.0 > udp peer:40100 dtls 240 x8 0.1",
        "dddddddd" + "ddddxddx",
    ),
    Scenario(
        "act.censor",
        "A function may keep numbers of a flow: here it drops every third packet of each.",
        'match = { protocol = "udp" }\nact = "censor"\nfile = "shared/every-third.censor"',
        "0.0 > udp peer:9999/40001 noise x6 0.1\n0.05 > udp peer:9999/40002 noise x3 0.1",
        "ddddxxddx",
    ),
    # ---- acts in time
    Scenario(
        "act.delay",
        "Every packet comes 80 ms later.",
        'match = { payload = ["rtp"] }\nact = "delay"\ndelay_ms = 80',
        TALK,
        measured=(("delay_ms", 80), ("loss", 0)),
    ),
    Scenario(
        "act.jitter",
        "Delays differ: a deviation of 8 ms around 3.5 times that. Packets keep their order.",
        'match = { payload = ["rtp"] }\nact = "jitter"\njitter_ms = 8',
        PING,
        measured=(("delay_ms", 28), ("jitter_ms", 8)),
    ),
    Scenario(
        "rule.jitter_ms",
        "Delay and jitter of a rule's own.",
        'match = { payload = ["rtp"] }\nact = "delay"\ndelay_ms = 150\njitter_ms = 12',
        PING,
        measured=(("delay_ms", 150), ("jitter_ms", 12)),
    ),
    Scenario(
        "act.loss",
        "A share of packets is lost, each by itself.",
        'match = { payload = ["rtp"] }\nact = "loss"\nloss = 0.3',
        "0.00 > udp relay:3478 rtp 172 x20000 0.02",
        measured=(("loss", 0.3),),
    ),
    Scenario(
        "act.loss",
        "The rule decides the packets that it does not lose, too: the rule behind it gets none.",
        '[[rule]]\nmatch = { payload = ["rtp"] }\nact = "loss"\nloss = 0.3\nscope = "packet"\n\n'
        '[[rule]]\nmatch = { payload = ["rtp"] }\nact = "drop"\nscope = "packet"',
        "0.00 > udp relay:3478 rtp 172 x20000 0.02",
        measured=(("loss", 0.3),),
    ),
    Scenario(
        "rule.burst",
        "Losses come in bad times of three packets on average.",
        'match = { payload = ["rtp"] }\nact = "loss"\nloss = 0.4\nburst = 3',
        "0.00 > udp relay:3478 rtp x50000 0.02",
        measured=(("loss", 0.4), ("burst", 3)),
    ),
    Scenario(
        "act.police",
        "What exceeds 40 kbit/s is dropped (offered: 84.8), after a bucket of 4,000 bytes.",
        'match = { payload = ["rtp"] }\nact = "police"\nrate_kbit = 40\nbucket_bytes = 4000',
        TALK,
        measured=(("rate_kbit", 40), ("delay_ms", 0)),
    ),
    Scenario(
        "act.shape",
        "What exceeds 40 kbit/s waits, at most 400 ms, then is dropped.",
        'match = { payload = ["rtp"] }\nact = "shape"\nrate_kbit = 40\nqueue_ms = 400',
        TALK,
        measured=(("rate_kbit", 40),),
    ),
    Scenario(
        "act.prioritise",
        "On a line of 2 Mbit/s with 1.2 Mbit/s of others, EF overtakes what waits.",
        'match = { protocol = "udp" }\nact = "prioritise"\nscope = "client"\n'
        'rate_kbit = 2000\nqueue_ms = 500\nfirst = ["ef"]\ncross_kbit = 1200',
        """
        0.00 > udp relay:3478 rtp 172 dscp=46 x20000 0.02
        0.00 > udp peer:9999/40001 noise 472 x20000 0.0203
        """,
        measured=(("first_ms", 2.9), ("others_ms", 8.25), ("loss", 0)),
    ),
    Scenario(
        "act.prioritise",
        "A mark that an earlier rule set counts: the last packet waits for the one being sent.",
        """
[[rule]]
match = { protocol = "udp", ports = [3478] }
act = "mark"
code_point = "ef"

[[rule]]
match = { protocol = "udp" }
act = "prioritise"
scope = "client"
rate_kbit = 1000
queue_ms = 100
first = ["ef"]
""",
        """
        0.000 > udp peer:9999/40001 noise 972 x9 0.001
        0.010 > udp relay:3478 noise 972
        """,
        measured=(("delay_ms", 33.8), ("last_ms", 14)),
    ),
    Scenario(
        "act.mark",
        "Marks what comes from the subscriber; a rule behind drops what has the mark.",
        """
[[rule]]
match = { payload = ["rtp"] }
act = "mark"
code_point = "cs1"
way = "up"

[[rule]]
match = { dscp = [8] }
act = "drop"
scope = "packet"
""",
        """
        0.0 > udp relay:3478 rtp dscp=46
        0.1 < udp relay:3478 rtp dscp=46
        0.2 > udp relay:3478 noise dscp=46
        0.3 > udp relay:3478 rtp
        """,
        "xddx",
    ),
    Scenario(
        "act.reorder",
        "Three packets in ten come 90 ms late, and those behind them overtake them.",
        'match = { payload = ["rtp"] }\nact = "reorder"\nshare = 0.3\ndelay_ms = 90',
        "0.00 > udp relay:3478 rtp 172 x20000 0.02",
        measured=(("overtaken", 0.3), ("loss", 0)),
    ),
    Scenario(
        "act.duplicate",
        "Every packet comes twice.",
        'match = { payload = ["rtp"] }\nact = "duplicate"\nshare = 1.0',
        "0.0 > udp relay:3478 rtp 20 ttl=57 x2 0.1\n0.3 < udp relay:3478 rtp 20",
        "ddd",
        "duplicate to server, duplicate to server, duplicate to client",
        frames=("ttl 57, id 0, udp", "ttl 57, id 1, udp", "ttl 64, id 2, udp"),
    ),
    Scenario(
        "act.corrupt",
        "About half of the packets arrive with a bit changed, and are discarded.",
        'match = { payload = ["rtp"] }\nact = "corrupt"\nshare = 0.5\nway = "up"',
        "0.0 > udp relay:3478 rtp 172 x8 0.02\n0.01 < udp relay:3478 rtp",
        CORRUPTED,
    ),
    # ---- scope of a match
    Scenario(
        "scope.packet",
        "The packet alone.",
        'match = { stun = true }\nact = "drop"\nscope = "packet"',
        CALL,
        "x.ddd",
    ),
    Scenario(
        "scope.flow",
        "The flow, both ways, from then on.",
        'match = { stun_method = ["refresh"] }\nact = "drop"\nscope = "flow"',
        """
        0.0 > udp relay:3478 stun-allocate
        0.1 < udp relay:3478 rtp
        0.2 > udp relay:3478 stun-refresh
        0.3 > udp relay:3478 rtp
        0.4 < udp relay:3478 rtp
        0.5 > udp relay:3479 stun-allocate
        0.6 > udp relay:3478/40001 stun-allocate
        """,
        "ddxxxdd",
    ),
    Scenario(
        "scope.call",
        "The client's flows of that app.",
        'match = { stun_attribute = [0x4001] }\nact = "drop"\nscope = "call"',
        """
        0.00 > udp relay:3478/40001 stun-allocate 4000
        0.10 > udp relay:3478/40001 stun-allocate 4001
        0.20 > udp peer:3478/40002 stun-allocate 4000
        0.30 > udp peer:9999/40003 noise
        0.40 > udp peer:3478/b40002 stun-allocate 4000
        """,
        "dxxdd",
    ),
    Scenario(
        "scope.client",
        "Everything of that subscriber.",
        'match = { name = ["a.example"] }\nact = "drop"\nscope = "client"',
        AGAIN + "    300. > udp relay:3478/40005 stun-allocate 4000",
        "dddx.." + "xxdxx",
    ),
    Scenario(
        "scope.server",
        "Everything with that server, whoever asks.",
        'match = { name = ["a.example"] }\nact = "drop"\nscope = "server"',
        AGAIN,
        "dddx.." + "xdxx",
    ),
    Scenario(
        "scope.pair",
        "That client with that server, on any port.",
        'match = { name = ["a.example"] }\nact = "drop"\nscope = "pair"',
        AGAIN + "    300. > tcp peer:8443/40006 syn",
        "dddx.." + "xddxx",
    ),
    Scenario(
        "scope.triple",
        "That client with that port of that server, from any port of its own.",
        'match = { name = ["a.example"] }\nact = "drop"\nscope = "triple"',
        WEB
        + """
        20.0 > tcp peer:443/40001 syn
        20.0 > tcp peer:8443/40002 syn
        20.0 > udp peer:443/40005 noise
        20.0 > tcp other:443/40003 syn
        20.0 > tcp peer:443/b40004 syn
        """,
        "dddx.." + "xdddd",
    ),
    Scenario(
        "rule.lasts_s",
        "Residual taint: the pair is cut off for 90 s.",
        'match = { name = ["a.example"] }\nact = "drop"\nscope = "pair"\nlasts_s = 90',
        AGAIN,
        "dddx.." + "xddd",
    ),
    # ---- from when on
    Scenario(
        "after.packets",
        "Three packets of the flow still pass, the one that met the match among them.",
        'match = { stun = true }\nact = "drop"\nafter = { packets = 3 }',
        CALL,
        "dddxd",
    ),
    Scenario(
        "after.bytes",
        "400 bytes still pass.",
        'match = { protocol = "udp" }\nact = "drop"\nafter = { bytes = 400 }',
        "0.0 > udp peer:9999 noise 100 x6 0.1",
        "dddxxx",
    ),
    Scenario(
        "after.seconds",
        "Half a second still passes.",
        'match = { protocol = "udp" }\nact = "drop"\nafter = { seconds = 0.5 }',
        "0.0 > udp peer:9999 noise x6 0.2",
        "dddxxx",
    ),
    Scenario(
        "after.flows",
        "Two flows of a client still pass; the third does not, and another client's first does.",
        'match = { protocol = "udp" }\nact = "drop"\nafter = { flows = 2, per = "client" }',
        """
        0.0 > udp peer:9999/40001 noise x4 0.1
        0.05 > udp peer:9999/40002 noise
        0.15 > udp peer:9999/40003 noise x3 0.1
        0.26 > udp peer:9999/b40004 noise
        """,
        "dddxdxddx",
    ),
    Scenario(
        "after.direction",
        "The stall of Russia, 2025: 2,000 bytes come down; what goes up does not count.",
        'match = { payload = ["tls-hello"] }\nact = "stall"\n'
        'after = { bytes = 2000, direction = "down" }',
        """
        0.00 > tcp peer:443 tls-hello a.example
        0.01 > tcp peer:443 tls 1000 x3 0.01
        0.10 < tcp peer:443 tls 500 x5 0.1
        """,
        "dddd" + "ddd" + "xx",
    ),
    Scenario(
        "after.per",
        "A quota per client: 400 bytes of all its flows together.",
        'match = { protocol = "udp" }\nact = "drop"\nscope = "packet"\n'
        'after = { bytes = 400, per = "client" }',
        """
        0.0 > udp peer:9999/40001 noise 100 x3 0.2
        0.1 > udp other:9999/40002 noise 100 x3 0.2
        0.6 > udp peer:9999/b40003 noise 100
        """,
        "dddxxxd",
    ),
    Scenario(
        "after.every_s",
        "A new quota of two packets begins every 10 s.",
        'match = { protocol = "udp" }\nact = "drop"\nscope = "packet"\n'
        'after = { packets = 2, per = "client", every_s = 10 }',
        "0.0 > udp peer:9999 noise x6 3",
        "ddxxdd",
    ),
    Scenario(
        "after.idle_s",
        "Calls are cut at their second minute, each by its own clock: a minute of silence ends it.",
        'match = { payload = ["rtp"] }\nact = "drop"\nscope = "packet"\n'
        'after = { seconds = 120, per = "pair", idle_s = 60 }',
        """
        0.0 > udp relay:3478/40001 rtp x6 30
        300. > udp relay:3478/40002 rtp x6 30
        """,
        "ddddxxddddxx",
    ),
    # ---- how much
    Scenario(
        "rule.way",
        "Losses in one direction alone; the other side hears well.",
        'match = { payload = ["rtp"] }\nact = "drop"\nway = "up"',
        """
        0.0 < udp peer:9999 rtp
        0.1 > udp peer:9999 rtp
        0.2 < udp peer:9999 rtp
        0.3 > udp peer:9999 rtp
        """,
        "dxdx",
    ),
    Scenario(
        "rule.probability",
        "About half of the flows, each one wholly or not at all.",
        'match = { protocol = "udp" }\nact = "drop"\nprobability = 0.5',
        "".join(f"{n / 100:.2f} > udp peer:9999/{41000 + n} noise x2 0.005\n" for n in range(12)),
        "ddddxxddxxxxxxxxxxddxxdd",
    ),
    Scenario(
        "rule.per",
        "Drawn once per client: all of its flows, or none.",
        'match = { protocol = "udp" }\nact = "drop"\nprobability = 0.5\nper = "client"',
        "".join(
            f"{n / 100:.2f} > udp peer:9999/{client}{41000 + n} noise\n"
            for client in ("", "b", "c", "d")
            for n in range(3)
        ),
        "dddxdddxdddx",
    ),
)
