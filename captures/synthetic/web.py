# SPDX-License-Identifier: GPL-2.0-or-later
"""Web: pages over TLS and over QUIC, the bulk of what an operator carries."""

from __future__ import annotations

import struct

from midcall.captures.synthetic.dns import lookup
from midcall.captures.synthetic.scene import Scene, Truth
from midcall.captures.synthetic.tls import exchange, handshake
from midcall.captures.wire.dns import AAAA, answer, question
from midcall.captures.wire.host import Host, phone, resolver, server
from midcall.captures.wire.seeded import MS, SECOND

SITES = ("www.example.org", "static.example.org", "images.example.net", "news.example.com")


def pages(scene: Scene) -> None:
    """Fetch a page and its parts from four names over TLS."""
    dice, client = scene.dice.child("pages"), phone(0x1101)
    for number, name in enumerate(SITES):
        at, host = scene.epoch + number * 600 * MS, server(0x0B00 + number)
        lookup(scene, at, client, name, host)
        truth = Truth("none", "other", f"TLS server name {name}")
        flow = scene.tcp(client, dice.number(49152, 65535), host, 443, truth)
        ready = handshake(flow, at + 70 * MS, dice, name)
        for _ in range(2):
            ready = exchange(flow, ready, dice, dice.number(250, 700), dice.number(1200, 5000))
        flow.close(ready + SECOND)


def plain(scene: Scene) -> None:
    """Fetch a page over HTTP in the clear."""
    dice, client, host = scene.dice.child("plain"), phone(0x1101), server(0x0B10)
    lookup(scene, scene.epoch, client, "plain.example.org", host)
    truth = Truth("none", "other", "HTTP host plain.example.org")
    flow = scene.tcp(client, dice.number(49152, 65535), host, 80, truth)
    at = flow.open(scene.epoch + 60 * MS)
    flow.up(at, b"GET /index.html HTTP/1.1\r\nHost: plain.example.org\r\nAccept: */*\r\n\r\n")
    body = b"<p>" + dice.printable(1800) + b"</p>"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    flow.down(at + 65 * MS, head.encode() + body)
    flow.close(at + SECOND)


def datagrams(scene: Scene) -> None:
    """Fetch over QUIC version 1: the shapes of its packets, with a random (unopenable) inside."""
    dice, client, host = scene.dice.child("quic"), phone(0x1101), server(0x0B20)
    truth = Truth("none", "other", "QUIC version 1 long and short headers, ciphertext is random")
    flow = scene.udp(client, dice.number(49152, 65535), host, 443, truth)
    ours, theirs, at = dice.octets(8), dice.octets(8), scene.epoch + 200 * MS
    flow.up(at, long_header(0xC3, theirs, b"", b"\0" + b"\x44\x9e") + dice.octets(1182 - 3))
    flow.down(at + 40 * MS, long_header(0xC1, b"", ours, b"\0\x40\x75") + dice.octets(1080))
    flow.up(at + 45 * MS, long_header(0xE5, ours, b"", b"\x40\x4b") + dice.octets(75))
    for number in range(18):
        start = at + 50 * MS + number * 9 * MS
        short = bytes([0x40 | dice.number(0, 0x3F)])
        flow.down(start, short + dice.octets(1200 if number % 6 else 320))
        if number % 2:
            flow.up(start + 2 * MS, short + ours + dice.octets(dice.number(22, 40)))


def long_header(first: int, target: bytes, source: bytes, rest: bytes) -> bytes:
    """Return a QUIC long header (RFC 9000 section 17.2)."""
    ids = bytes([len(target)]) + target + bytes([len(source)]) + source
    return struct.pack(">BI", first, 1) + ids + rest


def lookups(scene: Scene) -> None:
    """Ask for forty names from one port of the resolver, some of them of IPv6 hosts."""
    dice, client = scene.dice.child("lookups"), phone(0x1102)
    for number in range(20):
        name = f"host{number}.example.{('org', 'net', 'com')[number % 3]}"
        at = scene.epoch + number * 150 * MS
        lookup(scene, at, client, name, server(0x0B40 + number))
    flow = scene.udp(
        client, dice.number(49152, 65535), resolver(), 53, Truth("none", "other", "DNS lookups")
    )
    for number in range(20):
        at, name = scene.epoch + number * 170 * MS, f"six{number}.example.org"
        flow.up(at, question(number, name, AAAA))
        flow.down(at + 30 * MS, answer(number, name, Host(f"2001:db8::{number + 1:x}")))
