# SPDX-License-Identifier: BSD-3-Clause
"""Protocols over TCP."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import TCP
from midcall.captures.synthetic.background.flow import (
    MS,
    Flow,
    Maker,
    high_port,
    label,
    number,
    talk,
)
from midcall.captures.wire import tls as wire_tls


def tls_hello(r: Random) -> bytes:
    """Return a ClientHello with an invented server name."""
    name = f"{label(r)}.{label(r)}.example".encode()
    extensions = (
        wire_tls.server_name(name)
        + b"\0\x0a\0\6\0\4\0\x1d\0\x17"
        + b"\0\x2b\0\5\4\3\4\3\3"
        + b"\0\x0d\0\6\0\4\4\3\x08\4"
    )
    suites = b"\x13\1\x13\2\x13\3\xc0\x2b\xc0\x2f"
    body = wire_tls.hello_body(r.randbytes(32), suites, extensions, r.randbytes(32))
    return wire_tls.record(wire_tls.HANDSHAKE, wire_tls.handshake_message(1, body), 0x0301)


def tls(r: Random) -> Flow:
    """TLS with a random server name."""
    sent = [(True, tls_hello(r)), (False, b"\x16\3\3\0\x7a\2\0\0\x76\3\3" + r.randbytes(116))]
    sent += talk(
        r,
        8,
        lambda at, up: (lambda body: b"\x17\3\3" + number(len(body), 2) + body)(
            r.randbytes(r.randint(30, 1200))
        ),
    )
    return Flow(TCP, r.choice((443, 8443, 993)), 20 * MS, sent)


def ssh(r: Random) -> Flow:
    """SSH: both banners, then what is encrypted."""
    sent = [
        (True, f"SSH-2.0-{label(r)}_9.{r.randrange(9)}\r\n".encode()),
        (False, f"SSH-2.0-{label(r)}_8.{r.randrange(9)}\r\n".encode()),
    ]
    return Flow(
        TCP, 22, 20 * MS, sent + talk(r, 8, lambda at, up: r.randbytes(r.randint(36, 1200)))
    )


def mqtt(r: Random) -> Flow:
    """MQTT: connect, acknowledge, publish."""
    name = label(r).encode()
    connect = b"\0\4MQTT\4\2\0\x3c" + number(len(name), 2) + name
    sent = [(True, bytes((0x10, len(connect))) + connect), (False, b"\x20\2\0\0")]
    sent += talk(r, 6, lambda at, up: b"\x30\x2a\0\4" + r.randbytes(40))
    return Flow(TCP, 1883, 500 * MS, sent)


def torrent(r: Random) -> Flow:
    """BitTorrent over TCP: both handshakes, then pieces."""
    hello = b"\x13BitTorrent protocol" + bytes(8)
    sent = [(True, hello + r.randbytes(40)), (False, hello + r.randbytes(40))]
    sent += talk(
        r,
        8,
        lambda at, up: (lambda body: number(len(body), 4) + body)(
            b"\7" + r.randbytes(r.randint(20, 1200))
        ),
    )
    return Flow(TCP, high_port(r), 20 * MS, sent)


def rtmp(r: Random) -> Flow:
    """RTMP: the handshake of streaming."""
    sent = [(True, b"\3" + r.randbytes(1400)), (False, b"\3" + r.randbytes(1400))]
    return Flow(TCP, 1935, 30 * MS, sent + talk(r, 6, lambda at, up: b"\3" + r.randbytes(600)))


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
    "BitTorrent over TCP": torrent,
    "TLS": tls,
    "SSH": ssh,
    "MQTT": mqtt,
    "RTMP": rtmp,
}
