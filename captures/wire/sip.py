# SPDX-License-Identifier: BSD-3-Clause
"""SIP messages (RFC 3261) and session descriptions (RFC 8866), long or compact (section 7.3.3)."""

from __future__ import annotations

COMPACT = {
    "Via": "v",
    "From": "f",
    "To": "t",
    "Call-ID": "i",
    "Contact": "m",
    "Content-Type": "c",
    "Content-Encoding": "e",
    "Content-Length": "l",
}

Headers = list[tuple[str, str]]


def message(start: str, headers: Headers, body: bytes = b"", compact: bool = False) -> bytes:
    """Return a request or response with its Content-Length."""
    lines = [start]
    for name, value in [*headers, ("Content-Length", str(len(body)))]:
        lines.append(f"{COMPACT.get(name, name) if compact else name}: {value}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def request(method: str, uri: str, headers: Headers, body: bytes = b"", **how: bool) -> bytes:
    """Return a request."""
    return message(f"{method} {uri} SIP/2.0", headers, body, **how)


def response(status: str, headers: Headers, body: bytes = b"", **how: bool) -> bytes:
    """Return a response; status such as "200 OK"."""
    return message(f"SIP/2.0 {status}", headers, body, **how)


def dialogue(caller: str, callee: str, ident: str, branch: str, sequence: str) -> Headers:
    """Return the headers that name one dialogue and one transaction of it."""
    return [
        ("Via", f"SIP/2.0/UDP {caller.partition('@')[2]};branch=z9hG4bK{branch}"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:{caller}>;tag={ident[:8]}"),
        ("To", f"<sip:{callee}>"),
        ("Call-ID", ident),
        ("CSeq", sequence),
    ]


def audio(address: str, port: int, formats: list[str]) -> bytes:
    """Return a session description with one audio stream; formats as "18 G729/8000"."""
    numbers = " ".join(each.partition(" ")[0] for each in formats)
    lines = [
        "v=0",
        f"o=- 1 1 IN IP4 {address}",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {numbers}",
        *(f"a=rtpmap:{each}" for each in formats),
        "a=ptime:20",
        "a=sendrecv",
    ]
    return "\r\n".join([*lines, ""]).encode()
