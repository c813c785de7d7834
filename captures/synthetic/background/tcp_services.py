# SPDX-License-Identifier: BSD-3-Clause
"""Servers over TCP: databases, queues, mail, chat, desktops."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import TCP
from midcall.captures.synthetic.background.flow import (
    MS,
    Flow,
    Maker,
    Message,
    Session,
    high_port,
    label,
    little,
    number,
    repeated,
    sized,
    some,
    talk,
)


def over_tcp(make: Message, port: int) -> Maker:
    """Return a maker of TCP flows to a port."""
    return repeated(make, port, count=20, proto=TCP)


def desktop(r: Random) -> Flow:
    """RDP: both connection messages of X.224, then data, all in TPKT as H.323's."""
    sent = [
        (True, sized(b"\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0", b"\3\0", more=4)),
        (False, sized(b"\x0e\xd0\0\0\x12\x34\0\2\x0f\x08\0\2\0\0\0", b"\3\0", more=4)),
    ]
    sent += talk(
        r,
        20,
        lambda at, up: sized(b"\2\xf0\x80d\0\5\3\xebp" + some(r, 30, 900), b"\3\0", more=4),
    )
    return Flow(TCP, 3389, 40 * MS, sent)


def counted(r: Random, at: int, up: bool, s: Session) -> bytes:
    """A length, a zero and a small type, the low octets first: SCCP's form, but not SCCP."""
    body = some(r, 20, 100)
    return little(len(body) + 4, 4) + bytes(4) + little(r.randint(1, 50), 4) + body


def document(r: Random, at: int, up: bool, s: Session) -> bytes:
    """MongoDB: a header of four words, then a document."""
    body = some(r, 50, 300)
    return little(16 + len(body), 4) + little(at, 4) + bytes(4) + little(2013, 4) + body


def quoted_invitation(r: Random, at: int, up: bool, s: Session) -> bytes:
    """HTTP whose body quotes an invitation to a call."""
    body = b"INVITE sip:a@example.org SIP/2.0\r\nv=0\r\nm=audio 4000 RTP/AVP 0\r\n"
    size = str(len(body)).encode()
    return b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: " + size + b"\r\n\r\n" + body


def message_of_chat(r: Random, at: int, up: bool, s: Session) -> bytes:
    """XMPP: a message between two people."""
    return f"<message to='{label(r)}@example.org'><body>{label(r)}</body></message>".encode()


MAKERS: dict[str, Maker] = {
    "RDP": desktop,
    "lengths and types over TCP": repeated(
        counted, lambda r: r.randint(2001, high_port(r) + 2001) % 65536 or 2001, proto=TCP
    ),
    "MySQL": over_tcp(
        lambda r, at, up, s: little(40, 3) + bytes((at & 3,)) + b"\3select " + r.randbytes(32), 3306
    ),
    "PostgreSQL": over_tcp(lambda r, at, up, s: sized(some(r, 9, 60), b"Q", 4, 4), 5432),
    "MongoDB": over_tcp(document, 27017),
    "Kafka": over_tcp(
        lambda r, at, up, s: sized(b"\0\3\0\4" + number(at, 4) + some(r, 20, 200), b"", 4), 9092
    ),
    "TDS": over_tcp(
        lambda r, at, up, s: sized(b"\0\0\1\0" + some(r, 50, 300), b"\1\1", more=4), 1433
    ),
    "SMB": over_tcp(
        lambda r, at, up, s: sized(b"\xfeSMB\x40\0\1\0" + some(r, 56, 200), b"\0", 3), 445
    ),
    "AMQP": over_tcp(
        lambda r, at, up, s: (
            sized(r.randbytes(30), b"\1\0\1", 4) + b"\xce" if at else b"AMQP\0\0\x09\1"
        ),
        5672,
    ),
    "Redis": over_tcp(
        lambda r, at, up, s: b"*2\r\n$3\r\nGET\r\n$5\r\nabcde\r\n" + some(r, 1, 9), 6379
    ),
    "Diameter": over_tcp(
        lambda r, at, up, s: sized(
            b"\x80\0\1\x18" + bytes(4) + number(at, 4) + s.ours[:4] + some(r, 40, 100), b"\1", 3, 4
        ),
        3868,
    ),
    "IRC": over_tcp(
        lambda r, at, up, s: f":{label(r)} PRIVMSG #{label(r)} :INVITE me sip: later\r\n".encode(),
        6667,
    ),
    "XMPP": over_tcp(message_of_chat, 5222),
    "SMTP": over_tcp(
        lambda r, at, up, s: ("EHLO " if up else "250-").encode() + label(r).encode() + b"\r\n", 25
    ),
    "IMAP": over_tcp(
        lambda r, at, up, s: f"{'a' if up else '*'} {at} FETCH {label(r)}\r\n".encode(), 143
    ),
    "FTP": over_tcp(
        lambda r, at, up, s: b"USER " + label(r).encode() + b"\r\n" if up else b"331 Password?\r\n",
        21,
    ),
    "HTTP that quotes a call": over_tcp(quoted_invitation, 80),
    "WebSocket": over_tcp(lambda r, at, up, s: sized(r.randbytes(200), b"\x82\x7e"), 8080),
}
