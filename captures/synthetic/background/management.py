# SPDX-License-Identifier: BSD-3-Clause
"""Text, management and streaming."""

from __future__ import annotations

from random import Random

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.synthetic.background.flow import MS, Flow, Maker, high_port, label, number


def http_words(r: Random) -> bytes:
    """Return a request for a page."""
    return (
        f"GET /{label(r)} HTTP/1.1\r\nHost: {label(r)}.example\r\n"
        f"User-Agent: {label(r)}/1.{r.randrange(9)}\r\nAccept: */*\r\n\r\n"
    ).encode()


def http_page(r: Random) -> list[tuple[bool, bytes]]:
    """Return a request and its answer."""
    size = r.randint(50, 1000)
    head = f"HTTP/1.1 200 OK\r\nServer: {label(r)}\r\nContent-Length: {size}\r\n\r\n"
    return [(True, http_words(r)), (False, head.encode() + r.randbytes(size))]


def http_on_sip_port(r: Random) -> Flow:
    """HTTP on SIP's port."""
    return Flow(TCP, r.choice((5060, 5061)), 30 * MS, http_page(r))


def http(r: Random) -> Flow:
    """HTTP on its own port."""
    return Flow(TCP, r.choice((80, 8080)), 30 * MS, http_page(r))


def ssdp(r: Random) -> Flow:
    """SSDP searches: HTTP's form over UDP."""
    words = (
        'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\n'
        f"MX: 3\r\nST: urn:{label(r)}:service:{label(r)}:1\r\n\r\n"
    )
    return Flow(UDP, 1900, 1000 * MS, [(True, words.encode())] * 3)


def syslog(r: Random) -> Flow:
    """Lines of syslog, one way."""
    return Flow(
        UDP,
        514,
        200 * MS,
        [
            (
                True,
                f"<{r.randrange(192)}>{label(r)} {label(r)}[{r.randrange(9999)}]: "
                f"{label(r)} {label(r)}".encode(),
            )
            for _ in range(6)
        ],
    )


def snmp(r: Random) -> Flow:
    """SNMP: a question and an answer."""

    def message(tag: int) -> bytes:
        body = (
            b"\2\1\1\4\6public"
            + bytes((tag, 0x19))
            + b"\2\1\1\2\1\0\2\1\0"
            + b"\x30\x0e\x30\x0c\6\x08\x2b\6\1\2\1\1"
            + r.randbytes(2)
            + b"\5\0"
        )
        return bytes((0x30, len(body))) + body

    return Flow(UDP, 161, 20 * MS, [(True, message(0xA0)), (False, message(0xA2))])


def radius(r: Random) -> Flow:
    """RADIUS: access request and answer."""
    ident = r.randrange(256)

    def message(code: int) -> bytes:
        body = r.randbytes(r.randint(20, 120))
        return bytes((code, ident)) + number(20 + len(body), 2) + r.randbytes(16) + body

    return Flow(UDP, 1812, 20 * MS, [(True, message(1)), (False, message(r.choice((2, 3, 11))))])


def tftp(r: Random) -> Flow:
    """TFTP: a request, blocks, acknowledgements."""
    sent = [(True, b"\0\1" + label(r).encode() + b"\0octet\0")]
    for at in range(1, r.randint(3, 9)):
        sent += [
            (False, b"\0\3" + number(at, 2) + r.randbytes(512)),
            (True, b"\0\4" + number(at, 2)),
        ]
    return Flow(UDP, 69, 10 * MS, sent)


def coap(r: Random) -> Flow:
    """CoAP: a request and an answer."""
    mark, token = r.randbytes(2), r.randbytes(4)
    return Flow(
        UDP,
        5683,
        40 * MS,
        [
            (True, b"\x44\1" + mark + token + b"\xb5" + label(r).encode()[:5].ljust(5, b"x")),
            (False, b"\x64\x45" + mark + token + b"\xff" + r.randbytes(r.randint(2, 60))),
        ],
    )


def netflow(r: Random) -> Flow:
    """NetFlow (5, 9) or IPFIX (10), one way."""
    version = r.choice((5, 9, 10))
    return Flow(
        UDP,
        r.choice((2055, 4739, 9996)),
        500 * MS,
        [
            (True, number(version, 2) + number(24, 2) + r.randbytes(r.randint(100, 1300)))
            for _ in range(5)
        ],
    )


def gtp_echo(r: Random) -> Flow:
    """GTP-U's echo."""
    return Flow(
        UDP,
        2152,
        60 * MS,
        [
            (True, b"\x32\1\0\4\0\0\0\0" + r.randbytes(2) + b"\0\0"),
            (False, b"\x32\2\0\6\0\0\0\0" + r.randbytes(2) + b"\0\0\x0e\0"),
        ],
    )


def transport_stream(r: Random) -> Flow:
    """Television over UDP: seven packets of an MPEG transport stream, one way."""
    pid = number(0x100 + r.randrange(0x1000), 2)
    return Flow(
        UDP,
        high_port(r),
        3 * MS,
        [
            (
                True,
                b"".join(
                    b"\x47" + pid + bytes((0x10 | turn,)) + r.randbytes(184) for turn in range(7)
                ),
            )
            for _ in range(20)
        ],
    )


def television(r: Random) -> Flow:
    """Television in RTP (RFC 2250, payload type 33), one way: RTP, but no call."""
    ssrc, first = r.randbytes(4), r.randrange(1 << 16)

    def message(at: int) -> bytes:
        head = bytes((0x80, 33)) + number(first + at, 2) + number(3000 * at, 4) + ssrc
        return head + b"".join(
            b"\x47\1\0" + bytes((0x10 | i,)) + r.randbytes(184) for i in range(7)
        )

    return Flow(UDP, 2 * r.randint(600, 32000), 3 * MS, [(True, message(at)) for at in range(24)])


#: Kind -> maker.
MAKERS: dict[str, Maker] = {
    "HTTP": http,
    "HTTP on SIP's port": http_on_sip_port,
    "SSDP": ssdp,
    "syslog": syslog,
    "SNMP": snmp,
    "RADIUS": radius,
    "TFTP": tftp,
    "CoAP": coap,
    "NetFlow, IPFIX": netflow,
    "GTP-U echo": gtp_echo,
    "MPEG transport stream": transport_stream,
    "television in RTP": television,
}
